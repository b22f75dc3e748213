"""The same source and flags on TensorFlow 1.15 and on today's: what is equal to the bit, and where they part.

    pip install matplotlib
    python studies/legacy_tf1.py --tf1_python=.venv-tf1/bin/python --output_dir=runs/legacy_tf1

writes report.html (self-contained), its plots as PNG and its figures as CSV. What follows `--` are flags of train.py,
for both: `-- --flagfile=flags/legacy_tf1.flags --data_dir=datasets/facades --ngf=16 --ndf=16`.
"""

import hashlib
import html
import os
import shutil
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import report
from support import checkpoints

matplotlib.use("Agg")

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "runs/legacy_tf1", "Where report, plots and figures go.")
flags.DEFINE_string("tf1_python", ".venv-tf1/bin/python", "A Python 3.7 with TensorFlow 1.15.")
flags.DEFINE_integer("steps", 50, "Steps to compare; half way a checkpoint is moved each way.", lower_bound=2)
flags.DEFINE_integer("timed_steps", 8, "Steps in each of three timed rounds, at the model's full size.", lower_bound=3)

SMALL = ["--ngf=16", "--ndf=16"]  # the weights of every step are kept, for a while
LOSSES = ("d_loss", "g_loss_gan", "g_loss_l1")


def path_of(*parts):
    return os.path.join(FLAGS.output_dir, *parts)


def train(python, folder, steps, argv):
    """Trains to a step in a folder of its own, keeping every step's checkpoint; returns metrics.csv's rows."""
    report.run(python, report.TRAIN, *argv, "--output_dir=" + folder, "--max_steps=%d" % steps, "--precision=float32",
               "--log_every=1", "--save_every=1", "--sample_every=1000000", "--keep=%d" % steps)
    return report.read_csv(os.path.join(folder, "metrics.csv"))


# ---------------------------------------------------------------------------------------------
# The first step


def first_steps(pythons, argv):
    """Returns {version: {name: array}} of what each TensorFlow computes in the first step."""
    found = {}
    for number, python in enumerate(pythons):
        path = path_of("first%d.npz" % number)
        report.run(python, os.path.join(report.HERE, "legacy_tf1_measure.py"), path, *argv, "--precision=float32")
        with np.load(path) as values:
            arrays = {name: values[name] for name in values.files}
        found[str(arrays.pop("version"))] = arrays
        os.remove(path)
    if len(found) < 2 or not list(found)[1].startswith("1.15"):
        sys.exit("error: %s has TensorFlow %s; --tf1_python names a Python 3.7 with TensorFlow 1.15"
                 % (FLAGS.tf1_python, list(found)[-1]))
    return found


def same_bits(first, kind):
    """Returns a row: a kind of array, how many and how large, each one's sha256, whether they are equal."""
    names = sorted(name for name in next(iter(first.values())) if name.startswith(kind + "/"))
    hashes = [hashlib.sha256(b"".join(arrays[name].tobytes() for name in names)).hexdigest()[:16]
              for arrays in first.values()]
    count = sum(next(iter(first.values()))[name].size for name in names)
    return [kind, len(names), "{:,}".format(count), *hashes, "equal" if len(set(hashes)) == 1 else "NOT EQUAL"]


def relative(a, b):
    """The largest difference of two arrays over the first one's largest value."""
    return float(np.abs(np.float64(a) - b).max() / np.abs(a).max())


def exact_norm(arrays, layer):
    """Batch norm in float64 of what a layer's convolution gave."""
    x = np.float64(arrays["stages/%s/convolution" % layer])
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    gamma, beta = (arrays["weights/%s/%s" % (layer, name)] for name in ("gamma", "beta"))
    return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def stages(first):
    """Yields rows: stage, shape, largest relative difference, and for a batch norm each one's distance from float64."""
    ours, theirs = first.values()
    for name in ours:
        if name.startswith("stages/"):
            layer, stage = name[len("stages/"):].rsplit("/", 1)
            distances = ["", ""]
            if stage.startswith("FusedBatchNorm"):
                distances = ["%.1e" % relative(exact_norm(arrays, layer), arrays[name]) for arrays in first.values()]
            yield [layer, stage, "x".join(map(str, ours[name].shape)),
                   "%.1e" % relative(ours[name], theirs[name]), *distances]


# ---------------------------------------------------------------------------------------------
# The steps after it


def weight_differences(folders, steps):
    """Yields for each step {network: norm of the difference of two runs' weights over the norm of the first's}."""
    for step in range(1, steps + 1):
        ours, theirs = (tf.train.load_checkpoint(os.path.join(folder, "checkpoints", "model.ckpt-%d" % step))
                        for folder in folders)
        squares = {}
        for name in ours.get_variable_to_shape_map():
            if checkpoints.WEIGHT.fullmatch(name):
                a, b = np.float64(ours.get_tensor(name)), theirs.get_tensor(name)
                total = squares.setdefault(name.split("/")[0], np.zeros(2))
                total += np.sum((a - b) ** 2), np.sum(a ** 2)
        yield {network: np.sqrt(difference / size) for network, (difference, size) in squares.items()}


