"""float32 or bfloat16: which of them the convolutions of a session run in, and what the machine at hand can do."""

import numpy as np
import tensorflow.compat.v1 as tf

from support.errors import RunError

IS_TF1 = tf.version.VERSION.startswith("1.")


def session_config(precision):
    """Returns the ConfigProto of a session whose convolutions run in float32 or bfloat16."""
    config = tf.ConfigProto()
    # One pass of Grappler is enough; the older optimizer behind it would draw most of the initial values twice.
    config.graph_options.rewrite_options.meta_optimizer_iterations = 1
    config.graph_options.optimizer_options.opt_level = tf.OptimizerOptions.L0
    config.gpu_options.allow_growth = True
    if precision == "bfloat16":
        config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1  # ON
    return config


def fence(x):
    """Returns x unchanged, behind a cast that keeps bfloat16 from spreading across it.

    The bfloat16 rewrite spreads from convolutions to what they feed; it stops at a float64 cast.
    """
    return tf.cast(tf.cast(x, tf.float64), tf.float32)


def resolve(precision):
    """Returns float32 or bfloat16: what auto means on this CPU, or else what was asked for.

    Raises:
      RunError: bfloat16 is asked for and can't be had.
    """
    if precision == "bfloat16" and bfloat16_lacks():
        raise RunError("--precision=bfloat16 needs %s; use --precision=float32" % bfloat16_lacks())
    if precision != "auto":
        return precision
    native = cpu_fact("flags").split()  # other CPUs compute bfloat16 by way of float32, which gains nothing
    is_native = "amx_bf16" in native or "avx512_bf16" in native
    return "bfloat16" if is_native and not bfloat16_lacks() else "float32"


def bfloat16_lacks():
    """What convolutions in bfloat16 would need and do not have here, in words; empty where TensorFlow runs them."""
    if IS_TF1:
        return "TensorFlow 2; this is %s" % tf.version.VERSION
    if runs_bfloat16():
        return ""
    return "a CPU with AVX-512 or AMX, oneDNN switched on (TF_ENABLE_ONEDNN_OPTS) and no GPU"


def runs_bfloat16():
    """Whether TensorFlow 2 runs a convolution in bfloat16 here, by the graph that it makes of one."""
    metadata, config = tf.RunMetadata(), session_config("bfloat16")
    config.graph_options.rewrite_options.min_graph_nodes = -1  # else so small a graph is left as it is
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        images, kernel = tf.placeholder(tf.float32, [1, 8, 8, 8]), tf.placeholder(tf.float32, [4, 4, 8, 8])
        convolved = tf.nn.conv2d(images, kernel, strides=[1, 2, 2, 1], padding="SAME")
        session.run(tf.nn.relu(convolved),  # what is fetched keeps its type
                    {images: np.zeros([1, 8, 8, 8]), kernel: np.zeros([4, 4, 8, 8])},
                    tf.RunOptions(output_partition_graphs=True), metadata)
    return is_bfloat16(metadata)


def is_bfloat16(metadata):
    """Whether a convolution of a run's partition graphs computes in bfloat16."""
    return any("Conv2D" in node.op and node.attr["T"].type == tf.bfloat16.as_datatype_enum
               for graph in metadata.partition_graphs for node in graph.node)


def cpu_fact(name):
    """Returns a line of Linux' /proc/cpuinfo, such as "model name" or "flags"; empty elsewhere."""
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(name)), "")
    except OSError:
        return ""
