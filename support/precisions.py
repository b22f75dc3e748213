"""The precision of a session's convolutions, and the precisions that this machine supports."""

import platform

import numpy as np
import tensorflow.compat.v1 as tf

from support import devices
from support.errors import RunError

IS_TF1 = tf.version.VERSION.startswith("1.")
# float32 is IEEE's, on GPUs too. tf32 rounds what a GPU's convolutions multiply to 10 bits of mantissa, bfloat16 to 7.
PRECISIONS = ("float32", "bfloat16", "tf32")


def session_config(precision):
    """Returns the ConfigProto of a session whose convolutions run in a precision, one of PRECISIONS.

    On a GPU, `devices.allow_tf32` tells float32 from tf32, and `convolutions.built_for` makes bfloat16.
    """
    config = tf.ConfigProto()
    # One pass of Grappler is enough, and the older optimizer after it would draw most of the initial values twice.
    config.graph_options.rewrite_options.meta_optimizer_iterations = 1
    config.graph_options.optimizer_options.opt_level = tf.OptimizerOptions.L0
    config.gpu_options.allow_growth = True
    if precision == "bfloat16" and not devices.has_gpu():
        config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1  # ON
    return config


def fence(x):
    """Returns x unchanged, after a cast that stops the bfloat16 rewrite.

    The rewrite spreads from convolutions to the ops that they feed, but not across a cast to float64.
    """
    return tf.cast(tf.cast(x, tf.float64), tf.float32)


def resolve(precision):
    """Returns the precision itself or, for auto, the fastest one of this machine that training loses nothing by.

    That is bfloat16 on a CPU that computes in it, tf32 on a GPU that has it, and float32 elsewhere.

    Raises:
      RunError: this machine does not support the precision.
    """
    if precision != "auto":
        if lacks(precision):
            raise RunError("--precision=%s needs %s; use --precision=float32" % (precision, lacks(precision)))
        return precision
    if devices.has_gpu():
        return "float32" if lacks("tf32") else "tf32"
    native = cpu_fact("flags").split()  # other CPUs convert to float32 and gain nothing
    is_native = "amx_bf16" in native or "avx512_bf16" in native
    return "bfloat16" if is_native and not lacks("bfloat16") else "float32"


def lacks(precision):
    """Returns what this machine lacks for a precision, as text; empty if TensorFlow can compute in it."""
    gpu = "an NVIDIA GPU of compute capability %d.%d or more" % devices.AMPERE
    if precision == "tf32" or (precision == "bfloat16" and devices.has_gpu()):
        return "" if devices.has_ampere() and not IS_TF1 else "TensorFlow 2 and " + gpu
    if precision == "bfloat16" and IS_TF1:
        return "TensorFlow 2; this is %s" % tf.version.VERSION
    if precision == "bfloat16" and not runs_bfloat16():
        return "a CPU with AVX-512 or AMX and oneDNN switched on (TF_ENABLE_ONEDNN_OPTS), or " + gpu
    return ""


def runs_bfloat16():
    """Returns whether TensorFlow 2 rewrites the graph of a convolution to bfloat16 on this machine, without a GPU."""
    metadata, config = tf.RunMetadata(), session_config("bfloat16")
    config.graph_options.rewrite_options.min_graph_nodes = -1  # otherwise so small a graph is not rewritten
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        images, kernel = tf.placeholder(tf.float32, [1, 8, 8, 8]), tf.placeholder(tf.float32, [4, 4, 8, 8])
        convolved = tf.nn.conv2d(images, kernel, strides=[1, 2, 2, 1], padding="SAME")
        session.run(tf.nn.relu(convolved),  # a fetched op itself keeps its type
                    {images: np.zeros([1, 8, 8, 8]), kernel: np.zeros([4, 4, 8, 8])},
                    tf.RunOptions(output_partition_graphs=True), metadata)
    return is_bfloat16(metadata)


def is_bfloat16(metadata):
    """Returns whether a convolution in the partition graphs of a session's run computes in bfloat16."""
    return any("Conv2D" in node.op and node.attr["T"].type == tf.bfloat16.as_datatype_enum
               for graph in metadata.partition_graphs for node in graph.node)


def device_name():
    """Returns the name of the GPU or, without one, of the CPU."""
    return devices.gpu()["device_name"] if devices.has_gpu() else cpu_fact("model name") or platform.processor()


def cpu_fact(name):
    """Returns a line of Linux' /proc/cpuinfo, such as "model name" or "flags"; empty elsewhere."""
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(name)), "")
    except OSError:
        return ""
