"""What TensorBoard shows of a run, in groups and with descriptions, and the file of events in which it stands."""

import contextlib
import os
import platform
import time
import typing

import numpy as np
import tensorflow.compat.v1 as tf

from support import faults, rendering


class Scalar(typing.NamedTuple):
    """How TensorBoard shows a column of metrics.csv or val_metrics.csv."""

    group: str  # the scalar's tag is GROUP/COLUMN
    description: str  # its unit and meaning


MEASURED = "of the generator on the first --val_pairs pairs of val/, one image at a time: the mean over the pairs."
SCALARS = {
    "epoch": Scalar("speed", "Passes over the training pairs so far."),
    "images_per_second": Scalar("speed", "Training pairs per second since the row before. Only the time of the steps "
                                "counts; saving, sample pictures and logging are left out."),
    "d_loss": Scalar("loss", "The discriminator's loss on real patches plus its loss on generated patches, without "
                     "--d_weight: each is the mean over the patches, in nats for the logarithmic losses."),
    "g_loss_gan": Scalar("loss", "The generator's adversarial loss, without --gan_weight: the mean over the patches, "
                         "in nats for the logarithmic losses."),
    "g_loss_l1": Scalar("loss", "The mean absolute difference of outputs and targets in [-1, 1], without --l1_weight, "
                        "whatever --pixel_loss is."),
    "d_max_logit": Scalar("discriminator", "The largest absolute logit of the batch's patches."),
    "saturated_real": Scalar("discriminator", "The share (0 to 1) of real patches that the discriminator takes for "
                             "generated while its loss gives it no gradient to learn from."),
    "saturated_fake": Scalar("discriminator", "The share (0 to 1) of generated patches that the discriminator takes "
                             "for real while its loss gives it no gradient to learn from."),
    "d_gradient_norm": Scalar("gradient", "The norm of the gradient of the discriminator's weighted loss with respect "
                              "to all of its weights."),
    "g_gradient_norm": Scalar("gradient", "The norm of the gradient of the generator's weighted loss with respect to "
                              "all of its weights."),
    "l1": Scalar("validation", "L1 " + MEASURED + " Of outputs and targets in [-1, 1]; lower is better."),
    "psnr": Scalar("validation", "PSNR in dB " + MEASURED + " Higher is better."),
    "ssim": Scalar("validation", "SSIM " + MEASURED + " Of pictures in [0, 1]; higher is better."),
}
PICTURES = {
    "samples/fixed_pairs": "The same pairs each time: input, output and target from left to right.",
    "batch/inputs": "Inputs of the batch, as the random crop and flip made them.",
    "batch/outputs": "What the generator made of these inputs, before the step's update.",
    "batch/targets": "Targets of the batch, as the random crop and flip made them.",
    "discriminator/logits_real": "The discriminator's logits of the batch's real patches, large where a patch looks "
                                 "real to it.",
    "discriminator/logits_fake": "The discriminator's logits of the batch's generated patches, large where a patch "
                                 "looks real to it.",
    "discriminator/patches_real": "The logits of real patches, from blue (looks generated) over white to red (looks "
                                  "real). Each image's largest logit sets its scale.",
    "discriminator/patches_fake": "The logits of generated patches, from blue (looks generated) over white to red "
                                  "(looks real). Each image's largest logit sets its scale.",
}


def scalars(values):
    """Returns a Summary of pairs (name of SCALARS, value)."""
    return tf.Summary(value=[
        shown("%s/%s" % (SCALARS[name].group, name), "scalars", np.float32(value), SCALARS[name].description)
        for name, value in values])


def picture(name, path, height, width):
    """Returns a Summary of a PNG file of some pixels, under one of the names of PICTURES."""
    with open(path, "rb") as file:
        image = tf.Summary.Image(encoded_image_string=file.read(), height=height, width=width)
    return described(tf.Summary(value=[tf.Summary.Value(tag=name, image=image)]))


