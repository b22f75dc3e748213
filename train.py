"""Flags and the session loop: train a pix2pix model, test it, export it.

    python train.py --epochs 200
    python train.py --mode=test
    python train.py --mode=export

This file is the only one that knows flags and the run folder. It reads from top to bottom: flags, the
run folder, the graph from the flags, the three modes.
"""

import collections
import contextlib
import errno
import gc
import json
import math
import os
import platform
import re
import signal
import sys
import textwrap
import zlib

from absl import app, flags

FLAGS = flags.FLAGS

# ---------------------------------------------------------------------------------------------
# Flags. The names and the numbers are the paper's where it has them.

flags.DEFINE_enum("mode", "train", ["train", "test", "export"],
                  "What to do: train a model, test it on pairs, or export it as a SavedModel.")
flags.DEFINE_string("output_dir", "runs/pix2pix",
                    "The run folder. Running the same command again continues the run in it.")
flags.DEFINE_string("checkpoint", None,
                    "The checkpoint that test and export restore, as PATH/model.ckpt-STEP; also one of the "
                    "one-file TF1 program. Default: the newest of the run in output_dir.")
flags.DEFINE_string("init_checkpoint", None,
                    "Training starts at step 0 from the weights in this checkpoint instead of from "
                    "random ones; it may be one of the one-file TF1 program.")
flags.DEFINE_integer("seed", 0, "Decides weights, order, jitter and dropout; two runs with equal flags and "
                     "seeds are equal bit for bit on one kind of hardware.", lower_bound=0, upper_bound=2 ** 63 - 1)

flags.DEFINE_string("data_dir", "data/sample",
                    "Folder with the splits train/, val/ and test/, or with the images themselves. The "
                    "default, a drawn sample set, is made on first use.")
flags.DEFINE_string("split", None,
                    "The folder inside data_dir to read. Default: train; in test mode the first of test, "
                    "val and train that exists.")
flags.DEFINE_enum("layout", "auto", ["auto", "side_by_side", "folders", "colorize", "inputs"],
                  "How a split holds its pairs: side by side in one file; as A/ and B/, partners of one name (auto "
                  "sees these two by itself); plain colour images, whose luminance is the input; or, in test mode, "
                  "inputs alone.")
flags.DEFINE_enum("direction", "AtoB", ["AtoB", "BtoA"],
                  "AtoB learns from the left half of each image to the right half, BtoA the other way.")
flags.DEFINE_string("image_size", "256", "Size in pixels of what the networks see in training, N or HEIGHT,WIDTH, in "
                    "multiples of 32 (paper: 256).")
flags.DEFINE_string("load_size", "0", "Size in pixels to which training images are resized before the random crop to "
                    "image_size; 0 means image_size x 286 / 256 (paper: 286).")
flags.DEFINE_enum("resize_method", "bilinear", ["bilinear", "nearest", "bicubic", "area"], "How images are resized.")
flags.DEFINE_bool("test_resize", False, "Whether test mode resizes images to image_size, for pictures much larger than "
                  "what training saw. Else each keeps its size, padded by reflection and cropped back.")
flags.DEFINE_bool("flip", True, "Whether every other training pair, at random, is mirrored.")
flags.DEFINE_enum("input_channels", "3", ["1", "3"], "Channels of the input, 1 (grey) or 3 (colour).")
flags.DEFINE_enum("output_channels", "3", ["1", "3"], "Channels of the output, 1 (grey) or 3 (colour).")
flags.DEFINE_bool("skip_bad_images", False, "Whether images that can't be used are left out, and listed, instead of "
                  "ending the program (a missing partner still does). All are decoded once at the start.")
flags.DEFINE_integer("reader_threads", 2, "How many pairs are made ready at once; changes no result.", lower_bound=1,
                     upper_bound=64)

flags.DEFINE_integer("ngf", 64, "Filters in the generator's first layer (paper: 64).", lower_bound=1)
flags.DEFINE_integer("ndf", 64, "Filters in the discriminator's first layer (paper: 64).", lower_bound=1)
flags.DEFINE_enum("generator", "unet", ["unet", "encoder_decoder"],
                  "With skips from the encoder to the decoder, or without (paper, 4.2).")
flags.DEFINE_enum("skip", "post", ["post", "pre"],
                  "Where the U-Net's skips leave the encoder: behind its leaky ReLU, or before it, to be joined "
                  "before the decoder's ReLU (pre is the paper's code).")
flags.DEFINE_enum("norm", "batch", ["batch", "instance", "none"],
                  "Normalisation after the convolutions, with the statistics of the batch at hand in "
                  "training, test and export alike (paper: batch).")
flags.DEFINE_float("norm_epsilon", 1e-5, "Added to the variance in normalisation.", lower_bound=0.0)
flags.DEFINE_bool("bottleneck_norm", False, "Whether the 1x1 bottleneck is normalised too. The paper's "
                  "erratum says no: with batch size 1 it would be erased.")
flags.DEFINE_float("leaky_slope", 0.2, "Slope of the leaky ReLUs below 0 (paper: 0.2).", lower_bound=0.0)
flags.DEFINE_float("dropout", 0.5, "Share of units dropped in the decoder's inner blocks, the paper's only "
                   "noise (paper: 0.5).", lower_bound=0.0, upper_bound=0.99)
flags.DEFINE_integer("dropout_blocks", 3, "In how many decoder blocks, from the bottleneck up (paper: 3).",
                     lower_bound=0)
flags.DEFINE_bool("test_dropout", True, "Whether dropout stays on at test time, as in the paper. An export "
                  "leaves it out unless this flag is given; then one fixed mask is applied to every call.")

flags.DEFINE_enum("patch", "70", ["1", "16", "34", "70", "94", "142", "286"],
                  "Receptive field of the discriminator's logits in pixels (paper: 70).")
flags.DEFINE_bool("conditional", True, "Whether the discriminator sees the input beside the picture (paper: yes).")

flags.DEFINE_enum("gan_loss", "log", ["log", "log_literal", "logits", "lsgan"],
                  "The adversarial loss: -ln(D + eps) computed from the logits without rounding; the same "
                  "as its historical text, in float32; sigmoid cross entropy; or mean square.")
