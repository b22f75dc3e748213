"""Two pictures of a training run: what the fixed pairs looked like on the way, and its losses.

    pip install matplotlib
    python studies/progress.py --run_dir=runs/pix2pix --output_dir=docs

writes progress.jpg and losses.png.
"""

import os
import re

import imageio.v3 as imageio
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags

import report

matplotlib.use("Agg")

FLAGS = flags.FLAGS
flags.DEFINE_string("run_dir", "runs/pix2pix", "The run folder to look at.")
flags.DEFINE_string("output_dir", "docs", "Where the two pictures go.")
flags.DEFINE_list("steps", [], "Steps of the sample grids to show. Default: four, spread over the run.")
flags.register_validator("steps", lambda steps: all(map(str.isdigit, steps)), "must be steps, such as 0,500,1500")
flags.DEFINE_integer("rows", 3, "How many of the fixed pairs to show.", lower_bound=1)


def sample_steps(folder):
    """Returns the steps that have a sample grid, in order."""
    found = (re.fullmatch(r"step-(\d+)\.png", name) for name in os.listdir(folder))
    return sorted(int(match.group(1)) for match in found if match)


def progress(folder, steps, rows):
    """Returns (picture, titles): a column for the input, for each step's output, and for the target."""
    grids = [imageio.imread(os.path.join(folder, "step-%08d.png" % step)) for step in steps]
    size = grids[0].shape[1] // 3
    columns = [grids[-1][:, :size]] + [grid[:, size:2 * size] for grid in grids] + [grids[-1][:, 2 * size:]]
    titles = ["input"] + ["step {:,}".format(step) for step in steps] + ["target"]
    return np.concatenate(columns, axis=1)[:rows * size], titles


def draw_progress(picture, titles, path):
    size = picture.shape[1] // len(titles)
    figure = plt.figure(figsize=(picture.shape[1] / 128, (picture.shape[0] + 40) / 128), dpi=128)
    axes = figure.add_axes([0, 0, 1, picture.shape[0] / (picture.shape[0] + 40)])
    axes.imshow(picture)
    axes.axis("off")
    for column, title in enumerate(titles):
        axes.text((column + 0.5) * size, -8, title, ha="center", fontsize=12)
    figure.savefig(path)


def draw_losses(rows, path):
    """One panel a loss over the epochs: every logged step in grey, the mean of 25 rows in colour."""
    epoch = np.array([float(row["epoch"]) for row in rows])
    figure, panels = plt.subplots(1, 3, figsize=(12, 3), dpi=110, layout="constrained")
    for panel, name, title in zip(panels, ("d_loss", "g_loss_gan", "g_loss_l1"),
                                  ("D: real + fake", "G: adversarial", "G: L1")):
        values = np.array([float(row[name]) for row in rows])
        width = min(25, len(values))
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        panel.plot(epoch, values, color="0.8", linewidth=0.8)
        panel.plot(epoch[width - 1:], mean, color="tab:blue", linewidth=1.6)
        panel.set(title=title, xlabel="epoch", ylim=(0, 1.05 * values.max()))
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(argv):
    del argv
    folder, metrics = os.path.join(FLAGS.run_dir, "samples"), os.path.join(FLAGS.run_dir, "metrics.csv")
    every = sample_steps(folder) if os.path.isdir(folder) else []
    rows = report.read_csv(metrics) if os.path.isfile(metrics) else []
    if not every or not rows:
        raise SystemExit("error: %s: no sample grid or no logged step; --run_dir names a run that trained"
                         % FLAGS.run_dir)
    steps = list(map(int, FLAGS.steps)) or [every[round(i * (len(every) - 1) / 3)] for i in range(4)]
    missing = sorted(set(steps) - set(every))
    if missing:
        raise SystemExit("error: --steps=%d: no sample grid of it in %s" % (missing[0], folder))
    os.makedirs(FLAGS.output_dir, exist_ok=True)
    draw_progress(*progress(folder, steps, FLAGS.rows), os.path.join(FLAGS.output_dir, "progress.jpg"))
    draw_losses(rows, os.path.join(FLAGS.output_dir, "losses.png"))


if __name__ == "__main__":
    app.run(main)