def described(summary):
    """Returns a Summary's pictures and histograms with their descriptions."""
    values = []
    for value in summary.value:
        if value.HasField("image"):
            plugin, numbers = "images", (b"%d" % value.image.width, b"%d" % value.image.height)
            content = np.array([*numbers, value.image.encoded_image_string], object)
        else:
            plugin, limits = "histograms", value.histo.bucket_limit[:-1]
            content = np.float32([[value.histo.min, *limits], [*limits, value.histo.max], value.histo.bucket]).T
        values.append(shown(value.tag, plugin, content, PICTURES[value.tag.split("/image")[0]]))
    return tf.Summary(value=values)


def shown(tag, plugin, content, description):
    """Returns a Summary.Value in the form of one of TensorBoard's plugins, whose descriptions TensorBoard shows.

    TensorBoard also reads the older form, a Summary.Value of an image, say, but then drops its description.
    """
    metadata = tf.SummaryMetadata(summary_description=description, plugin_data={"plugin_name": plugin})
    return tf.Summary.Value(tag=tag, tensor=tf.make_tensor_proto(content), metadata=metadata)


def of_batch(batch, model, middle, show_bands=()):
    """Builds the view of the last batch: the jittered pairs, the outputs and D's logits.

    Args:
      batch: (inputs, targets).
      model: a pix2pix.Training.
      middle: see `rendering.heat_map`; each image has a scale of its own.
      show_bands: see `rendering.bands_of`.

    Returns:
      (the op that each step has to run, which keeps what is shown in local variables; a serialized Summary of it).
    """
    shown = (*batch, model.outputs, model.real_logits, model.fake_logits)
    variables = [tf.get_variable("shown/" + name, initializer=tf.zeros(tensor.shape), trainable=False,
                                 use_resource=True, collections=[tf.GraphKeys.LOCAL_VARIABLES])
                 for name, tensor in zip(("inputs", "targets", "outputs", "logits_real", "logits_fake"), shown)]
    kept = tf.group([variable.assign(tensor, read_value=False) for variable, tensor in zip(variables, shown)])
    tensors = [variable.read_value() for variable in variables]
    images, logits = zip(("inputs", "targets", "outputs"), tensors), zip(("real", "fake"), tensors[3:])
    summaries = [tf.summary.image("batch/" + name, rendering.to_uint8(rendering.visible(image, show_bands)))
                 for name, image in images]
    for name, values in logits:
        reach = tf.reduce_max(tf.abs(values - middle), axis=[1, 2, 3], keepdims=True)
        heat = rendering.to_uint8(rendering.heat_map(values, middle, reach, tf.concat))
        summaries += [tf.summary.histogram("discriminator/logits_" + name, values),
                      tf.summary.image("discriminator/patches_" + name, heat)]
    return kept, tf.summary.merge(summaries)


class EventWriter:
    """Writes a file of events, each of which is in it when its method returns.

    All methods raise OSError, with the file's name, where that is not so. TensorFlow's FileWriter writes in a thread,
    which on a full disk prints a trace, or lets its caller wait for ever.
    """

    def __init__(self, folder, graph, start):
        """Takes the run folder, the graph to show, and the step behind which the run goes on."""
        self.path = os.path.join(folder, "events.out.tfevents.%010d.%s.%d" % (
            time.time(), platform.node(), os.getpid()))
        with self.naming():
            self.file = tf.io.TFRecordWriter(self.path)
        self.add(file_version="brain.Event:2")
        self.add(graph_def=graph.as_graph_def(add_shapes=True).SerializeToString())
        self.add(step=start + 1, session_log=tf.SessionLog(status=tf.SessionLog.START))

    def add(self, **content):
        """Adds an event with these fields of tf.Event."""
        with self.naming():
            self.file.write(tf.Event(wall_time=time.time(), **content).SerializeToString())
            self.file.flush()

    def add_summary(self, summary, step):
        """Adds the values of a step, a tf.Summary or its bytes."""
        self.add(step=step, summary=tf.Summary.FromString(summary) if isinstance(summary, bytes) else summary)

    @contextlib.contextmanager
    def naming(self):
        try:
            yield
        except tf.errors.OpError as error:
            raise OSError(0, faults.reason_of(error).replace(self.path, "").lstrip("; "), self.path)

    def close(self):
        with contextlib.suppress(tf.errors.OpError):  # all was written before, or its error was raised
            self.file.close()