flags.DEFINE_float("eps", 1e-12, "The eps inside the logarithm of log and log_literal, from 0 to below 0.1 "
                   "(1e-12 is the classic TF1 programs').")
flags.DEFINE_enum("pixel_loss", "l1", ["l1", "l2"],
                  "The generator's other term: mean absolute or mean square difference (paper: l1).")
flags.DEFINE_float("l1_weight", 100.0, "Weight of that term, whichever it is; 0 leaves it out (paper: 100).",
                   lower_bound=0.0)
flags.DEFINE_float("gan_weight", 1.0, "Weight of the adversarial term in the generator's loss; 0 leaves it "
                   "out (paper: 1).", lower_bound=0.0)
flags.DEFINE_float("d_weight", 1.0, "Weight of the discriminator's loss (paper: 0.5).", lower_bound=0.0)

flags.DEFINE_integer("epochs", 200, "Length of the run in passes over the training pairs (paper: 200).",
                     lower_bound=1)
flags.DEFINE_integer("max_steps", 0, "Stops the run at this step if epochs would go further; 0 is off.",
                     lower_bound=0)
flags.DEFINE_integer("batch_size", 4, "Pairs in a step. The paper has 1 for facades; 4 makes better use of "
                     "a CPU.", lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-4, "Adam's step size, of both networks (paper: 0.0002).")
flags.DEFINE_float("beta1", 0.5, "Adam's first momentum (paper: 0.5).", lower_bound=0.0, upper_bound=0.999)
flags.DEFINE_float("adam_epsilon", 1e-8, "Adam's epsilon.", lower_bound=0.0)
flags.DEFINE_integer("decay_epochs", 0, "Over the last so many of --epochs the learning rate falls linearly to 0.",
                     lower_bound=0)
flags.DEFINE_enum("update", "simultaneous", ["simultaneous", "alternating"],
                  "simultaneous: both gradients come from one forward pass. alternating: the discriminator "
                  "is updated first, and the generator against the new one on the same fake image.")
flags.DEFINE_enum("precision", "auto", ["auto", "float32", "bfloat16"],
                  "Arithmetic of the convolutions; weights, losses and measures are always float32. In training auto "
                  "takes bfloat16 on a CPU that has it natively, else float32, and keeps the choice; in test mode "
                  "it is float32. An export's is chosen where it runs (docs/deploy.md).")

flags.DEFINE_integer("log_every", 20, "Steps between rows of metrics.csv.", lower_bound=1)
flags.DEFINE_integer("sample_every", 100, "Steps between sample grids; there is one of step 0 too.",
                     lower_bound=1)
flags.DEFINE_integer("save_every", 500, "Steps between checkpoints.", lower_bound=1)
flags.DEFINE_integer("keep", 3, "How many checkpoints are kept, the newest.", lower_bound=1)

GROUPS = collections.OrderedDict([
    ("The run", "mode output_dir checkpoint init_checkpoint seed"),
    ("Data", "data_dir split layout direction image_size load_size resize_method flip test_resize input_channels "
             "output_channels skip_bad_images reader_threads"),
    ("Networks", "generator ngf skip norm norm_epsilon bottleneck_norm leaky_slope dropout dropout_blocks test_dropout "
                 "ndf patch conditional"),
    ("Losses", "gan_loss eps pixel_loss l1_weight gan_weight d_weight"),
    ("Training", "epochs max_steps batch_size learning_rate beta1 adam_epsilon decay_epochs update precision"),
    ("What is written when", "log_every sample_every save_every keep"),
])
NAMES = " ".join(GROUPS.values()).split()

# Pixels that a discriminator needs for one logit, where it is more than the generator needs.
SMALLEST = {"142": 64, "286": 96}
# Flags that a continued run may change: none of them changes the bits of a step.
FREE = set("mode output_dir checkpoint data_dir skip_bad_images reader_threads test_resize test_dropout "
           "epochs max_steps precision log_every sample_every save_every keep".split())
# Flags that make the network what it is.
SHAPING = set(GROUPS["Networks"].split()) - {"dropout", "dropout_blocks", "test_dropout"} | {
    "input_channels", "output_channels"}
# Flags that the names and shapes in a checkpoint of the one-file TF1 program decide.
OF_A_CHECKPOINT = set("input_channels output_channels ngf ndf skip norm bottleneck_norm".split())
# Flags that test and export take from the run, unless they are given.
OF_THE_RUN = set((GROUPS["Data"] + " " + GROUPS["Networks"]).split()) - {"split"} | {"seed", "gan_loss"}


def size_of(text):
    """Returns (height, width) of N or H,W; raises ValueError where it is neither."""
    sides = [int(side) for side in text.split(",")]
    if len(sides) > 2:
        raise ValueError(text)
    return sides[0], sides[-1]


def is_size(text, multiple):
    try:
        return all(side > 0 and side % multiple == 0 for side in size_of(text))
    except ValueError:
        return False


flags.register_validator("image_size", lambda text: is_size(text, 32),
                         "must be N or HEIGHT,WIDTH in multiples of 32, such as 256 or 256,512")
flags.register_validator("load_size", lambda text: text == "0" or is_size(text, 1), "must be 0, N or HEIGHT,WIDTH")
flags.register_validator("eps", lambda eps: 0 <= eps < 0.1, "must be from 0 to below 0.1")
for _name in ("output_dir", "checkpoint", "init_checkpoint"):
    flags.register_validator(_name, lambda path: not set("*?[]") & set(path or ""),
                             "must not hold any of * ? [ ], which stand for patterns of names here")
for _name in ("learning_rate", "adam_epsilon"):
    flags.register_validator(_name, lambda value: value > 0, "must be above 0")
for _name in ("norm_epsilon leaky_slope dropout eps l1_weight gan_weight d_weight learning_rate beta1 adam_epsilon"
              .split()):
    flags.register_validator(_name, math.isfinite, "must be a finite number")
for _name in ("data_dir", "output_dir"):
    flags.register_validator(_name, bool, "must name a folder")
