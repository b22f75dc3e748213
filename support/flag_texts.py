"""What the text of a flag can say: a size in pixels, or a path that TensorFlow takes as it is written."""

import os
import re


def size_of(text):
    """Returns (height, width) of N or HEIGHT,WIDTH; raises ValueError for any other text."""
    sides = [int(side) for side in text.split(",")]
    if len(sides) > 2:
        raise ValueError(text)
    return sides[0], sides[-1]


def is_size(text, multiple):
    """Whether a text is N or HEIGHT,WIDTH, with sides that are multiples of a number."""
    try:
        return all(side > 0 and side % multiple == 0 for side in size_of(text))
    except ValueError:
        return False


def is_pattern(path):
    """Whether TensorFlow takes a path for a pattern when it finds or removes checkpoints; there is no escape for that.

    It is not one where a bracket has no partner, and where Windows separates folders with backslashes.
    """
    return bool(re.search(r"[*?]|\[.*\]", path, re.DOTALL)) or ("\\" in path and os.sep != "\\")


def is_url(path):
    """Whether TensorFlow takes a path for a URL, such as gs://bucket, where Python sees a folder called gs:."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path))
