"""Initial values and random streams that are pure functions of (seed, what they are for), never of the order of ops."""

import os
import zlib

import tensorflow.compat.v1 as tf

from support.devices import never_compiled


def stream(name):
    """Returns an int64 offset that gives each name a random stream of its own.

    Added to a counter below 2**32 it makes the second half of a stateless op's seed pair.
    """
    return (zlib.crc32(name.encode()) & 0x7FFFFFFF) << 32


def of_name(name):
    """Returns the number of an image's dropout mask, which is its own, whatever lies beside it."""
    return zlib.crc32(os.fsencode(name))


def uniform(shape, seed, when):
    """Returns float32 of a shape in [0, 1), a pure function of the seed and `when`, an int64 scalar."""
    with never_compiled():  # XLA's random ops give other bits for the same seed
        return tf.random.stateless_uniform(shape, seed=tf.stack([tf.constant(seed, tf.int64), when]))


def seeded(seed):
    """Returns a custom_getter for tf.variable_scope that ties initial values to (seed, the variable's name)."""

    def named_getter(getter, name, initializer, **options):
        def initial_value(shape, dtype, partition_info=None):
            del partition_info  # TensorFlow 1.15 passes it
            key = tf.constant([seed, stream(name)], tf.int64)
            # With a constant seed the graph optimizer would evaluate it all, slowly, and discard the result.
            with never_compiled():
                return initializer(shape, dtype, seed=tf.placeholder_with_default(key, [2]))

        return getter(name, initializer=initial_value, **options)

    return named_getter


def normal(mean):
    """Returns an initializer for `seeded`: normal with the paper's standard deviation 0.02 (6.2)."""

    def initializer(shape, dtype, seed):
        return tf.random.stateless_normal(shape, seed, mean=mean, stddev=0.02, dtype=dtype)

    return initializer


def zeros(shape, dtype, seed):
    """An initializer for `seeded`; `seed` is not needed."""
    del seed
    return tf.zeros(shape, dtype)