flags.register_multi_flags_validator(
    ["load_size", "image_size"], lambda v: v["load_size"] == "0" or all(
        load >= image for load, image in zip(size_of(v["load_size"]), size_of(v["image_size"]))),
    "--load_size must be at least --image_size, or 0")
flags.register_multi_flags_validator(
    ["patch", "image_size"], lambda v: min(size_of(v["image_size"])) >= SMALLEST.get(v["patch"], 32),
    "--patch=142 needs an --image_size of 64 or more, --patch=286 of 96")
flags.register_multi_flags_validator(
    ["decay_epochs", "epochs"], lambda v: v["decay_epochs"] <= v["epochs"],
    "--decay_epochs must be at most --epochs")
flags.register_multi_flags_validator(
    ["l1_weight", "gan_weight"], lambda v: v["l1_weight"] > 0 or v["gan_weight"] > 0,
    "--l1_weight and --gan_weight must not both be 0")


def grouped_help():
    """Returns the text of --help: every flag under its group."""
    lines = [__doc__]
    for title, names in GROUPS.items():
        lines.append("%s\n" % title)
        for name in names.split():
            flag = FLAGS[name]
            values = "|".join(getattr(flag.parser, "enum_values", ())) or flag.flag_type()
            default = "" if flag.default is None else ", default %s" % flag.default_unparsed
            lines.append("  --%s (%s%s)" % (name, values, default))
            text = flag.help.split(">: ", 1)[-1]  # absl puts an enum's values before its help
            lines.append(textwrap.fill(text, 94, initial_indent=" " * 6, subsequent_indent=" " * 6))
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":  # --help and a wrong flag answer before TensorFlow's slow import
    if {"-h", "-help", "--help", "--helpshort", "--helpfull"} & set(sys.argv[1:]):
        with contextlib.suppress(BrokenPipeError):  # | head
            print(grouped_help(), flush=True)
        os._exit(0)  # an exit of Python's would try to print the rest
    app.parse_flags_with_usage(sys.argv)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's chatter; its exceptions still come

import imageio.v3 as imageio  # noqa: E402
import numpy as np  # noqa: E402
import scipy  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402
import tqdm  # noqa: E402

import pix2pix  # noqa: E402
import reader  # noqa: E402
from support import checkpoints, gallery, hooks, palette, run_folder, sample_set  # noqa: E402
from support.run_folder import RunError  # noqa: E402

gc.freeze()  # what the imports made stays; looking through it again and again takes a sixth of building the graph
tf.enable_resource_variables()  # the default since TensorFlow 2; TensorFlow 1.15 asks for it
tf.logging.set_verbosity(tf.logging.ERROR)

SAMPLE_ROWS = 4  # pairs in a sample grid
EXAMPLES = 64  # training inputs in which an export looks for label colours
IS_TF1 = tf.version.VERSION.startswith("1.")


# ---------------------------------------------------------------------------------------------
# The run folder


def path_of(*parts):
    return os.path.join(FLAGS.output_dir, *parts)


def flags_of_this_run():
    """Returns the flags as {name: text}; where the run lies and what is done with it are left out.

    So is test_dropout where it was not given: an export asks whether it was.
    """
    left_out = ["mode", "output_dir", "checkpoint"] + ["test_dropout"] * FLAGS["test_dropout"].using_default_value
    return collections.OrderedDict((name, str(FLAGS[name].value)) for name in NAMES
                                   if name not in left_out and FLAGS[name].value is not None)


def check_same_run(record):
    """Raises RunError when the run in output_dir was started with other flags or pairs."""
    before = run_folder.read_flags(FLAGS.output_dir)
    try:
        with open(path_of("run.json")) as file:
            old = json.load(file)
        old["pairs"]["train"], old["precision"]  # both are needed below
    except (OSError, ValueError, KeyError, TypeError):
        old = None
    if not before or not old:
        raise RunError("%s holds checkpoints, but its flags.txt or run.json is missing or damaged; put it back, or "
                       "name a new --output_dir" % FLAGS.output_dir)
    after = flags_of_this_run()
    for name in NAMES:  # a flag that is younger than the run
        if name not in before and FLAGS[name].default is not None:
            before[name] = str(FLAGS[name].default)
    free = FREE - {"epochs"} if FLAGS.decay_epochs else FREE  # epochs then say when the decay begins
    differing = ["--%s is %s here and %s in the run" % (name, after.get(name, "not set"),
                                                        before.get(name, "not set"))
                 for name in NAMES if name not in free and before.get(name) != after.get(name)]
    if old.get("pairs_sha256", record["pairs_sha256"]) != record["pairs_sha256"] or (  # earlier versions had no hash
            old["pairs"]["train"] != record["pairs"]["train"]):
        differing.append("--data_dir holds other pairs than the run's")
    if FLAGS.precision == "auto":
        record["precision"] = old["precision"]
        if record["precision"] == "bfloat16" and bfloat16_lacks():
            raise RunError("--precision of the run in %s is bfloat16, which needs %s; continue it there, or start from "
                           "its weights with --init_checkpoint in a new --output_dir"
                           % (FLAGS.output_dir, bfloat16_lacks()))
    elif old["precision"] != record["precision"]:
        differing.append("--precision is %s here and %s in the run" % (record["precision"], old["precision"]))
    if differing:
        raise RunError("%s holds another run: %s. Continue it with --flagfile=%s --output_dir=%s, or name a new "
                       "--output_dir" % (FLAGS.output_dir, "; ".join(differing), path_of("flags.txt"),
                                         FLAGS.output_dir))


def resolve_precision():
    """Returns float32 or bfloat16; raises RunError where bfloat16 is asked for and can't be had."""
    if FLAGS.precision == "bfloat16" and bfloat16_lacks():
        raise RunError("--precision=bfloat16 needs %s; use --precision=float32" % bfloat16_lacks())
    if FLAGS.precision != "auto":
        return FLAGS.precision
    native = cpu_fact("flags").split()  # other CPUs compute bfloat16 by way of float32, which gains nothing
    is_native = "amx_bf16" in native or "avx512_bf16" in native
    return "bfloat16" if is_native and not bfloat16_lacks() else "float32"


