"""Image files: checking them by their headers, decoding them in the graph, and turning them upright.

TensorFlow decodes JPEG, PNG, GIF and most BMP files; imageio, with Pillow, decodes other pictures; arrays.py decodes
arrays of any bands. None of it depends on what an image is for.
"""

import os
import stat
import typing
import zlib

import imageio.v3 as imageio
import numpy as np
import PIL.features
import PIL.Image
import tensorflow.compat.v1 as tf

from support import arrays, faults
from support.errors import DataError

HAS_AVIF = "avif" in PIL.features.modules and PIL.features.check("avif")  # Pillow has it from 11.3 on
ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm",
           ".npy", ".npz", *([".avif"] if HAS_AVIF else []))
MAX_UPLOAD_PIXELS = 4096 * 4096  # 200 MB when decoded


class Image(typing.NamedTuple):
    """A checked image file."""
    path: str
    kind: int  # the decoder, one of the six below
    height: int  # of the upright image, in pixels
    width: int
    orientation: int  # how to turn the decoded pixels upright (see `upright`); 1 for OTHER, whose decoder turns them
    checksum: int  # the CRC-32 of the file's first and last KB
    bands: int = 3  # every picture is decoded as RGB
    dtype: str = "uint8"  # of the file's numbers

    @property
    def ending(self):
        """The ending of a file that can hold the same numbers: .png, .tif or .npy."""
        if self.kind not in MEMBERS:
            return ".png"
        return ".tif" if self.path.lower().endswith((".tif", ".tiff")) else ".npy"

    @property
    def is_plain(self):
        """Whether it is a picture of 8 bits."""
        return self.kind in (PLAIN, OTHER)


# TensorFlow in 8 bits, TensorFlow in 16 bits (PNG), imageio; an array, or the array A or B of an .npz file.
PLAIN, DEEP, OTHER, ARRAY, ARRAY_A, ARRAY_B = range(6)
MEMBERS = {ARRAY: "", ARRAY_A: "A", ARRAY_B: "B"}


# ---------------------------------------------------------------------------------------------
# The file


def check_image(path, member=""):
    """Checks the header and the last bytes of a file, and returns its Image.

    Args:
      path: of the file.
      member: A or B, of an .npz file that holds both.

    Raises:
      DataError: the file can't be read, is not an image, or is cut short.
    """
    head, tail, is_whole_jpeg = ends_of(path)
    checksum = zlib.crc32(head + tail)
    if arrays.is_array(head):
        array = check_array(path, member)
        if array:
            height, width, bands, dtype, orientation = array
            height, width = (width, height) if orientation >= 5 else (height, width)
            kind = next(kind for kind, name in MEMBERS.items() if name == member)
            return Image(path, kind, height, width, orientation, checksum, bands, dtype)
    is_jpeg, is_png = head.startswith(b"\xff\xd8\xff"), head.startswith(b"\x89PNG\r\n\x1a\n")
    is_other = (head.startswith((b"II*\0", b"MM\0*", b"P5", b"P6")) or head[8:12] == b"WEBP"
                or (HAS_AVIF and head[4:12] in (b"ftypavif", b"ftypavis"))
                or (head.startswith(b"BM") and head[28:29] != b"\x18"))  # TensorFlow reads BMP of 24 bits alone
    if not (is_jpeg or is_png or is_other or head.startswith((b"BM", b"GIF8"))):
        raise DataError("%s: not a JPEG, PNG, BMP, GIF, TIFF, WebP%s, binary PPM or PGM image or NumPy array; convert "
                        "or remove it" % (path, ", AVIF" if HAS_AVIF else ""))
    if (is_jpeg and not is_whole_jpeg) or (is_png and b"IEND" not in tail):
        raise DataError("%s: the file is cut short; copy or download it again" % path)
    height, width, mode, orientation = header_of(path)
    if is_other and mode.startswith(("I", "F")):
        raise DataError("%s: only PNG, TIFF and NumPy files can have more than 8 bits per channel; convert the file"
                        % path)
    kind = OTHER if is_other else DEEP if is_png and head[24] == 16 else PLAIN
    if orientation >= 5:
        height, width = width, height
    return Image(path, kind, height, width, 1 if kind == OTHER else orientation, checksum,
                 dtype="uint16" if kind == DEEP else "uint8")


def check_array(path, member):
    """Returns the arrays.Header of a file, or None for a TIFF that is a picture; raises DataError."""
    try:
        with open(path, "rb") as file:
            return arrays.header_of(file, member)
    except OSError as error:
        raise DataError("%s: can't be read (%s)" % (path, error.strerror))
    except Exception as error:  # a broken header can raise anything
        raise DataError("%s: the array can't be opened (%s); replace or remove it" % (path, first_line(error)))


