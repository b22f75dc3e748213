"""Pairs of images on disk -> a queue of jittered, normalised batches.

A pair is an input and its target; support/pair_files.py finds the pairs in a folder. This file follows the data: the
graph decodes one pair, splits it, jitters it and normalises it, and queues make batches of such pairs. Batches are
float32 NHWC in [-1, 1].

The order of the pairs and their jitter are pure functions of the seed and the position in the run. So neither the
number of threads nor a restart changes a batch.
"""

import contextlib
import os
import re
import typing

import tensorflow.compat.v1 as tf

from support import devices, image_files, lab
from support.bands import Side, View
from support.errors import DataError
from support.pair_files import all_images, in_direction

MOST_THREADS = 8  # the largest default of Batches.threads


class Batches(typing.NamedTuple):
    """The options of `training_batches`."""
    batch_size: int = 4  # pairs in a batch, all shares together
    image_size: tuple = (256, 256)  # (height, width) in pixels after the random crop
    load_size: tuple = (286, 286)  # (height, width) to which images are resized before the crop, at least image_size
    flip: bool = True  # whether half of the pairs, at random, are mirrored
    view: View = View()
    seed: int = 0  # decides the order and the jitter
    # Pairs that the graph prepares in parallel, which changes no bit of a batch; None: one for each core, MOST_THREADS
    # at most.
    threads: typing.Optional[int] = None
    share: tuple = (0, 1)  # (i, n): of the n equal parts of each batch, only the i-th is read


# ---------------------------------------------------------------------------------------------
# From files to a normalised pair, in the graph


def pair_loader(pairs):
    """Returns a function from the index of a pair to (A, B), [H, W, C] each, in 0..255 for pictures.

    The type is that of `file_loader`; it is float32 for `colorize`. For `inputs` and `lab` both images are the file's.
    """
    loaders = [file_loader(images) for images in zip(*pairs.files)]  # one, or one for A and one for B

    def load(index):
        first = loaders[0](index)
        last = loaders[1](index) if len(loaders) > 1 else None
        if pairs.layout == "side_by_side":
            width = tf.shape(first)[1] // 2
            return first[:, :width], first[:, width:]
        if pairs.layout == "colorize":
            colour = tf.cast(first, tf.float32)
            return tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(colour)), colour
        if pairs.layout in ("inputs", "lab"):
            return first, first
        if pairs.layout in ("folders", "arrays"):
            return first, last
        raise NotImplementedError(pairs.layout)

    return load


def file_loader(images):
    """Returns a function from an index to the upright pixels of that file, [H, W, C] (see `image_files.decode`).

    All `image_files.Image`s must have the same number of bands. The pixels are uint8 if all files are pictures of 8
    bits, else float32.
    """
    paths = tf.constant([os.fsencode(image.path) for image in images])
    kinds = tf.constant([image.kind for image in images])
    orientations = tf.constant([image.orientation for image in images])
    has_one_kind = len({image.kind for image in images}) == 1
    any_turned = any(image.orientation != 1 for image in images)
    dtype = tf.uint8 if all(image.is_plain for image in images) else tf.float32

    def load(index):
        kind = images[0].kind if has_one_kind else kinds[index]
        pixels = image_files.decode(tf.read_file(paths[index]), kind, dtype, images[0].bands)
        return image_files.upright(pixels, orientations[index]) if any_turned else pixels

    return load


def resize(image, size, side=Side()):
    """[H, W, C] -> float32 [*size, C], by the method of a Side; all methods but area use half-pixel centres."""
    image = tf.cast(image, tf.float32)[tf.newaxis]  # TensorFlow resizes floats faster than bytes
    if side.resize_method == "area":
        return tf.image.resize_area(image, size)[0]
    resizers = {"bilinear": tf.image.resize_bilinear, "nearest": tf.image.resize_nearest_neighbor,
                "bicubic": tf.image.resize_bicubic}
    resized = resizers[side.resize_method](image, size, half_pixel_centers=True)[0]
    if side.resize_method == "bicubic":  # leaves the range beside edges, and tanh cannot produce such values
        resized = tf.clip_by_value(resized, side.low, side.high)
    return resized


def jitter(pair, batches, seed):
    """Resizes to load_size, crops to image_size at a random place, mirrors half of the pairs (paper, 6.2).

    Args:
      pair: (input, target), [H, W, C] each, two images that move as one.
      batches: a Batches, for load_size, image_size, flip and the view.
      seed: int64 [2], decides the crop and the mirror.

    Returns:
      [input, target], float32 [*image_size, C] each.
    """
    height, width = batches.image_size
    pair = [resize(image, batches.load_size, side) for image, side in zip(pair, batches.view.sides)]
    uniform = tf.random.stateless_uniform([3], seed=seed)
    room = [load - image + 1 for load, image in zip(batches.load_size, batches.image_size)]
    offset = tf.cast(uniform[:2] * room, tf.int32)
    pair = [tf.slice(image, [offset[0], offset[1], 0], [height, width, -1]) for image in pair]
    if batches.flip:
        pair = tf.cond(uniform[2] < 0.5, lambda: pair, lambda: [tf.reverse(image, axis=[1]) for image in pair])
    return pair


