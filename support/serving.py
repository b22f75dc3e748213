"""The SavedModel of a trained generator, as TensorFlow and its servers load it, with two signatures."""

import json
import os

import tensorflow.compat.v1 as tf

from support import image_files, palette, rendering


def signatures(translate, to_input, channels):
    """Builds the graph of an export.

    Args:
      translate: function that builds the generator, float32 [N, H, W, channels] -> [N, H, W, C], both in [-1, 1].
      to_input: function [H, W, 3] in 0..255 -> [h, w, channels] in [-1, 1], at the size that training saw;
        None where the data is not pictures.
      channels: of the input.

    Returns:
      {name: signature}: serving_default takes and gives images in [-1, 1] of any size; serving_bytes takes the bytes of
      PNG or JPEG files and gives those of PNG files of the size that `to_input` gives. It refuses what is neither, or
      too large; see `image_files.decode_upload`. Both raise tf.errors.InvalidArgumentError for a tensor of
      another shape, see `checked`.
    """
    @tf.autograph.experimental.do_not_convert  # it holds plain graph code, which map_fn would have rewritten
    def translate_bytes(contents):
        image = to_input(image_files.decode_upload(contents))
        return tf.image.encode_png(rendering.to_uint8(translate(image[tf.newaxis])[0]))

    images = tf.placeholder(tf.float32, [None, None, None, channels], "images")
    outputs = translate(checked(images, r"([1-9]\d*, ){3}%d" % channels, (
        "images must be a batch of one or more images, of shape [N, H, W, %d]" % channels)))
    signature = tf.saved_model.predict_signature_def
    by_array = {"serving_default": signature({"images": images}, {"outputs": outputs})}
    if not to_input:
        return by_array
    image_bytes = tf.placeholder(tf.string, [None], "image_bytes")
    png_bytes = tf.map_fn(translate_bytes, checked(image_bytes, r"\d+", "image_bytes must be a list, of shape [N]"),
                          dtype=tf.string, parallel_iterations=1)  # memory for one
    return dict(by_array, serving_bytes=signature({"image_bytes": image_bytes}, {"png_bytes": png_bytes}))


def checked(tensor, pattern, rule):
    """Returns the tensor, whose shape is compared with a pattern in each run, because a loaded signature takes any.

    The comparison is one of text: TensorFlow replaces a rank or a size by the declared one before a run.

    Args:
      tensor: with a declared shape.
      pattern: regular expression of the shapes that are taken, written as "1, 64, 64, 3".
      rule: how the message begins; the shape that was given follows.
    """
    shape = tf.strings.reduce_join(tf.strings.as_string(tf.shape(tensor)), separator=", ")
    message = tf.strings.join([rule + ", but the shape given is [", shape, "]"])
    with tf.control_dependencies([tf.debugging.Assert(tf.strings.regex_full_match(shape, pattern), [message])]):
        return tf.identity(tensor)


def write(folder, session, signatures, values, canvas):
    """Writes a session's graph and variables as a SavedModel into an empty folder.

    Args:
      folder: is removed first, because the builder makes it.
      session: holds the variables.
      signatures: see `signatures`.
      values: {"input" and "output": what `bands.described` returns}, for assets.extra/values.json.
      canvas: (size, inputs) of the canvas of demo/, see `palette.write`; None where the data is not pictures.
    """
    os.rmdir(folder)
    builder = tf.saved_model.Builder(folder)
    builder.add_meta_graph_and_variables(session, [tf.saved_model.tag_constants.SERVING], signatures)
    builder.save()
    extra = os.path.join(folder, "assets.extra")  # which TensorFlow and its servers ignore
    os.makedirs(extra)
    with open(os.path.join(extra, "values.json"), "w") as file:
        json.dump(values, file, indent=2)
    if canvas:
        palette.write(extra, *canvas)
