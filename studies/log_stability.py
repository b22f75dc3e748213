"""What does the eps in log(D + eps) do, where does it fail, and what is to be used instead?

    pip install matplotlib
    python studies/log_stability.py --output_dir=runs/log_stability --tf1_python=PATH_OF_A_PYTHON_WITH_TF_1.15

takes 7 minutes on two cores; --quick measures less and trains shorter, and without --tf1_python one TensorFlow is
measured. It writes report.html (which holds all it shows), its plots as PNG and its figures as CSV. Each TensorFlow
computes the values of part 1 in a process of its own:

    python studies/log_stability.py measure VALUES.csv
"""

import collections
import csv
import html
import os
import sys
import unittest.mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import numpy as np
import scipy.special
import tensorflow.compat.v1 as tf

import pix2pix
import reader
import study
from support.precisions import fence

tf.logging.set_verbosity(tf.logging.ERROR)

EPS = (0.0, 1e-12, 1e-10, 1e-8, 1e-7, 1e-5, 1e-4)
QUICK_EPS = (0.0, 1e-12, 1e-7)
DTYPES = ("float32", "bfloat16", "float16")
MODES = ("folding", "no folding", "XLA")
SHAPES = ("static", "dynamic")
LOSSES = ("log", "log_literal", "naive", "clipped", "logits", "lsgan")
WITHOUT_EPS = ("logits", "lsgan")
COLUMNS = ("tensorflow", "loss", "eps", "dtype", "mode", "shape", "side", "z", "value", "gradient", "value_alone")
Z = np.unique(np.round(np.concatenate([np.arange(-120, 121, 5), np.arange(-30, 31), np.arange(14, 19, 0.1)]), 1))
SIZE, FILTERS, D_LEARNING_RATE = 64, 16, 1e-2  # of part 3
TRAINED = ("log", "log_literal", "naive", "logits", "lsgan")
COLORS = dict(zip(LOSSES, ("tab:blue", "tab:orange", "tab:red", "tab:purple", "tab:green", "tab:gray")))
F1_LOGITS = (16.0, 16.7, 20.0, 30.0, 90.0)
REPORT = """
Measured on TensorFlow $versions. z is D's logit of a patch, D = sigmoid(z); the fake side's loss is -log(1 - D + ε),
the real side's -log(D + ε).

## 1. Value and gradient

$curves

The same in numbers, ε = 1e-12: loss (gradient) of a fake patch. “alone” is the loss when the gradient is not fetched.

$f1

Where each loss fails, per TensorFlow, type, rewrite and side (ε = 1e-12; every ε and shape in findings.csv):

$findings

Sigmoid itself differs: TensorFlow 1.15 rounds it to 1 earlier or later depending on where a patch lies in the vector
(the jagged stretch of its curves), and the literal text inherits that. log and logits do not depend on it.

## 2. What the optimizer did

The naive text as written, and as it was run. 1 - D + ε has become (1 + ε) - D, and in float32 1 + 1e-12 is 1.

$nodes

By release, as found earlier with single programs and not measured again here: TensorFlow 1.14 and 2.0 do not rewrite;
1.15 to 2.14 do, but a graph of dynamic shape that fetches the gradient in the same run escapes; from 2.15 on nothing
does. (Upstream: tensorflow issues 52045, 47548.)

## 3. In training

The real model, 64x64 and 16 filters, D's learning rate 50 times G's, which makes it too strong; medians (ranges) over
the seeds. A run ends at the first number that is not finite.

$training

## 4. What to use

The first two columns of numbers are of a fake patch in float32 with ε = 1e-12.

$advice
"""


# ---------------------------------------------------------------------------------------------
# Part 1: value and gradient


def naive(logits, is_real, eps):
    """The text as people write it; nothing keeps the graph optimizer from rewriting it."""
    probability = tf.sigmoid(logits)
    return -tf.log(probability + eps) if is_real else -tf.log(1.0 - probability + eps)


