"""Do TensorFlow 1.15 and today's compute the same? One source, the same flags: what is equal, and where they part.

    pip install matplotlib
    python studies/legacy_tf1.py --tf1_python=.venv-tf1/bin/python --output_dir=runs/legacy_tf1

takes some 5 minutes on two cores. What follows `--` are flags of train.py, for both:
`-- --flagfile=flags/legacy_tf1.flags --data_dir=datasets/facades`. It writes report.html (which holds all it shows),
its plots as PNG and its figures as CSV. Each TensorFlow computes the first step in a process of its own:

    python studies/legacy_tf1.py first FIRST.npz [flags of train.py]

throughput.py measures how long a step takes on each TensorFlow, log_stability.py where a loss fails on each.
"""

import hashlib
import html
import os
import shutil
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import numpy as np
import tensorflow.compat.v1 as tf

import study
from support import checkpoints

SMALL = ["--ngf=16", "--ndf=16",  # the weights of every step are kept, for a while
         "--norm=batch", "--ema=0"]  # as old programs have it
LOSSES = ("d_loss", "g_loss_gan", "g_loss_l1")
AFTER_CONVOLUTION = ("FusedBatchNormV3", "BiasAdd")
REPORT = """
reader.py, pix2pix.py and train.py, unchanged, in float32, on TensorFlow $versions. Flags: $flags, with 16 filters
(`--ngf=16 --ndf=16`), because the weights of every step are kept for the comparison, and batch norm without averaged
weights, as old programs have it.

## 1. What is equal to the bit

Before the first update: initial weights, first batch (decoded, jittered, normalised) and dropout masks.

$equal

## 2. Where they part, and why

$words

Adam's first steps have nearly the size of the learning rate whatever the gradient's size, so that a rounded sign of a
tiny gradient becomes a whole step. From there on the two runs differ by rounding: the same course, other digits.

$steps

$layers

## 3. Checkpoints moved each way

Half way a checkpoint of each run was carried to the other TensorFlow and the same command given there.

$moves

The losses of step $step:

$last
"""


def train(python, folder, steps, flags):
    """Trains to a step in a folder of its own, keeping every step's checkpoint; returns metrics.csv's rows."""
    return study.train(folder, *flags, "--max_steps=%d" % steps, "--precision=float32", "--log_every=1",
                       "--save_every=1", "--sample_every=1000000", "--keep=%d" % steps, python=python).rows


# ---------------------------------------------------------------------------------------------
# The first step


def first_step(path, flags):
    """Writes a run's first step, before its update, as .npz; the first part of an array's name says what it is."""
    with tf.Graph().as_default() as graph:
        (inputs, targets), model, _ = study.training_graph(*flags)
        fetches = {"batch/inputs": inputs, "batch/targets": targets}
        for variable in tf.trainable_variables():
            fetches["weights/" + variable.op.name] = variable
        for operation in graph.get_operations():
            if operation.name.startswith(("generator/", "discriminator/")):
                if operation.type == "GreaterEqual":  # dropout keeps where a uniform number is at least the rate
                    fetches["masks/" + operation.name.rsplit("/", 1)[0]] = operation.outputs[0]
                elif operation.type in AFTER_CONVOLUTION:
                    fetches["stages/%s/convolution" % operation.name.rsplit("/", 1)[0]] = operation.inputs[0]
                    fetches["stages/" + operation.name] = operation.outputs[0]
                elif operation.name.endswith("/output"):
                    fetches["stages/" + operation.name] = operation.outputs[0]
        for name in LOSSES:
            fetches["losses/" + name] = getattr(model, name)
        with tf.train.MonitoredSession() as session:
            np.savez(path, version=tf.version.VERSION, **session.run(fetches))


def first_steps(pythons, folder, flags):
    """Returns {version: {name: array}} of what each TensorFlow computes in the first step."""
    found = {}
    for number, python in enumerate(pythons):
        path = os.path.join(folder, "first%d.npz" % number)
        study.run(python, os.path.abspath(__file__), "first", path, *flags, "--precision=float32")
        with np.load(path) as values:
            arrays = {name: values[name] for name in values.files}
        found[str(arrays.pop("version"))] = arrays
        os.remove(path)
    if len(found) < 2 or not list(found)[1].startswith("1.15"):
        sys.exit("error: %s has TensorFlow %s; --tf1_python names a Python 3.7 with TensorFlow 1.15"
                 % (pythons[1], list(found)[-1]))
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


def moved(source, target, step):
    """Copies of a run what a continuation needs, as if it had ended at a step; returns the new folder."""
    os.makedirs(os.path.join(target, "checkpoints"))
    for file in ("flags.txt", "run.json", "metrics.csv"):
        shutil.copy(os.path.join(source, file), target)
    for ending in ("index", "data-00000-of-00001"):
        shutil.copy(os.path.join(source, "checkpoints", "model.ckpt-%d.%s" % (step, ending)),
                    os.path.join(target, "checkpoints"))
    return target


# ---------------------------------------------------------------------------------------------
# Plots


def draw_steps(differences, path):
    """The relative differences of losses and weights over the steps."""
    figure, panels = study.figure(1, 2, (12.4, 4))
    for name, values in differences.items():
        panel = panels[0, 0 if name in LOSSES else 1]
        panel.semilogy(np.arange(1, len(values) + 1), np.maximum(values, 1e-9), label=name)
    for panel, title in zip(panels[0], ("losses: |a - b| / |a|", "weights: norm of a - b / norm of a")):
        panel.set(title=title, xlabel="step")
        panel.legend(frameon=False)
    figure.savefig(path)


