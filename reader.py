"""Pairs on disk -> a queue of jittered, normalised batches.

A pair is one image file, the input and its target side by side, or whatever else LAYOUTS has. The order of
this file is the way of the data: files, pairs, decoding, jitter, index queue, batch queue. Batches are
float32 NHWC in [-1, 1].

Which pair comes when and how it is jittered is a pure function of (seed, position in the run), so
that neither the number of threads nor a restart changes a batch.
"""

import collections
import contextlib
import os
import re
import stat

import imageio.v3 as imageio
import numpy as np
import PIL.Image
import tensorflow.compat.v1 as tf

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
LAYOUTS = ("side_by_side", "folders", "colorize", "inputs")
RESIZE_METHODS = ("bilinear", "nearest", "bicubic", "area")
SPLITS = ("train", "val", "test")


class DataError(Exception):
    """The data can't be used; the message names the file or folder and the way out."""


# ---------------------------------------------------------------------------------------------
# Files

Image = collections.namedtuple("Image", "path kind height width")
Image.__doc__ = "A checked image file: its path, what decodes it (PLAIN, DEEP or OTHER) and its size in pixels."
PLAIN, DEEP, OTHER = 0, 1, 2  # TensorFlow in 8 bits, TensorFlow in 16 bits (PNG), imageio

Pairs = collections.namedtuple("Pairs", "layout files skipped")
Pairs.__new__.__defaults__ = ((),)
Pairs.__doc__ = """Pairs in order: one of LAYOUTS, for each pair a tuple of its Images, and what was left out and why.

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
    return Pairs(layout, files, tuple(skipped))


def check_pair(paths, layout):
    """Returns the Images of a pair's files; raises DataError where they can't be one."""
    images = tuple(check_image(path) for path in paths)
    if layout == "side_by_side" and images[0].width % 2:
        raise DataError("%s: %d pixels wide; a pair is two halves side by side, an even width"
                        % (images[0].path, images[0].width))
    if images[0][2:] != images[-1][2:]:
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
            head = file.read(32)
            file.seek(-min(1024, os.path.getsize(path)), os.SEEK_END)
            tail = file.read()
            file.seek(0)
            is_jpeg = head.startswith(b"\xff\xd8\xff")  # cameras write more behind the end of the image
            is_cut = is_jpeg and b"\xff\xd9" not in tail and b"\xff\xd9" not in file.read()
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
    except Exception as error:  # whatever the image library makes of a broken header
        raise DataError("%s: the image can't be opened (%s)" % (path, (str(error).splitlines() or ["?"])[0]))
    if is_other and mode.startswith(("I", "F")):
        raise DataError("%s: more than 8 bits a channel are read from PNG alone; convert it" % path)
    kind = OTHER if is_other else DEEP if is_png and head[24] == 16 else PLAIN
    return Image(path, kind, height, width)


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
                yield image.path, reason_of(error)


def reason_of(error):
    """The line of a TensorFlow error that says what happened; the trace of graph nodes is around it."""
    return error.message.split("[[")[0].strip().splitlines()[-1]


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
        return np.asarray(imageio.imread(contents, plugin="pillow", mode="RGB", index=0))

    branches = [lambda: tf.cast(decode_image(tf.uint8), dtype),
                lambda: tf.cast(tf.cast(decode_image(tf.uint16), tf.float32) / 257.0, dtype),
                lambda: tf.cast(tf.numpy_function(decode_other, [contents], tf.uint8), dtype)]
    image = branches[kind]() if isinstance(kind, int) else tf.switch_case(kind, branches)
    image.set_shape([None, None, 3])
    return image


def pixel_type(pairs):
    """The type that holds every pixel of the pairs' files: uint8, or float32 where a file has 16 bits."""
    return tf.float32 if any(image.kind == DEEP for files in pairs.files for image in files) else tf.uint8


def pair_loader(pairs):
    """Returns a function: index of a pair -> [2, H, W, 3] in 0..255, A and then B, of `pixel_type`."""
    paths = tf.constant([[os.fsencode(image.path) for image in files] for files in pairs.files])
    kinds = tf.constant([[image.kind for image in files] for files in pairs.files])
    found = {image.kind for files in pairs.files for image in files}
    dtype, per_pair = pixel_type(pairs), len(pairs.files[0])

    def load(index):
        def image(i):
            kind = min(found) if len(found) == 1 else kinds[index, i]
            return decode(tf.read_file(paths[index, i]), kind, dtype)

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
    """[N, H, W, C] -> float32 [N, *size, C]; method is one of RESIZE_METHODS, all but area by the pixels' centres."""
    images = tf.cast(images, tf.float32)  # TensorFlow resizes floats faster than bytes
    if method == "area":
        return tf.image.resize_area(images, size)
    resizers = {"bilinear": tf.image.resize_bilinear, "nearest": tf.image.resize_nearest_neighbor,
                "bicubic": tf.image.resize_bicubic}
    return resizers[method](images, size, half_pixel_centers=True)


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


def index_queue(count, seed, start):
    """A queue of (position in the run, index of the pair), epoch after epoch without end.

    Each epoch goes through all pairs in its `epoch_order`.

    Args:
      count: number of pairs.
      seed: int.
      start: int64 scalar tensor, the first position; read when local variables are initialised,
        which a MonitoredTrainingSession does after it has restored the global step.
    """
    place = tf.get_variable("reader/position", initializer=start, trainable=False, use_resource=True,
                            collections=[tf.GraphKeys.LOCAL_VARIABLES])
    position = place.read_value()
    epoch, done = position // count, position % count
    rest = epoch_order(count, seed, epoch)[done:]
    positions = tf.range(position, position + count - done)
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
                     threads=2):
    """Builds the training queue. One runner keeps the order; `threads` pairs at a time are made ready inside it.

    Args:
      pairs: Pairs.
      step: the global step variable; after a restart the queue goes on with step * batch_size.
      batch_size, image_size, load_size, flip, resize_method: see `jitter`.
      direction: AtoB (left half to right half) or BtoA.
      input_channels, output_channels: 1 or 3.
      seed: decides the order and the jitter.
      threads: pairs made ready at once; changes no bit of a batch.

    Returns:
      (inputs, targets): float32 [batch_size, *image_size, channels] in [-1, 1].
    """
    load = pair_loader(pairs)

    def prepare(position, index):
        pair_seed = tf.stack([tf.constant(seed, tf.int64), 2 * position + 1])
        pair = jitter(load(index), load_size, image_size, flip, resize_method, pair_seed)
        return finish(pair, direction, input_channels, output_channels)

    start = tf.cast(step.read_value(), tf.int64) * batch_size
    places = index_queue(len(pairs.files), seed, start).dequeue_many(threads)
    prepared = [prepare(*place) for place in zip(*(tf.unstack(part, num=threads) for part in places))]
    shapes = [[*image_size, channels] for channels in (input_channels, output_channels)]
    queue = tf.FIFOQueue(4 * batch_size + 4 * threads, [tf.float32, tf.float32], shapes, name="batches")
    enqueue = tf.no_op()
    for pair in prepared:  # side by side until here, from here on in order
        with tf.control_dependencies([enqueue]):
            enqueue = queue.enqueue(pair)
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [enqueue]))
    return queue.dequeue_many(batch_size)


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