def naive_in_training(logits, is_real, gan_loss, eps):
    """Stands for `pix2pix.patch_loss` while a training graph is built; `gan_loss` is ignored."""
    del gan_loss
    return naive(fence(logits), is_real, eps)


def clipped(logits, is_real, eps):
    """The other habit: the probability is kept from below by eps instead of shifted by it."""
    probability = tf.sigmoid(logits)
    return -tf.log(tf.maximum(probability if is_real else 1.0 - probability, eps))


def patch_loss(name, logits, is_real, eps):
    """The loss called `name` of each logit, in the type of the logits where it is not the project's own."""
    if name in ("naive", "clipped"):
        return {"naive": naive, "clipped": clipped}[name](logits, is_real, eps)
    return pix2pix.patch_loss(logits, is_real, name, eps)


def session_config(mode):
    config = tf.ConfigProto()
    if mode == "no folding":
        rewrites = config.graph_options.rewrite_options
        rewrites.constant_folding = rewrites.OFF
    return config


def measure(dtype, mode, shape, every_eps):
    """Yields rows of COLUMNS for one setting; every loss is a graph of its own."""
    for name in LOSSES:
        for eps in every_eps if name not in WITHOUT_EPS else (0.0,):
            with tf.Graph().as_default(), tf.Session(config=session_config(mode)) as session:
                fed = tf.placeholder(tf.float32, [len(Z)] if shape == "static" else [None])
                logits = tf.cast(fed, dtype)
                sides = {}
                with tf.xla.experimental.jit_scope(compile_ops=mode == "XLA"):
                    for side in ("real", "fake"):
                        loss = patch_loss(name, logits, side == "real", eps)
                        sides[side] = loss, tf.gradients(loss, logits)[0]
                for side, (loss, gradient) in sorted(sides.items()):
                    z, value, slope = session.run([logits, loss, gradient], {fed: Z})
                    alone = session.run(loss, {fed: Z})
                    for numbers in zip(z, value, slope, alone):
                        yield (tf.version.VERSION, name, eps, dtype, mode, shape, side) + tuple(map(float, numbers))


def write_measures(path, quick):
    """Writes loss and gradient of a patch over its logit as CSV: every loss, eps, type and rewrite there is here."""
    settings = [(dtype, mode, shape) for dtype in DTYPES[:1 if quick else None]
                for mode in MODES for shape in SHAPES[1 if quick else 0:]]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for setting in settings:
            try:
                writer.writerows(measure(*setting, QUICK_EPS if quick else EPS))
            except (tf.errors.OpError, TypeError, ValueError) as error:
                print("%s: not on TensorFlow %s: %s" % (", ".join(setting), tf.version.VERSION,
                                                        str(error).splitlines()[0]), flush=True)


def measured(python, path, quick):
    """Measures a Python's TensorFlow in a process of its own, and returns the rows of COLUMNS."""
    study.run(python, os.path.abspath(__file__), "measure", path, *["--quick"] * quick)
    return study.read_csv(path)


def exact(name, side, z, eps):
    """(loss, gradient) of a claim in float64, with scipy.special.log_expit."""
    sign = 1.0 if side == "real" else -1.0
    if name == "lsgan":
        label = float(side == "real")
        return (z - label) ** 2, 2 * (z - label)
    log_d, log_other = scipy.special.log_expit(sign * z), scipy.special.log_expit(-sign * z)
    if name == "logits" or eps == 0:
        return -log_d, -sign * np.exp(log_other)
    if name == "clipped":
        alive = log_d > np.log(eps)
        return -np.maximum(log_d, np.log(eps)), np.where(alive, -sign * np.exp(log_other), 0)
    loss = -np.logaddexp(log_d, np.log(eps))
    return loss, -sign * np.exp(log_d + log_other + loss)