def bfloat16_lacks():
    """What is missing here for convolutions in bfloat16, in words; empty where TensorFlow runs them."""
    if IS_TF1:
        return "TensorFlow 2; this is %s" % tf.version.VERSION
    if runs_bfloat16():
        return ""
    return "a CPU with AVX-512 or AMX, oneDNN switched on (TF_ENABLE_ONEDNN_OPTS) and no GPU"


def runs_bfloat16():
    """Whether TensorFlow 2 runs a convolution in bfloat16 here, by the graph that it makes of one."""
    metadata, config = tf.RunMetadata(), session_config("bfloat16")
    config.graph_options.rewrite_options.min_graph_nodes = -1  # else so small a graph is left as it is
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        images, kernel = tf.placeholder(tf.float32, [1, 8, 8, 8]), tf.placeholder(tf.float32, [4, 4, 8, 8])
        convolved = tf.nn.conv2d(images, kernel, strides=[1, 2, 2, 1], padding="SAME")
        session.run(tf.nn.relu(convolved),  # what is fetched keeps its type
                    {images: np.zeros([1, 8, 8, 8]), kernel: np.zeros([4, 4, 8, 8])},
                    tf.RunOptions(output_partition_graphs=True), metadata)
    return is_bfloat16(metadata)


def is_bfloat16(metadata):
    """Whether a convolution of a run's partition graphs computes in bfloat16."""
    return any("Conv2D" in node.op and node.attr["T"].type == tf.bfloat16.as_datatype_enum
               for graph in metadata.partition_graphs for node in graph.node)


def cpu_fact(name):
    """Returns a line of Linux' /proc/cpuinfo, empty elsewhere."""
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(name)), "")
    except OSError:
        return ""


# ---------------------------------------------------------------------------------------------
# From flags to data and graph


def folder_of(split):
    """Returns the folder to read: data_dir's split, or data_dir itself where it holds the images."""
    if FLAGS.data_dir == FLAGS["data_dir"].default and not os.path.exists(FLAGS.data_dir):
        print("drawing the sample set in %s" % FLAGS.data_dir)
        try:
            sample_set.draw(FLAGS.data_dir)
        except OSError as error:
            raise RunError("%s: can't draw the sample set there (%s)" % (FLAGS.data_dir, error.strerror))
    if split is None:
        for name in ("test", "val", "train"):
            if os.path.isdir(os.path.join(FLAGS.data_dir, name)):
                return os.path.join(FLAGS.data_dir, name)
        return FLAGS.data_dir
    folder = os.path.join(FLAGS.data_dir, split)
    has_splits = any(os.path.isdir(os.path.join(FLAGS.data_dir, name)) for name in reader.SPLITS)
    return folder if os.path.isdir(folder) or has_splits or FLAGS.split else FLAGS.data_dir


def pairs_of(folder, skip_bad=None):
    """Returns the folder's Pairs as the flags, or else skip_bad, want them, and says what was left out."""
    pairs = reader.find_pairs(folder, FLAGS.layout, FLAGS.skip_bad_images if skip_bad is None else skip_bad)
    for message in pairs.skipped:
        print("left out: %s" % message.encode("utf-8", "backslashreplace").decode())
    if pairs.skipped:
        print("%s: %d left out, %d pairs stay" % (folder, len(pairs.skipped), len(pairs.files)))
    return pairs


def image_options():
    """What the flags say of images, as `reader` takes it for training and for testing."""
    return {"direction": FLAGS.direction, "resize_method": FLAGS.resize_method,
            "input_channels": int(FLAGS.input_channels), "output_channels": int(FLAGS.output_channels)}


def image_size():
    return size_of(FLAGS.image_size)


def load_size():
    if FLAGS.load_size != "0":
        return size_of(FLAGS.load_size)
    return tuple(round(side * 286 / 256) for side in image_size())


def generate(images, draw):
    """The generator as the flags want it; `draw` as in `pix2pix.generator`."""
    return pix2pix.generator(
        images, output_channels=int(FLAGS.output_channels), filters=FLAGS.ngf, depth=pix2pix.unet_depth(*image_size()),
        skip=FLAGS.skip if FLAGS.generator == "unet" else "none", norm=FLAGS.norm, norm_epsilon=FLAGS.norm_epsilon,
        bottleneck_norm=FLAGS.bottleneck_norm, leaky_slope=FLAGS.leaky_slope, dropout_rate=FLAGS.dropout,
        dropout_blocks=FLAGS.dropout_blocks, draw=draw, seed=FLAGS.seed)


def discriminate(inputs, targets):
    """The discriminator as the flags want it."""
    return pix2pix.discriminator(
        inputs if FLAGS.conditional else None, targets, filters=FLAGS.ndf, patch=int(FLAGS.patch), norm=FLAGS.norm,
        norm_epsilon=FLAGS.norm_epsilon, leaky_slope=FLAGS.leaky_slope, seed=FLAGS.seed)


def padded(images):
    """Images of any size, padded by reflection to what generator and discriminator take."""
    return pix2pix.reflect_to_multiple(images, 2 ** pix2pix.unet_depth(*image_size()), SMALLEST.get(FLAGS.patch, 32))


def one_image(test_dropout):
    """Builds the generator for one image of image_size at a time.

    Returns:
      (image, draw, output): placeholders of [1, H, W, C] and of an int64 scalar that picks the dropout
      mask, and the generated [1, H, W, C].
    """
    image = tf.placeholder(tf.float32, [1, *image_size(), int(FLAGS.input_channels)], "image")
    draw = tf.placeholder(tf.int64, [], "draw")
    return image, draw, generate(image, draw if test_dropout else None)


# ---------------------------------------------------------------------------------------------
# What is shown of a step

def sample_pairs(pairs):
    """Returns the fixed pairs of the sample grids: the first of val that can be used, else of the training pairs."""
    val = os.path.join(FLAGS.data_dir, "val")
    for skip_bad in (FLAGS.skip_bad_images, True) if count_pairs(val) else ():
        try:
            return first_pairs(pairs_of(val, skip_bad))
        except reader.DataError as error:  # only pictures to look at
            print("warning: %s; the sample grids do without" % error)
    return first_pairs(pairs)


