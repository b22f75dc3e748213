"""Arrays in [-1, 1] as pictures that people look at."""

import imageio.v3 as imageio
import numpy as np
import tensorflow.compat.v1 as tf

from support import storage


def pixels(image):
    """[-1, 1] -> uint8, as numpy."""
    return np.uint8(np.round((np.clip(image, -1, 1) + 1) * 127.5))


def write_png(path, image):
    """Writes [H, W, C] in [-1, 1] as a PNG."""
    image = pixels(image)
    image = image[..., 0] if image.shape[-1] == 1 else image
    storage.write_file(path, imageio.imwrite("<bytes>", image, extension=".png"))


def to_uint8(images):
    """[-1, 1] -> 0..255, in the graph."""
    return tf.cast(tf.round((images + 1) * 127.5), tf.uint8)


def heat_map(logits, low, high):
    """D's logits [N, h, w, 1] as colours in [-1, 1]: from blue (low) over white to red (high)."""
    share = tf.clip_by_value(2 * (logits - low) / (high - low) - 1, -1, 1)
    return 2 * tf.concat([1 + tf.minimum(share, 0), 1 - tf.abs(share), 1 - tf.maximum(share, 0)], axis=3) - 1


def to_rgb(image):
    return np.broadcast_to(image, image.shape[:2] + (3,))