def moved(folder, name, step):
    """Copies of a run what a continuation needs, as if it had ended at a step; returns the new folder."""
    target = path_of(name)
    os.makedirs(os.path.join(target, "checkpoints"))
    for file in ("flags.txt", "run.json", "metrics.csv"):
        shutil.copy(os.path.join(folder, file), target)
    for ending in ("index", "data-00000-of-00001"):
        shutil.copy(os.path.join(folder, "checkpoints", "model.ckpt-%d.%s" % (step, ending)),
                    os.path.join(target, "checkpoints"))
    return target


def timed(pythons, argv):
    """Returns {setting: seconds of every step but the first two}, in interleaved rounds at full size."""
    settings = [("TensorFlow %s, %s" % (version, precision), python, precision)
                for version, python in pythons.items() for precision in ("float32", "auto")
                if precision == "float32" or not version.startswith("1.")]
    seconds = {name: [] for name, _, _ in settings}
    for _ in range(3):
        for name, python, precision in settings:
            folder = path_of("timed")
            report.run(python, report.TRAIN, *argv, "--output_dir=" + folder, "--max_steps=%d" % FLAGS.timed_steps,
                       "--log_every=1", "--precision=" + precision, "--save_every=1000000", "--sample_every=1000000")
            seconds[name] += report.step_seconds(folder)[2:]
            shutil.rmtree(folder)
    return seconds


# ---------------------------------------------------------------------------------------------
# Plots


def page(rows, columns, height):
    figure, panels = plt.subplots(rows, columns, figsize=(12.4, height), squeeze=False, dpi=110, layout="constrained")
    for panel in panels.flat:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def draw_texts(first, path):
    """The fake side's loss over the logit: the text as people write it and log_literal, by version and shape."""
    figure, panels = page(len(first), 2, 3.1 * len(first))
    for line, (version, arrays) in zip(panels, first.items()):
        for panel, shape in zip(line, ("static", "dynamic")):
            for name, style in (("naive", {"color": "r", "linestyle": ":", "linewidth": 3}),
                                ("log_literal", {"color": "tab:orange"})):
                z, loss = arrays["texts/%s/%s" % (name, shape)]
                shown = (z >= 0) & (z <= 40)
                panel.plot(z[shown], loss[shown], label=name, **style)
                lost = z[shown & ~np.isfinite(loss)]
                if lost.size:
                    panel.axvspan(lost.min(), 40, color="r", alpha=0.08)
                    panel.text(lost.min() + 0.5, 3, "%s: not finite from %.4g" % (name, lost.min()), color="r")
            panel.set(title="TensorFlow %s, %s shape" % (version, shape), ylim=(0, 32), ylabel="loss",
                      xlabel="logit of a fake patch")
            panel.legend(frameon=False, loc="upper left")
    figure.savefig(path)


def draw_steps(differences, path):
    """The relative differences of losses and weights over the steps."""
    figure, panels = page(1, 2, 4)
    for name, values in differences.items():
        panel = panels[0, 0 if name in LOSSES else 1]
        panel.semilogy(np.arange(1, len(values) + 1), np.maximum(values, 1e-9), label=name)
    for panel, title in zip(panels[0], ("losses: |a - b| / |a|", "weights: norm of a - b / norm of a")):
        panel.set(title=title, xlabel="step")
        panel.legend(frameon=False)
    figure.savefig(path)


def draw_moves(runs, half, path):
    """The losses of the two runs and of those that moved half way."""
    figure, panels = page(1, 3, 3.6)
    for panel, loss in zip(panels[0], LOSSES):
        for (name, rows), style in zip(runs.items(), ("-", "-", "--", ":")):
            panel.plot([int(row["step"]) for row in rows], [float(row[loss]) for row in rows], style, label=name,
                       linewidth=1.4)
        panel.axvline(half + 0.5, color="gray", linewidth=0.8)
        panel.set(title=loss, xlabel="step")
    panels[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path)


# ---------------------------------------------------------------------------------------------


def compare_steps(pythons, argv):
    """Trains on both and moves checkpoints; returns ({version or move: metrics rows}, {what: difference by step})."""
    (ours, our_python), (theirs, their_python) = pythons.items()
    folders = {name: path_of("run-" + name) for name in pythons}
    runs = {name: train(python, folders[name], FLAGS.steps, argv) for name, python in pythons.items()}
    half = FLAGS.steps // 2
    for before, after, python in ((ours, theirs, their_python), (theirs, ours, our_python)):
        name = "%s, from step %d on %s" % (before, half, after)
        runs[name] = train(python, moved(folders[before], "run-%s-%s" % (before, after), half), FLAGS.steps, argv)
    differences = {loss: [abs(float(a[loss]) - float(b[loss])) / abs(float(a[loss])) for a, b in zip(
        runs[ours], runs[theirs])] for loss in LOSSES}
    weights = list(weight_differences(list(folders.values()), FLAGS.steps))
    differences.update({network: [step[network] for step in weights] for network in sorted(weights[0])})
    return runs, differences


