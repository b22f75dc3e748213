"""Validation while a run trains: measures on pairs of val/, the table val_metrics.csv, and the best checkpoint.

The order of writing makes a killed run whole again: first the row of a step, then the step's checkpoint, then the best
checkpoint, which is a link to that one. So the table holds every row up to any checkpoint from which a run goes on, and
`Best.settle` sets the link that a kill prevented.
"""

import math
import os
import sys
import typing

import numpy as np
import tensorflow.compat.v1 as tf

from support import checkpoints, gallery, run_folder, seeds, storage

HIGHER_IS_BETTER = {"l1": False, "psnr": True, "ssim": True}


class Row(typing.NamedTuple):
    """A row of val_metrics.csv, with the numbers that the file holds."""

    step: int
    epoch: float  # passes over the training pairs
    l1: float  # means over the pairs, see `gallery.measures`
    psnr: float
    ssim: float


def path_of(folder):
    """The table of a run."""
    return os.path.join(folder, "val_metrics.csv")


def rows_of(folder, last=sys.maxsize):
    """Returns the Rows of a run up to the step `last`; a line that is none is left out."""
    rows = []
    for texts in run_folder.rows_until(path_of(folder), last):
        try:
            rows.append(Row(int(texts[0]), *map(float, texts[1:])))
        except (ValueError, TypeError):
            continue
    return rows


def write_rows(folder, rows):
    """Writes the table of a run, whole or not at all; it is on the disk afterwards."""
    lines = ["%d,%s" % (row.step, ",".join("%.9g" % value for value in row[1:])) for row in rows]
    storage.write_file(path_of(folder), "\n".join([",".join(Row._fields), *lines, ""]))


class Best(typing.NamedTuple):
    """The best checkpoint of a run."""

    folder: str  # the run folder
    by: str  # the measure that decides, one of HIGHER_IS_BETTER

    def of(self, rows):
        """Returns the first of the best Rows; None where no value is finite."""
        sign = 1 if HIGHER_IS_BETTER[self.by] else -1
        finite = [row for row in rows if math.isfinite(getattr(row, self.by))]
        return max(finite, key=lambda row: sign * getattr(row, self.by), default=None)

    def row(self):
        """Returns the Row of the checkpoint that is kept; None where there is none."""
        step = checkpoints.best_step(self.folder)
        return next((row for row in rows_of(self.folder) if row.step == step), None)

    def keep(self, step):
        """Makes the run's checkpoint of a step the best one, whole or not at all."""
        name = "model.ckpt-%d" % step
        with storage.replacing(run_folder.best_of(self.folder)) as new:
            for ending in (".data-00000-of-00001", ".index"):
                storage.link(os.path.join(run_folder.checkpoints_of(self.folder), name + ending),
                             os.path.join(new, name + ending))
            tf.train.update_checkpoint_state(new, name)

    def settle(self, start):
        """Makes the best of those checkpoints that are there, and have a Row up to the step `start`, the best one."""
        kept, (whole, _) = checkpoints.best_step(self.folder), checkpoints.find(run_folder.checkpoints_of(self.folder))
        there = {checkpoints.step_of(path) for path in whole}
        best = self.of([row for row in rows_of(self.folder, start) if row.step in there | {kept}])
        if best and best.step != kept:
            self.keep(best.step)


class Measures:
    """L1, PSNR and SSIM of the generator on fixed pairs, one image at a time, each with a dropout mask of its own."""

    def __init__(self, pairs, one_image):
        """Takes [(name, input, target)], each [1, H, W, C] in [-1, 1], and the graph that train.one_image built."""
        self.pairs, (self.image, self.mask_number, self.output) = pairs, one_image
        self.exact = gallery.Measures(self.output.shape)
        self.close = self.exact.close

    def of(self, session):
        """Returns the means over the pairs, in the order of `gallery.measures`, for the weights of a session."""
        values = []
        for name, image, target in self.pairs:
            output = session.run(self.output, {self.image: image, self.mask_number: seeds.of_name(name)})
            values.append(list(self.exact.of(output, target).values()))
        return np.mean(values, axis=0, dtype=np.float64)
