"""Flags and the session loop: train a pix2pix model, test it, export it.

    python train.py --epochs 200
    python train.py --mode=test
    python train.py --mode=export

Only this file defines flags and turns them into plain arguments. It holds, from top to bottom, the flags, the data and
the graph that they ask for, and the three modes: train, test and export.
"""

import os
import signal
import sys

if sys.version_info < (3, 7):  # noqa: UP036
    sys.exit("error: train.py needs Python 3.7 or later; this is %d.%d.%d" % sys.version_info[:3])

if __name__ == "__main__":  # from here on, Ctrl-C ends the program without a traceback
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))

from support import packages, stops, streams

if __name__ == "__main__":  # from here on, no signal prints a traceback, and a failed print does not end the program
    stops.handle(stops.leave)
    streams.protect()

import collections
import contextlib
import gc

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hides TensorFlow's log messages; errors are still raised

with streams.held_stderr(), packages.needed():
    import tensorflow.compat.v1 as tf
    import tqdm
    from absl import flags

    import pix2pix
    import reader
    from support import (
        bands,
        checkpoints,
        convolutions,
        data_flags,
        devices,
        diagnostics,
        events,
        faults,
        flag_texts,
        gallery,
        hooks,
        jobs,
        lab,
        label_maps,
        memory,
        outputs,
        pair_files,
        precisions,
        reports,
        results,
        run_flags,
        run_folder,
        sample_set,
        seeds,
        serving,
        storage,
        validation,
        workers,
    )
    from support.data_flags import channels_of
    from support.errors import FlagError, UserError
    from support.flag_texts import size_of

gc.freeze()  # else the collector scans all imported modules again and again, a sixth of the time to build the graph
tf.enable_resource_variables()  # the default since TensorFlow 2; TensorFlow 1.15 asks for it
tf.logging.set_verbosity(tf.logging.ERROR)

FLAGS = flags.FLAGS

# ---------------------------------------------------------------------------------------------
# Flags. The help of a flag gives the paper's value where it is not the default.

flags.DEFINE_enum("mode", "train", ["train", "test", "export"],
                  "What to do: train a model, test it on pairs, or export it as a SavedModel.")
flags.DEFINE_string("output_dir", "runs/pix2pix",
                    "The run folder. Running the same command again continues the run in it.")
flags.DEFINE_string("checkpoint", None, "The checkpoint that test and export restore, as PATH/model.ckpt-STEP, or the "
                    "word best, which is the best checkpoint by validation of the run in output_dir. It may be a "
                    "checkpoint of the one-file TF1 program. Default: the newest checkpoint of the run in output_dir.")
flags.DEFINE_string("init_checkpoint", None, "Training starts at step 0 from the weights in this checkpoint instead of "
                    "from random weights. It may be a checkpoint of the one-file TF1 program.")
flags.DEFINE_integer("seed", 0, "Decides the initial weights, the order of the pairs, the jitter and dropout. Two runs "
                     "with equal flags and seeds are equal bit for bit on one kind of hardware.", lower_bound=0,
                     upper_bound=2 ** 63 - 1)

flags.DEFINE_string("data_dir", sample_set.FOLDER, "Folder with the splits train/, val/ and test/, or with the images "
                    "themselves. The default, a drawn sample set, is made on first use.")
flags.DEFINE_string("split", None, "The folder inside data_dir to read. Default: train; in test mode the first of "
                    "test, val and train that exists.")
flags.DEFINE_enum("layout", "auto", ["auto", *pair_files.LAYOUTS],
                  "How a split holds its pairs. side_by_side: one file per pair, with A in its left half. folders: two "
                  "folders with matching file names, such as A/ and B/ or trainA/ and trainB/. arrays: one .npz file "
                  "per pair, with arrays named A and B. colorize: colour images, which are B; A is their luminance. "
                  "lab: colour images, with --lab. inputs: inputs without targets, for test mode. auto detects "
                  "side_by_side, folders and arrays.")
flags.DEFINE_enum("direction", "AtoB", pair_files.DIRECTIONS,
                  "AtoB makes A (the left half, or the folder A/) the input and B the target; BtoA swaps them.")
flags.DEFINE_string("image_size", "256", "Size in pixels of the images that the networks see in training, N or "
                    "HEIGHT,WIDTH, in multiples of 32 (paper: 256).")
flags.DEFINE_string("load_size", "0", "Size in pixels to which training images are resized before the random crop to "
                    "image_size; 0 means image_size x 286 / 256 (paper: 286).")
flags.DEFINE_enum("resize_method", "bilinear", bands.RESIZE_METHODS, "How images are resized.")
flags.DEFINE_enum("input_resize", "auto", ["auto", *bands.RESIZE_METHODS],
                  "How inputs are resized; auto is --resize_method, or nearest with --one_hot. nearest makes no new "
                  "colours in label maps.")
