"""Pairs on disk -> a queue of jittered, normalised batches.

A pair is one image file, the input and its target side by side, or whatever else LAYOUTS has. The order of
this file is the way of the data: files, pairs, decoding, jitter, index queue, batch queue. Batches are
float32 NHWC in [-1, 1].

Which pair comes when and how it is jittered is a pure function of (seed, position in the run), so
that neither the number of threads nor a restart changes a batch.
"""

import collections
import contextlib
import hashlib
import os
import re
import stat
import zlib

import imageio.v3 as imageio
import numpy as np
import PIL.Image
import tensorflow.compat.v1 as tf

from support import run_folder

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
LAYOUTS = ("side_by_side", "folders", "colorize", "inputs")
RESIZE_METHODS = ("bilinear", "nearest", "bicubic", "area")
SPLITS = ("train", "val", "test")
MAX_UPLOAD_PIXELS = 4096 * 4096  # decoded, these take 200 MB


class DataError(Exception):
    """The data can't be used; the message names the file or folder and the way out."""


# ---------------------------------------------------------------------------------------------
# Files

Image = collections.namedtuple("Image", "path kind height width orientation checksum")
Image.__doc__ = """A checked image file.

* path; kind: what decodes it, PLAIN, DEEP or OTHER.
* height, width: in pixels, as people see it, after it was turned.
* orientation: how its decoded pixels must be turned for that (see `upright`); 1 for OTHER, which decoding turns.
* checksum: the CRC-32 of its first and last KB.
"""
PLAIN, DEEP, OTHER = 0, 1, 2  # TensorFlow in 8 bits, TensorFlow in 16 bits (PNG), imageio

Pairs = collections.namedtuple("Pairs", "layout files skipped folder")
Pairs.__new__.__defaults__ = ((), "")
Pairs.__doc__ = """Pairs in order: one of LAYOUTS, each a tuple of Images, what was left out and why, and the folder.

* side_by_side: one file, A in its left half and B in its right.
* folders: a file in A/ and one of the same stem in B/.
* colorize: one file, which is B; A is its luminance.
* inputs: one file, the input; there is no target.
"""


def natural_key(path):
    """Sorts as people count: 2.jpg before 10.jpg; 1.jpg and 01.jpg have an order too."""
    parts = re.split(r"([0-9]+)", path)  # every other part is a number
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)], path


def image_names(folder):
    """Returns the names of a folder's images, by their endings, in natural order; hidden files are left out."""
    names = (name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES) and not name.startswith("."))
    return sorted(names, key=natural_key)


def find_pairs(folder, layout="auto", skip_bad=False):
    """Returns the Pairs of a folder in natural order, every file checked by its header.

    Args:
      folder: where the images, or A/ and B/, are.
      layout: one of LAYOUTS; auto is folders where there are A/ and B/, else side_by_side.
      skip_bad: whether files that can't be used are left out; all are decoded then, which takes its time.

    Raises:
      DataError: there is no such folder, no image in it, a file that can't be read, a file of A/ without its
        partner in B/ or the other way round, or partners of different size.
    """
    if layout == "auto":
        layout = "folders" if all(os.path.isdir(os.path.join(folder, side)) for side in "AB") else "side_by_side"
    names = partners(folder) if layout == "folders" else [(path,) for path in image_paths(folder)]
    files, skipped = [], []
    for paths in names:
        try:
            files.append(check_pair(paths, layout))
        except DataError as error:
            if not skip_bad:
                raise
            skipped.append(str(error))
    if skip_bad:
        bad = dict(undecodable(image for pair in files for image in pair))
        skipped += [describe_undecodable(*item) for item in bad.items()]
        files = [pair for pair in files if not bad.keys() & {image.path for image in pair}]
    if not files:
        raise DataError("%s: no image in it can be used; the first: %s" % (folder, skipped[0]))
    return Pairs(layout, files, tuple(skipped), folder)


def identity(pairs):
    """Returns the sha256, in hex, of the files' paths below the pairs' folder, their sizes in bytes and checksums."""
    digest = hashlib.sha256()
    for image in (image for files in pairs.files for image in files):
        below = os.fsencode(os.path.relpath(image.path, pairs.folder))
        digest.update(b"%s %d %08x\n" % (below, os.path.getsize(image.path), image.checksum))
    return digest.hexdigest()


