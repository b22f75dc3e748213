"""Loss and gradient of one patch over its logit, for every loss, eps, type and graph rewrite, as CSV.

    python studies/log_stability_measure.py values.csv

The measuring part of log_stability.py. It runs on TensorFlow 1.15 (Python 3.7) as well as on today's, so that the
two can be laid side by side.
"""

import csv
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import numpy as np
import tensorflow.compat.v1 as tf

import pix2pix
from support.precisions import fence

EPS = (0.0, 1e-12, 1e-10, 1e-8, 1e-7, 1e-5, 1e-4)
QUICK_EPS = (0.0, 1e-12, 1e-7)
DTYPES = ("float32", "bfloat16", "float16")
MODES = ("folding", "no folding", "XLA")
SHAPES = ("static", "dynamic")
LOSSES = ("log", "log_literal", "naive", "clipped", "logits", "lsgan")
WITHOUT_EPS = ("logits", "lsgan")
COLUMNS = ("tensorflow", "loss", "eps", "dtype", "mode", "shape", "side", "z", "value", "gradient", "value_alone")
Z = np.unique(np.round(np.concatenate([np.arange(-120, 121, 5), np.arange(-30, 31), np.arange(14, 19, 0.1)]), 1))


def naive(logits, is_real, eps):
    """The text as people write it; nothing keeps the graph optimizer from rewriting it."""
    probability = tf.sigmoid(logits)
    return -tf.log(probability + eps) if is_real else -tf.log(1.0 - probability + eps)


def naive_in_training(logits, is_real, gan_loss, eps):
    """Stands for `pix2pix.patch_loss` while a training graph is built; `gan_loss` is ignored."""
    del gan_loss
    return naive(fence(logits), is_real, eps)


def clipped(logits, is_real, eps):
    """The other habit: the probability is kept from below by eps instead of shifted by it."""
    probability = tf.sigmoid(logits)
    return -tf.log(tf.maximum(probability if is_real else 1.0 - probability, eps))


def patch_loss(name, logits, is_real, eps):
    """The loss called `name` of each logit, in the type of the logits where it is not the project's own."""
    if name in ("naive", "clipped"):
        return {"naive": naive, "clipped": clipped}[name](logits, is_real, eps)
    return pix2pix.patch_loss(logits, is_real, name, eps)


def session_config(mode):
    config = tf.ConfigProto()
    if mode == "no folding":
        rewrites = config.graph_options.rewrite_options
        rewrites.constant_folding = rewrites.OFF
    return config


def measure(dtype, mode, shape, every_eps):
    """Yields rows of COLUMNS for one setting; every loss is a graph of its own."""
    for name in LOSSES:
        for eps in every_eps if name not in WITHOUT_EPS else (0.0,):
            with tf.Graph().as_default(), tf.Session(config=session_config(mode)) as session:
                fed = tf.placeholder(tf.float32, [len(Z)] if shape == "static" else [None])
                logits = tf.cast(fed, dtype)
                sides = {}
                with tf.xla.experimental.jit_scope(compile_ops=mode == "XLA"):
                    for side in ("real", "fake"):
                        loss = patch_loss(name, logits, side == "real", eps)
                        sides[side] = loss, tf.gradients(loss, logits)[0]
                for side, (loss, gradient) in sorted(sides.items()):
                    z, value, slope = session.run([logits, loss, gradient], {fed: Z})
                    alone = session.run(loss, {fed: Z})
                    for numbers in zip(z, value, slope, alone):
                        yield (tf.version.VERSION, name, eps, dtype, mode, shape, side) + tuple(map(float, numbers))


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: python studies/log_stability_measure.py VALUES.csv [--quick]")
    quick = "--quick" in sys.argv
    settings = [(dtype, mode, shape) for dtype in DTYPES[:1 if quick else None]
                for mode in MODES for shape in SHAPES[1 if quick else 0:]]
    with open(sys.argv[1], "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for setting in settings:
            try:
                writer.writerows(measure(*setting, QUICK_EPS if quick else EPS))
            except (tf.errors.OpError, TypeError, ValueError) as error:
                print("%s: not on TensorFlow %s: %s" % (", ".join(setting), tf.version.VERSION,
                                                        str(error).splitlines()[0]), flush=True)


if __name__ == "__main__":
    main()