def first_pairs(pairs):
    """Reads the pairs of a sample grid, as numpy (input, target), each [1, H, W, C] in [-1, 1]."""
    first = pairs._replace(files=pairs.files[:SAMPLE_ROWS])
    return list(reader.read_in_order(first, size=image_size(), **image_options()))


def batch_summaries(batch, model):
    """TensorBoard's view of a batch: the jittered pairs, the outputs and D's logits."""
    inputs, targets = batch
    for name, images in (("inputs", inputs), ("outputs", model.outputs), ("targets", targets)):
        tf.summary.image(name, to_uint8(images))
    for name, logits in (("real", model.real_logits), ("fake", model.fake_logits)):
        tf.summary.histogram("logits_" + name, logits)
        tf.summary.image("patches_" + name, to_uint8(heat_map(logits)))
    return tf.summary.merge_all()


def heat_map(logits):
    """D's logits [N, h, w, 1] as colours in [-1, 1]: from blue (fake, -20) over white to red (real, 20).

    With lsgan, whose labels are 0 and 1, from 0 to 1.
    """
    share = tf.clip_by_value(2 * logits - 1 if FLAGS.gan_loss == "lsgan" else logits / 20, -1, 1)
    return 2 * tf.concat([1 + tf.minimum(share, 0), 1 - tf.abs(share), 1 - tf.maximum(share, 0)], axis=3) - 1


def to_uint8(images):
    """[-1, 1] -> 0..255, in the graph."""
    return tf.cast(tf.round((images + 1) * 127.5), tf.uint8)


# ---------------------------------------------------------------------------------------------
# --mode=train


def train():
    """Trains, or continues training; returns the exit status."""
    if FLAGS.checkpoint:
        raise RunError("--checkpoint is for test and export; training starts from weights with --init_checkpoint and "
                       "continues whatever run is in --output_dir")
    if FLAGS.layout == "inputs":
        raise RunError("--layout=inputs is for test mode; training needs targets")
    with run_folder.sole_run(FLAGS.output_dir):
        pairs = pairs_of(folder_of(FLAGS.split or "train"))
        fixed = sample_pairs(pairs)
        run_folder.make_folders(path_of("checkpoints"), path_of("samples"))
        record = describe_run(pairs)
        checkpoint = checkpoints.newest(path_of("checkpoints"))
        if checkpoint:
            FLAGS.init_checkpoint = begun_from(FLAGS.init_checkpoint)
            if FLAGS.init_checkpoint:
                take_flags(run_folder.read_flags(FLAGS.output_dir), OF_A_CHECKPOINT)
        elif FLAGS.init_checkpoint:
            FLAGS.init_checkpoint = checkpoints.full_name(FLAGS.init_checkpoint)
            checkpoints.check_readable(FLAGS.init_checkpoint)
            take_model_of(FLAGS.init_checkpoint)
        if checkpoint:
            check_same_run(record)
        checkpoints.tidy(path_of("checkpoints"), checkpoint, FLAGS.keep)
        if not checkpoint or checkpoints.step_of(checkpoint) < record["steps"]:
            number = train_from(checkpoint, pairs, fixed, record)
            write_progress()
            if number:
                return 128 + number
            checkpoint = checkpoints.newest(path_of("checkpoints"))
        print("%s: finished, %d steps done" % (FLAGS.output_dir, checkpoints.step_of(checkpoint)))
        print("fingerprint: %s" % checkpoints.fingerprint(checkpoint))
    return 0


def begun_from(given):
    """Returns the checkpoint that the run in output_dir began from, or None, where `given` is it or its folder.

    What else was given is returned as it is, for `check_same_run` to refuse.
    """
    before = run_folder.read_flags(FLAGS.output_dir).get("init_checkpoint")
    if not given or (before and (before + os.sep).startswith(checkpoints.named(given) + os.sep)):
        return before
    return given


def describe_run(pairs):
    """Returns what run.json holds: where the run is made, of what, and how long it is."""
    steps = math.ceil(FLAGS.epochs * len(pairs.files) / FLAGS.batch_size)
    return {"versions": {"python": platform.python_version(), "tensorflow": tf.version.VERSION,
                         "numpy": np.__version__, "scipy": scipy.__version__},
            "process": {"pid": os.getpid(), "host": platform.node()},
            "device": cpu_fact("model name") or platform.processor(), "precision": resolve_precision(),
            "pairs": dict(pairs_by_split(), train=len(pairs.files)),
            "skipped": list(pairs.skipped), "pairs_sha256": reader.identity(pairs),
            "steps": min(steps, FLAGS.max_steps or steps)}


def pairs_by_split():
    """Returns {split: number of pairs} of the splits that data_dir has."""
    counts = {split: count_pairs(os.path.join(FLAGS.data_dir, split)) for split in reader.SPLITS}
    return {split: count for split, count in counts.items() if count}


def count_pairs(folder):
    """The number of image names in a folder, or in its A/; 0 where there is none."""
    return sum(len(reader.image_names(path)) for path in (folder, os.path.join(folder, "A")) if os.path.isdir(path))


def write_progress():
    """Writes samples/progress.gif, the sample grids in order, at most 40 of them."""
    names = sorted(name for name in os.listdir(path_of("samples")) if re.fullmatch(r"step-[0-9]+\.png", name))
    shown = [names[i] for i in sorted(set(np.linspace(0, len(names) - 1, 40).astype(int)))] if names else []
    try:
        frames = [imageio.imread(path_of("samples", name)) for name in shown]
    except OSError as error:  # a damaged picture must not end a run that trained
        print("warning: no samples/progress.gif: %s" % str(error).splitlines()[0])
        return
    if frames:
        frames = [frame for frame in frames if frame.shape == frames[-1].shape]  # data_dir may have lost pairs
        run_folder.write_file(path_of("samples", "progress.gif"),
                   imageio.imwrite("<bytes>", frames, extension=".gif", duration=400, loop=0))