def curves(rows):
    """Returns {(tensorflow, loss, eps, dtype, mode, shape, side): arrays z, value, gradient, value_alone}."""
    grouped = collections.defaultdict(list)
    for row in rows:
        key = (row["tensorflow"], row["loss"], float(row["eps"])) + tuple(
            row[name] for name in ("dtype", "mode", "shape", "side"))
        grouped[key].append([float(row[name]) for name in ("z", "value", "gradient", "value_alone")])
    return {key: np.array(numbers).T for key, numbers in grouped.items()}


def first(badness, z):
    """The smallest |z| at which something holds, or '' where it never does."""
    return "%.4g" % np.abs(z[badness]).min() if badness.any() else ""


def findings(key, arrays):
    """One row of the table: where a loss dies, saturates, is not finite or negative, and its largest errors."""
    z, value, gradient, alone = arrays
    name, eps, side = key[1], key[2], key[6]
    wrong = z < 0 if side == "real" else z > 0
    with np.errstate(all="ignore"):
        loss, slope = exact(name, side, z, eps)
        finite = np.isfinite(value) & np.isfinite(gradient) & np.isfinite(alone)
        error = np.abs(value - loss) / np.maximum(np.abs(loss), 0.1)
        slope_error = np.abs(gradient - slope)
    top = value[wrong & np.isfinite(value)].max() if (wrong & np.isfinite(value)).any() else np.nan
    return list(key) + [
        first(wrong & (gradient == 0) & (np.abs(z) > 0.6), z), first(wrong & (value >= 0.999 * top), z),
        "%.4g" % top, first(~finite, z), first(value < 0, z),
        "%.1e" % error[finite].max(), "%.1e" % slope_error[finite].max()]


FINDINGS = ["tensorflow", "loss", "eps", "dtype", "mode", "shape", "side", "gradient dead from |z|",
            "value saturates from |z|", "largest finite value", "inf or NaN from |z|", "negative from |z|",
            "largest relative error", "largest gradient error"]


def draw_curves(all_curves, dtype, path):
    """A page of plots: each loss of a fake patch and its gradient over the logit, eps 1e-12, logits of a dtype."""
    versions = sorted({key[0] for key in all_curves if key[3] == dtype})
    figure, panels = study.figure(2, len(versions), (6.2 * len(versions), 7))
    for column, version in enumerate(versions):
        for name in LOSSES[:5]:
            key = (version, name, 0.0 if name == "logits" else 1e-12, dtype, "folding", "dynamic", "fake")
            z, value, gradient, _ = all_curves[key]
            style = {"color": COLORS[name], "label": name, "linewidth": 3 if name == "naive" else 1.7,
                     "linestyle": ":" if name == "naive" else "-"}
            shown = (z >= 0) & (z <= 45)
            panels[0, column].plot(z[shown], value[shown], **style)
            panels[1, column].plot(z[shown], gradient[shown], **style)
            lost = shown & ~np.isfinite(value)
            if lost.any():
                panels[0, column].axvspan(z[lost].min(), 45, color=COLORS[name], alpha=0.08)
                panels[0, column].text(z[lost].min() + 0.5, 2 + 3 * list(COLORS).index(name), "%s: inf, NaN" % name,
                                       color=COLORS[name])
        panels[0, column].set(title="TensorFlow %s, %s" % (version, dtype), ylabel="loss", ylim=(0, 46))
        panels[1, column].set(xlabel="logit of a fake patch (D is the more wrong the further right)",
                              ylabel="gradient", ylim=(-0.05, 1.1))
        panels[0, column].legend(frameon=False)
    figure.savefig(path)


def f1_rows(all_curves):
    """The table of losses and gradients of a fake patch at the logits where they part."""
    wanted = [("naive", 1e-12), ("clipped", 1e-12), ("log_literal", 1e-12), ("log", 1e-12), ("logits", 0.0)]
    for version in sorted({key[0] for key in all_curves}):
        for name, eps in wanted:
            for mode in MODES:
                for shape in SHAPES:
                    key = (version, name, eps, "float32", mode, shape, "fake")
                    if key in all_curves:
                        z, value, gradient, alone = all_curves[key]
                        at = [np.argmin(np.abs(z - logit)) for logit in F1_LOGITS]
                        yield [version, name, mode, shape] + [
                            "%.2f (%.3g)%s" % (value[i], gradient[i], "" if np.isfinite(alone[i]) or not
                                               np.isfinite(value[i]) else "; alone %.4g" % alone[i]) for i in at]


