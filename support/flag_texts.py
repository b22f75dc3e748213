"""What the value of a flag can say: a size in pixels, a range, bands, label colours, a path; and what it must be."""

import math
import os
import re
import typing


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


def colours_of(text):
    """Returns [(red, green, blue)], each in 0..255, of RRGGBB,RRGGBB,...; raises ValueError for any other text."""
    colours = [tuple(bytes.fromhex(colour)) for colour in text.split(",")]
    if {len(colour) for colour in colours} != {3} or len(text) != 7 * len(colours) - 1 or not (
            len(colours) == len(set(colours)) > 1):
        raise ValueError(text)
    return colours


def text_of(colours):
    """[(red, green, blue)] -> RRGGBB,RRGGBB,..."""
    return ",".join("%02x%02x%02x" % tuple(colour) for colour in colours)


def is_pattern(path):
    """Whether TensorFlow takes a path for a pattern when it finds or removes checkpoints; there is no escape for that.

    It is not one where a bracket has no partner, and where Windows separates folders with backslashes.
    """
    return bool(re.search(r"[*?]|\[.*\]", path, re.DOTALL)) or ("\\" in path and os.sep != "\\")


def is_url(path):
    """Whether TensorFlow takes a path for a URL, such as gs://bucket, where Python sees a folder called gs:."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path))


# ---------------------------------------------------------------------------------------------
# Rules


class Rule(typing.NamedTuple):
    """What a value must be."""

    test: typing.Callable  # function from the value to whether it is so
    message: str  # for other values


def below(limit):
    """Returns the Rule that a number is at least 0 and below a limit."""
    return Rule(lambda value: 0 <= value < limit, "must be from 0 to below %g" % limit)


IMAGE_SIZE = Rule(lambda text: is_size(text, 32),
                  "must be N or HEIGHT,WIDTH in multiples of 32, such as 256 or 256,512")
LOAD_SIZE = Rule(lambda text: text == "0" or is_size(text, 1), "must be 0, N or HEIGHT,WIDTH")
LABELS = Rule(lambda text: not text or is_read_by(colours_of, text),
              "must be two or more colours, such as 000000,ff0000, each of them once")
RANGE = Rule(lambda text: is_read_by(range_of, text), "must be LOW,HIGH, two numbers in rising order")
BANDS = Rule(lambda text: is_read_by(bands_of, text), "must be one or three numbers of bands, such as 3,2,1")
NO_PATTERN = Rule(lambda path: not is_pattern(path),
                  "must not hold *, ?, a backslash or [...], which TensorFlow reads as a pattern of names")
NO_URL = Rule(lambda path: not is_url(path),
              "must be a path on this machine, not a URL; a remote folder can be mounted")
ONE_LINE = Rule(lambda path: "\n" not in path,
                "must not hold a line break, since flags.txt keeps the path in one line")
FOLDER = Rule(bool, "must name a folder")
ABOVE_0 = Rule(lambda value: value > 0, "must be above 0")
FINITE = Rule(math.isfinite, "must be a finite number")
