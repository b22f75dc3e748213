"""Files of arrays, which have any number of bands and any type of number: TIFF, .npy and .npz.

An array is [H, W] or [H, W, C]; C is the number of bands. The functions here take an open binary file, and raise a
ValueError that says in a clause what is wrong with it.
"""

import functools
import io
import logging
import operator
import os
import typing
import zipfile

import numpy as np
import tifffile

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it tells of small faults in files that it can read

MOST_PIXELS = 2 * 89478485  # height x width; Pillow refuses larger pictures too
MEMBERS = ("A", "B")  # the arrays of an .npz file that is a pair
NPY, ZIP, TIFF = b"\x93NUMPY", b"PK\x03\x04", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class Header(typing.NamedTuple):
    """What a file holds, as its header says."""
    height: int  # of the array as stored
    width: int
    bands: int
    dtype: str  # numpy's name of the type
    orientation: int = 1  # of a TIFF, see `image_files.upright`


class Unit(typing.NamedTuple):
    """How the numbers of a type lie on the scale of 8-bit pictures: scaled = (number - zero) / step."""
    zero: float
    step: float


def unit_of(dtype):
    """Returns the Unit of a type: whole numbers of 8 and 16 bits fill 0..255, and all others stay as they are."""
    dtype = np.dtype(dtype)
    if not has_range(dtype):
        return Unit(0.0, 1.0)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return Unit(float(low), (high - low) / 255)


def has_range(dtype):
    """Whether the type itself says which range the values have, as whole numbers of 8 and 16 bits do."""
    dtype = np.dtype(dtype)
    return dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize <= 2)


def scaled(array):
    """Returns an array as float32 on the scale of its type's Unit."""
    zero, step = unit_of(array.dtype)
    array = array.astype(np.float32) - np.float32(zero) if zero else array.astype(np.float32)
    return array / np.float32(step) if step != 1 else array


def is_array(head):
    """Whether a file that begins with these bytes is of a kind that this module reads."""
    return head.startswith((NPY, ZIP, *TIFF))


def read(contents, member=""):
    """Returns the array in the bytes of a file, [H, W, C] in the file's own type.

    Args:
      contents: bytes.
      member: A or B of an .npz file with two arrays; empty takes the only array.

    Raises:
      ValueError: it can't be read, or a number in it is NaN or infinite.
    """
    try:
        array = read_any(io.BytesIO(contents), contents[:8], member)
    except Exception as error:  # broken contents can raise anything
        raise ValueError(str(error) or type(error).__name__)
    array = array if array.ndim == 3 else array[..., np.newaxis]
    with np.errstate(over="ignore"):
        if array.dtype.kind == "f" and not np.isfinite(array.astype(np.float32)).all():
            raise ValueError("NaN or infinity is in it, or a number that is too large for float32")
    return array


def read_any(file, head, member):
    """Returns the array in an open file that begins with `head`; member as in `read`."""
    if head.startswith(TIFF):
        return read_tiff(file)
    if head.startswith(ZIP):
        with zipfile.ZipFile(file) as archive, archive.open(member_name(archive, member)) as npy:
            return np.lib.format.read_array(npy, allow_pickle=False)
    return np.lib.format.read_array(file, allow_pickle=False)


def header_of(file, member=""):
    """Returns the Header of an open file; None for a TIFF that is a picture (see `is_picture`). Arguments as in `read`.

    Raises:
      ValueError: it is cut short, or no array of numbers.
    """
    head = file.read(8)
    file.seek(0)
    if head.startswith(TIFF):
        return header_of_tiff(file)
    if not head.startswith(ZIP):
        return header_of_npy(file, file.seek(0, io.SEEK_END))
    with zipfile.ZipFile(file) as archive:
        name = member_name(archive, member)
        with archive.open(name) as npy:
            return header_of_npy(io.BytesIO(npy.read(65536)), archive.getinfo(name).file_size)


def member_name(archive, member):
    """Returns the name, in an open .npz file, of its array A or B, or of its only array."""
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    if member + ".npy" in names:
        return member + ".npy"
    if are_a_pair(names):
        raise ValueError("it holds a pair, the arrays A and B; --layout=arrays reads such files")
    if len(names) != 1:
        raise ValueError("it holds %s; store one array, or two named A and B" % (
            "the arrays " + ", ".join(name[:-4] for name in names[:6]) if names else "no array"))
    return names[0]


def are_a_pair(names):
    """Whether the members of an .npz file include the arrays A and B."""
    return {member + ".npy" for member in MEMBERS} <= set(names)


