"""What the text of a flag can say: a size in pixels, a range, bands, or a path that TensorFlow takes as written."""

import math
import os
import re


def size_of(text):
    """Returns (height, width) of N or HEIGHT,WIDTH; raises ValueError for any other text."""
    sides = [int(side) for side in text.split(",")]
    if len(sides) > 2:
        raise ValueError(text)
    return sides[0], sides[-1]


def is_read_by(parse, text):
    """Whether one of the functions of this module reads a text without a ValueError."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


def is_size(text, multiple):
    """Whether a text is N or HEIGHT,WIDTH, with sides that are multiples of a number."""
    return is_read_by(size_of, text) and all(side > 0 and side % multiple == 0 for side in size_of(text))


def range_of(text):
    """Returns (low, high) of LOW,HIGH; raises ValueError for any other text."""
    low, high = (float(end) for end in text.split(","))
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(text)
    return low, high


def bands_of(text):
    """Returns [I, J, K] of I,J,K, the numbers of bands from 0 on; raises ValueError for any other text."""
    bands = [int(band) for band in text.split(",")]
    if len(bands) not in (1, 3) or min(bands) < 0:
        raise ValueError(text)
    return bands


def is_pattern(path):
    """Whether TensorFlow takes a path for a pattern when it finds or removes checkpoints; there is no escape for that.

    It is not one where a bracket has no partner, and where Windows separates folders with backslashes.
    """
    return bool(re.search(r"[*?]|\[.*\]", path, re.DOTALL)) or ("\\" in path and os.sep != "\\")


def is_url(path):
    """Whether TensorFlow takes a path for a URL, such as gs://bucket, where Python sees a folder called gs:."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path))
