"""One TensorFlow's first step: initial weights, batch, dropout masks, every layer's stages and the losses, as .npz;
and the fake side's loss over the logit, as people write it and as log_literal.

    python studies/legacy_tf1_measure.py FIRST.npz [--flags of train.py]

The measuring part of legacy_tf1.py. It runs on TensorFlow 1.15 (Python 3.7) as well as on today's.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import numpy as np
import tensorflow.compat.v1 as tf

import log_stability_measure as patches
import study
from support import hooks

AFTER_CONVOLUTION = ("FusedBatchNormV3", "BiasAdd")


def first_step(flags):
    """Returns {name: array} of a run's first step, before its update; the names' first part says what it is."""
    with tf.Graph().as_default() as graph:
        (inputs, targets), model, _ = study.training_graph(*flags)
        fetches = {"batch/inputs": inputs, "batch/targets": targets}
        for variable in tf.trainable_variables():
            fetches["weights/" + variable.op.name] = variable
        for operation in graph.get_operations():
            if operation.name.startswith(("generator/", "discriminator/")):
                if operation.type == "GreaterEqual":  # dropout keeps where a uniform number is at least the rate
                    fetches["masks/" + operation.name.rsplit("/", 1)[0]] = operation.outputs[0]
                elif operation.type in AFTER_CONVOLUTION:
                    fetches["stages/%s/convolution" % operation.name.rsplit("/", 1)[0]] = operation.inputs[0]
                    fetches["stages/" + operation.name] = operation.outputs[0]
                elif operation.name.endswith("/output"):
                    fetches["stages/" + operation.name] = operation.outputs[0]
        for name in hooks.LOSSES:
            fetches["losses/" + name] = getattr(model, name)
        with tf.train.MonitoredSession() as session:
            return session.run(fetches)


def texts():
    """Returns {name: [[logit, ...], [fake side's loss, ...]]} of the naive text and log_literal in either shape."""
    found = {}
    for shape in patches.SHAPES:
        for row in patches.measure("float32", "folding", shape, (1e-12,)):
            values = dict(zip(patches.COLUMNS, row))
            if values["side"] == "fake" and values["loss"] in ("naive", "log_literal"):
                found.setdefault("texts/%s/%s" % (values["loss"], shape), []).append((values["z"], values["value"]))
    return {name: np.transpose(points) for name, points in found.items()}


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: python studies/legacy_tf1_measure.py FIRST.npz [--flags of train.py]")
    np.savez(sys.argv[1], version=tf.version.VERSION, **dict(first_step(sys.argv[2:]), **texts()))


if __name__ == "__main__":
    main()
