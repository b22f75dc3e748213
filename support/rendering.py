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


def heat_map(logits, middle, reach, concatenate):
    """D's logits [..., 1] as colours [..., 3] in [-1, 1]: blue at middle - reach, white, red at middle + reach.

    Args:
      logits: a tensor, with tf.concat to concatenate; or an array, with np.concatenate.
      middle: the logit between fake and real.
      reach: the largest distance of a logit from the middle.
    """
    share = (logits - middle) / (reach + 1e-12)
    red, blue = abs(share) + share, abs(share) - share  # from 0 to 2
    return concatenate([1 - blue, 1 - red - blue, 1 - red], -1)


def enlarged(logits, size, shown):
    """[h, w, 1] for an image of a size (height, width), in pixels -> its upper left part of the size `shown`."""
    rows, columns = ((2 * np.arange(part) + 1) * count // (2 * whole)
                     for part, count, whole in zip(shown, logits.shape, size))
    return logits[rows][:, columns]


def bands_of(count, wanted=()):
    """Returns the numbers of the bands, out of `count`, that people look at.

    Of more than three, they are those wanted if all are there. Else they are the first three, or the first of two.
    """
    return list(wanted) if wanted and max(wanted) < count > 3 else [0, 1, 2] if count > 2 else [0]


def visible(images, wanted=()):
    """Returns one or three bands of an array or a tensor [..., C], see `bands_of`."""
    count = int(images.shape[-1])
    bands = bands_of(count, wanted)
    if bands == list(range(count)):
        return images
    return images[..., bands] if isinstance(images, np.ndarray) else tf.gather(images, bands, axis=-1)


def to_rgb(image, wanted=()):
    """[H, W, C] -> [H, W, 3], see `visible`."""
    return np.broadcast_to(visible(image, wanted), image.shape[:2] + (3,))
