"""Outputs of test mode as files like those of the targets: their size, their type, and values in their own units."""

import contextlib
import typing

import numpy as np
import tensorflow.compat.v1 as tf

from support import arrays, bands, lab, pair_files, rendering


class File(typing.NamedTuple):
    """How an output is stored."""

    size: tuple  # (height, width) in pixels
    dtype: str  # numpy's name of the numbers' type
    ending: str  # .png, .tif or .npy
    given: typing.Optional[str]  # the range LOW,HIGH of the values; None is that of the type
    truth: typing.Optional[np.ndarray]  # the target, [*size, C] on the scale of its type; None where it isn't compared
    source: typing.Optional[np.ndarray]  # with --lab, the input as RGB [*size, 3] in 0..255, whose L the output keeps

    @property
    def is_picture(self):
        """Whether a picture to look at holds the same values."""
        return (self.dtype, self.ending, self.given) == ("uint8", ".png", None)


def files_of(pairs, targets, known, given, truths, sources):
    """Yields the File of each pair: how its output is written as the run's targets are stored.

    Args:
      pairs: the Pairs to test.
      targets: the `image_files.Image`s of their targets; None without targets.
      known: what `bands.described` returned for the targets of training; may be empty.
      given: the range LOW,HIGH of the values; None is that of the type.
      truths: yields (input, target) of each pair, see reader.originals.
      sources: the same as RGB pictures, if outputs of a run with --lab are resized; else None.
    """
    dtypes = {target.dtype for target in targets or ()}
    is_compared = len(dtypes) == 1 and (given is not None or dtypes != {"uint8"})  # no mean of errors in two units
    for number, (image, *_) in enumerate(pairs.files):
        target = targets[number] if targets else None
        dtype, ending = (target.dtype, target.ending) if target else (
            known.get("dtype", "uint8"), known.get("file", ".png"))
        yield File(pair_files.size_of_one(pairs, image), dtype, ending, given, next(truths)[1] if is_compared else None,
                   next(sources)[0] if sources else None)


def beside(translated, files, show_bands=()):
    """Yields for each image what `gallery.write` takes.

    Args:
      translated: yields (name, {kind: image [1, H, W, C] in [-1, 1]}, patches, {measure: value}).
      files: yields the File of each.
      show_bands: see `rendering.bands_of`.
    """
    with contextlib.closing(Encoder()) as encoder:
        for (name, pictures, patches, values), file in zip(translated, files):
            output, stored, errors = pictures["output"], None, {}
            is_resized = output.shape[1:3] != tuple(file.size)
            if is_resized or not file.is_picture:
                if is_resized:
                    output = encoder.resized(output, file.size)
                    output = output if file.source is None else encoder.with_lightness_of(file.source, output)
                array = bands.in_units(output[0], file.dtype, file.given)
                stored = file.ending, encoder.png(array) if file.ending == ".png" else arrays.encoded(
                    array, file.ending)
                errors = errors_of(array, file) if file.truth is not None else {}
            visible = {kind: rendering.visible(picture, show_bands) for kind, picture in pictures.items()}
            yield name, visible, patches, dict(values, **errors), stored


class Encoder:
    """TensorFlow's resizing, and its PNG, which has colours of 16 bits as well."""

    def __init__(self):
        with tf.Graph().as_default():
            self.images, self.size = tf.placeholder(tf.float32, [1, None, None, None]), tf.placeholder(tf.int32, [2])
            self.larger = tf.image.resize_bilinear(self.images, self.size, half_pixel_centers=True)
            self.source, self.colours = (tf.placeholder(tf.float32, [1, None, None, 3]) for _ in range(2))
            self.kept = lab.with_lightness_of(self.source * (2.0 / 255.0) - 1.0, self.colours)
            self.pixels = {name: tf.placeholder(name, [None, None, None]) for name in ("uint8", "uint16")}
            self.contents = {name: tf.image.encode_png(pixels) for name, pixels in self.pixels.items()}
            self.session = tf.Session()
        self.close = self.session.close

    def resized(self, images, size):
        """Returns [1, H, W, C] as [1, *size, C], bilinear."""
        return self.session.run(self.larger, {self.images: images, self.size: size})

    def with_lightness_of(self, source, images):
        """Returns RGB [1, H, W, 3] with the L of a picture [H, W, 3] in 0..255."""
        return self.session.run(self.kept, {self.colours: images, self.source: source[np.newaxis]})

    def png(self, array):
        """Returns the bytes of a PNG of an array [H, W, C] of uint8 or uint16."""
        return self.session.run(self.contents[array.dtype.name], {self.pixels[array.dtype.name]: array})


def errors_of(array, file):
    """Returns {"mae" and "rmse": mean absolute error and root of the mean square error} in the data's own units."""
    zero, step = arrays.unit_of(file.dtype)
    truth = arrays.to_dtype(file.truth.astype(np.float64) * step + zero, file.dtype)
    distance = array.astype(np.float64) - truth
    return {"mae": float(np.abs(distance).mean()), "rmse": float(np.sqrt(np.square(distance).mean()))}
