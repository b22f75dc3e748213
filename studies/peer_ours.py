"""This project with the functions of a peer of the throughput study: its reader, and its export."""

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import convert_to_constants

import reader
import study
from support import devices, pair_files


def pairs(folder, batch):
    """Yields the batches that train.py's reader makes on the cores at hand."""
    tf.enable_resource_variables()
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        batches = reader.Batches(batch_size=batch)
        made = tf.group(*reader.training_batches(pair_files.find_pairs(folder), step, batches))
        with tf.train.MonitoredSession() as session:
            while True:
                yield session.run(made)


def translator(precision, export, constants=False):
    """Returns a function from images to outputs in numpy: an export, loaded as docs/deploy.md says; its variables may
    become constants."""
    if precision == "bfloat16":
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    translate = tf.compat.v2.saved_model.load(export).signatures["serving_default"]
    if constants:
        constant = convert_to_constants.convert_variables_to_constants_v2(translate)
        return lambda images: constant(tf.constant(images))[0].numpy()
    return lambda images: translate(images=tf.constant(images))["outputs"].numpy()


def fixed_step(batch, flags):
    """Returns a function that makes a step of train.py's graph with flags, whose queue is never empty."""
    with tf.Graph().as_default():
        _, model, config = study.training_graph(*flags, "--batch_size=%d" % batch)
        fetched = [model.train_op, model.scalars]  # as train.py does
        session = tf.train.SingularMonitoredSession(config=config)
    return lambda: session.run(fetched)


def peak_bytes():
    """Returns the peak of TensorFlow's memory on the GPU; 0 without a GPU."""
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] if devices.has_gpu() else 0