def check_pair(paths, layout):
    """Returns the Images of a pair's files; raises DataError where they can't be one."""
    images = tuple(check_image(path) for path in paths)
    if layout == "side_by_side" and images[0].width % 2:
        raise DataError("%s: %d pixels wide; a pair is two halves side by side, an even width"
                        % (images[0].path, images[0].width))
    if images[0][2:4] != images[-1][2:4]:
        raise DataError("%s is %dx%d pixels and %s is %dx%d; partners have one size" % (
            images[0].path, images[0].width, images[0].height, images[1].path, images[1].width, images[1].height))
    return images


def image_paths(folder):
    """Returns the paths of a folder's images in natural order; raises DataError where there is none."""
    if not os.path.isdir(folder):
        raise DataError("%s: not a folder; --data_dir and --split name where the pairs are" % folder)
    names = image_names(folder)
    if not names:
        raise DataError("%s: no image in this folder; pairs are %s files" % (folder, " ".join(SUFFIXES)))
    return [os.path.join(folder, name) for name in names]


def partners(folder):
    """Returns [(path in A/, path in B/)] of the files of one stem, in order."""
    sides = []
    for side in "AB":
        stems = collections.OrderedDict()
        for path in image_paths(os.path.join(folder, side)):
            other = stems.setdefault(stem(path), path)
            if other != path:
                raise DataError("%s and %s have one name; partners are found by it, rename one" % (other, path))
        sides.append(stems)
    lonely = [path for ours, theirs in (sides, sides[::-1]) for name, path in ours.items() if name not in theirs]
    if lonely:
        raise DataError("%s: no file of this name in the other of A/ and B/%s; add it, or take this one out" % (
            lonely[0], " (and for %d more: %s)" % (len(lonely) - 1, ", ".join(lonely[1:4])) if lonely[1:] else ""))
    return [(path, sides[1][name]) for name, path in sides[0].items()]


def stem(path):
    """The name of a file without folder and ending."""
    return os.path.splitext(os.path.basename(path))[0]


def check_image(path):
    """Returns the Image of a file, after looking at its first and last bytes.

    Raises:
      DataError: it can't be read, is no image, or is cut short.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a named pipe would be waited for
            raise DataError("%s: not a file; take it out" % path)
        with open(path, "rb") as file:
            head = file.read(1024)
            file.seek(-min(1024, os.path.getsize(path)), os.SEEK_END)
            tail = file.read()
            is_jpeg = head.startswith(b"\xff\xd8\xff")
            is_cut = is_jpeg and not has_end(file, tail)
    except OSError as error:
        raise DataError("%s: can't be read (%s)" % (path, error.strerror))
    is_png = head.startswith(b"\x89PNG\r\n\x1a\n")
    is_other = (head.startswith((b"II*\0", b"MM\0*")) or head[8:12] == b"WEBP"
                or (head.startswith(b"BM") and head[28:29] != b"\x18"))  # TensorFlow reads BMP of 24 bits alone
    if not (is_jpeg or is_png or is_other or head.startswith((b"BM", b"GIF8"))):
        raise DataError("%s: not a JPEG, PNG, BMP, GIF, TIFF or WebP image; take it out or convert it" % path)
    if is_cut or (is_png and b"IEND" not in tail):
        raise DataError("%s: the file is cut short; copy or download it again" % path)
    try:
        with PIL.Image.open(path) as image:  # reads the header alone, and refuses one of more than 179 million pixels
            (width, height), mode = image.size, image.mode
            orientation = orientation_of(image)
            if image.format == "TIFF":  # whether Pillow gives the turned size before it decodes depends on its version
                width, height = int(image.tag_v2[256]), int(image.tag_v2[257])
    except Exception as error:  # whatever the image library makes of a broken header
        raise DataError("%s: the image can't be opened (%s)" % (path, (str(error).splitlines() or ["?"])[0]))
    if is_other and mode.startswith(("I", "F")):
        raise DataError("%s: more than 8 bits a channel are read from PNG alone; convert it" % path)
    kind = OTHER if is_other else DEEP if is_png and head[24] == 16 else PLAIN
    if orientation >= 5:
        height, width = width, height
    return Image(path, kind, height, width, 1 if kind == OTHER else orientation, zlib.crc32(head + tail))


def orientation_of(image):
    """Returns EXIF's orientation of an opened PIL image, 1 to 8 (see `upright`); 1 where it is none of these."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # PIL would decode all of it to look behind its pixels
    try:
        if image.format in ("JPEG", "MPO", "PNG"):  # of these EXIF alone counts, as in an export, not XMP
            exif = PIL.Image.Exif()
            exif.load(image.info.get("exif", b""))
        else:
            exif = image.getexif()
        orientation = exif.get(0x0112, 1)
    except Exception:  # whatever the image library makes of a broken EXIF block; the image can still be decoded
        return 1
    return orientation if orientation in (1, 2, 3, 4, 5, 6, 7, 8) else 1