def train_from(checkpoint, pairs, fixed, record):
    """Runs the session loop from a checkpoint or from the start to the run's last step.

    Returns:
      The number of the signal that ended it, or 0.
    """
    start = checkpoints.step_of(checkpoint) if checkpoint else 0
    with tf.Graph().as_default():
        batch, model = training_graph(pairs, record["precision"])
        if checkpoint:
            check_own(checkpoint, start)
        init_fn = None if checkpoint else initial_weights()
        announce(start, record)
        writer = tf.summary.FileWriter(FLAGS.output_dir, graph=tf.get_default_graph())
        writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), start + 1)
        saver = tf.train.Saver(max_to_keep=0, save_relative_paths=True)  # `checkpoints.tidy` removes old ones
        metrics = hooks.Metrics(model, FLAGS.output_dir, writer, start, record, FLAGS.log_every, FLAGS.batch_size,
                                FLAGS.epochs)
        samples = hooks.Samples(model, FLAGS.output_dir, writer, start, record["steps"], FLAGS.sample_every, fixed,
                                one_image(FLAGS.test_dropout), batch_summaries(batch, model))
        scaffold = tf.train.Scaffold(saver=saver, init_fn=init_fn)
        weights = tf.trainable_variables()
        saving = hooks.Checkpoints(model, FLAGS.output_dir, saver, start, FLAGS.save_every, FLAGS.keep,
                                   pix2pix.all_finite(weights))
        stop = hooks.StopOnSignal()
        nan = hooks.StopOnNan(
            model, collections.OrderedDict((v.op.name, pix2pix.all_finite([v])) for v in weights),
            lambda step: reader.files_of_step(pairs, step, FLAGS.batch_size, FLAGS.seed), FLAGS.output_dir)
        try:
            with reader.naming_bad_files(pairs), tf.train.MonitoredTrainingSession(
                    hooks=[nan, metrics, samples, saving, stop],
                    checkpoint_dir=path_of("checkpoints"), scaffold=scaffold,
                    config=session_config(record["precision"]), save_checkpoint_secs=None, save_summaries_steps=None,
                    save_summaries_secs=None, log_step_count_steps=None) as session:
                step = start
                try:
                    while step < record["steps"] and not session.should_stop():
                        step = session.run(model.train_op)
                except tf.errors.OpError as error:
                    if reader.is_from_queues(error):  # no step was begun, and what was learned so far is whole
                        saving.end(saving.session)
                    raise
        finally:
            for closing in (metrics, writer, stop):
                closing.close()
    if step == record["steps"]:
        return 0
    print("stopped and saved at step %d of %d; the same command continues" % (step, record["steps"]))
    return stop.number


def check_own(checkpoint, start):
    """Raises RunError unless a checkpoint fits the run and holds the step of its name."""
    advice = "it is not as this run wrote it: move it out of %s, and the one before is taken" % path_of("checkpoints")
    try:
        checkpoints.check_checkpoint(checkpoint, tf.global_variables())
    except checkpoints.CheckpointError as error:
        raise RunError("%s; %s" % (error, advice))
    step = tf.train.load_checkpoint(checkpoint).get_tensor("global_step")
    if step != start:
        raise RunError("%s is of step %d; %s" % (checkpoint, step, advice))


def training_graph(pairs, precision):
    """Builds the queue and a training step for a session of `precision`; returns ((inputs, targets), a Training)."""
    step = tf.train.get_or_create_global_step()
    batch = reader.training_batches(
        pairs, step, batch_size=FLAGS.batch_size, image_size=image_size(), load_size=load_size(), flip=FLAGS.flip,
        seed=FLAGS.seed, threads=FLAGS.reader_threads, **image_options())
    return batch, pix2pix.training(
        *batch, step, lambda images: generate(images, step), discriminate, gan_loss=FLAGS.gan_loss, eps=FLAGS.eps,
        pixel_loss=FLAGS.pixel_loss, l1_weight=FLAGS.l1_weight, gan_weight=FLAGS.gan_weight, d_weight=FLAGS.d_weight,
        learning_rate=learning_rate(step, len(pairs.files)), beta1=FLAGS.beta1, adam_epsilon=FLAGS.adam_epsilon,
        update=FLAGS.update, precision=precision)


def learning_rate(step, pairs):
    """--learning_rate, which falls linearly to 0 over the last --decay_epochs of `pairs` pairs."""
    if not FLAGS.decay_epochs:
        return FLAGS.learning_rate
    steps, decay_steps = (epochs * pairs / FLAGS.batch_size for epochs in (FLAGS.epochs, FLAGS.decay_epochs))
    left = steps - tf.cast(step.read_value(), tf.float32)
    return FLAGS.learning_rate * tf.clip_by_value(left / decay_steps, 0, 1)


def announce(start, record):
    """Prints the layers and what starts now, and writes flags.txt and run.json."""
    table = pix2pix.layer_table(tf.get_default_graph())
    record["parameters"] = {network: sum(row[2] for row in table if row[0].startswith(network))
                            for network in ("generator", "discriminator")}
    for name, shape, count in table:
        print("%-24s %-20s %12s" % (name, "x".join(map(str, shape[1:])), "{:,}".format(count)))
    for network, count in record["parameters"].items():
        print("%-24s %-20s %12s" % (network, "", "{:,}".format(count)))
    run_folder.write_file(path_of("flags.txt"), "".join("--%s=%s\n" % item for item in flags_of_this_run().items()))
    run_folder.write_file(path_of("run.json"), json.dumps(record, indent=2) + "\n")
    begin = "continuing %s from step %d" % (FLAGS.output_dir, start) if start else "starting %s" % FLAGS.output_dir
    print("%s: %d pairs, %d steps, %s" % (begin, record["pairs"]["train"], record["steps"], record["precision"]))
    print("look at %s (any browser), or: pip install tensorboard && tensorboard --logdir %s"
          % (path_of("samples", "index.html"), FLAGS.output_dir), flush=True)


def session_config(precision):
    config = tf.ConfigProto()
    # One pass of Grappler is enough; the older optimizer behind it would draw most of the initial values twice.
    config.graph_options.rewrite_options.meta_optimizer_iterations = 1
    config.graph_options.optimizer_options.opt_level = tf.OptimizerOptions.L0
    config.gpu_options.allow_growth = True
    if precision == "bfloat16":
        config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1  # ON
    return config