def first_line(error):
    """Returns the first line of an exception's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def ends_of(path):
    """Returns (first KB, last KB, whether it is a complete JPEG) of a file; raises DataError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a named pipe would block
            raise DataError("%s: not a file; remove it" % path)
        with open(path, "rb") as file:
            head = file.read(1024)
            file.seek(-min(1024, os.path.getsize(path)), os.SEEK_END)
            tail = file.read()
            return head, tail, head.startswith(b"\xff\xd8\xff") and has_end(file, tail)
    except OSError as error:
        raise DataError("%s: can't be read (%s)" % (path, error.strerror))


def header_of(path):
    """Returns (height, width, PIL's mode, EXIF's orientation) of an image file as stored; raises DataError."""
    try:
        with PIL.Image.open(path) as image:  # reads the header alone, and refuses more than 179 million pixels
            width, height = image.size
            if image.format == "TIFF":  # some versions of Pillow give the turned size here
                width, height = int(image.tag_v2[256]), int(image.tag_v2[257])
            return height, width, image.mode, orientation_of(image)
    except Exception as error:  # a broken header can raise anything
        raise DataError("%s: the image can't be opened (%s)" % (path, first_line(error)))


def orientation_of(image):
    """Returns the EXIF orientation of an opened PIL image, 1 to 8 (see `upright`); 1 if EXIF has no valid one."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # PIL would decode the whole image to look for EXIF after the pixels
    try:
        if image.format in ("JPEG", "MPO", "PNG"):  # only EXIF counts for these, not XMP, as in an export
            exif = PIL.Image.Exif()
            exif.load(image.info.get("exif", b""))
        else:
            exif = image.getexif()
        orientation = exif.get(0x0112, 1)
    except Exception:  # a broken EXIF block can raise anything; the image can still be decoded
        return 1
    return orientation if orientation in (1, 2, 3, 4, 5, 6, 7, 8) else 1


def has_end(jpeg, tail):
    """Returns whether an open JPEG file has an end marker; tail: the last bytes of the file.

    A thumbnail in the EXIF block has an end marker too, so only markers after the image's own start of scan count.
    Cameras write more data after the end, so the marker need not be in the tail.
    """
    start = start_of_scan(jpeg)
    outside = max(start - (jpeg.seek(0, os.SEEK_END) - len(tail)), 0)  # bytes of the tail before the scan
    if b"\xff\xd9" in tail[outside:]:
        return True
    jpeg.seek(start)
    return b"\xff\xd9" in jpeg.read()


def start_of_scan(jpeg):
    """Returns the position in bytes of the first scan in an open JPEG file, or 0 if its segments lead to none."""
    jpeg.seek(2)
    marker = jpeg.read(2)
    while len(marker) == 2 and marker[0] == 0xff:
        if marker[1] == 0xff:  # any number of these bytes may precede a marker
            marker = marker[1:] + jpeg.read(1)
            continue
        if marker[1] == 0xda:
            return jpeg.tell()
        length = int.from_bytes(jpeg.read(2), "big")
        if length < 2:
            return 0
        jpeg.seek(length - 2, os.SEEK_CUR)
        marker = jpeg.read(2)
    return 0


def undecodable(images):
    """Yields (path, message) of the Images whose pixels can't be decoded."""
    with tf.Graph().as_default(), tf.Session() as session:
        path, kind = tf.placeholder(tf.string, []), tf.placeholder(tf.int32, [])
        decoded = tf.shape(decode(tf.read_file(path), kind, bands=None))
        for image in images:
            try:
                session.run(decoded, {path: os.fsencode(image.path), kind: image.kind})
            except tf.errors.OpError as error:
                yield image.path, "%s: can't be decoded (%s); replace or remove it" % (
                    image.path, faults.reason_of(error))


# ---------------------------------------------------------------------------------------------
# The pixels, in the graph


def decode(contents, kind=PLAIN, dtype=tf.uint8, bands=3):
    """Decodes the bytes of an image, or of the first frame of a GIF, to [H, W, bands].

    Whole numbers of 8 and 16 bits come in 0..255 (see `arrays.unit_of`), and all others as they are in the file.

    Args:
      contents: string scalar.
      kind: the decoder (see Image), an int or an int tensor.
      dtype: of the result; float32 keeps the 16 bits of a DEEP image and the numbers of an array.
      bands: of the image; None leaves them open.
    """
    def decode_image(depth):
        return tf.image.decode_image(contents, channels=3, dtype=depth, expand_animations=False)

    def decode_other(contents):
        turns = not contents.startswith((b"II*\0", b"MM\0*"))  # Pillow turns TIFF by itself
        return np.asarray(imageio.imread(contents, plugin="pillow", mode="RGB", index=0, rotate=turns))

    def decode_array(member):
        def read(contents):
            return arrays.scaled(arrays.read(contents, member))

        return lambda: tf.cast(tf.numpy_function(read, [contents], tf.float32), dtype)

    branches = [lambda: tf.cast(decode_image(tf.uint8), dtype),
                lambda: tf.cast(tf.cast(decode_image(tf.uint16), tf.float32) / 257.0, dtype),
                lambda: tf.cast(tf.numpy_function(decode_other, [contents], tf.uint8), dtype),
                *map(decode_array, MEMBERS.values())]
    image = branches[kind]() if isinstance(kind, int) else tf.switch_case(kind, branches)
    image.set_shape([None, None, bands])
    return image