flags.DEFINE_enum("output_resize", "auto", ["auto", *bands.RESIZE_METHODS],
                  "How targets are resized; auto is --resize_method.")
flags.DEFINE_bool("test_resize", True, "Whether test mode resizes every image to image_size, the size of the training "
                  "images. With --notest_resize every image keeps its size: test mode pads it by reflection and crops "
                  "the output.")
flags.DEFINE_bool("flip", True, "Whether each training pair is mirrored with probability 1/2.")
flags.DEFINE_integer("input_channels", None, "Channels of the input. Default: the bands of the files, which are 3 for "
                     "pictures. With 1, pictures are read as grey; with 3, a single band is repeated.", lower_bound=1)
flags.DEFINE_integer("output_channels", None, "Channels of the output, as --input_channels.", lower_bound=1)
flags.DEFINE_string("input_range", None, "LOW,HIGH in the units of the files: the values of the input that become -1 "
                    "and 1. Default: for whole numbers of 8 or 16 bits, the range of their type; for other numbers, "
                    "the lowest and the highest value in the training files.")
flags.DEFINE_string("output_range", None, "LOW,HIGH of the output, as --input_range.")
flags.DEFINE_string("show_bands", None, "I,J,K or I: the bands, counted from 0, that are red, green and blue in "
                    "pictures to look at, if there are more than three bands. Default: the first three.")
flags.DEFINE_bool("one_hot", False, "Whether the networks see inputs, which must be label maps, as one channel per "
                  "class instead of as pictures; the class of a pixel is the nearest of --labels.")
flags.DEFINE_string("labels", "", "With --one_hot: the label colours of the inputs, as RRGGBB,RRGGBB,... Default: "
                    "those found in the training inputs; the run keeps them.")
flags.DEFINE_bool("lab", False, "Whether the networks predict the targets' a and b (CIE Lab) from the inputs' L, and "
                  "outputs keep that L. --layout=lab switches it on.")
flags.DEFINE_bool("skip_bad_images", False, "Whether the program lists and leaves out images that it can't use, "
                  "instead of ending with an error. An image without a partner still ends the program. With this flag, "
                  "the program decodes all images once at the start.")
flags.DEFINE_integer("reader_threads", None, "How many pairs the reader prepares in parallel. It changes no result. "
                     "Default: as many as this machine has cores, at most %d." % reader.MOST_THREADS,
                     lower_bound=1, upper_bound=64)

flags.DEFINE_integer("ngf", 64, "Filters in the generator's first layer (paper: 64).", lower_bound=1)
flags.DEFINE_integer("ndf", 64, "Filters in the discriminator's first layer (paper: 64).", lower_bound=1)
flags.DEFINE_enum("generator", "unet", ["unet", "encoder_decoder"], "unet has skips from the encoder to the "
                  "decoder; encoder_decoder has none (paper, 4.2).")
flags.DEFINE_enum("skip", "post", pix2pix.SKIPS[:2], "What a skip of the U-Net carries: post is the encoder's "
                  "output after its leaky ReLU; pre is the value before it, to which the decoder applies its own ReLU "
                  "(the paper's code).")
flags.DEFINE_enum("upsample", "transposed", pix2pix.UPSAMPLINGS, "How the decoder doubles the image. transposed: a 4x4 "
                  "transposed convolution of stride 2 (paper). resize: resizing by nearest neighbour and a 3x3 "
                  "convolution, which leave no woven texture; both are computed as one transposed convolution.")
flags.DEFINE_enum("norm", "instance", pix2pix.NORMS, "Normalisation after the convolutions, with the "
                  "statistics of each image (instance) or of the batch at hand (batch), in training, test and export "
                  "alike. With --batch_size=1, the paper's setting for facades, both are the same function.")
flags.DEFINE_float("norm_epsilon", 1e-5, "Added to the variance in normalisation.", lower_bound=0.0)
flags.DEFINE_bool("bottleneck_norm", False, "Whether the 1x1 bottleneck is normalised too. The paper's "
                  "erratum says no: with batch size 1, batch norm would erase its activations.")
flags.DEFINE_float("leaky_slope", 0.2, "Slope of the leaky ReLUs below 0 (paper: 0.2).", lower_bound=0.0)
flags.DEFINE_float("dropout", 0.5, "Share of units dropped in the decoder's inner blocks, the paper's only "
                   "noise (paper: 0.5).", lower_bound=0.0, upper_bound=0.99)
flags.DEFINE_integer("dropout_blocks", 3, "Number of decoder blocks with dropout, from the bottleneck up (paper: 3).",
                     lower_bound=0)
flags.DEFINE_bool("test_dropout", None, "Whether dropout stays on after training. Default: yes in test mode and "
                  "samples, as in the paper; no in an export. With --test_dropout an export applies one fixed mask to "
                  "every call.")

flags.DEFINE_enum("patch", "70", list(map(str, pix2pix.PATCHES)),
                  "Receptive field of the discriminator's logits in pixels (paper: 70).")
