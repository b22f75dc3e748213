"""Whether bfloat16 costs quality: training runs in float32 and bfloat16, paired by seed.

    pip install matplotlib
    python studies/precision.py --output_dir=runs/precision -- --data_dir=datasets/facades --direction=BtoA --epochs=8

trains each pair, tests it on val and writes report.html (self-contained), precision.png and precision.csv. It takes
hours; when it is stopped the same command goes on. What follows `--` are flags of train.py, for all runs.
"""

import html
import json
import os
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags

import report

matplotlib.use("Agg")

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "runs/precision", "Where the runs, the report and its figures go.")
flags.DEFINE_integer("seeds", 3, "How many seeds, from 0 up.", lower_bound=2)

PRECISIONS = ("float32", "bfloat16")
MEASURES = {"l1": "L1", "psnr": "PSNR in dB", "ssim": "SSIM"}


def measured(seed, precision, argv):
    """Trains a run to its end, or goes on with it, and tests it; returns {measure: mean over val}."""
    folder = os.path.join(FLAGS.output_dir, "seed%d-%s" % (seed, precision))
    argv = [*argv, "--output_dir=" + folder, "--seed=%d" % seed, "--precision=" + precision]
    report.run(sys.executable, report.TRAIN, *argv)
    report.run(sys.executable, report.TRAIN, *argv, "--mode=test", "--split=val")
    with open(os.path.join(folder, "test", "metrics.json")) as file:
        values = json.load(file)
    return {measure: values[measure]["mean"] for measure in MEASURES}


def verdict(values):
    """Returns rows: measure, spread of the seeds in float32, differences by seed, their median, whether it lies within.

    Args:
      values: {(seed, precision): {measure: mean}}.
    """
    seeds = sorted({seed for seed, _ in values})
    rows = []
    for measure in MEASURES:
        whole, half = (np.array([values[seed, precision][measure] for seed in seeds]) for precision in PRECISIONS)
        spread, median = np.ptp(whole), np.median(half - whole)
        rows.append([MEASURES[measure], "%.4f" % spread, ", ".join("%+.4f" % value for value in half - whole),
                     "%+.4f" % median, "yes" if abs(median) <= spread else "NO"])
    return rows


def draw(values, path):
    """A panel a measure: a line from float32 to bfloat16 for each seed."""
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), dpi=110, layout="constrained")
    for panel, measure in zip(panels, MEASURES):
        for seed in sorted({seed for seed, _ in values}):
            panel.plot(PRECISIONS, [values[seed, precision][measure] for precision in PRECISIONS], "o-",
                       label="seed %d" % seed)
        panel.set_title(MEASURES[measure])
        panel.margins(x=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    figure.savefig(path)


def main(argv):
    values = {}
    for seed in range(FLAGS.seeds):
        for precision in PRECISIONS:
            values[seed, precision] = measured(seed, precision, argv[1:])
            print("seed %d, %s: %s" % (seed, precision, values[seed, precision]), flush=True)
    header = ["seed", "precision", *MEASURES]
    rows = [[*run, *("%.9g" % means[measure] for measure in MEASURES)] for run, means in values.items()]
    report.write_csv(os.path.join(FLAGS.output_dir, "precision.csv"), header, rows)
    draw(values, os.path.join(FLAGS.output_dir, "precision.png"))
    judged = verdict(values)
    verdict_header = ["measure", "spread between seeds (float32, highest - lowest)", "bfloat16 - float32, seed by seed",
                      "median difference", "within the spread"]
    report.write_report(
        os.path.join(FLAGS.output_dir, "report.html"), "Does bfloat16 cost quality?", "precision.html",
        flags=html.escape(" ".join(argv[1:])) or "the defaults", verdict=report.table(verdict_header, judged),
        runs=report.table(header, rows), picture=report.picture(os.path.join(FLAGS.output_dir, "precision.png")))
    for row in judged:
        print("%s: median difference %s, spread between seeds %s, within: %s" % (row[0], row[3], row[1], row[4]))


if __name__ == "__main__":
    app.run(main)
