"""Peak memory of training over image size, batch and filters, and the fit that train.py's estimate uses.

    python studies/memory.py --output_dir=runs/memory

writes memory.csv and prints the fit. Each setting trains four steps in a process of its own.
"""

import os
import shutil
import sys

import numpy as np
from absl import app, flags

import report

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "runs/memory", "Where memory.csv goes.")
flags.DEFINE_string("data_dir", "data/sample", "The pairs to train on.")

SETTINGS = [(32, 2, 2, "float32"), (64, 4, 64, "bfloat16"), (256, 4, 16, "float32"), (256, 1, 64, "bfloat16"),
            (256, 4, 64, "bfloat16"), (256, 8, 64, "bfloat16"), (256, 4, 64, "float32"), (256, 8, 64, "float32"),
            (512, 1, 64, "float32"), (512, 2, 64, "bfloat16")]


def peak(size, batch, filters, precision):
    """Returns (peak resident bytes, parameters) of four steps with a checkpoint."""
    folder = os.path.join(FLAGS.output_dir, "run")
    shutil.rmtree(folder, ignore_errors=True)
    _, measured = report.run_with_peak(
        sys.executable, report.TRAIN, "--data_dir=" + FLAGS.data_dir, "--output_dir=" + folder,
        "--image_size=%d" % size, "--batch_size=%d" % batch, "--ngf=%d" % filters, "--ndf=%d" % filters,
        "--precision=" + precision, "--max_steps=4", "--save_every=2", "--log_every=1")
    parameters = report.parameters(folder)
    shutil.rmtree(folder)
    return measured, parameters


def main(argv):
    del argv
    os.makedirs(FLAGS.output_dir, exist_ok=True)
    rows, terms = [], []
    for setting in SETTINGS:
        size, batch, filters, _ = setting
        measured, parameters = peak(*setting)
        rows.append([*setting, parameters, measured])
        terms.append([1, parameters, batch * size * size * filters])
        print(*rows[-1], flush=True)
    terms, measured = np.float64(terms), np.float64([row[-1] for row in rows])
    # Weighted by the size of each, so that small and large settings are met equally well.
    fit = np.linalg.lstsq(terms / measured[:, None], np.ones(len(rows)), rcond=None)[0]
    rows = [row + [round(value)] for row, value in zip(rows, terms @ fit)]
    report.write_csv(os.path.join(FLAGS.output_dir, "memory.csv"), [
        "image_size", "batch_size", "filters", "precision", "parameters", "peak_bytes", "fitted_bytes"], rows)
    print("bytes = %.3g + %.3g x parameters + %.3g x batch x pixels x filters" % tuple(fit))
    print("fitted / measured: %s" % " ".join("%.2f" % (row[-1] / row[-2]) for row in rows))


if __name__ == "__main__":
    app.run(main)