def initial_weights():
    """Returns a Scaffold's init_fn that loads --init_checkpoint into both networks, or None."""
    if not FLAGS.init_checkpoint:
        return None
    weights = tf.train.Saver(checkpoints.check_checkpoint(FLAGS.init_checkpoint, tf.trainable_variables()))
    return lambda scaffold, session: weights.restore(session, FLAGS.init_checkpoint)


# ---------------------------------------------------------------------------------------------
# --mode=test and --mode=export


def trained_checkpoint():
    """Returns the checkpoint to restore, after taking the run's flags for those not given.

    The run is the one that holds the checkpoint, if it is named, else the one in output_dir.
    """
    checkpoint = checkpoints.full_name(FLAGS.checkpoint) if FLAGS.checkpoint else None
    folder = os.path.dirname(os.path.dirname(checkpoint)) if checkpoint else FLAGS.output_dir
    of_the_run = run_folder.read_flags(folder)
    if FLAGS.init_checkpoint not in (None, of_the_run.get("init_checkpoint")):
        raise RunError("--init_checkpoint is for training; test and export take --checkpoint")
    if of_the_run and FLAGS["output_dir"].using_default_value:
        FLAGS["output_dir"].value = folder
    for name in SHAPING:
        if name in of_the_run and not FLAGS[name].using_default_value and str(FLAGS[name].value) != of_the_run[name]:
            raise RunError("--%s is %s here and %s in the run in %s; leave the flag out"
                           % (name, FLAGS[name].value, of_the_run[name], folder))
    take_flags(of_the_run, OF_THE_RUN)
    if checkpoint:
        checkpoints.check_readable(checkpoint)
    else:
        checkpoint = checkpoints.newest(path_of("checkpoints"))
    if not checkpoint:
        raise RunError("%s: no checkpoint in %s; train first, or name a run with --output_dir or a checkpoint "
                       "with --checkpoint" % (FLAGS.output_dir, path_of("checkpoints")))
    take_model_of(checkpoint)
    return checkpoint


def take_flags(values, names):
    """Sets the flags among `names` that were not given, from {name: text}."""
    for name, text in values.items():
        if name in names and FLAGS[name].using_default_value:
            try:
                FLAGS[name].value = FLAGS[name].parser.parse(text)
            except ValueError as error:
                raise RunError("--%s=%s of the run's flags.txt: %s" % (name, text, error))


def take_model_of(checkpoint):
    """Sets the flags that a checkpoint of the one-file TF1 program decides, and says so.

    Raises:
      RunError: a flag was given and contradicts it.
    """
    found = checkpoints.variables_in(checkpoint)
    if not checkpoints.is_foreign(found):
        return
    options = dict(checkpoints.options_of(checkpoints.shapes_of(found)), skip="pre")
    values = {name: str(options[name]) for name in OF_A_CHECKPOINT if name in options}
    for name, text in values.items():
        if text not in getattr(FLAGS[name].parser, "enum_values", [text]):
            raise RunError("%s: its --%s would be %s, which this program does not have" % (checkpoint, name, text))
        if not FLAGS[name].using_default_value and str(FLAGS[name].value) != text:
            raise RunError("--%s=%s contradicts %s; give --%s=%s or leave the flag out"
                           % (name, FLAGS[name].value, checkpoint, name, text))
    take_flags(values, values)
    print("%s is of the one-file TF1 program: %s" % (
        checkpoint, " ".join("--%s=%s" % item for item in sorted(values.items()))))


def restored_session(checkpoint, precision="float32"):
    """Returns a session with the default graph's variables from a checkpoint."""
    saver = tf.train.Saver(checkpoints.check_checkpoint(checkpoint, tf.global_variables()))
    session = tf.Session(config=session_config(precision))
    saver.restore(session, checkpoint)
    return session


def test():
    """Writes every output of a split, a gallery and metrics; returns the exit status."""
    checkpoint = trained_checkpoint()
    pairs = pairs_of(folder_of(FLAGS.split))
    for image in (files[-1] for files in pairs.files if pairs.layout != "inputs" and not FLAGS.test_resize):
        width = image.width // (2 if pairs.layout == "side_by_side" else 1)
        if min(image.height, width) < 11:
            raise RunError("%s: an image of %dx%d pixels; SSIM needs 11x11, --test_resize makes them larger"
                           % (image.path, width, image.height))
    with run_folder.replacing(path_of("test")) as folder:
        os.mkdir(os.path.join(folder, "images"))
        metrics = write_test(checkpoint, pairs, folder)
    print("%d images from %s in %s" % (len(pairs.files), checkpoint, path_of("test", "index.html")))
    for measure, value in metrics.items():
        print("%-5s %.4f  (95 %% interval %.4f to %.4f)" % (measure, value["mean"], value["low"], value["high"]))
    print("fingerprint: %s" % checkpoints.fingerprint(checkpoint))
    return 0


def write_test(checkpoint, pairs, folder):
    """Writes images/, the gallery and metrics of a split's pairs into a folder; returns what `gallery.write` does.

    The measures have a session of their own: in bfloat16's SSIM would be computed in bfloat16 too.
    """
    rows = []
    precision = "float32" if FLAGS.precision == "auto" else resolve_precision()
    with tf.Graph().as_default():
        image, target, draw, pictures, measures = test_graph()
        if pairs.layout == "inputs":
            del pictures["target"]
            measures = {}
        with tf.Session(config=session_config("float32")) as exact, restored_session(checkpoint, precision) as session:
            names = zip(tqdm.tqdm(output_names(pairs), unit="image", disable=None), file_names(pairs))
            for (name, file_name), pair in zip(names, reader.read_in_order(
                    pairs, size=image_size() if FLAGS.test_resize else None, **image_options())):
                mask = zlib.crc32(os.fsencode(file_name))  # the image's own dropout, whatever lies beside it
                shown = session.run(pictures, {image: pair[0], target: pair[1], draw: mask})
                values = exact.run(measures, {pictures["output"]: shown["output"], target: pair[1]})
                for kind, picture in shown.items():
                    run_folder.write_png(os.path.join(folder, "images", "%s-%s.png" % (name, kind)), picture[0])
                rows.append((name,) + tuple(float(values[measure]) for measure in measures))
    title, facts = os.path.basename(os.path.abspath(FLAGS.output_dir)), {
        "folder": os.path.dirname(pairs.files[0][0].path), "test_dropout": FLAGS.test_dropout, "precision": precision}
    return gallery.write(folder, title, os.path.basename(checkpoint), rows, list(measures), list(pictures), facts)


