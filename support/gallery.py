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

import numpy as np
import tensorflow.compat.v1 as tf

from support import run_folder

MEASURES = collections.OrderedDict([("l1", "L1 (lower is better)"), ("psnr", "PSNR in dB (higher is better)"),
                                    ("ssim", "SSIM (higher is better)")])


def measures(output, target):
    """Returns {name of MEASURES: float32 scalar} of two images [1, H, W, C] in [-1, 1]; H and W are at least 11."""
    unit = [(picture + 1) / 2 for picture in (output, target)]  # SSIM depends on where black is: it takes [0, 1]
    return collections.OrderedDict([
        ("l1", tf.reduce_mean(tf.abs(target - output))),
        ("psnr", tf.minimum(tf.image.psnr(*unit, max_val=1.0)[0], 100.0)),  # equal images would have infinity
        ("ssim", tf.image.ssim(*unit, max_val=1.0)[0])])


def write(folder, title, checkpoint, rows, names, kinds, facts):
    """Writes the page, and where there are measures metrics.csv and metrics.json too.

    Args:
      folder: where images/NAME-KIND.png are.
      title, checkpoint: what the page is called, and what made the images.
      rows: for each image (NAME, its measures...).
      names: of the measures, keys of MEASURES; empty where there were no targets.
      kinds: of the pictures of an image, in order.
      facts: {name: value} that metrics.json holds too.

    Returns:
      {name of the measure: its `interval`}.
    """
    metrics = collections.OrderedDict((name, interval([row[1 + i] for row in rows])) for i, name in enumerate(names))
    if metrics:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(
            [["name", *names]] + [row[:1] + tuple("%.9g" % value for value in row[1:]) for row in rows])
        run_folder.write_file(os.path.join(folder, "metrics.csv"), table.getvalue())
        run_folder.write_file(os.path.join(folder, "metrics.json"), json.dumps(
            dict(metrics, images=len(rows), checkpoint=checkpoint, **facts), indent=2) + "\n")
    run_folder.write_file(os.path.join(folder, "index.html"), page_of(title, checkpoint, rows, metrics, kinds))
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


def write_samples(folder):
    """Writes index.html, which shows the grids of samples/ through time; it names their files and holds only steps."""
    steps = sorted(int(name[5:-4]) for name in os.listdir(folder) if re.fullmatch(r"step-[0-9]{8,}\.png", name))
    title = html.escape(os.path.basename(os.path.dirname(os.path.abspath(folder))))
    run_folder.write_file(os.path.join(folder, "index.html"), string.Template(template("samples")).substitute(
        title=title, steps=",".join(map(str, steps))))


def template(name):
    """Returns the text of an HTML file beside this one."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".html"), encoding="utf-8") as file:
        return file.read()
