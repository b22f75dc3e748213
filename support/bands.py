"""How the inputs, or the targets, of some pairs are seen: the number of channels, and the range of the values.

The values of pictures, and of all whole numbers of 8 and 16 bits, have the range of their type. Those of other types,
such as floats, need a range LOW,HIGH in the data's own units, which training finds in the files. Either is the range
that becomes [-1, 1].
"""

import math
import typing

import numpy as np

from support import arrays
from support.errors import DataError
from support.flag_texts import range_of

RESIZE_METHODS = ("bilinear", "nearest", "bicubic", "area")
PICTURE = ("uint8", ".png")  # the type and the ending of what is known of no file


class Side(typing.NamedTuple):
    """How the inputs, or the targets, are read."""
    resize_method: str = "bilinear"  # one of RESIZE_METHODS
    # As many channels as the files have bands; or 1, the luminance of a picture; or 3, which repeat a single band.
    channels: int = 3
    # The values that become -1 and 1, on the scale of `image_files.decode`, where whole numbers fill 0..255.
    low: float = 0.0
    high: float = 255.0
    is_lightness: bool = False  # whether a picture becomes the grey of equal L (see lab.py), not its luminance


class View(typing.NamedTuple):
    """How a pair of files is seen as an input and a target."""
    direction: str = "AtoB"  # one of pair_files.DIRECTIONS
    input: Side = Side()
    target: Side = Side()

    @property
    def sides(self):
        """The Side of the input and the Side of the target."""
        return self.input, self.target


def channels(images, given, flag):
    """Returns the number of channels for some `image_files.Image`s: `given`, or what they have.

    Raises:
      DataError: the images can't be seen so. Pictures, which have 3, can be seen as grey; one band can be repeated.
    """
    image = images[0]
    if given in (None, image.bands) or (given, image.bands) in ((1, 3), (3, 1)):
        return given or image.bands
    raise DataError("%s has %d band%s, and %s is %d" % (
        image.path, image.bands, "" if image.bands == 1 else "s", flag, given))


def limits(images, given, flag):
    """Returns (low, high), the range on the scale that `image_files.decode` gives the images; `given` may be None.

    Raises:
      DataError: the images need a range, are of types with different scales for it, or float32 can't tell its ends
        apart.
    """
    if not given:
        if not arrays.has_range(images[0].dtype):
            raise DataError("%s holds %s numbers, whose range is not known here; give %s=LOW,HIGH" % (
                images[0].path, images[0].dtype, flag))
        return 0.0, 255.0
    zero, step = arrays.unit_of(images[0].dtype)
    other = [image for image in images if arrays.unit_of(image.dtype) != (zero, step)]
    if other:
        raise DataError("%s holds %s and %s holds %s; %s needs one type" % (
            images[0].path, images[0].dtype, other[0].path, other[0].dtype, flag))
    low, high = (float(np.float32((end - zero) / step)) for end in range_of(given))
    if low == high:
        raise DataError("%s=%s: in float32 both ends are %r; give a wider range" % (flag, given, low))
    return low, high


def found(images, low, high):
    """Returns the text LOW,HIGH of the range from the lowest to the highest value, on the scale of the images."""
    zero, step = arrays.unit_of(images[0].dtype)
    low, high = (float(end) * step + zero for end in (low, high))
    return "%r,%r" % (low, high if high > low else low + max(1.0, 1e-6 * abs(low)))  # float32 has 7 digits


class Values(typing.NamedTuple):
    """What is in all files of the inputs, or of the targets."""
    low: float = math.inf  # the lowest value, on the scale of `image_files.decode`
    high: float = -math.inf  # the highest
    outside: int = 0  # how many values lie outside of the limits
    count: int = 0

    def and_of(self, image, limits):
        """Returns the Values with those of an array as well; limits: (low, high), or None."""
        outside = np.count_nonzero((image < limits[0]) | (image > limits[1])) if limits else 0
        return Values(min(self.low, image.min()), max(self.high, image.max()), self.outside + outside,
                      self.count + image.size)


def about(name, given, text, seen):
    """Returns the line that says how the values of the inputs or the targets lie in their range.

    Args:
      name: input or output.
      given: the text of the flag; None where the range was found.
      text: the range LOW,HIGH.
      seen: the Values of all files.
    """
    if not given:
        return "%s values are from %s in these files, which becomes the range (--%s_range=%s)" % (
            name, "%.6g to %.6g" % range_of(text), name, text)
    if seen.outside:
        return "warning: %d of %d %s values (%.2g %%) lie outside of --%s_range=%s and are clipped to it" % (
            seen.outside, seen.count, name, 100.0 * seen.outside / seen.count, name, text)
    return ""


def ranges(sides, given, both, finds):
    """Returns {name: LOW,HIGH} for the sides that need a range, and the lines that say what was found.

    Args:
      sides: {name: its `image_files.Image`s}, see `pair_files.images_of`.
      given: {name: the text of a range, or None}.
      both: yields the arrays of each pair, in the order of the sides, on the scale of the images.
      finds: whether a range that is not given is found in the files.

    Raises:
      DataError: see `limits`.
    """
    needed = {name: images for name, images in sides.items()
              if given[name] or not arrays.has_range(images[0].dtype)}
    ends = {name: limits(images, given[name], "--%s_range" % name) if given[name] or not finds else None
            for name, images in needed.items()}
    seen = dict.fromkeys(needed, Values())
    for pair in both if needed else ():
        seen.update((name, seen[name].and_of(image, ends[name])) for name, image in zip(sides, pair)
                    if name in needed)
    texts = {name: given[name] or found(images, seen[name].low, seen[name].high) for name, images in needed.items()}
    return texts, list(filter(None, (about(name, given[name], text, seen[name]) for name, text in texts.items())))


def in_units(values, dtype, given):
    """Returns values in [-1, 1] as numbers of a type in the data's own units; given: the text of a range, or None."""
    low, high = range_of(given) if given else ends_of(dtype)
    return arrays.to_dtype(low + (np.asarray(values, np.float64) + 1) / 2 * (high - low), dtype)


def ends_of(dtype):
    """Returns (lowest, highest) value of a type of whole numbers with up to 16 bits."""
    zero, step = arrays.unit_of(dtype)
    return zero, zero + 255 * step


def described(image, count, given):
    """Returns what run.json and an export keep of a side: channels, type, ending of the files, and the range's ends."""
    dtype, ending = (image.dtype, image.ending) if image else PICTURE
    low, high = range_of(given) if given else ends_of(dtype)
    return {"channels": count, "dtype": dtype, "file": ending, "low": low, "high": high}