def test_graph():
    """Builds the model for one image of any size.

    Returns:
      (image, target, draw, pictures, measures): placeholders of [1, H, W, C] each and of an int64 scalar that picks
      the dropout mask; {kind: [1, H, W, 1 or 3]} of what is to be seen, D's logits as a heat map among them; and
      what `gallery.measures` returns.
    """
    image = tf.placeholder(tf.float32, [1, None, None, int(FLAGS.input_channels)], "image")
    target = tf.placeholder(tf.float32, [1, None, None, int(FLAGS.output_channels)], "target")
    draw = tf.placeholder(tf.int64, [], "draw")
    height, width = tf.shape(image)[1], tf.shape(image)[2]
    inputs = padded(image)
    outputs = generate(inputs, draw if FLAGS.test_dropout else None)
    patches = reader.resize(heat_map(discriminate(inputs, outputs)), tf.shape(inputs)[1:3], "nearest")
    output = outputs[:, :height, :width]
    pictures = collections.OrderedDict([("input", image), ("output", output), ("target", target),
                                        ("patches", patches[:, :height, :width])])
    return image, target, draw, pictures, gallery.measures(output, target)


def output_names(pairs):
    """The stems of the pairs' files, or their whole names where stems are not unique."""
    names = file_names(pairs)
    stems = [reader.stem(name) for name in names]
    return stems if len(set(stems)) == len(stems) else names


def file_names(pairs):
    """The name of each pair's (first) file, without its folder."""
    return [os.path.basename(files[0].path) for files in pairs.files]


def export():
    """Writes the generator as a SavedModel with two signatures into export/STEP; returns the exit status.

    serving_bytes refuses what is no PNG or JPEG, or more than reader.MAX_UPLOAD_PIXELS; see reader.decode_upload.
    """
    checkpoint = trained_checkpoint()
    channels = int(FLAGS.input_channels)
    with_dropout = FLAGS.test_dropout and not FLAGS["test_dropout"].using_default_value
    examples = example_inputs()
    target = path_of("export", str(checkpoints.step_of(checkpoint)))  # where TensorFlow Serving looks for versions

    with tf.Graph().as_default():
        draw = tf.constant(0, tf.int64) if with_dropout else None

        def translate(images):
            return generate(padded(images), draw)[:, :tf.shape(images)[1], :tf.shape(images)[2]]

        def translate_bytes(contents):
            image = reader.to_channels(reader.normalise(reader.decode_upload(contents)), channels)
            return tf.image.encode_png(to_uint8(translate(image[tf.newaxis])[0]))

        images = tf.placeholder(tf.float32, [None, None, None, channels], "images")
        image_bytes = tf.placeholder(tf.string, [None], "image_bytes")
        outputs = translate(images)
        png_bytes = tf.map_fn(translate_bytes, image_bytes, dtype=tf.string)
        signature = tf.saved_model.predict_signature_def
        with restored_session(checkpoint) as session, run_folder.replacing(target) as folder:
            os.rmdir(folder)  # the builder makes it
            builder = tf.saved_model.Builder(folder)
            builder.add_meta_graph_and_variables(session, [tf.saved_model.tag_constants.SERVING], {
                "serving_default": signature({"images": images}, {"outputs": outputs}),
                "serving_bytes": signature({"image_bytes": image_bytes}, {"png_bytes": png_bytes})})
            builder.save()
            if examples:
                palette.write(os.path.join(folder, "assets.extra"), examples)
    print("exported %s to %s, dropout %s" % (checkpoint, target, "on" if with_dropout else "off"))
    return 0


def example_inputs():
    """Returns the first training inputs at image_size, uint8 [H, W, 3], for the page of demo/ to start from.

    There are none where the run's data is not at hand, or not known: an export does without.
    """
    of_the_run = run_folder.read_flags(FLAGS.output_dir)
    is_known = "data_dir" in of_the_run or not FLAGS["data_dir"].using_default_value
    if not is_known or not os.path.isdir(FLAGS.data_dir):
        return []
    try:
        pairs = pairs_of(folder_of(of_the_run.get("split", "train")))
        first = pairs._replace(files=pairs.files[:EXAMPLES])
        options = dict(image_options(), resize_method="nearest")  # which makes no new colours
        return [np.uint8(np.round(127.5 * (hooks.to_rgb(image[0]) + 1)))
                for image, _ in reader.read_in_order(first, size=image_size(), **options)]
    except reader.DataError as error:
        print("warning: %s; the export has no palette and no examples for demo/" % error)
        return []


def main(argv):
    if argv[1:]:
        sys.exit("error: %s is not a flag; flags are written --name=value" % argv[1])
    try:
        return {"train": train, "test": test, "export": export}[FLAGS.mode]()
    except (reader.DataError, checkpoints.CheckpointError, RunError) as error:
        sys.exit("error: %s" % error)
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise
        sys.exit("error: %s: %s; make room or mend it, and the same command goes on"
                 % (error.filename or FLAGS.output_dir, error.strerror))
    except tf.errors.ResourceExhaustedError as error:
        sys.exit("error: TensorFlow ran out of memory (%s); a smaller --batch_size, --image_size, --ngf or --ndf takes "
                 "less. What was saved before stays" % run_folder.reason_of(error))
    except RuntimeError as error:
        if "events.out.tfevents" not in str(error):  # how TensorBoard's writer says that a disk is full
            raise
        sys.exit("error: %s; make room or mend it, and the same command goes on" % str(error).splitlines()[0])
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    app.run(main)