def upright(image, orientation):
    """Turns decoded pixels upright.

    Args:
      image: [H, W, C].
      orientation: int32 scalar, the EXIF orientation: 1 changes nothing, 2 to 4 mirror the image or turn it by 180
        degrees, and 5 to 8 exchange its sides.

    Returns:
      [H, W, C], or [W, H, C] for orientations 5 to 8.
    """
    turned = tf.transpose(image, [1, 0, 2])
    branches = [lambda: image, lambda: image[:, ::-1], lambda: image[::-1, ::-1], lambda: image[::-1],
                lambda: turned, lambda: turned[:, ::-1], lambda: turned[::-1, ::-1], lambda: turned[::-1]]
    result = tf.switch_case(orientation - 1, branches)
    result.set_shape([None, None, image.shape[2]])
    return result


def decode_upload(contents):
    """Decodes the bytes of an uploaded PNG or JPEG in the same way as test mode reads the file.

    It checks the size in the header before it decodes, since half a megabyte can hold gigabytes of pixels.

    Args:
      contents: string scalar.

    Returns:
      float32 [H, W, 3] in 0..255, upright, with all 16 bits of a PNG. Running this tensor raises
      tf.errors.InvalidArgumentError if the bytes are not a PNG or JPEG, have more than MAX_UPLOAD_PIXELS pixels, or
      can't be decoded.
    """
    first = tf.strings.join([tf.strings.substr(contents, 0, 32), tf.constant(b"\0" * 32)])  # at least 32 bytes
    header = tf.io.decode_raw(first, tf.uint8)[:32]

    def begins_with(signature):
        return tf.reduce_all(tf.equal(header[:len(signature)], np.frombuffer(signature, np.uint8)))

    def png_pixels():  # as float64, since each side may be up to 2 ** 32 - 1
        sides = tf.reshape(tf.cast(header[16:24], tf.float64), [2, 4])
        return tf.reduce_prod(tf.reduce_sum(sides * np.float64([2 ** 24, 2 ** 16, 2 ** 8, 1]), axis=1))

    def jpeg_pixels():
        return tf.reduce_prod(tf.cast(tf.image.extract_jpeg_shape(contents)[:2], tf.float64))

    is_png, is_jpeg = begins_with(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"), begins_with(b"\xff\xd8\xff")
    pixels = tf.cond(is_png, png_pixels, lambda: tf.cond(is_jpeg, jpeg_pixels, lambda: tf.constant(0, tf.float64)))
    checks = [tf.debugging.Assert(is_png | is_jpeg, ["not a PNG or JPEG image"]),
              tf.debugging.Assert(pixels <= MAX_UPLOAD_PIXELS, [
                  "the image has too many pixels; the limit is %d, such as 4096x4096; it has" % MAX_UPLOAD_PIXELS,
                  pixels])]
    with tf.control_dependencies(checks):
        contents = tf.identity(contents)
    image = tf.cond(is_png & tf.equal(header[24], 16), lambda: decode(contents, DEEP, tf.float32),
                    lambda: decode(contents, PLAIN, tf.float32))
    return upright(image, orientation_in(contents))


def orientation_in(contents):
    """Returns the EXIF orientation in the first 64 KB of a PNG or JPEG, an int32 scalar; 1 if there is none.

    Regular expressions do this in the graph, without Python: they remove everything except that one byte.
    """
    found = tf.strings.substr(contents, 0, 65536)
    for order, entry in ((r"MM\x00\*", r"\x01\x12\x00\x03\x00\x00\x00\x01\x00([\x01-\x08])"),
                         (r"II\*\x00", r"\x12\x01\x03\x00\x01\x00\x00\x00([\x01-\x08])\x00")):
        block = r"\A\C*?(?:Exif\x00\x00|eXIf)" + order  # in a JPEG segment or in a PNG chunk
        found = tf.strings.regex_replace(found, block + r"\C*?" + entry + r"\C*\z", r"\1")
    number = tf.strings.join([found, tf.constant(b"\1")])
    return tf.cond(tf.equal(tf.strings.length(found), 1),
                   lambda: tf.cast(tf.io.decode_raw(number, tf.uint8)[0], tf.int32), lambda: tf.constant(1))
