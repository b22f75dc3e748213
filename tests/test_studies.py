"""What the studies count and sort by."""

import os
import sys

import pytest
import tensorflow.compat.v1 as tf

import pix2pix
from conftest import ROOT
from support import convolutions

sys.path.insert(0, os.path.join(ROOT, "studies"))

import throughput_measure


@pytest.mark.parametrize("side,filters", [(4, 3), (64, 3), (64, 512)])
def test_a_convolution_and_its_two_gradients_count_three_times_its_operations(side, filters):
    with tf.Graph().as_default() as graph:
        x = tf.Variable(tf.zeros([2, side, side, 5]), use_resource=True)
        with graph.gradient_override_map(convolutions.BFLOAT16_GRADIENTS), tf.variable_scope(
                "layer", custom_getter=pix2pix.seeded(0), use_resource=True):
            y = pix2pix.conv(x, filters)
        gradients = tf.gradients(y, tf.global_variables())
        fetch = tf.identity(tf.add_n([tf.reduce_sum(gradient) for gradient in [y, *gradients]]))
        counted = sum(flops for _, flops in throughput_measure.operations(tf, graph, fetch))
    assert counted == 3 * 2 * 2 * (side // 2) ** 2 * 16 * 5 * filters


@pytest.mark.parametrize("name,op,layer,kind", [
    ("generator/encoder_2/Conv2D", "_MklNativeConv2D", "generator/encoder_2", "forward"),
    ("generator/encoder_7/GatherV2", "GatherV2", "generator/encoder_7", "forward"),
    ("gradients_1/generator/encoder_7/MatMul_grad/MatMul", "_MklMatMul", "generator/encoder_7", "image gradient"),
    ("gradients_1/generator/encoder_7/MatMul_grad/MatMul_1", "_MklMatMul", "generator/encoder_7", "kernel gradient"),
    ("gradients_1/generator/decoder_7/MatMul_grad/MatMul", "_MklMatMul", "generator/decoder_7", "kernel gradient"),
    ("gradients_1/generator/decoder_7/MatMul_grad/ArithmeticOptimizer/FoldTransposeIntoMatMul_MatMul_1", "_MklMatMul",
     "generator/decoder_7", "image gradient"),
    ("gradients/discriminator_1/layer_4/Conv2D_grad/MatMul", "_MklMatMul", "discriminator/layer_4", "kernel gradient"),
    ("gradients/discriminator_1/layer_4/Conv2D_grad/GatherV2", "GatherV2", "discriminator/layer_4", "kernel gradient"),
    ("gradients_1/generator/decoder_2/conv2d_transpose_grad/Conv2D", "_MklNativeConv2D", "generator/decoder_2",
     "image gradient"),
    ("gradients/discriminator/layer_2/Conv2D_grad/Conv2DBackpropFilter", "_MklNativeConv2DBackpropFilter",
     "discriminator/layer_2", "kernel gradient"),
    ("Adam_G/update_generator/decoder_6/kernel/ResourceApplyAdam", "ResourceApplyAdam", "", "Adam")])
def test_the_profile_sorts_ops_by_layer_and_kind(name, op, layer, kind):
    assert throughput_measure.place(name, op) == (layer, kind)
