"""What test mode leaves: measures of its outputs with their intervals, as a table and as a page to look at; and the
page of a run's sample grids.
"""

import collections
import csv
import html
import io
import json
import os
import re
import string
import urllib.parse

import imageio.v3 as imageio
import numpy as np
import tensorflow.compat.v1 as tf

from support import rendering, storage

MEASURES = collections.OrderedDict([("l1", "L1 (lower is better)"), ("psnr", "PSNR in dB (higher is better)"),
                                    ("ssim", "SSIM (higher is better)")])

LEAST_PIXELS = 11  # a side of SSIM's window


def measures(output, target):
    """Returns {name of MEASURES: float32 scalar} of images [1, H, W, C] in [-1, 1]; H, W at least LEAST_PIXELS."""
    unit = [(picture + 1) / 2 for picture in (output, target)]  # SSIM depends on where black is: it takes [0, 1]
    return collections.OrderedDict([
        ("l1", tf.reduce_mean(tf.abs(target - output))),
        ("psnr", tf.minimum(tf.image.psnr(*unit, max_val=1.0)[0], 100.0)),  # equal images would have infinity
        ("ssim", tf.image.ssim(*unit, max_val=1.0)[0])])


def write(folder, title, checkpoint, results, facts):
    """Writes images/NAME-KIND.png, the page, and where there are measures metrics.csv and metrics.json too.

    Args:
      folder: an empty one.
      title, checkpoint: what the page is called, and what made the images.
      results: yields for each image (NAME, {kind: picture [1, H, W, C] in [-1, 1]}, {name of MEASURES: value}); all
        have the same kinds and measures, which are none where there were no targets.
      facts: {name: value} that metrics.json holds too.

    Returns:
      {name of the measure: its `interval`}.
    """
    os.mkdir(os.path.join(folder, "images"))
    rows = []
    for name, pictures, values in results:
        for kind, picture in pictures.items():
            rendering.write_png(os.path.join(folder, "images", "%s-%s.png" % (name, kind)), picture[0])
        rows.append((name,) + tuple(float(value) for value in values.values()))
    metrics = collections.OrderedDict((measure, interval([row[1 + i] for row in rows]))
                                      for i, measure in enumerate(values))
    if metrics:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(
            [["name", *metrics]] + [row[:1] + tuple("%.9g" % value for value in row[1:]) for row in rows])
        storage.write_file(os.path.join(folder, "metrics.csv"), table.getvalue())
        storage.write_file(os.path.join(folder, "metrics.json"), json.dumps(
            dict(metrics, images=len(rows), checkpoint=checkpoint, **facts), indent=2) + "\n")
    page = page_of(title, checkpoint, rows, metrics, list(pictures))
    storage.write_file(os.path.join(folder, "index.html"), page)
    return metrics


def interval(values):
    """Returns the mean with its 95 % bootstrap interval, which for one value is the value itself."""
    import scipy.stats  # takes most of a second, which training need not wait for
    mean = float(np.mean(values))
    low = high = mean
    if len(values) > 1:
        low, high = scipy.stats.bootstrap((values,), np.mean, method="percentile", batch=100,
                                          random_state=np.random.RandomState(0)).confidence_interval
    return {"mean": mean, "low": float(low), "high": float(high)}


def page_of(title, checkpoint, rows, metrics, kinds):
    """Returns gallery.html filled; its parts between `cut` comments are repeated: a measure, an image, a picture."""
    head, measure, middle, article, picture, tail = map(string.Template, template("gallery").split("<!-- cut -->\n"))
    header = {"count": len(rows), "title": html.escape(title),
              "checkpoint": html.escape(checkpoint)}
    parts = [head.substitute(header)]
    for name, value in metrics.items():
        parts.append(measure.substitute({key: "%.4f" % number for key, number in value.items()}, title=MEASURES[name]))
    parts.append(middle.substitute(
        orders="".join('<option value="%s">%s</option>' % item for item in MEASURES.items() if item[0] in metrics)))
    for name, *values in rows:
        words = {"name": html.escape(name), "file": urllib.parse.quote(os.fsencode(name))}
        data = "".join(' data-%s="%.9g"' % item for item in zip(metrics, values))
        numbers = " &nbsp; ".join("%s %.4g" % (measure.upper(), value) for measure, value in zip(metrics, values))
        pictures = "".join(picture.substitute(words, kind=kind) for kind in kinds)
        parts.append(article.substitute(words, data=data, numbers=numbers, pictures=pictures))
    parts.append(tail.substitute())
    return "".join(parts)


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
    """Writes index.html, which shows the grids of samples/ through time; it names their files and holds only steps."""
    steps = [int(name[5:-4]) for name in sample_grids(folder)]
    title = html.escape(os.path.basename(os.path.dirname(os.path.abspath(folder))))
    storage.write_file(os.path.join(folder, "index.html"), string.Template(template("samples")).substitute(
        title=title, steps=",".join(map(str, steps))))


def template(name):
    """Returns the text of an HTML file beside this one."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".html"), encoding="utf-8") as file:
        return file.read()
