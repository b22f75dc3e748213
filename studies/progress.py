"""What did a training run look like on the way? Its fixed pairs at some steps, its losses, and D's largest logit.

    pip install matplotlib
    python studies/progress.py --output_dir=runs/pix2pix

takes seconds and writes progress.jpg and losses.png into the folder progress/ of that run.
"""

import os
import re

import imageio.v3 as imageio
import numpy as np

import study

ROUNDS_TO_1 = 16.6  # the logit from which a sigmoid in float32 is 1: see docs/log_stability.md


def sample_steps(folder):
    """Returns the steps that have a sample grid, in order."""
    found = (re.fullmatch(r"step-(\d+)\.png", name) for name in os.listdir(folder))
    return sorted(int(match.group(1)) for match in found if match)


def progress(folder, steps, rows):
    """Returns (columns, titles): the input, each step's output, and the target, of the first rows."""
    grids = [imageio.imread(os.path.join(folder, "step-%08d.png" % step)) for step in steps]
    size = grids[0].shape[1] // 3
    columns = [grids[-1][:, :size]] + [grid[:, size:2 * size] for grid in grids] + [grids[-1][:, 2 * size:]]
    titles = ["input"] + ["step {:,}".format(step) for step in steps] + ["target"]
    return [column[:rows * size] for column in columns], titles


def draw_losses(rows, path):
    """One panel a curve over the epochs: every logged step in grey, the mean of 25 rows in colour."""
    epoch = np.array([float(row["epoch"]) for row in rows])
    figure, panels = study.figure(1, 4, (15, 3))
    for panel, name, title in zip(panels[0], ("d_loss", "g_loss_gan", "g_loss_l1", "d_max_logit"),
                                  ("D: real + fake", "G: adversarial", "G: L1", "D: largest absolute logit")):
        values = np.array([float(row[name]) for row in rows])
        width = min(25, len(values))
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        panel.plot(epoch, values, color="0.8", linewidth=0.8)
        panel.plot(epoch[width - 1:], mean, color="tab:blue", linewidth=1.6)
        panel.set(title=title, xlabel="epoch", ylim=(0, 1.05 * values.max()))
    panels[0, 3].axhline(ROUNDS_TO_1, color="tab:red", linestyle=":")
    figure.savefig(path)


def main():
    parser = study.parser(__doc__, "runs/pix2pix")
    parser.add_argument("--steps", type=lambda text: list(map(int, text.split(","))),
                        help="steps of the sample grids to show, such as 0,500 (default: four, spread over the run)")
    parser.add_argument("--rows", type=int, default=3, help="how many of the fixed pairs (default: %(default)s)")
    options = parser.parse_args()
    samples, metrics, pictures = (os.path.join(options.output_dir, name)
                                  for name in ("samples", "metrics.csv", "progress"))
    every = sample_steps(samples) if os.path.isdir(samples) else []
    rows = study.read_csv(metrics) if os.path.isfile(metrics) else []
    if not every or not rows:
        raise SystemExit("error: %s: no sample grid or no logged step; --output_dir names a run that trained"
                         % options.output_dir)
    steps = options.steps or sorted({every[round(i * (len(every) - 1) / 3)] for i in range(4)})
    missing = sorted(set(steps) - set(every))
    if missing:
        raise SystemExit("error: --steps=%d: no sample grid of it in %s" % (missing[0], samples))
    os.makedirs(pictures, exist_ok=True)
    study.draw_columns(*progress(samples, steps, options.rows), os.path.join(pictures, "progress.jpg"))
    draw_losses(rows, os.path.join(pictures, "losses.png"))


if __name__ == "__main__":
    main()