flags.DEFINE_bool("conditional", True, "Whether the discriminator sees the input beside the picture (paper: yes).")

flags.DEFINE_enum("gan_loss", "log", pix2pix.GAN_LOSSES,
                  "The adversarial loss. log: -ln(D + eps), computed from the logits so that nothing rounds away. "
                  "log_literal: the same formula, computed from D in float32. logits: sigmoid cross entropy. "
                  "lsgan: mean square error.")
flags.DEFINE_float("eps", 1e-12, "The eps inside the logarithm of log and log_literal, from 0 to below 0.1 "
                   "(classic TF1 programs: 1e-12).")
flags.DEFINE_enum("pixel_loss", "l1", pix2pix.PIXEL_LOSSES,
                  "The other term of the generator's loss: the mean absolute difference (l1) or the mean square "
                  "difference (l2) of output and target (paper: l1).")
flags.DEFINE_float("l1_weight", 100.0, "Weight of --pixel_loss; 0 leaves it out (paper: 100).", lower_bound=0.0)
flags.DEFINE_float("gan_weight", 1.0, "Weight of the adversarial term in the generator's loss; 0 leaves it "
                   "out (paper: 1).", lower_bound=0.0)
flags.DEFINE_float("d_weight", 1.0, "Weight of the discriminator's loss (paper: 0.5).", lower_bound=0.0)

flags.DEFINE_integer("epochs", 200, "Length of the run in passes over the training pairs (paper: 200).", lower_bound=1)
flags.DEFINE_integer("max_steps", 0, "Ends the run at this step if --epochs allows more steps; 0: no limit.",
                     lower_bound=0)
flags.DEFINE_integer("batch_size", 4, "Pairs in a step, of all workers together. The paper has 1 for facades; 4 makes "
                     "better use of a CPU.", lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-4, "Adam's step size, of both networks (paper: 0.0002).")
flags.DEFINE_float("beta1", 0.5, "Adam's beta1, the decay rate of the first moment (paper: 0.5).", lower_bound=0.0,
                   upper_bound=0.999)
flags.DEFINE_float("adam_epsilon", 1e-8, "Adam's epsilon.", lower_bound=0.0)
flags.DEFINE_integer("decay_epochs", 0, "Number of epochs at the end of the run over which the learning rate falls "
                     "linearly to 0; 0: it does not fall.",
                     lower_bound=0)
flags.DEFINE_enum("update", "simultaneous", pix2pix.UPDATES,
                  "simultaneous: both gradients come from one forward pass. alternating: the discriminator "
                  "is updated first, and the generator is updated against the new discriminator on the same "
                  "fake image.")
flags.DEFINE_float("ema", 0.999, "Decay a step of an exponential moving average of the generator's weights, which "
                   "samples, validation, test mode and export take instead of the last weights, from 0 (no average) to "
                   "below 1. In step t, counted from 0, the decay is at most (1 + t) / (10 + t).")
flags.DEFINE_bool("test_ema", True, "Whether test mode and export take the averaged weights of a run with --ema.")
flags.DEFINE_enum("precision", "auto", ["auto", *precisions.PRECISIONS],
                  "Arithmetic of the convolutions; weights, losses and measures are always float32. In training, "
                  "auto is bfloat16 on a CPU that computes in it natively, tf32 on a GPU that has it, else float32; a "
                  "continued run keeps its precision. In test mode, auto is float32. The program that loads an "
                  "export chooses the precision (docs/deploy.md).")
flags.DEFINE_enum("jit_compile", "auto", ["auto", "true", "false"], "Whether XLA compiles the training step, which "
                  "takes up to a minute at the start. auto is true for one worker on a GPU, else "
                  "false; a continued run keeps it.")
flags.DEFINE_bool("deterministic", True, "Whether a GPU uses only kernels whose results repeat bit for bit. Those of "
                  "a CPU always do.")

flags.DEFINE_integer("log_every", 20, "Steps between rows of metrics.csv.", lower_bound=1)
flags.DEFINE_integer("sample_every", None, "Steps between sample grids; there is one of step 0 too. Default: 100, or "
                     "in a long run the first of 200, 500, 1000, ... that makes at most 200 grids.", lower_bound=1)
flags.DEFINE_integer("save_every", None, "Steps between checkpoints. Default: 500, or in a long run the first of 1000, "
                     "2000, 5000, ... that makes at most 40 checkpoints.", lower_bound=1)
flags.DEFINE_integer("keep", 3, "How many of the newest checkpoints are kept; the best one is kept beside them.",
                     lower_bound=1)
flags.DEFINE_integer("val_every", None, "Steps between validations, which measure L1, PSNR and SSIM on pairs of val/; "
                     "0 is off. Default: validation comes with a checkpoint, at most every 500 steps and at most 40 "
                     "times in a run.", lower_bound=0)