def spread(values):
    """Median (lowest to highest)."""
    return "%.3g (%.3g to %.3g)" % (np.median(values), min(values), max(values))


def in_words(first, rows, differences):
    """Returns paragraphs: where the two part, as far as it was measured, and why."""
    versions = list(first)
    parted = next((row for row in rows if float(row[3])), None)
    if parted is None:
        return ["The first forward pass is equal to the bit."]
    text = ["From equal weights and batches every stage is equal to the bit up to the %s of %s; that is the first to "
            "differ, by %s of its largest value." % (parted[1], parted[0], parted[3])]
    if parted[4]:
        text.append("Against the same batch norm in float64 TensorFlow %s is off by %s and %s by %s: the sums over the "
                    "batch's pixels are float32 and taken in another order." % (
                        versions[0], parted[4], versions[1], parted[5]))
    text.append("Everything after it inherits that difference. At step 1 the losses differ by %.1e at most; then Adam, "
                "whose first steps have nearly the size of the learning rate whatever the gradient's size, turns a "
                "rounded sign of a tiny gradient into a whole step, and the weights are apart by %.1e (generator) and "
                "%.1e (discriminator) of their norm after one step, %.1e and %.1e after %d. The two go on as two runs "
                "that differ by rounding: the same course, other digits." % (
                    max(differences[loss][0] for loss in LOSSES),
                    differences["generator"][0], differences["discriminator"][0],
                    differences["generator"][-1], differences["discriminator"][-1], len(differences["generator"])))
    return text


def remove_runs():
    for name in os.listdir(FLAGS.output_dir):
        if name.startswith("run-") or name == "timed":
            shutil.rmtree(path_of(name))


def main(argv):
    if not shutil.which(FLAGS.tf1_python):
        sys.exit("error: --tf1_python=%s: no such program; a Python 3.7 with TensorFlow 1.15" % FLAGS.tf1_python)
    os.makedirs(FLAGS.output_dir, exist_ok=True)
    remove_runs()  # of an earlier start that was cut short
    argv = argv[1:]
    pythons = [sys.executable, FLAGS.tf1_python]
    first = first_steps(pythons, SMALL + argv)
    pythons = dict(zip(first, pythons))
    equal = [same_bits(first, kind) for kind in ("weights", "batch", "masks")]
    layers = list(stages(first))
    runs, differences = compare_steps(pythons, SMALL + argv)
    remove_runs()
    seconds = timed(pythons, argv)
    for name, draw in (("texts", lambda path: draw_texts(first, path)),
                       ("steps", lambda path: draw_steps(differences, path)),
                       ("moves", lambda path: draw_moves(runs, FLAGS.steps // 2, path))):
        draw(path_of(name + ".png"))
    equal_header = ["what", "arrays", "numbers", *("sha256, TensorFlow " + version for version in first), ""]
    layer_header = ["layer", "stage", "shape", "largest relative difference",
                    *("batch norm: TensorFlow %s off float64 by" % version for version in first)]
    time_rows = [[name, len(values), spread(values)] for name, values in seconds.items()]
    step_rows = [[step] + ["%.3g" % values[step - 1] for values in differences.values()]
                 for step in range(1, FLAGS.steps + 1)]
    time_header = ["setting", "steps", "seconds a step: median (range)"]
    for name, header, body in (("equal", equal_header, equal), ("layers", layer_header, layers),
                               ("steps", ["step", *differences], step_rows), ("time", time_header, time_rows)):
        report.write_csv(path_of(name + ".csv"), header, body)
    last = [[name] + [rows[-1][loss] for loss in LOSSES] for name, rows in runs.items()]
    report.write_report(
        path_of("report.html"), "The same run on two TensorFlows", "legacy_tf1.html", versions=" and ".join(first),
        flags=html.escape(" ".join(argv)) or "the defaults", equal=report.table(equal_header, equal),
        layers=report.table(layer_header, layers), steps=report.picture(path_of("steps.png")),
        words="".join("<p>%s</p>" % text for text in in_words(first, layers, differences)),
        texts=report.picture(path_of("texts.png")), moves=report.picture(path_of("moves.png")),
        last=report.table(["run", *LOSSES], last), step=FLAGS.steps, time=report.table(time_header, time_rows))
    print("report: %s" % path_of("report.html"))


if __name__ == "__main__":
    app.run(main)
