"""What test mode leaves: measures of its outputs with their intervals, as a table and as a page to look at, and the
page that leads to all results of a run; and the page of a run's sample grids.
"""

import collections
import csv
import html
import io
import json
import os
import re
import string
import tempfile
import urllib.parse

import filelock
import imageio.v3 as imageio
import numpy as np
import tensorflow.compat.v1 as tf

from support import charts, checkpoints, label_maps, precisions, rendering, results, run_folder, storage

MEASURES = collections.OrderedDict([("l1", "L1 (lower is better)"), ("psnr", "PSNR in dB (higher is better)"),
                                    ("ssim", "SSIM (higher is better)"), *label_maps.MEASURES.items(),
                                    ("mae", "mean absolute error in the data's units (lower is better)"),
                                    ("rmse", "root mean square error in the data's units (lower is better)")])
ABOUT_MEASURES = "Brackets are 95 % intervals of the mean."
ABOUT_INPUTS = ("The inputs came alone (--layout=inputs): there is no target to show, and nothing to measure the "
                "outputs against.")
DECIMALS = {"l1": "%.4f", "psnr": "%.2f", "ssim": "%.4f", "accuracy": "%.4f", "iou": "%.4f", "mae": "%.4g",
            "rmse": "%.4g"}

IN_UNITS = ("mae", "rmse")  # measures in the data's own units

LEAST_PIXELS = 11  # a side of SSIM's window


def measures(output, target):
    """Returns {l1, psnr and ssim: float32 scalar} of images [1, H, W, C] in [-1, 1]; H, W at least LEAST_PIXELS."""
    with tf.device("/cpu:0"):  # SSIM takes convolutions, which a GPU may round
        unit = [(picture + 1) / 2 for picture in (output, target)]  # SSIM depends on where black is: it takes [0, 1]
        return collections.OrderedDict([
            ("l1", tf.reduce_mean(tf.abs(target - output))),
            ("psnr", tf.minimum(tf.image.psnr(*unit, max_val=1.0)[0], 100.0)),  # equal images would have infinity
            ("ssim", tf.image.ssim(*unit, max_val=1.0)[0])])


class Measures:
    """`measures` of pictures in numpy.

    They are computed in a float32 session of their own, since a bfloat16 session would compute SSIM in bfloat16 too.
    """

    def __init__(self, shape):
        """Takes the shape of the pictures, [1, H, W, C]; None stands for any height or width."""
        with tf.Graph().as_default():
            self.pictures = [tf.placeholder(tf.float32, shape) for _ in range(2)]
            self.values = measures(*self.pictures)
            self.session = tf.Session(config=precisions.session_config("float32"))
        self.close = self.session.close

    def of(self, output, target):
        """Returns {name: value}, see `measures`."""
        return self.session.run(self.values, dict(zip(self.pictures, (output, target))))


def write(folder, title, translated, facts, middle, colours=()):
    """Writes images/KIND/NAME.png, outputs/NAME.ENDING, the page, metrics.csv and metrics.json.

    Args:
      folder: an empty one.
      title: what the page is called.
      translated: yields for each image (NAME, {kind: picture [1, H, W, C] in [-1, 1]}, (D's logits [1, h, w, 1], the
        (height, width) that they are of), {name of MEASURES: value}, (ENDING, bytes) of the output in the data's own
        units, or None); all have the same kinds and measures, and none where there were no targets. A NAME that is too
        long for a file is shortened.
      facts: {name: value} that metrics.json holds too; see `described`.
      middle: see `rendering.heat_map`.
      colours: those of the labels, if the targets are label maps; the measures of support/label_maps.py are added.

    Returns:
      {name of the measure: its `interval`}.
    """
    rows, shown, counts, files, reach = [], [], [], {}, 0.0
    with tempfile.TemporaryFile(dir=folder) as kept:  # logits, until the largest is known
        for name, pictures, (logits, size), values, stored in translated:
            if stored:
                files[name] = results.fitting(name) + stored[0]
                write_output(folder, files[name], stored[1])
            for kind, picture in pictures.items():
                write_picture(folder, kind, results.fitting(name), picture[0])
            shown.append((size, picture.shape[1:3]))
            np.save(kept, logits[0])
            reach = max(reach, float(np.abs(logits - middle).max()))
            if colours:
                counts.append(label_maps.confusion(*(rendering.pixels(rendering.to_rgb(pictures[kind][0]))
                                                     for kind in ("output", "target")), colours))
                values = {**values, **label_maps.scores(counts[-1])}
            rows.append((name,) + tuple(float(value) for value in values.values()))
        kept.seek(0)
        for (name, *_), sizes in zip(rows, shown):
            heat = rendering.heat_map(rendering.enlarged(np.load(kept), *sizes), middle, reach, np.concatenate)
            write_picture(folder, "patches", results.fitting(name), heat)
    metrics = collections.OrderedDict((measure, interval([row[1 + i] for row in rows]))
                                      for i, measure in enumerate(values))
    if colours:
        metrics.update((measure, interval(range(len(counts)), label_maps.of_set(counts, measure)))
                       for measure in label_maps.MEASURES)
    facts = dict(facts, images=len(rows))
    write_numbers(folder, rows, metrics, facts)
    facts["scale"] = middle - reach, middle + reach
    page = page_of(title, rows, metrics, [*pictures, "patches"], facts, files)
    storage.write_file(os.path.join(folder, "index.html"), page)
    return metrics