flags.DEFINE_integer("val_pairs", 16, "How many pairs of val/ a validation measures, from the first on; 16 pairs take "
                     "about as long as one training step of batch 4. They stay in memory, 1.6 MB each at 256 "
                     "pixels.", lower_bound=1)
flags.DEFINE_enum("best_by", "ssim", list(validation.HIGHER_IS_BETTER),
                  "The measure by which validation keeps the best checkpoint in checkpoints/best. Of the three, SSIM "
                  "agrees most with a distance of deep features (docs/choosing.md).")

flags.DEFINE_integer("patience", 300, "If TF_CONFIG names several workers: how many seconds a worker waits for the "
                     "others to answer at the start, and for a step, with its saving and validation, to end.",
                     lower_bound=1)

RULES = run_flags.Rules(  # what a flag means for an existing run
    FLAGS,
    free=set("""mode output_dir checkpoint data_dir test_resize skip_bad_images reader_threads test_dropout
                test_ema max_steps precision log_every sample_every save_every keep val_every val_pairs best_by
                patience show_bands""".split()),
    restored=set("""seed data_dir layout direction image_size resize_method input_resize output_resize
                    input_range output_range show_bands
                    skip_bad_images reader_threads dropout dropout_blocks test_dropout gan_loss""".split()),
    networks=set("""input_channels output_channels one_hot labels lab generator ngf skip upsample norm norm_epsilon
                    bottleneck_norm leaky_slope ndf patch conditional""".split()),
    in_old_checkpoint=set("""input_channels output_channels ngf skip upsample norm bottleneck_norm ndf""".split()),
    decided=set("norm ema jit_compile".split()),
    unkept=set("mode output_dir checkpoint test_resize test_ema".split()),
    older={"norm": "batch", "ema": 0.0, "upsample": "transposed", "jit_compile": "false", "input_channels": 3,
           "output_channels": 3})
MODULE_FLAGS = FLAGS.get_flags_for_module(sys.modules[__name__])
Options = collections.namedtuple("Options", [flag.name for flag in MODULE_FLAGS])  # the value of each flag
TITLES = {"mode": "The run", "data_dir": "Data", "ngf": "Networks", "gan_loss": "Losses", "epochs": "Training",
          "log_every": "What is written when", "patience": "Several machines"}  # of --help, before these flags

# Pixels that a discriminator needs for one logit, where it is more than the generator needs.
SMALLEST = {"142": 64, "286": 96}


def must(names, rule):
    """Registers a flag_texts.Rule for each flag in `names`; None, where no value is given, is not tested."""
    for name in names.split():
        flags.register_validator(name, lambda value: value is None or rule.test(value), rule.message)


def must_together(names, test, message):
    """Registers a test of {name: value} of all flags in `names`; `message` is the error for values that fail it."""
    def fit(values):
        try:
            return test(values)
        except ValueError:  # a text that its own rule refuses, with a better message
            return True

    flags.register_multi_flags_validator(names.split(), fit, message)


must("image_size", flag_texts.IMAGE_SIZE)
must("load_size", flag_texts.LOAD_SIZE)
must("labels", flag_texts.LABELS)
must("input_range output_range", flag_texts.RANGE)
must("show_bands", flag_texts.BANDS)
must("eps", flag_texts.below(0.1))
must("ema", flag_texts.below(1))
must("output_dir checkpoint init_checkpoint", flag_texts.NO_PATTERN)
must("data_dir output_dir checkpoint init_checkpoint", flag_texts.NO_URL)
must("init_checkpoint", flag_texts.ONE_LINE)
must("data_dir output_dir", flag_texts.FOLDER)
must("learning_rate adam_epsilon", flag_texts.ABOVE_0)
must("norm_epsilon leaky_slope dropout eps l1_weight gan_weight d_weight learning_rate beta1 adam_epsilon",
     flag_texts.FINITE)
must_together("one_hot labels", lambda v: v["one_hot"] or not v["labels"], "--labels is for --one_hot")
for lab_rule in lab.RULES:
    must_together(*lab_rule)
must_together("one_hot input_channels", lambda v: not v["one_hot"] or v["input_channels"] in (None, 3),
              "--one_hot needs --input_channels=3, because it takes the classes from the colours")
must_together("load_size image_size", lambda v: v["load_size"] == "0" or all(
    load >= image for load, image in zip(size_of(v["load_size"]), size_of(v["image_size"]))),
              "--load_size must be at least --image_size, or 0")
must_together("patch image_size", lambda v: min(size_of(v["image_size"])) >= SMALLEST.get(v["patch"], 32),
              "--patch=142 needs an --image_size of 64 or more, --patch=286 of 96")
must_together("decay_epochs epochs", lambda v: v["decay_epochs"] <= v["epochs"],
              "--decay_epochs must be at most --epochs")
must_together("l1_weight gan_weight", lambda v: v["l1_weight"] > 0 or v["gan_weight"] > 0,
              "--l1_weight and --gan_weight must not both be 0")