def has_end(jpeg, tail):
    """Whether an open JPEG file has an end marker; tail: the bytes it ends with.

    A thumbnail in the EXIF block has one too, so only what is behind the image's own start of scan counts; and
    cameras write more behind the end, so it need not be in the tail.
    """
    start = start_of_scan(jpeg)
    outside = max(start - (jpeg.seek(0, os.SEEK_END) - len(tail)), 0)  # bytes of the tail that are before the scan
    if b"\xff\xd9" in tail[outside:]:
        return True
    jpeg.seek(start)
    return b"\xff\xd9" in jpeg.read()


def start_of_scan(jpeg):
    """Returns where an open JPEG file's first scan begins, in bytes, or 0 where its segments do not lead to one."""
    jpeg.seek(2)
    marker = jpeg.read(2)
    while len(marker) == 2 and marker[0] == 0xff:
        if marker[1] == 0xff:  # any number of these may stand before a marker
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


@contextlib.contextmanager
def queue_scope():
    """Builds the queues on the CPU, where files are decoded, and under a name by which their errors are known."""
    with tf.device("/cpu:0"), tf.name_scope("reader"):
        yield


def is_from_queues(error):
    """Whether a tf.errors.OpError came from what was built in the `queue_scope`."""
    return "node reader/" in error.message or (error.op is not None and error.op.name.startswith("reader/"))


@contextlib.contextmanager
def naming_bad_files(pairs):
    """Turns an error of the queues into a DataError where a file's pixels can't be decoded.

    A queue runner's error does not say which file it was, so all are tried, in order.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if is_from_queues(error):
            for path, reason in undecodable(image for files in pairs.files for image in files):
                raise DataError(describe_undecodable(path, reason))
        raise


def undecodable(images):
    """Yields (path, reason) of the Images whose pixels can't be decoded."""
    with tf.Graph().as_default(), tf.Session() as session:
        path, kind = tf.placeholder(tf.string, []), tf.placeholder(tf.int32, [])
        decoded = tf.shape(decode(tf.read_file(path), kind))
        for image in images:
            try:
                session.run(decoded, {path: os.fsencode(image.path), kind: image.kind})
            except tf.errors.OpError as error:
                yield image.path, run_folder.reason_of(error)


def describe_undecodable(path, reason):
    return "%s: can't be decoded (%s); replace it or take it out" % (path, reason)


# ---------------------------------------------------------------------------------------------
# From a file to a normalised pair, in the graph


def decode(contents, kind=PLAIN, dtype=tf.uint8):
    """Decodes the bytes of an image, of a GIF its first frame, to [H, W, 3] in 0..255.

    Args:
      contents: string scalar.
      kind: what decodes it, an int or an int tensor (see Image).
      dtype: of the result; float32 keeps what a DEEP one has beyond 8 bits.
    """
    def decode_image(depth):
        return tf.image.decode_image(contents, channels=3, dtype=depth, expand_animations=False)

    def decode_other(contents):
        turns = not contents.startswith((b"II*\0", b"MM\0*"))  # Pillow turns TIFF by itself
        return np.asarray(imageio.imread(contents, plugin="pillow", mode="RGB", index=0, rotate=turns))

    branches = [lambda: tf.cast(decode_image(tf.uint8), dtype),
                lambda: tf.cast(tf.cast(decode_image(tf.uint16), tf.float32) / 257.0, dtype),
                lambda: tf.cast(tf.numpy_function(decode_other, [contents], tf.uint8), dtype)]
    image = branches[kind]() if isinstance(kind, int) else tf.switch_case(kind, branches)
    image.set_shape([None, None, 3])
    return image


