"""Label maps, pictures in which each class has a colour: as one channel per class, and how right generated ones are."""

import collections

import numpy as np
import tensorflow.compat.v1 as tf

from support.palette import distances

MEASURES = collections.OrderedDict([("accuracy", "Share of right pixels (higher is better)"),
                                    ("iou", "Mean IoU of the classes (higher is better)")])
MOST = 64  # largest number of classes that are found in pictures


def one_hot(images, colours):
    """[N, H, W, 3] in [-1, 1] -> float32 [N, H, W, K], 1 for the nearest of K colours and 0 for the others."""
    colours = np.float32(colours) * np.float32(2 / 255) - 1
    squares = [tf.reduce_sum(tf.square(images - colour), axis=3) for colour in colours]
    return tf.one_hot(tf.argmin(tf.stack(squares, axis=3), axis=3), len(colours))


def classes(picture, colours):
    """Returns the index of the nearest of K colours for each pixel of a picture in 0..255, [H, W, 3] -> [H, W]."""
    codes, places = np.unique(picture.astype(np.int64) @ [65536, 256, 1], return_inverse=True)
    shades = np.stack([codes // 65536, codes // 256 % 256, codes % 256], axis=1)
    return distances(shades, colours).argmin(axis=1)[places].reshape(picture.shape[:2])


def confusion(output, target, colours):
    """Returns how many pixels of class i of the target have class j in the output, int64 [K, K]; uint8 pictures."""
    count = len(colours)
    pairs = classes(target, colours) * count + classes(output, colours)
    return np.bincount(pairs.ravel(), minlength=count * count).reshape(count, count)


def scores(counts):
    """Returns {name of MEASURES: value} of a confusion matrix (paper, section 5.1).

    The IoU of a class is the number of pixels that have it in both pictures, divided by those that have it in one; the
    mean is over the classes that occur.
    """
    right = np.diagonal(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - right
    return collections.OrderedDict([("accuracy", float(right.sum() / counts.sum())),
                                    ("iou", float(np.mean(right[either > 0] / either[either > 0])))])


def of_set(counts, measure):
    """Returns a function from indices of confusion matrices to a measure of all their pixels together."""
    counts = np.array(counts)
    return lambda chosen: scores(counts[np.asarray(chosen, int)].sum(axis=0))[measure]