def options_in_force(**changed):
    """Returns the Options: the value of every flag, some of them changed."""
    values = {name: FLAGS[name].value for name in Options._fields}
    return Options(**dict(values, lab=lab.is_on(values), **changed))


# ---------------------------------------------------------------------------------------------
# From flags to the graph


def generate(options, images, mask_number):
    """The generator as the options want it; `mask_number` as in `pix2pix.generator`."""
    return pix2pix.generator(network_input(options, images), pix2pix.GeneratorOptions(
        output_channels=lab.CHANNELS[1] if options.lab else channels_of(options)[1], filters=options.ngf,
        depth=pix2pix.unet_depth(*size_of(options.image_size)),
        skip=options.skip if options.generator == "unet" else "none", upsample=options.upsample,
        norm=options.norm, norm_epsilon=options.norm_epsilon, bottleneck_norm=options.bottleneck_norm,
        leaky_slope=options.leaky_slope, dropout_rate=options.dropout, dropout_blocks=options.dropout_blocks,
        seed=options.seed), mask_number)


def network_input(options, images):
    """Inputs as the networks see them.

    With --one_hot, [N, H, W, 3] -> [N, H, W, classes]; with --lab, grey pictures [N, H, W, 1] -> their scaled L.
    """
    if options.lab:
        return lab.lightness(images)
    if not options.one_hot:
        return images
    if not options.labels:
        raise FlagError("--one_hot needs --labels=RRGGBB,RRGGBB,... here, because no run holds the label colours")
    return label_maps.one_hot(images, flag_texts.colours_of(options.labels))


def network_target(options, targets):
    """Targets as the networks see them: with --lab, RGB [N, H, W, 3] -> scaled a and b [N, H, W, 2]."""
    return lab.to_lab(targets)[..., 1:] if options.lab else targets


def pictures_of(options, images, outputs):
    """The generator's outputs for some inputs as people see them: with --lab, RGB [N, H, W, 3] with the inputs' L."""
    return lab.to_rgb(tf.concat([network_input(options, images), outputs], 3)) if options.lab else outputs


def keeps_dropout(options):
    """Whether dropout stays on in samples and in test mode; yes by default."""
    return options.test_dropout is not False


def discriminate(options, inputs, targets):
    """The discriminator as the options want it."""
    condition = network_input(options, inputs) if options.conditional else None
    return pix2pix.discriminator(condition, targets, pix2pix.DiscriminatorOptions(
        filters=options.ndf, patch=int(options.patch), norm=options.norm, norm_epsilon=options.norm_epsilon,
        leaky_slope=options.leaky_slope, seed=options.seed))


def training_graph(options, pairs, precision, team=workers.ALONE):
    """Builds the queue and a training step for a session of `precision`; returns ((inputs, targets), a Training).

    With several workers, this is the step for a share of the batch; the Training's scalars are means over all shares.
    """
    step = tf.train.get_or_create_global_step()
    batch = reader.training_batches(pairs, step, reader.Batches(
        batch_size=options.batch_size, image_size=size_of(options.image_size), flip=options.flip,
        load_size=data_flags.load_size_of(options), view=data_flags.view_of(options, pairs), seed=options.seed,
        threads=options.reader_threads, share=team.share))
    with tf.name_scope("dropout"):
        mask_number = team.masks_of(step)
    how = pix2pix.TrainingOptions(
        objective=pix2pix.Objective(
            gan_loss=options.gan_loss, eps=options.eps, pixel_loss=options.pixel_loss, l1_weight=options.l1_weight,
            gan_weight=options.gan_weight, d_weight=options.d_weight),
        adam=pix2pix.Adam(learning_rate(options, step, len(pairs.files)), options.beta1, options.adam_epsilon),
        update=options.update, precision=precision, ema=options.ema)
    with devices.compiled(options.jit_compile):
        seen = batch[0], network_target(options, batch[1])
        model = pix2pix.training(seen, step, lambda images: generate(options, images, mask_number),
                                 lambda inputs, targets: discriminate(options, inputs, targets), how, team.mean)
    return batch, team.averaged(model, hooks.LOSSES)


def learning_rate(options, step, pair_count):
    """--learning_rate, which falls linearly to 0 over the last --decay_epochs of `pair_count` pairs."""
    if not options.decay_epochs:
        return options.learning_rate
    steps, decay_steps = (epochs * pair_count / options.batch_size for epochs in (options.epochs, options.decay_epochs))
    with tf.name_scope("learning_rate"):
        left = steps - tf.cast(step.read_value(), tf.float32)
        return options.learning_rate * tf.clip_by_value(left / decay_steps, 0, 1)


def middle_of(options):
    """Returns the logit at which D is undecided: halfway between lsgan's labels 0 and 1, else 0."""
    return 0.5 if options.gan_loss == "lsgan" else 0.0