def upright(image, orientation):
    """Turns decoded pixels as people see them.

    Args:
      image: [H, W, C].
      orientation: int32 scalar, EXIF's: 1 leaves the image, 2 to 4 mirror it or turn it by 180 degrees, and 5 to 8
        exchange its sides.

    Returns:
      [H, W, C], or [W, H, C] from 5 to 8.
    """
    turned = tf.transpose(image, [1, 0, 2])
    branches = [lambda: image, lambda: image[:, ::-1], lambda: image[::-1, ::-1], lambda: image[::-1],
                lambda: turned, lambda: turned[:, ::-1], lambda: turned[::-1, ::-1], lambda: turned[::-1]]
    result = tf.switch_case(orientation - 1, branches)
    result.set_shape([None, None, image.shape[2]])
    return result


def decode_upload(contents):
    """Decodes the bytes of a PNG or JPEG that a stranger sent, as test mode reads the same file.

    Its size is taken from the header before anything is decoded: half a megabyte can hold gigabytes of pixels.

    Args:
      contents: string scalar.

    Returns:
      float32 [H, W, 3] in 0..255, with a PNG's 16 bits, and turned by EXIF's orientation (see `upright`). Running
      it raises tf.errors.InvalidArgumentError where the bytes are no PNG or JPEG, are more than MAX_UPLOAD_PIXELS
      or can't be decoded.
    """
    first = tf.strings.join([tf.strings.substr(contents, 0, 32), tf.constant(b"\0" * 32)])  # 32 bytes of any contents
    header = tf.io.decode_raw(first, tf.uint8)[:32]

    def begins_with(signature):
        return tf.reduce_all(tf.equal(header[:len(signature)], np.frombuffer(signature, np.uint8)))

    def png_pixels():  # as floats, since the sides may be anything below 2 ** 32
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
    """Finds EXIF's orientation, 1 where there is none, in the first 64 KB of a PNG's or JPEG's bytes; int32 scalar.

    A regular expression can do it in the graph, without Python: the rest is cut away around that one byte.
    """
    found = tf.strings.substr(contents, 0, 65536)
    for order, entry in ((r"MM\x00\*", r"\x01\x12\x00\x03\x00\x00\x00\x01\x00([\x01-\x08])"),
                         (r"II\*\x00", r"\x12\x01\x03\x00\x01\x00\x00\x00([\x01-\x08])\x00")):
        block = r"\A\C*?(?:Exif\x00\x00|eXIf)" + order  # as a JPEG's segment and as a PNG's chunk
        found = tf.strings.regex_replace(found, block + r"\C*?" + entry + r"\C*\z", r"\1")
    number = tf.strings.join([found, tf.constant(b"\1")])
    return tf.cond(tf.equal(tf.strings.length(found), 1),
                   lambda: tf.cast(tf.io.decode_raw(number, tf.uint8)[0], tf.int32), lambda: tf.constant(1))


def pixel_type(pairs):
    """The type that holds every pixel of the pairs' files: uint8, or float32 where a file has 16 bits."""
    return tf.float32 if any(image.kind == DEEP for files in pairs.files for image in files) else tf.uint8


def pair_loader(pairs):
    """Returns a function: index of a pair -> [2, H, W, 3] in 0..255, A and then B, of `pixel_type`."""
    paths = tf.constant([[os.fsencode(image.path) for image in files] for files in pairs.files])
    kinds = tf.constant([[image.kind for image in files] for files in pairs.files])
    orientations = tf.constant([[image.orientation for image in files] for files in pairs.files])
    found = {image.kind for files in pairs.files for image in files}
    any_turned = any(image.orientation != 1 for files in pairs.files for image in files)
    dtype, per_pair = pixel_type(pairs), len(pairs.files[0])

    def load(index):
        def image(i):
            kind = min(found) if len(found) == 1 else kinds[index, i]
            pixels = decode(tf.read_file(paths[index, i]), kind, dtype)
            return upright(pixels, orientations[index, i]) if any_turned else pixels

        images = [image(i) for i in range(per_pair)]
        if pairs.layout == "side_by_side":
            width = tf.shape(images[0])[1] // 2
            images = [images[0][:, :width], images[0][:, width:]]
        elif pairs.layout == "colorize":
            colour = tf.cast(images[0], tf.float32)
            images = [tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(colour)), colour]
        elif pairs.layout == "inputs":
            images = 2 * images
        return tf.stack(images)

    return load