def write_picture(folder, kind, name, picture):
    """Writes a picture [H, W, C] in [-1, 1] into a result's folder."""
    os.makedirs(os.path.join(folder, "images", kind), exist_ok=True)
    rendering.write_png(os.path.join(folder, "images", kind, name + ".png"), picture)


def write_output(folder, name, contents):
    """Writes the file of an output in the data's own units into a result's folder."""
    os.makedirs(os.path.join(folder, "outputs"), exist_ok=True)
    storage.write_file(os.path.join(folder, "outputs", name), contents)


def write_numbers(folder, rows, metrics, facts):
    """Writes metrics.csv, which has a row (name, *measures) and the name of its pictures, and metrics.json."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([["name", *metrics, "picture"]] + [
        [name, *("%.9g" % value for value in values), results.fitting(name) + ".png"] for name, *values in rows])
    storage.write_file(os.path.join(folder, "metrics.csv"), table.getvalue())
    storage.write_file(os.path.join(folder, "metrics.json"), json.dumps(
        dict(metrics, **facts), indent=2) + "\n")


def interval(values, statistic=np.mean):
    """Returns a statistic as "mean", with its 95 % bootstrap interval, which for one value is the value itself."""
    import scipy.stats  # takes most of a second, which training need not wait for
    mean = float(statistic(values))
    low = high = mean
    if len(values) > 1:
        low, high = scipy.stats.bootstrap(
            (values,), statistic, vectorized=statistic is np.mean, method="percentile", batch=100,
            random_state=np.random.RandomState(0)).confidence_interval
    return {"mean": mean, "low": float(low), "high": float(high)}


def described(facts):
    """Returns what metrics.json says of a result in words; that of an earlier version says less."""
    words = [facts["checkpoint"]] if "checkpoint" in facts else []
    if "folder" in facts:
        words.append("%d images of %s" % (facts["images"], facts["folder"]) if "images" in facts else facts["folder"])
    if "image_size" in facts:
        words.append("resized to " + facts["image_size"] if facts["image_size"] else "each picture at its own size")
    if "test_dropout" in facts:
        words.append("dropout %s" % ("on" if facts["test_dropout"] else "off"))
    return ", ".join(words + ([facts["precision"]] if "precision" in facts else []))


def page_of(title, rows, metrics, kinds, facts, files):
    """Returns gallery.html filled.

    Its parts between `cut` comments are repeated: a measure, an image, a link to a file, a picture. The parameter
    `files` is {name of an image: name of its file in outputs/} for the images that have one.
    """
    head, measure, middle, article, file, picture, tail = parts_of("gallery")
    words = {"title": html.escape(title), "count": len(rows), "about": html.escape(described(facts))}
    about = ABOUT_MEASURES if metrics else ABOUT_INPUTS
    parts = [head.substitute(words, about_measures=about, low="%.3g" % facts["scale"][0],
                             high="%.3g" % facts["scale"][1], middle="%.3g" % np.mean(facts["scale"]))]
    for name, value in metrics.items():
        parts.append(measure.substitute({key: DECIMALS[name] % number for key, number in value.items()},
                                        title=MEASURES[name]))
    parts.append(middle.substitute(
        hidden="" if metrics else " hidden",
        orders="".join('<option value="%s">%s</option>' % item for item in MEASURES.items() if item[0] in metrics)))
    for name, *values in rows:
        words = {"name": html.escape(name), "file": quoted(results.fitting(name))}
        data = "".join(' data-%s="%.9g"' % item for item in zip(metrics, values))
        numbers = " &nbsp; ".join("%s %s" % (measure.upper(), DECIMALS[measure] % value)
                                  for measure, value in zip(metrics, values))
        pictures = "".join(picture.substitute(words, kind=kind) for kind in kinds)
        link = file.substitute(file=quoted(files[name])) if name in files else ""
        parts.append(article.substitute(words, data=data, numbers=numbers, stored=link, pictures=pictures))
    parts.append(tail.substitute())
    return "".join(parts)


def write_results(folder, title):
    """Writes test/index.html, which leads to all results that are there; two processes may do so at once."""
    with filelock.FileLock(os.path.join(folder, ".lock")):
        results.set_older_aside(folder)
        head, result, measure, not_measured, tail = parts_of("results")
        parts = [head.substitute(title=html.escape(title))]
        for name, facts in results.found(folder):
            measures = [measure.substitute({key: DECIMALS[kind] % facts[kind][key] for key in facts[kind]},
                                           kind=kind.upper()) for kind in MEASURES if kind in facts]
            parts.append(result.substitute(name=html.escape(name), link=quoted(name),
                                           measures="".join(measures) or not_measured.template,
                                           about=html.escape(described(facts))))
        storage.write_file(os.path.join(folder, "index.html"), "".join(parts + [tail.substitute()]))


def quoted(name):
    """Returns the name of a file as a part of a link."""
    return urllib.parse.quote(os.fsencode(name))


def sample_grids(folder):
    """Returns the names of the sample grids step-STEP.png in a folder, in order."""
    return sorted(name for name in os.listdir(folder) if re.fullmatch(r"step-[0-9]{8,}\.png", name))


def remove_samples(folder):
    """Removes a folder's sample grids."""
    for name in sample_grids(folder):
        os.remove(os.path.join(folder, name))