def one_image(options, average=None):
    """Builds the generator for one image of image_size at a time, with its averaged weights if there is an average.

    Returns:
      (image, mask_number, output): placeholders of [1, H, W, C] and of the int64 scalar that picks the dropout mask,
      and the generated [1, H, W, C].
    """
    with tf.name_scope("sample"), pix2pix.weights_of(average):
        image = tf.placeholder(tf.float32, [1, *size_of(options.image_size), channels_of(options)[0]], "image")
        mask_number = tf.placeholder(tf.int64, [], "mask_number")
        output = generate(options, image, mask_number if keeps_dropout(options) else None)
        return image, mask_number, pictures_of(options, image, output)


# ---------------------------------------------------------------------------------------------
# --mode=train


def train():
    """Trains a new run, or continues the run in --output_dir.

    Returns:
      The exit status: 0 after the run's last step, else 128 plus the number of the signal that stopped the run.
    """
    run_flags.check_for_training(FLAGS)
    team = workers.start(os.environ.get("TF_CONFIG"), FLAGS.batch_size, FLAGS.patience)
    with run_folder.run_lock(FLAGS.output_dir) if team.is_chief else contextlib.nullcontext():
        job = job_of(team)
        step, last, status = job.start, job.record["steps"], 0
        if step < last:
            with tf.Graph().as_default(), contextlib.ExitStack() as closing:
                batch, model = training_graph(job.options, job.pairs, job.record["precision"], team)
                scaffold = checkpoints.scaffold(job.checkpoint, job.options.init_checkpoint, model.average,
                                                team.ready_for_local_init())
                jobs.keep_record(job, RULES.unkept)
                jobs.announce(job)
                signals = stops.Signals()
                step_hooks = hooks_of(job, batch, model, scaffold.saver, signals, closing)
                with signals, training_session(job, scaffold, step_hooks) as session:
                    while not session.should_stop():
                        step = session.run(model.train_op)
            if step < last:
                number = step_hooks[-1].number  # of the signal, see `workers.StopTogether`
                print("%s: stopped and saved at step %d of %d; the same command continues" % (
                    stops.name_of(number), step, last))
                status = 128 + number
        jobs.finish(job, step)
    return status


def job_of(team):
    """Returns the jobs.Job of this process: its options, its training pairs and what the workers agreed on.

    Takes the flags that a continued run keeps, finds the pairs, prints what it reads, checks the free memory and
    prepares the run folder. Raises a UserError if something does not fit.
    """
    checkpoint, weights = run_flags.to_train(RULES) if team.is_chief else (None, None)
    options = options_in_force(init_checkpoint=weights, jit_compile=devices.decide_compilation(
        FLAGS.jit_compile, len(team)))
    pairs, options = data_flags.find(options, options.split or "train", reader.originals)
    options = data_flags.with_labels(options, pairs, reader.read_in_order)
    images = options.batch_size // len(team)
    memory.check(options, "a batch of %d" % images, images, size_of(options.image_size))
    return jobs.agreed(RULES, options, pairs, checkpoint, team)


@contextlib.contextmanager
def training_session(job, scaffold, step_hooks):
    """The session of a run, with what `hooks_of` returned; it saves if an error comes between two whole steps."""
    precision = job.record["precision"]
    saving = step_hooks[-1].saving  # the hooks.Checkpoints of `workers.StopTogether`; None where no folder is kept
    devices.allow_tf32(precision == "tf32")
    with reader.naming_bad_files(job.pairs), job.team.session(
            precisions.session_config(precision), reader.is_from_queues, hooks=step_hooks, scaffold=scaffold,
            checkpoint_filename_with_path=job.checkpoint) as session:
        try:
            yield session
        except (OSError, tf.errors.OpError) as error:
            # A file could not be written after a step, or the next step could not begin.
            if saving and (isinstance(error, OSError) or reader.is_from_queues(error)):
                saving.end(session.raw_session())
                run_folder.note_undecodable(job.options.output_dir, job.record, job.pairs)
            raise


def hooks_of(job, batch, model, saver, signals, closing):
    """Returns the hooks of a run in their order within a step; the last one ends the run at a signal.

    `signals` is a stops.Signals; `closing`, an ExitStack, closes the files that the hooks open.
    """
    finite = diagnostics.finite_weights()
    nan = hooks.StopOnNan(model, finite, job.kept_in, lambda step: reader.files_of_step(
        job.pairs, step, job.options.batch_size, job.options.seed))
    keeping = folder_hooks(job, batch, model, saver, finite, closing) if job.has_folder else []
    saving = keeping[-1] if keeping else None  # `folder_hooks` returns it last
    return [nan, *keeping, tf.train.StopAtStepHook(last_step=job.record["steps"]),
            workers.StopTogether(job.team, signals, saving)]