def normalise(image, side=Side()):
    """[H, W, C] -> float32 [H, W, channels] of a Side in [-1, 1]; what lies outside of low..high is clipped."""
    image = tf.cast(image, tf.float32)
    if (side.low, side.high) != (0.0, 255.0):
        image = (tf.clip_by_value(image, side.low, side.high) - side.low) * (255.0 / (side.high - side.low))
    image = image * (2.0 / 255.0) - 1.0
    return lab.grey(image) if side.is_lightness and image.shape[2] == 3 else to_channels(image, side.channels)


def to_channels(image, channels):
    """[H, W, C] -> [H, W, channels]: as it is, the luminance of a picture, or one band three times."""
    if channels == image.shape[2]:
        return image
    return tf.image.rgb_to_grayscale(image) if channels == 1 else tf.image.grayscale_to_rgb(image)


def as_seen(image, side, size=None):
    """[H, W, C] -> float32 [*size, channels] in [-1, 1], without jitter; None leaves the image its size."""
    return normalise(image if size is None else resize(image, size, side), side)


# ---------------------------------------------------------------------------------------------
# Queues


def epoch_order(count, seed, epoch):
    """A permutation of `count` indices, a pure function of (seed, epoch); int64 [count].

    Even numbers seed the epochs' orders, and odd numbers the pairs' jitter (see `training_batches`).
    """
    shuffle = tf.random.stateless_uniform([count], seed=tf.stack([tf.constant(seed, tf.int64), 2 * epoch]))
    return tf.cast(tf.argsort(shuffle), tf.int64)


def index_queue(count, seed, start, is_ours=None):
    """A queue of (position in the run, index of the pair), epoch after epoch without end.

    Each epoch goes through all pairs in its `epoch_order`. With 5 pairs, batches of 2 and seed 0:

        epoch       0                   1                   2
        position    0   1 | 2   3 | 4   5 | 6   7 | 8   9 | 10 ...
        index       0   4 | 1   3 | 2   0 | 4   1 | 2   3 | 4  ...
        batch       1       2       3       4       5

    A run that is resumed at global step 3 begins with batch 4, at start = 3 * 2 = 6: in epoch 6 // 5 = 1, of which
    6 % 5 = 1 pair is done. It first enqueues the rest of that epoch, (6, 4) (7, 1) (8, 2) (9, 3), then all of epoch 2.

    Args:
      count: number of pairs.
      seed: int.
      start: int64 scalar tensor, the first position. The queue reads it when local variables are initialised; a
        monitored session restores the global step before that.
      is_ours: function from positions [P] to which of them are queued, bool [P]; None queues all.
    """
    next_position = tf.get_variable("reader/position", initializer=start, trainable=False, use_resource=True,
                                    collections=[tf.GraphKeys.LOCAL_VARIABLES])
    position = next_position.read_value()
    epoch, done = position // count, position % count
    indices = epoch_order(count, seed, epoch)[done:]
    positions = tf.range(position, position + count - done)
    if is_ours:
        positions, indices = (tf.boolean_mask(part, is_ours(positions)) for part in (positions, indices))
    with tf.control_dependencies([indices, positions]):
        advance = next_position.assign_add(count - done, read_value=False)
    queue = tf.FIFOQueue(1024, [tf.int64, tf.int64], shapes=[[], []], name="indices")
    with tf.control_dependencies([advance]):
        enqueue = queue.enqueue_many([positions, indices])
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [enqueue]))
    return queue


@contextlib.contextmanager
def queue_scope():
    """Puts the queues on the CPU, which decodes files, and into the name scope that `is_from_queues` looks for."""
    with tf.device("/cpu:0"), tf.name_scope("reader"):
        yield