# ---------------------------------------------------------------------------------------------
# Part 2: what the optimizer did


def optimized_nodes():
    """Returns (lines of the naive loss as written, lines of it as it was run), from run metadata."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        logits = tf.placeholder(tf.float32, [None], "logits")
        with tf.name_scope("loss"):
            loss = naive(logits, False, 1e-12)
        metadata = tf.RunMetadata()
        session.run(loss, {logits: [20.0]}, options=tf.RunOptions(output_partition_graphs=True), run_metadata=metadata)
        ran = [node for part in metadata.partition_graphs for node in part.node]
        return [[describe(node) for node in nodes if node.name.startswith("loss")]
                for nodes in (graph.as_graph_def().node, ran)]


def describe(node):
    if node.op == "Const":
        value = tf.make_ndarray(node.attr["value"].tensor)
        return "%s = %s" % (node.name, np.format_float_scientific(value) if value.ndim == 0 else value)
    return "%s = %s(%s)" % (node.name, node.op, ", ".join(node.input))


# ---------------------------------------------------------------------------------------------
# Part 3: in training


def train(gan_loss, seed, steps, pairs):
    """Trains the real model, D's steps 50 times G's; returns a list of one dict a step and the validation L1."""
    generator = pix2pix.GeneratorOptions(filters=FILTERS, seed=seed)
    discriminator = pix2pix.DiscriminatorOptions(filters=FILTERS, seed=seed)
    naive = unittest.mock.patch.object(pix2pix, "patch_loss", naive_in_training)
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        batch = reader.training_batches(pairs["train"], step, reader.Batches(
            image_size=(SIZE, SIZE), load_size=(SIZE + 8, SIZE + 8), seed=seed))
        if gan_loss == "naive":
            naive.start()
        model = pix2pix.training(
            batch, step, lambda images: pix2pix.generator(images, generator, step),
            lambda inputs, targets: pix2pix.discriminator(inputs, targets, discriminator), pix2pix.TrainingOptions(
                pix2pix.Objective("log" if gan_loss == "naive" else gan_loss), d_adam=pix2pix.Adam(D_LEARNING_RATE)))
        unittest.mock.patch.stopall()
        image = tf.placeholder(tf.float32, [1, SIZE, SIZE, 3])
        output = pix2pix.generator(image, generator)
        fetched = dict(model.watched, **{name: getattr(model, name) for name in ("d_loss", "g_loss_gan", "g_loss_l1")})
        log = []
        with tf.train.MonitoredSession() as session:
            for _ in range(steps):
                log.append(session.run([fetched, model.train_op])[0])
                if not all(map(np.isfinite, log[-1].values())):
                    break
            errors = [np.abs(session.run(output, {image: source}) - target).mean()
                      for source, target in reader.read_in_order(pairs["val"], size=(SIZE, SIZE))]
    return log, float(np.mean(errors))


def training_rows(pairs, seeds, steps):
    """Yields a row a loss: medians (ranges) over the seeds."""
    for name in TRAINED:
        runs = []
        for seed in range(seeds):
            log, error = train(name, seed, steps, pairs)
            ended = len(log) if not all(map(np.isfinite, log[-1].values())) else None
            good = {key: [row[key] for row in (log[:-1] if ended else log)] for key in log[0]}
            runs.append([ended or np.inf, *(max(good["saturated_" + side], default=0) for side in ("fake", "real")),
                         max(good["d_max_logit"], default=np.nan),
                         np.median(good["d_gradient_norm"] or [np.nan]),
                         np.median(good["g_gradient_norm"] or [np.nan]), error])
        yield [name] + [study.spread(column).replace("inf", "never") for column in zip(*runs)]


def advice(all_curves, trained):
    """Part 4: what to use, with the numbers of this machine's TensorFlow as the reason."""
    outcome = {row[0]: row for row in trained}
    reasons = [("log", "the default: ε's bound on the loss without its rounding"),
               ("logits", "where D must keep learning however wrong it is: no bound, no ε"),
               ("lsgan", "another objective; no logarithm to fail, gradients grow with the error"),
               ("log_literal", "to repeat an old program's numbers, not to train"),
               ("naive", "never: its ε is gone")]
    for name, reason in reasons:
        eps = 0.0 if name in WITHOUT_EPS else 1e-12
        key = (tf.version.VERSION, name, eps, "float32", "folding", "dynamic", "fake")
        row = findings(key, all_curves[key])
        yield [name, reason, row[7] or "never", row[10] or "never"] + [outcome[name][i] for i in (1, 2, 4, 7)]