def folder_hooks(job, batch, model, saver, finite, closing):
    """Returns the hooks that keep the run's folder, a hooks.Checkpoints last; arguments as in `hooks_of`."""
    options, folder = job.options, job.options.output_dir

    def closed(opened):
        return closing.enter_context(contextlib.closing(opened))

    writer = closed(events.EventWriter(folder, tf.get_default_graph(), job.start))
    run = hooks.Run(folder, writer, job.start, job.record["steps"], len(job.pairs.files), options.batch_size,
                    data_flags.shown_bands(options))
    shown, measured = data_flags.fixed_pairs(options, job.pairs, reader.read_in_order)
    generator = one_image(options, model.average)
    metrics = closed(hooks.Metrics(model, run, options.log_every))
    seen = model._replace(outputs=pictures_of(options, batch[0], model.outputs))
    samples = hooks.Samples(run, options.sample_every, shown, generator,
                            events.of_batch(batch, seen, middle_of(options), data_flags.shown_bands(options)))
    saving = hooks.Checkpoints(run, saver, options.save_every, options.keep, finite)
    if not measured:
        return [metrics, samples, saving]
    measures, best = closed(validation.Measures(measured, generator)), validation.Best(folder, options.best_by)
    return [metrics, samples, hooks.Validation(run, options.val_every, measures, best, metrics, saving), saving]


# ---------------------------------------------------------------------------------------------
# --mode=test and --mode=export


def test():
    """Writes every output of a split, a gallery and metrics; returns the exit status."""
    checkpoint = run_flags.to_restore(RULES)  # which makes the run's flags the defaults
    has_averages = checkpoints.has_averages(checkpoint)
    options = as_tested(options_in_force(), has_averages)
    # A test of this run without any flag: where `options` differ from it, the result's name says so.
    usual = as_tested(Options(*(FLAGS[name].default for name in Options._fields)), has_averages)
    run = run_folder.run_of(checkpoint)
    # `read_as` are the options with the channels and the ranges of the files.
    pairs, read_as = data_flags.find(options, options.split, reader.originals)
    check_pairs(options, pairs, run)

    facts = results.facts_of(options, pairs, checkpoint)
    choices = run_flags.choices(RULES, options, usual, pairs.folder, checkpoint)
    path = results.path_of(options.output_dir, facts, choices)
    title = os.path.basename(os.path.abspath(options.output_dir))

    targets = pair_files.images_of(pairs, options.direction).get("output")  # None for --layout=inputs
    trained_on = run_folder.values_of(run).get("output", {})
    truths = reader.originals(pairs, data_flags.view_of(read_as, pairs))
    is_resized_lab = read_as.lab and read_as.test_resize
    sources = reader.originals(pairs, bands.View(read_as.direction)) if is_resized_lab else None
    files = outputs.files_of(pairs, targets, trained_on, read_as.output_range, truths, sources)
    colours = data_flags.target_colours(read_as, pairs, reader.read_in_order)
    with contextlib.closing(translated(read_as, checkpoint, pairs)) as translations, storage.replacing(path) as folder:
        as_stored = outputs.beside(translations, files, data_flags.shown_bands(options))
        metrics = gallery.write(folder, title, as_stored, facts, middle_of(options), colours)
    gallery.write_results(os.path.dirname(path), title)
    print("%s, %s weights, translated %d images; open %s in a browser" % (
        checkpoint, facts["weights"], len(pairs.files), os.path.join(path, "index.html")))
    reports.measured(metrics)
    reports.fingerprint(checkpoint)
    return 0


def as_tested(options, has_averages):
    """Returns the Options with what None and auto stand for in test mode; test_ema is False without averages."""
    precision = "float32" if options.precision == "auto" else precisions.resolve(options.precision)
    return options._replace(test_dropout=keeps_dropout(options), precision=precision,
                            test_ema=options.test_ema and has_averages)


def check_pairs(options, pairs, run):
    """Warns of a test on the training pairs of the run in a folder; raises an error where pairs can't be tested."""
    if not options.split:
        reports.training_pairs(pairs, options.data_dir, run)
    if pairs.layout != "inputs" and not options.test_resize:
        pair_files.check_sizes(pairs, gallery.LEAST_PIXELS, "which SSIM needs; --test_resize makes it larger")
    what, size = ("a picture", size_of(options.image_size)) if options.test_resize else pair_files.largest(pairs)
    memory.check(options, what, 1, size)