def write_progress(folder):
    """Writes progress.gif from a folder's sample grids in order, at most 40 of them."""
    names = sample_grids(folder)
    shown = [names[i] for i in sorted(set(np.linspace(0, len(names) - 1, 40).astype(int)))] if names else []
    try:
        frames = [imageio.imread(os.path.join(folder, name)) for name in shown]
    except OSError as error:  # a damaged picture must not end a run that trained
        print("warning: no samples/progress.gif: %s" % str(error).splitlines()[0])
        return
    if frames:
        frames = [frame for frame in frames if frame.shape == frames[-1].shape]  # data_dir may have lost pairs
        storage.write_file(os.path.join(folder, "progress.gif"),
                           imageio.imwrite("<bytes>", frames, extension=".gif", duration=400, loop=0))


def write_samples(folder):
    """Writes index.html, which shows the grids of samples/ and the run's losses and validation through time.

    It names the files of the grids and holds only their steps.
    """
    run, steps = os.path.dirname(os.path.abspath(folder)), [int(name[5:-4]) for name in sample_grids(folder)]
    tables = [run_folder.rows_until(os.path.join(run, name)) for name in ("metrics.csv", "val_metrics.csv")]
    storage.write_file(os.path.join(folder, "index.html"), string.Template(template("samples")).substitute(
        title=html.escape(os.path.basename(run)), steps=",".join(map(str, steps)),
        charts=charts.of_run(*tables, checkpoints.best_step(run))))


def parts_of(name):
    """Returns the parts of a template between its `cut` comments."""
    return map(string.Template, template(name).split("<!-- cut -->\n"))


def template(name):
    """Returns the text of an HTML file beside this one."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".html"), encoding="utf-8") as file:
        return file.read()