def resize(images, size, method="bilinear"):
    """[N, H, W, C] in 0..255 -> the same in float32 [N, *size, C].

    method is one of RESIZE_METHODS, all but area by the pixels' centres.
    """
    images = tf.cast(images, tf.float32)  # TensorFlow resizes floats faster than bytes
    if method == "area":
        return tf.image.resize_area(images, size)
    resizers = {"bilinear": tf.image.resize_bilinear, "nearest": tf.image.resize_nearest_neighbor,
                "bicubic": tf.image.resize_bicubic}
    resized = resizers[method](images, size, half_pixel_centers=True)
    if method == "bicubic":  # overshoots beside edges, where no output of tanh could follow
        resized = tf.clip_by_value(resized, 0.0, 255.0)
    return resized


def jitter(pair, load_size, image_size, flip, method, seed):
    """Resizes to load_size, crops to image_size anywhere, mirrors every other time (paper, 6.2).

    Args:
      pair: [2, H, W, C], two images that move as one.
      load_size, image_size: (height, width) in pixels, load_size at least image_size.
      flip: bool, whether to mirror at all.
      method: of resizing, one of RESIZE_METHODS.
      seed: int64 [2], decides the crop and the mirror.

    Returns:
      float32 [2, *image_size, C].
    """
    pair = resize(pair, load_size, method)
    uniform = tf.random.stateless_uniform([3], seed=seed)
    room = [load - image + 1 for load, image in zip(load_size, image_size)]
    offset = tf.cast(uniform[:2] * room, tf.int32)
    pair = tf.slice(pair, [0, offset[0], offset[1], 0], [-1, *image_size, -1])
    if flip:
        rows = tf.reshape(pair, [-1, image_size[1], int(pair.shape[3])])  # three dimensions are mirrored faster
        mirrored = tf.cond(uniform[2] < 0.5, lambda: rows, lambda: tf.reverse(rows, axis=[1]))
        pair = tf.reshape(mirrored, tf.shape(pair))
    return pair


def normalise(image):
    """0..255 -> float32 in [-1, 1]."""
    return tf.cast(image, tf.float32) * (2.0 / 255.0) - 1.0


def finish(pair, direction, input_channels, output_channels):
    """[2, H, W, 3] in 0..255 -> (input, target), each float32 [H, W, its channels] in [-1, 1]."""
    left, right = tf.unstack(normalise(pair), num=2)
    source, target = (left, right) if direction == "AtoB" else (right, left)
    return to_channels(source, input_channels), to_channels(target, output_channels)


def to_channels(image, channels):
    return image if channels == 3 else tf.image.rgb_to_grayscale(image)


# ---------------------------------------------------------------------------------------------
# Queues


def epoch_order(count, seed, epoch):
    """A permutation of `count` indices, a pure function of (seed, epoch); int64 [count]."""
    shuffle = tf.random.stateless_uniform([count], seed=tf.stack([tf.constant(seed, tf.int64), 2 * epoch]))
    return tf.cast(tf.argsort(shuffle), tf.int64)