def translated(options, checkpoint, pairs):
    """Yields (name, {kind: image}, patches, {measure: value}) for each pair; images are [1, H, W, C] in [-1, 1].

    `patches` is (D's logits, the image size that they belong to).
    """
    names = [os.path.basename(files[0].path) for files in pairs.files]
    with tf.Graph().as_default():
        image, mask_number, *made = test_graph(options)
        devices.allow_tf32(options.precision == "tf32")
        session = checkpoints.restored_session(checkpoint, options.precision, options.test_ema)
    exact = contextlib.closing(gallery.Measures([1, None, None, channels_of(options)[1]]))
    size, view = size_of(options.image_size) if options.test_resize else None, data_flags.view_of(options, pairs)
    with session, exact as measures, contextlib.closing(reader.read_in_order(pairs, size, view)) as pairs_read:
        named = zip(tqdm.tqdm(names, unit="image", disable=None), pair_files.short_names(names), pairs_read)
        for name, short_name, (source, target) in named:
            with faults.naming_memory("%s at %dx%d pixels" % (name, *source.shape[2:0:-1]), memory.LESS["test"]):
                output, patches = session.run(made, {image: source, mask_number: seeds.of_name(name)})
                pictures, values = collections.OrderedDict([("input", source), ("output", output)]), {}
                if pairs.layout != "inputs":
                    pictures["target"], values = target, measures.of(output, target)
            yield short_name, pictures, patches, values


def test_graph(options):
    """Builds the model for one image of any size.

    Returns:
      (image, mask_number, output, patches): placeholders of [1, H, W, C] and of the int64 scalar that picks the dropout
      mask; the generated [1, H, W, C]; and D's logits with the (height, width) that they are of, padding included.
    """
    image = tf.placeholder(tf.float32, [1, None, None, channels_of(options)[0]], "image")
    mask_number = tf.placeholder(tf.int64, [], "mask_number")
    inputs = padded(options, image)
    with convolutions.built_for(options.precision):
        outputs = generate(options, inputs, mask_number if keeps_dropout(options) else None)
        patches = discriminate(options, inputs, outputs), tf.shape(inputs)[1:3]
    output = pictures_of(options, inputs, outputs)[:, :tf.shape(image)[1], :tf.shape(image)[2]]
    return image, mask_number, output, patches


def padded(options, images):
    """Images of any size, padded by reflection to what generator and discriminator take."""
    multiple = 2 ** pix2pix.unet_depth(*size_of(options.image_size))
    return pix2pix.reflect_to_multiple(images, multiple, SMALLEST.get(options.patch, 32))


def export():
    """Writes the generator as a SavedModel into export/STEP (see support/serving.py); returns the exit status."""
    checkpoint = run_flags.to_restore(RULES)
    options = options_in_force(test_ema=FLAGS.test_ema and checkpoints.has_averages(checkpoint))
    size, (channels, output_channels) = size_of(options.image_size), channels_of(options)
    are_pictures = {channels, output_channels} <= {1, 3} and not options.input_range and not options.output_range
    run, drawn_inputs = run_folder.run_of(checkpoint), []
    before = run_folder.read_flags(run)
    if are_pictures and ("data_dir" in before or not FLAGS["data_dir"].using_default_value):
        drawn_inputs = data_flags.inputs_for_palette(options, before.get("split", "train"), reader.read_in_order)
    values = run_folder.values_of(run) or data_flags.values_of(options)
    path = os.path.join(options.output_dir, "export", str(checkpoints.step_of(checkpoint)))  # as servers look for it
    with tf.Graph().as_default():
        mask_number = tf.constant(0, tf.int64) if options.test_dropout else None

        def translate(images):
            inputs = padded(options, images)
            outputs = pictures_of(options, inputs, generate(options, inputs, mask_number))
            return outputs[:, :tf.shape(images)[1], :tf.shape(images)[2]]

        def to_input(image):  # as test mode reads a file
            side = bands.Side(data_flags.resize_methods(options)[0], channels, is_lightness=options.lab)
            return reader.as_seen(image, side, size)

        signatures = serving.signatures(translate, to_input if are_pictures else None, channels)
        restored = checkpoints.restored_session(checkpoint, averaged=options.test_ema)
        with restored as session, storage.replacing(path) as folder:
            serving.write(folder, session, signatures, values, (size, drawn_inputs) if are_pictures else None)
    print("exported %s to %s, %s weights, dropout %s" % (
        checkpoint, path, "averaged" if options.test_ema else "plain", "on" if options.test_dropout else "off"))
    return 0


def main(argv):
    """Runs the mode that --mode names and returns the exit status; an error of the user's ends with one line."""
    if argv[1:]:
        sys.exit("error: %s is not a flag; flags are written --name=value, and python train.py --help lists them all"
                 % argv[1])
    if FLAGS.deterministic:
        devices.make_deterministic()
    try:
        with faults.naming_failures(FLAGS.output_dir, memory.LESS[FLAGS.mode]):
            return {"train": train, "test": test, "export": export}[FLAGS.mode]()
    except UserError as error:
        sys.exit("error: %s%s" % (workers.own_name() if FLAGS.mode == "train" else "", error))


def parse(argv):
    """Sets the flags and returns what is left of argv; ends the program after --help and at a wrong flag."""
    return run_flags.parse(FLAGS, argv, lambda: run_flags.grouped_help(__doc__, MODULE_FLAGS, TITLES))


if __name__ == "__main__":
    with stops.ending_the_process():
        sys.exit(main(parse(sys.argv)))