def is_pair(path):
    """Whether a file is an .npz with arrays named A and B, which are a pair."""
    if not os.path.isfile(path):  # to open a named pipe would wait for ever
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return are_a_pair(archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def header_of_npy(file, size):
    """Returns the Header of an .npy file of some bytes."""
    file.seek(0)
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError("version %d.%d of the format is not read" % version)
    shape, _, dtype = read_header[version](file)
    header = checked(shape, dtype)
    if size < file.tell() + count_of(shape) * dtype.itemsize:
        raise ValueError("it is cut short")
    return header


def checked(shape, dtype, orientation=1):
    """Returns the Header of a shape, [H, W] or [H, W, C], and a type."""
    if dtype.hasobject or dtype.kind not in "buif":
        raise ValueError("it holds %s, not numbers" % ("Python objects" if dtype.hasobject else dtype))
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError("its shape is %s; an image is [H, W] or [H, W, C]" % list(shape))
    if shape[0] * shape[1] > MOST_PIXELS:
        raise ValueError("it has %d x %d pixels, more than are read" % shape[:2])
    return Header(*map(int, shape[:2]), int(shape[2]) if len(shape) == 3 else 1, dtype.name, orientation)


def count_of(shape):
    """Returns the number of values in an array of a shape."""
    return functools.reduce(operator.mul, map(int, shape), 1)


# ---------------------------------------------------------------------------------------------
# TIFF


def header_of_tiff(file):
    """Returns the Header of a TIFF file; None for a picture, and where only Pillow may be able to read it."""
    try:
        tiff = tifffile.TiffFile(file)
        series = tiff.series[0]
        if is_picture(series):
            return None
    except Exception:  # a broken header can raise anything
        return None
    size = file.seek(0, io.SEEK_END)
    ends = [offset + count for page in series.pages if page is not None
            for offset, count in zip(page.dataoffsets, page.databytecounts)]
    is_plain = int(series.keyframe.compression) == 1
    if not ends or max(ends) > size or (is_plain and count_of(series.shape) * series.dtype.itemsize > size):
        raise ValueError("it is cut short")
    shape = bands_last(series, np.broadcast_to(series.dtype.type(0), series.shape)).shape
    orientation = getattr(series.keyframe.tags.get(274), "value", 1)
    return checked(shape, series.dtype, int(orientation) if orientation in range(1, 9) else 1)


def read_tiff(file):
    """Returns the array of a TIFF file, [H, W] or [H, W, C]."""
    try:
        with tifffile.TiffFile(file) as tiff:
            return bands_last(tiff.series[0], tiff.series[0].asarray(maxworkers=1))
    except KeyError as error:  # a compression without its codec
        raise ValueError("%s; pip install imagecodecs, or store it without compression" % str(error).strip("'\""))


def is_picture(series):
    """Whether the pages of a TIFF are a picture for Pillow: 8 bits at most, and grey, colours or a palette."""
    page = series.keyframe
    colours = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}.get(int(page.photometric))  # samples without alpha
    others = page.samplesperpixel - len(alphas(page))
    is_stack = colours == 1 and len(series.pages) > 1
    return page.bitspersample <= 8 and colours == others and not is_stack


def alphas(page):
    """Returns the extra samples of a TIFF's page that are alpha."""
    return [kind for kind in page.extrasamples if int(kind) in (1, 2)]


def bands_last(series, array):
    """Returns the array of a TIFF's series as [H, W] or [H, W, C], without alpha.

    Bands are samples, planes or pages. tifffile itself stores [H, W, C] in H pages; so where only the order of two axes
    could tell, the shorter one is the bands.
    """
    axes = "".join(axis for axis, size in zip(series.axes, array.shape) if size > 1 or axis in "YX")
    array = array.reshape([size for axis, size in zip(series.axes, array.shape) if size > 1 or axis in "YX"])
    is_first = axes[:1] in ("S", "C") or (axes[-1:] not in ("S", "C") and array.shape[0] < array.shape[-1])
    if array.ndim == 3 and is_first:
        array = np.moveaxis(array, 0, -1)
    count = len(alphas(series.keyframe))
    return array[..., :-count] if count and "S" in axes else array


# ---------------------------------------------------------------------------------------------
# The other way


def to_dtype(values, dtype):
    """Returns values in a type's own numbers, rounded to whole ones and within its range where it has these."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.asarray(values) >= 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.clip(np.round(np.asarray(values, np.float64)), info.min, info.max).astype(dtype)
    return np.asarray(values).astype(dtype)


def encoded(array, ending):
    """Returns the bytes of an array [H, W, C] as a file with an ending, .tif or .npy."""
    array, file = (array[..., 0] if array.shape[2] == 1 else array), io.BytesIO()
    if ending == ".npy":
        np.save(file, array)
    else:
        tifffile.imwrite(file, array, photometric="minisblack", planarconfig="contig" if array.ndim == 3 else None)
    return file.getvalue()