def files_of_step(pairs, step, batch_size, seed):
    """Returns the paths of the pairs that a step, counted from 1, sees."""
    count, end = len(pairs.files), step * batch_size
    with tf.Graph().as_default(), tf.Session() as session:
        epoch = tf.placeholder(tf.int64, [])
        order = epoch_order(count, seed, epoch)
        orders = {number: session.run(order, {epoch: number}) for number in range((end - batch_size) // count,
                                                                                  (end - 1) // count + 1)}
    indices = [orders[position // count][position % count] for position in range(end - batch_size, end)]
    return [image.path for index in indices for image in pairs.files[index]]


def index_queue(count, seed, start, is_ours=None):
    """A queue of (position in the run, index of the pair), epoch after epoch without end.

    Each epoch goes through all pairs in its `epoch_order`.

    Args:
      count: number of pairs.
      seed: int.
      start: int64 scalar tensor, the first position; read when local variables are initialised,
        which a MonitoredTrainingSession does after it has restored the global step.
      is_ours: function from positions [P] to which of them are queued, bool [P]; None queues all.
    """
    place = tf.get_variable("reader/position", initializer=start, trainable=False, use_resource=True,
                            collections=[tf.GraphKeys.LOCAL_VARIABLES])
    position = place.read_value()
    epoch, done = position // count, position % count
    rest = epoch_order(count, seed, epoch)[done:]
    positions = tf.range(position, position + count - done)
    if is_ours:
        positions, rest = (tf.boolean_mask(part, is_ours(positions)) for part in (positions, rest))
    with tf.control_dependencies([rest, positions]):
        advance = place.assign_add(count - done, read_value=False)
    queue = tf.FIFOQueue(1024, [tf.int64, tf.int64], shapes=[[], []], name="indices")
    with tf.control_dependencies([advance]):
        enqueue = queue.enqueue_many([positions, rest])
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [enqueue]))
    return queue


@queue_scope()
def training_batches(pairs, step, *, batch_size=4, image_size=(256, 256), load_size=(286, 286), flip=True,
                     resize_method="bilinear", direction="AtoB", input_channels=3, output_channels=3, seed=0,
                     threads=2, share=(0, 1)):
    """Builds the training queue. One runner keeps the order; `threads` pairs at a time are made ready inside it.

    Args:
      pairs: Pairs.
      step: the global step variable; after a restart the queue goes on with step * batch_size.
      batch_size, image_size, load_size, flip, resize_method: see `jitter`.
      direction: AtoB (left half to right half) or BtoA.
      input_channels, output_channels: 1 or 3.
      seed: decides the order and the jitter.
      threads: pairs made ready at once; changes no bit of a batch.
      share: (i, n) reads the i-th of each batch's n equal parts alone.

    Returns:
      (inputs, targets): float32 [batch_size / n, *image_size, channels] in [-1, 1].
    """
    part, parts = share
    size = batch_size // parts

    def is_ours(positions):
        return tf.equal(positions % batch_size // size, part)

    load = pair_loader(pairs)

    def prepare(position, index):
        pair_seed = tf.stack([tf.constant(seed, tf.int64), 2 * position + 1])
        pair = jitter(load(index), load_size, image_size, flip, resize_method, pair_seed)
        return finish(pair, direction, input_channels, output_channels)

    start = tf.cast(step.read_value(), tf.int64) * batch_size
    places = index_queue(len(pairs.files), seed, start, is_ours if parts > 1 else None).dequeue_many(threads)
    prepared = [prepare(*place) for place in zip(*(tf.unstack(part, num=threads) for part in places))]
    shapes = [[*image_size, channels] for channels in (input_channels, output_channels)]
    queue = tf.FIFOQueue(4 * size + 4 * threads, [tf.float32, tf.float32], shapes, name="batches")
    enqueue = tf.no_op()
    for pair in prepared:  # side by side until here, from here on in order
        with tf.control_dependencies([enqueue]):
            enqueue = queue.enqueue(pair)
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [enqueue]))
    return queue.dequeue_many(size)


@queue_scope()
def ordered_pairs(pairs, *, size=None, resize_method="bilinear", direction="AtoB", input_channels=3, output_channels=3):
    """Builds the test queue: every pair once, in order, without jitter.

    Args:
      pairs, resize_method, direction, input_channels, output_channels: as in `training_batches`.
      size: (height, width) to resize to; None leaves each image its size.

    Returns:
      (input, target): float32 [1, H, W, channels] in [-1, 1]; after the last pair the queue raises
      tf.errors.OutOfRangeError.
    """
    load = pair_loader(pairs)
    index = tf.train.range_input_producer(len(pairs.files), num_epochs=1, shuffle=False).dequeue()
    pair = load(tf.cast(index, tf.int64))
    pair = pair if size is None else resize(pair, size, resize_method)
    source, target = finish(pair, direction, input_channels, output_channels)
    queue = tf.FIFOQueue(4, [tf.float32, tf.float32], name="ordered")
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [queue.enqueue([source[tf.newaxis], target[tf.newaxis]])]))
    return queue.dequeue()


def read_in_order(pairs, **options):
    """Yields what `ordered_pairs` reads, as numpy (input, target), each [1, H, W, C] in [-1, 1]."""
    with tf.Graph().as_default():
        pair = ordered_pairs(pairs, **options)
        session = tf.train.MonitoredSession()
    with naming_bad_files(pairs), session:
        while not session.should_stop():
            yield session.run(pair)
