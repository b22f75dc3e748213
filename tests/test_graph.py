"""The graph's names: the scopes that TensorBoard shows, and the variables that checkpoints rely on."""

import collections
import glob
import os

import pytest
import tensorflow.compat.v1 as tf

import train
from conftest import SMALL, options
from support import data_flags

VARIABLES = ["global_step", "beta1_power", "beta2_power", "beta1_power_1", "beta2_power_1"]
SCOPES = {"reader", "generator", "discriminator", "discriminator_real", "discriminator_fake", "discriminator_loss",
          "generator_loss", "discriminator_update", "generator_update", "diagnostics", *VARIABLES}


def names_of(nodes):
    """(names of the scopes at the top, names of the ops that are in none)."""
    paths = [node.name.split("/") for node in nodes]
    return {path[0] for path in paths if len(path) > 1}, {path[0] for path in paths if len(path) == 1}


def test_the_graph_that_tensorboard_shows_has_no_op_outside_of_the_steps_scopes(trained):
    events = tf.train.summary_iterator(glob.glob(os.path.join(trained, "events*"))[0])
    graph = tf.GraphDef.FromString(next(event.graph_def for event in events if event.graph_def))
    scopes, rest = names_of(graph.node)
    assert scopes - {"save", "generator_average"} == SCOPES  # the Saver's ops are TensorFlow's own
    assert rest == {*VARIABLES, "discriminator_update", "generator_update"}


def test_options_that_need_more_ops_have_scopes_for_them(data):
    chosen = options(*SMALL, "--data_dir=" + data, "--update=alternating", "--decay_epochs=1", "--gan_loss=lsgan",
                     "--pixel_loss=l2", "--norm=instance", "--ema=0.9")
    with tf.Graph().as_default() as graph:
        _, model = train.training_graph(
            chosen, data_flags.pairs_of(chosen, "train"), "bfloat16")
        train.one_image(chosen, model.average)
    scopes, rest = names_of(graph.get_operations())
    assert scopes == SCOPES | {"discriminator_updated", "generator_average", "learning_rate", "sample"}
    assert rest == {*VARIABLES, "discriminator_update", "generator_update"}


def test_each_networks_gradients_and_updates_are_in_its_own_scope(data):
    chosen = options(*SMALL, "--data_dir=" + data)
    with tf.Graph().as_default() as graph:
        train.training_graph(chosen, data_flags.pairs_of(chosen, "train"), "float32")
        variables = collections.Counter(v.op.name.split("/")[0] + "_update" for v in tf.trainable_variables())
    updates = [op for op in graph.get_operations() if op.type == "ResourceApplyAdam"]
    assert collections.Counter(op.name.split("/")[0] for op in updates) == variables
    for op in updates:
        network = op.name.split("_update/")[0]
        variable, gradient = op.inputs[0], op.inputs[9]
        assert variable.op.name.startswith(network + "/")
        assert gradient.op.name.startswith(network + "_update/gradients/")


@pytest.mark.parametrize("update", ["simultaneous", "alternating"])
@pytest.mark.parametrize("ema", ["0", "0.9"])
def test_variables_have_the_names_that_checkpoints_rely_on(data, update, ema):
    layers = {
        "generator": {"encoder_1": "kernel bias", "encoder_2": "kernel gamma beta", "encoder_3": "kernel gamma beta",
                      "encoder_4": "kernel gamma beta", "encoder_5": "kernel bias", "decoder_5": "kernel gamma beta",
                      "decoder_4": "kernel gamma beta", "decoder_3": "kernel gamma beta",
                      "decoder_2": "kernel gamma beta", "decoder_1": "kernel bias"},
        "discriminator": {"layer_1": "kernel bias", "layer_2": "kernel gamma beta", "layer_3": "kernel gamma beta",
                          "layer_4": "kernel gamma beta", "layer_5": "kernel bias"}}
    slots = {"generator": ("", "/Adam_G", "/Adam_G_1", *["/average"] * (ema != "0")),
             "discriminator": ("", "/Adam_D", "/Adam_D_1")}
    expected = {"%s/%s/%s%s" % (network, layer, leaf, slot) for network in layers for layer in layers[network]
                for leaf in layers[network][layer].split() for slot in slots[network]}
    chosen = options(*SMALL, "--data_dir=" + data, "--update=" + update, "--ema=" + ema)
    with tf.Graph().as_default():
        train.training_graph(chosen, data_flags.pairs_of(chosen, "train"), "float32")
        names = [v.op.name for v in tf.global_variables()]
        local = [v.op.name for v in tf.local_variables()]
    assert sorted(names) == sorted({*expected, *VARIABLES})
    assert local == ["reader/position", "diagnostics/finite"]


def test_a_checkpoint_holds_each_variable_under_its_name_with_its_shape(trained):
    saved = dict(tf.train.list_variables(os.path.join(trained, "checkpoints", "model.ckpt-6")))
    assert all(saved[name] == [] for name in VARIABLES)
    for name, optimizer, shape in (("generator/decoder_2/kernel", "Adam_G", [4, 4, 2, 8]),
                                   ("discriminator/layer_5/bias", "Adam_D", [1])):
        assert saved[name] == saved["%s/%s" % (name, optimizer)] == saved["%s/%s_1" % (name, optimizer)] == shape