@queue_scope()
def training_batches(pairs, step, batches=Batches()):
    """Builds the training queues. One runner keeps the order; inside it `threads` pairs are prepared at a time.

    A second runner joins pairs to batches, so that a step does not wait for their copies.

    Args:
      pairs: pair_files.Pairs.
      step: the global step variable; after a restart the queue continues with position step * batch_size.
      batches: a Batches.

    Returns:
      (inputs, targets): float32 [batch_size / n, *image_size, channels] in [-1, 1] for a share (i, n).
    """
    sides, (part, parts) = batches.view.sides, batches.share
    threads = batches.threads or min(devices.cores(), MOST_THREADS)
    share_size = batches.batch_size // parts

    def is_ours(positions):
        return tf.equal(positions % batches.batch_size // share_size, part)

    load = pair_loader(pairs)

    def prepare(position, index):
        pair_seed = tf.stack([tf.constant(batches.seed, tf.int64), 2 * position + 1])
        pair = jitter(in_direction(load(index), batches.view.direction), batches, pair_seed)
        return [normalise(image, side) for image, side in zip(pair, sides)]

    start = tf.cast(step.read_value(), tf.int64) * batches.batch_size
    indices = index_queue(len(pairs.files), batches.seed, start, is_ours if parts > 1 else None)
    positions_and_indices = zip(*(tf.unstack(column, num=threads) for column in indices.dequeue_many(threads)))
    prepared = [prepare(position, index) for position, index in positions_and_indices]
    shapes = [[*batches.image_size, side.channels] for side in sides]
    queue = tf.FIFOQueue(share_size + 4 * threads, [tf.float32, tf.float32], shapes, name="pairs")
    enqueue = tf.no_op()
    for pair in prepared:  # prepared in parallel until here, enqueued one after the other
        with tf.control_dependencies([enqueue]):
            enqueue = queue.enqueue(pair)
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [enqueue]))
    joined = tf.FIFOQueue(3, [tf.float32, tf.float32], [[share_size, *shape] for shape in shapes], name="batches")
    tf.train.add_queue_runner(tf.train.QueueRunner(joined, [joined.enqueue(queue.dequeue_many(share_size))]))
    return joined.dequeue()


@queue_scope()
def ordered_pairs(pairs, size=None, view=View()):
    """Builds the queue of test mode and of samples: every pair once, in order, without jitter.

    Args:
      pairs: Pairs.
      size: (height, width) to resize to; None leaves each image its size.
      view: a View.

    Returns:
      (input, target): float32 [1, H, W, channels] in [-1, 1]; after the last pair the queue raises
      tf.errors.OutOfRangeError.
    """
    load = pair_loader(pairs)
    index = tf.train.range_input_producer(len(pairs.files), num_epochs=1, shuffle=False).dequeue()
    pair = in_direction(load(tf.cast(index, tf.int64)), view.direction)
    source, target = (as_seen(image, side, size) for image, side in zip(pair, view.sides))
    queue = tf.FIFOQueue(4, [tf.float32, tf.float32], name="ordered")
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [queue.enqueue([source[tf.newaxis], target[tf.newaxis]])]))
    return queue.dequeue()


def read_in_order(pairs, size=None, view=View()):
    """Yields what `ordered_pairs` reads, as numpy (input, target), each [1, H, W, C] in [-1, 1].

    A caller that may stop early must close this generator (contextlib.closing), since its threads live until then.
    """
    with tf.Graph().as_default():
        pair = ordered_pairs(pairs, size, view)
        session = tf.train.SingularMonitoredSession()
    with naming_bad_files(pairs), session:
        # After the last pair, session.run raises OutOfRangeError, on which a monitored session ends the block silently.
        while not session.should_stop():
            yield session.run(pair)


def originals(pairs, view):
    """Yields (input, target) of each pair in order, as numpy float32 [H, W, channels] on the scale of the files.

    See `image_files.decode`. Each image has its own size.
    """
    with tf.Graph().as_default(), queue_scope():
        index = tf.placeholder(tf.int64, [])
        pair = [to_channels(tf.cast(image, tf.float32), side.channels)
                for image, side in zip(in_direction(pair_loader(pairs)(index), view.direction), view.sides)]
        session = tf.Session()
    with naming_bad_files(pairs), contextlib.closing(session):
        for number in range(len(pairs.files)):
            yield session.run(pair, {index: number})


# ---------------------------------------------------------------------------------------------
# Which file was it


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


def is_from_queues(error):
    """Whether a tf.errors.OpError came from what was built in the `queue_scope`.

    A server of TensorFlow 1.15 reports ops inside tf.cond without their name scope. Only the reader decodes images, so
    a decoding op belongs to the reader.
    """
    of_message = re.search(r"node (reader/|Decode)|^From /job:(.|\n)*node PyFunc", error.message)
    return bool(of_message) or (error.op is not None and error.op.name.startswith("reader/"))


@contextlib.contextmanager
def naming_bad_files(pairs):
    """Raises a DataError that names the first file that can't be decoded, if an error came from the queues.

    A queue runner's error does not say which file it was, so all are tried, in order.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if is_from_queues(error):
            for _, message in image_files.undecodable(all_images(pairs)):
                raise DataError(message)
        raise
