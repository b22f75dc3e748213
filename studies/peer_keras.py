"""A peer of the throughput and quality studies: the TensorFlow 2 tutorial's pix2pix, written fresh from its text.

tensorflow.org/tutorials/generative/pix2pix: Keras layers, a tf.function with two gradient tapes, tf.data.
"""

import os

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

SIZE = 256


def block(filters, norm=True, dropout=False, transpose=False, stride=2, padding="same"):
    """A convolution without bias, batch norm, dropout and its activation."""
    convolution = layers.Conv2DTranspose if transpose else layers.Conv2D
    parts = [convolution(filters, 4, strides=stride, padding=padding, use_bias=False,
                         kernel_initializer=tf.random_normal_initializer(0.0, 0.02))]
    parts += [layers.BatchNormalization()] * norm + [layers.Dropout(0.5)] * dropout
    return tf.keras.Sequential(parts + [layers.ReLU() if transpose else layers.LeakyReLU()])


def generator():
    """The U-Net: 256x256x3 -> 256x256x3 in [-1, 1]."""
    image = x = layers.Input([SIZE, SIZE, 3])
    encoded = []
    for number, filters in enumerate((64, 128, 256, 512, 512, 512, 512, 512)):
        x = block(filters, norm=number > 0)(x)
        encoded.append(x)
    for number, filters in enumerate((512, 512, 512, 512, 256, 128, 64)):
        x = layers.Concatenate()([block(filters, dropout=number < 3, transpose=True)(x), encoded[-2 - number]])
    x = layers.Conv2DTranspose(3, 4, strides=2, padding="same",
                               kernel_initializer=tf.random_normal_initializer(0.0, 0.02))(x)
    return tf.keras.Model(image, layers.Activation("tanh", dtype="float32")(x))


def discriminator():
    """The 70x70 PatchGAN: a pair -> 30x30 logits."""
    pair = [layers.Input([SIZE, SIZE, 3]), layers.Input([SIZE, SIZE, 3])]
    x = layers.concatenate(pair)
    for number, filters in enumerate((64, 128, 256)):
        x = block(filters, norm=number > 0)(x)
    x = block(512, stride=1, padding="valid")(layers.ZeroPadding2D()(x))
    x = layers.Conv2D(1, 4, kernel_initializer=tf.random_normal_initializer(0.0, 0.02))(layers.ZeroPadding2D()(x))
    return tf.keras.Model(pair, layers.Activation("linear", dtype="float32")(x))


def seed(number):
    """Seeds everything random that follows."""
    tf.keras.utils.set_random_seed(number)


def pairs(folder, batch, direction="BtoA", resize="nearest"):
    """The tutorial's tf.data pipeline, with prefetch: a side-by-side file -> jittered float32 batches in [-1, 1]."""
    def load(path):
        pair = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        width = tf.shape(pair)[1] // 2
        halves = [pair[:, :width], pair[:, width:]][::1 if direction == "AtoB" else -1]
        halves = [tf.image.resize(tf.cast(half, tf.float32), [286, 286], method=resize) for half in halves]
        halves = tf.image.random_crop(tf.stack(halves), [2, SIZE, SIZE, 3])
        if tf.random.uniform(()) > 0.5:
            halves = tf.image.flip_left_right(halves)
        halves = halves / 127.5 - 1
        return halves[0], halves[1]

    files = sorted(os.path.join(folder, name) for name in os.listdir(folder))
    return (tf.data.Dataset.from_tensor_slices(files).shuffle(len(files)).repeat()
            .map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(batch, drop_remainder=True)
            .prefetch(tf.data.AUTOTUNE))


def trainer(precision, jit_compile=None):
    """Returns (step, generate, {network: parameters}) of networks in a precision.

    step: (inputs, targets) -> losses, makes a training step. generate: [N, 256, 256, 3] float32 in numpy -> the same,
    with the statistics of the batch and dropout, as the tutorial makes its pictures.
    """
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    networks = {"generator": generator(), "discriminator": discriminator()}
    adams = {name: tf.keras.optimizers.Adam(2e-4, beta_1=0.5) for name in networks}
    entropy = tf.keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function(jit_compile=jit_compile)
    def step(inputs, targets):
        with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
            outputs = networks["generator"](inputs, training=True)
            real = networks["discriminator"]([inputs, targets], training=True)
            fake = networks["discriminator"]([inputs, outputs], training=True)
            g_loss = entropy(tf.ones_like(fake), fake) + 100 * tf.reduce_mean(tf.abs(targets - outputs))
            d_loss = entropy(tf.ones_like(real), real) + entropy(tf.zeros_like(fake), fake)
        weights = {name: network.trainable_variables for name, network in networks.items()}
        gradients = {"generator": g_tape.gradient(g_loss, weights["generator"]),
                     "discriminator": d_tape.gradient(d_loss, weights["discriminator"])}
        for name, adam in adams.items():
            adam.apply_gradients(zip(gradients[name], weights[name]))
        return g_loss, d_loss

    @tf.function(reduce_retracing=True)
    def outputs_of(images):
        return networks["generator"](images, training=True)

    return step, lambda images: outputs_of(tf.constant(images)).numpy(), {
        name: sum(int(np.prod(v.shape)) for v in network.trainable_variables) for name, network in networks.items()}


def fixed_step(batch, **options):
    """Returns a function that makes a step on random images that are already on the device."""
    step, _, _ = trainer(**options)
    images = [tf.random.uniform([batch, SIZE, SIZE, 3], -1, 1) for _ in range(2)]
    return lambda: [loss.numpy() for loss in step(*images)]


def peak_bytes():
    """Returns the peak of TensorFlow's memory on the GPU; 0 without a GPU."""
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] if tf.config.list_physical_devices("GPU") else 0


def translator(precision):
    """Returns `trainer`'s generate, of untrained networks."""
    return trainer(precision)[1]
