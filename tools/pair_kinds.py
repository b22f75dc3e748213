"""What A can be made of: functions from a picture, uint8 [H, W, 3], and its number to another of the same size.

The number alone decides what is random.
"""

import numpy as np
import scipy.ndimage

WEAK, STRONG = 0.025, 0.06  # slopes of the luminance, 0..1 a pixel: an edge has STRONG ones and goes on along WEAK ones
GREY = np.array([0.299, 0.587, 0.114])  # luminance of red, green and blue


def edges(photo, number, sigma=1.5):
    """Black lines on white: Canny's edges, the largest slopes of the smoothed luminance (Canny 1986)."""
    del number
    smooth = scipy.ndimage.gaussian_filter(photo @ GREY / 255, sigma)
    down, right = (scipy.ndimage.sobel(smooth, axis) / 8 for axis in (0, 1))
    slope = np.hypot(down, right)
    places = np.stack(np.indices(slope.shape), axis=0)
    step = np.stack([down, right]) / np.maximum(slope, 1e-9)
    ahead, behind = (scipy.ndimage.map_coordinates(slope, places + sign * step, order=1, mode="nearest")
                     for sign in (1, -1))
    ridge = (slope >= ahead) & (slope > behind)
    lines, count = scipy.ndimage.label(ridge & (slope > WEAK), np.ones([3, 3]))
    strong = np.zeros(count + 1, bool)
    strong[lines[ridge & (slope > STRONG)]] = True
    strong[0] = False  # what is no line
    return np.repeat(np.where(strong[lines], 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def grey(photo, number):
    """The luminance, three times."""
    del number
    return np.repeat(np.uint8(np.round(photo @ GREY))[..., None], 3, axis=2)


def blur(photo, number):
    """Gaussian blur; its standard deviation is a 64th of the shorter side, 4 of 256 pixels."""
    del number
    sigma = min(photo.shape[:2]) / 64
    return scipy.ndimage.gaussian_filter(photo, (sigma, sigma, 0))


def hole(photo, number):
    """A medium grey rectangle at a random place, each of its sides a quarter to a half of the picture's."""
    random, result = np.random.RandomState(number), photo.copy()
    lengths = [random.randint(side // 4, side // 2 + 1) for side in photo.shape[:2]]
    starts = [random.randint(0, side - length + 1) for side, length in zip(photo.shape, lengths)]
    result[tuple(slice(start, start + length) for start, length in zip(starts, lengths))] = 128
    return result


KINDS = {"edges": edges, "grey": grey, "blur": blur, "hole": hole}