ADVICE = ["loss", "use it", "gradient dead from z", "inf or NaN from z", "training: first non-finite step",
          "most saturated fake patches", "largest logit", "validation L1"]
TRAINING = ["loss", "first non-finite step", "most saturated fake patches", "most saturated real patches",
            "largest logit", "D's gradient norm", "G's gradient norm", "validation L1"]


def write(folder, all_curves, trained):
    """Writes plots, figures and the report."""
    plots = []
    for dtype in sorted({key[3] for key in all_curves}, key=DTYPES.index):
        plots.append(os.path.join(folder, "curves_%s.png" % dtype))
        draw_curves(all_curves, dtype, plots[-1])
    f1, found = list(f1_rows(all_curves)), [findings(*item) for item in sorted(all_curves.items())]
    f1_header = ["tensorflow", "loss", "mode", "shape"] + ["z = %g" % logit for logit in F1_LOGITS]
    for name, header, rows in (("f1", f1_header, f1), ("findings", FINDINGS, found), ("training", TRAINING, trained)):
        study.write_csv(os.path.join(folder, name + ".csv"), header, rows)
    shown = [row for row in found if row[2] in (0.0, 1e-12) and row[4] != "no folding" and row[5] == "dynamic"]
    nodes = "".join("<pre>%s</pre>" % html.escape("\n".join(lines)) for lines in optimized_nodes())
    study.write_report(
        os.path.join(folder, "report.html"), "What the ε in log(D + ε) does, where it fails, and what to use instead",
        REPORT, versions=" and ".join(sorted({key[0] for key in all_curves})),
        curves="".join(map(study.picture, plots)), f1=study.table(f1_header, f1),
        findings=study.folded("the table", study.table(FINDINGS, shown)), nodes="<div class=sides>%s</div>" % nodes,
        training=study.table(TRAINING, trained), advice=study.table(ADVICE, advice(all_curves, trained)))


def main():
    parser = study.parser(__doc__, "runs/log_stability")
    parser.add_argument("--data_dir", default=study.SAMPLE_SET,
                        help="the pairs of part 3 (default: %(default)s, drawn on first use)")
    parser.add_argument("--tf1_python", help="a Python with TensorFlow 1.15, to be measured too")
    parser.add_argument("--quick", action="store_true",
                        help="float32, dynamic shapes and three values of eps only, one seed, a shorter training")
    options = parser.parse_args()
    os.makedirs(options.output_dir, exist_ok=True)
    pairs = study.pairs_of(options.data_dir, ["train", "val"])
    rows = []
    for number, python in enumerate(filter(None, (sys.executable, options.tf1_python))):
        rows += measured(python, os.path.join(options.output_dir, "values%d.csv" % number), options.quick)
    write(options.output_dir, curves(rows), list(training_rows(pairs, *((1, 80) if options.quick else (3, 300)))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        write_measures(sys.argv[2], "--quick" in sys.argv)
    else:
        main()
