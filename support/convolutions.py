"""Faster forms of pix2pix's convolutions on CPUs, and their gradients.

All forms compute the same values, except for rounding. The comments give measurements on two cores with AVX-512 and
TensorFlow 2.21. With a GPU, no form is used, and TensorFlow's own convolutions compute everything.
"""

import contextlib
import contextvars

import numpy as np
import tensorflow.compat.v1 as tf

from support import devices

BUILT_IN = contextvars.ContextVar("the type in which convolutions compute", default=tf.float32)
BORDER = [[0, 0], [1, 1], [1, 1], [0, 0]]  # one pixel around each image of [N, H, W, C]


def faster_form(x, kernel, stride, padding):
    """Returns the result of `pix2pix.conv`, computed in a faster form, or None if there is no faster form.

    Args:
      x, stride, padding: see `pix2pix.conv`.
      kernel: float32 [size, size, C, filters].
    """
    _, height, width, channels = x.shape.as_list()
    size, filters = int(kernel.shape[0]), int(kernel.shape[3])
    if stride == 2 and is_small(x, 16):
        product = tf.matmul(im2col(tf.pad(x, BORDER), stride), tf.reshape(kernel, [-1, filters]))
        return tf.reshape(product, [-1, height // 2, width // 2, filters])
    # CPUs compute 16 filters at once. One filter for each pixel of the kernel; a constant kernel shifts and adds them.
    if stride == 1 and size == 4 and filters == 1 and not devices.has_gpu():
        taps = tf.transpose(tf.reshape(kernel, [16, channels]))
        x = tf.nn.conv2d(x, tf.reshape(taps, [1, 1, channels, 16]), strides=[1, 1, 1, 1], padding="SAME")
        x = tf.pad(x, [[0, 0], padding, padding, [0, 0]])
        return tf.nn.conv2d(x, tf.reshape(tf.eye(16), [4, 4, 16, 1]), strides=[1, 1, 1, 1], padding="VALID")
    return None


def faster_transposed_form(x, kernel):
    """Does the same as `faster_form` for `pix2pix.conv_transpose`, whose kernel is [4, 4, filters, C]."""
    _, height, width, channels = x.shape.as_list()
    if not is_small(x, 8):
        return None
    product = tf.matmul(tf.reshape(kernel, [-1, channels]), tf.reshape(x, [-1, channels]), transpose_b=True)
    return col2im(tf.transpose(product), tf.shape(x)[0], 2 * height, 2 * width)


def is_small(images, side):
    """Returns whether both sides of images [N, H, W, C] are known and at most `side` pixels, and there is no GPU.

    Convolutions of stride 2 between at most 16x16 pixels and half of that are products of the unfolded image and the
    kernel. On CPUs, TensorFlow's own convolutions took up to six times as long there, and their kernel gradients up to
    twelve times. On larger images, TensorFlow's own are faster.
    """
    sides = images.shape.as_list()[1:3]
    return None not in sides and max(sides) <= side and not devices.has_gpu()


def patch_rows(count, height, width, stride):
    """Returns the indices, int32 [P * 16], of `im2col`'s pixels in images [count, height, width, C] as rows of C."""
    down = np.arange(0, height - 3, stride)[:, None] + np.arange(4)
    right = np.arange(0, width - 3, stride)[:, None] + np.arange(4)
    rows = down[:, None, :, None] * width + right[None, :, None, :]
    first = tf.range(0, count * height * width, height * width)
    return tf.reshape(tf.expand_dims(first, 1) + rows.reshape([1, -1]), [-1])


def im2col(images, stride):
    """Returns each patch of 4x4 pixels, a stride apart, as a row: [N, H, W, C] -> [P, 16 * C]."""
    _, height, width, channels = images.shape.as_list()
    rows = patch_rows(tf.shape(images)[0], height, width, stride)
    return tf.reshape(tf.gather(tf.reshape(images, [-1, channels]), rows), [-1, 16 * channels])


def col2im(rows, count, height, width):
    """Returns the transpose of im2col(tf.pad(images, BORDER), 2), which adds overlaps: [P, 16 * C] -> [N, H, W, C]."""
    channels, padded = int(rows.shape[1]) // 16, (height + 2, width + 2)
    pixels = tf.math.unsorted_segment_sum(tf.reshape(rows, [-1, channels]), patch_rows(count, *padded, stride=2),
                                          count * padded[0] * padded[1])
    return tf.slice(tf.reshape(pixels, [-1, *padded, channels]), [0, 1, 1, 0], [-1, height, width, channels])


# ---------------------------------------------------------------------------------------------
# Convolutions in bfloat16


@contextlib.contextmanager
def built_for(precision):
    """Convolutions that are built in this context compute in a precision, in a session of `precisions.session_config`.

    In bfloat16, a CPU's session rewrites the convolutions, and they get other gradients here. On a GPU, `cast` makes
    them compute in bfloat16.
    """
    on_gpu = devices.has_gpu()
    before = BUILT_IN.set(tf.bfloat16 if precision == "bfloat16" and on_gpu else tf.float32)
    gradients = BFLOAT16_GRADIENTS if precision == "bfloat16" and not on_gpu else {}
    try:
        with tf.get_default_graph().gradient_override_map(gradients):  # for tf.gradients of what is built here
            yield
    finally:
        BUILT_IN.reset(before)


def cast(x, kernel):
    """Returns the image and the kernel of a convolution in the type in which it computes, see `built_for`."""
    return tf.cast(x, BUILT_IN.get()), tf.cast(kernel, BUILT_IN.get())


def convolution_gradient(op, gradient):
    """Returns the gradients of a convolution with respect to its image and kernel."""
    image, kernel = op.inputs
    how = {"strides": op.get_attr("strides"), "padding": op.get_attr("padding").decode()}
    return (tf.nn.conv2d_backprop_input(tf.shape(image), kernel, gradient, **how),
            kernel_gradient(image, gradient, kernel.shape, **how))


def transposed_gradient(op, gradient):
    """Returns the gradients of a transposed convolution with respect to its shape (None), kernel and image."""
    _, kernel, image = op.inputs
    how = {"strides": op.get_attr("strides"), "padding": op.get_attr("padding").decode()}
    return None, kernel_gradient(gradient, image, kernel.shape, **how), tf.nn.conv2d(gradient, kernel, **how)


for _name, _gradient in (("ProductConv2D", convolution_gradient), ("ProductConv2DBackpropInput", transposed_gradient)):
    with contextlib.suppress(KeyError):  # already registered if a notebook loads this module again
        tf.RegisterGradient(_name)(_gradient)

BFLOAT16_GRADIENTS = {"Conv2D": "ProductConv2D", "Conv2DBackpropInput": "ProductConv2DBackpropInput"}


def kernel_gradient(large, small, shape, strides, padding):
    """Returns the gradient of a 4x4 or 1x1 kernel [., ., C, D] between large [N, H', W', C] and small [N, H, W, D].

    With many filters D it is the product of the unfolded large and small, up to 32x32 pixels because of the memory. On
    CPUs in bfloat16, this takes 0.6 to 0.8 times as long as TensorFlow's own gradient; in float32, it takes the same
    time. With few filters, unfolding takes longer than it saves.
    """
    size, _, _, filters = shape.as_list()
    if size == 1 or filters < 512 or not is_small(small, 32):
        return tf.nn.conv2d_backprop_filter(large, shape, small, strides, padding)
    large = tf.pad(large, BORDER) if padding == "SAME" else large
    return tf.reshape(tf.matmul(im2col(large, strides[1]), tf.reshape(small, [-1, filters]), transpose_a=True), shape)