def draw_moves(runs, half, path):
    """The losses of the two runs and of those that moved half way."""
    figure, panels = study.figure(1, 3, (12.4, 3.6))
    for panel, loss in zip(panels[0], LOSSES):
        for (name, rows), style in zip(runs.items(), ("-", "-", "--", ":")):
            panel.plot([int(row["step"]) for row in rows], [float(row[loss]) for row in rows], style, label=name,
                       linewidth=1.4)
        panel.axvline(half + 0.5, color="gray", linewidth=0.8)
        panel.set(title=loss, xlabel="step")
    panels[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path)


# ---------------------------------------------------------------------------------------------


def compare_steps(pythons, folder, steps, flags):
    """Trains on both and moves checkpoints; returns ({version or move: metrics rows}, {what: difference by step})."""
    (ours, our_python), (theirs, their_python) = pythons.items()
    folders = {name: os.path.join(folder, "run-" + name) for name in pythons}
    runs = {name: train(python, folders[name], steps, flags) for name, python in pythons.items()}
    half = steps // 2
    for before, after, python in ((ours, theirs, their_python), (theirs, ours, our_python)):
        name = "%s, from step %d on %s" % (before, half, after)
        target = moved(folders[before], os.path.join(folder, "run-%s-%s" % (before, after)), half)
        runs[name] = train(python, target, steps, flags)
    differences = {loss: [abs(float(a[loss]) - float(b[loss])) / abs(float(a[loss])) for a, b in zip(
        runs[ours], runs[theirs])] for loss in LOSSES}
    weights = list(weight_differences(list(folders.values()), steps))
    differences.update({network: [step[network] for step in weights] for network in sorted(weights[0])})
    return runs, differences


def in_words(first, rows, differences):
    """Returns paragraphs: where the two part, as far as it was measured."""
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
    for step in (1, len(differences["generator"])):
        text.append("At step %d the losses differ by %.1e of their value at most, the generator's weights by %.1e of "
                    "their norm, the discriminator's by %.1e." % (step, max(
                        differences[loss][step - 1] for loss in LOSSES), differences["generator"][step - 1],
                        differences["discriminator"][step - 1]))
    return text


def remove_runs(folder):
    for name in os.listdir(folder):
        if name.startswith("run-"):
            shutil.rmtree(os.path.join(folder, name))


def tables(first, layers, runs, differences):
    """Returns {name: (header, rows)} of all that was measured."""
    losses = [[name] + [rows[-1][loss] for loss in LOSSES] for name, rows in runs.items()]
    steps = [[step] + ["%.3g" % value for value in values]
             for step, values in enumerate(zip(*differences.values()), 1)]
    return {
        "equal": (["what", "arrays", "numbers", *("sha256, TensorFlow " + version for version in first), ""],
                  [same_bits(first, kind) for kind in ("weights", "batch", "masks")]),
        "layers": (["layer", "stage", "shape", "largest relative difference",
                    *("batch norm: TensorFlow %s off float64 by" % version for version in first)], layers),
        "steps": (["step", *differences], steps),
        "last": (["run", *LOSSES], losses)}


def write(folder, flags, first, runs, differences):
    """Writes the plots, the figures and the report."""
    layers = list(stages(first))
    plots = {name: os.path.join(folder, name + ".png") for name in ("steps", "moves")}
    draw_steps(differences, plots["steps"])
    steps = len(differences[LOSSES[0]])
    draw_moves(runs, steps // 2, plots["moves"])
    parts = {}
    for name, (header, rows) in tables(first, layers, runs, differences).items():
        study.write_csv(os.path.join(folder, name + ".csv"), header, rows)
        parts[name] = study.table(header, rows)
    parts.update({name: study.picture(path) for name, path in plots.items()},
                 layers=study.folded("The first forward pass, stage by stage", parts["layers"]))
    study.write_report(
        os.path.join(folder, "report.html"), "The same run on two TensorFlows", REPORT, versions=" and ".join(first),
        flags=" ".join(flags) or "the defaults", step=steps,
        words="".join("<p>%s</p>" % html.escape(text) for text in in_words(first, layers, differences)), **parts)


def main():
    parser = study.parser(__doc__, "runs/legacy_tf1", "tf1_python")
    parser.add_argument("--steps", type=int, default=50,
                        help="steps to compare; half way a checkpoint is moved each way (default: %(default)s)")
    parser.add_argument("flags", nargs="*", help="flags of train.py")
    options = parser.parse_args()
    folder, flags = options.output_dir, options.flags
    if not shutil.which(options.tf1_python):
        sys.exit("error: --tf1_python=%s: no such program; a Python 3.7 with TensorFlow 1.15" % options.tf1_python)
    os.makedirs(folder, exist_ok=True)
    remove_runs(folder)  # of an earlier start that was cut short
    pythons = [sys.executable, options.tf1_python]
    first = first_steps(pythons, folder, SMALL + flags)
    pythons = dict(zip(first, pythons))
    runs, differences = compare_steps(pythons, folder, options.steps, SMALL + flags)
    remove_runs(folder)
    write(folder, flags, first, runs, differences)


if __name__ == "__main__":
    if sys.argv[1:2] == ["first"]:
        first_step(sys.argv[2], sys.argv[3:])
    else:
        main()
