"""What happens beside a step: the stop at NaN, metrics, samples, validation and checkpoints.

The order of these hooks in a session is the order within a step: the step is checked, then logged, shown, validated and
saved. `is_due` rules for all of them at which steps they act. What they fetch with a step is the same at every step,
because XLA compiles the step again for each new set of fetches.
"""

import itertools
import math
import os
import time
import typing

import numpy as np
import tensorflow.compat.v1 as tf

from support import (
    checkpoints,
    events,
    faults,
    gallery,
    progress_line,
    rendering,
    run_folder,
    storage,
    validation,
)
from support.errors import RunError

LOSSES = ("d_loss", "g_loss_gan", "g_loss_l1")


class Run(typing.NamedTuple):
    """What the hooks know of a run."""

    folder: str  # the run folder
    writer: events.EventWriter  # of TensorBoard's events
    start: int  # steps that were done before
    steps: int  # steps of the whole run
    pairs: int  # training pairs
    batch_size: int  # pairs in a step
    show_bands: typing.Sequence[int] = ()  # see `rendering.bands_of`


def is_due(step, every, last):
    """Whether a hook that acts at multiples of `every` and at the run's last step acts at a step."""
    return step % every == 0 or step == last


def interval(shortest, steps, most):
    """Returns the first of 1, 2, 5, 10, 20, ... from `shortest` on that fits into the steps at most `most` times."""
    numbers = (digit * 10 ** zeros for zeros in itertools.count() for digit in (1, 2, 5))
    return next(number for number in numbers if number >= shortest and number * most >= steps)


def intervals(steps, sample_every, save_every, val_every):
    """Returns {flag: interval} for a run of some steps; None in an argument stands for what suits that run.

    Validation then comes with a checkpoint, so that keeping the best one takes no saving of its own.
    """
    save_every = save_every or interval(500, steps, 40)
    if val_every is None:
        val_every = math.ceil(interval(500, steps, 40) / save_every) * save_every
    return {"sample_every": sample_every or interval(100, steps, 200), "save_every": save_every, "val_every": val_every}


class StopOnNan(tf.train.SessionRunHook):
    """Raises RunError at the first step with a tensor that is not finite, before anything of that step is saved."""

    def __init__(self, model, weights_finite, kept_in, files_of_step):
        """Takes the pix2pix.Training and what names the fault.

        Args:
          model: the pix2pix.Training.
          weights_finite: see `diagnostics.finite_weights`.
          kept_in: the place of the saved steps, for the message.
          files_of_step: function from a step to the files of its batch.
        """
        self.model, self.weights_finite, self.kept_in, self.files_of_step = (
            model, weights_finite, kept_in, files_of_step)

    def before_run(self, run_context):
        del run_context
        return tf.train.SessionRunArgs(self.model.scalars)

    def after_run(self, run_context, run_values):
        if not np.isfinite(run_values.results).all():
            session = run_context.session
            step = session.run(tf.train.get_global_step(session.graph))
            bad = [name for name, finite in session.run(self.model.finite).items() if not finite]
            bad += [name for name, finite in session.run(self.weights_finite).items() if not finite][:1]
            bad = bad or ["a tensor of another worker"]
            raise RunError(
                "step %d: %s is not finite%s. The batch was %s. What was saved before is kept in %s; try "
                "--gan_loss=log or logits, a lower --learning_rate or --precision=float32 in a new --output_dir" % (
                    step, bad[0], ", then %s" % ", ".join(bad[1:]) if bad[1:] else "",
                    ", ".join(self.files_of_step(step)), self.kept_in))


class Metrics(tf.train.SessionRunHook):
    """Keeps metrics.csv, TensorBoard's scalars and the progress line.

    images_per_second is that of the steps alone: the batch size over the mean time from this hook's `before_run` to its
    `after_run`, which is TensorFlow's `session.run` of one training step. Saving and pictures come after that time. The
    reader goes on during them, so that the first steps after a save don't wait for their batches.
    """

    def __init__(self, model, run, log_every):
        self.run, self.log_every, self.fetches = run, log_every, [model.train_op, model.scalars]
        self.path, self.warned, self.seen = os.path.join(run.folder, "metrics.csv"), False, run.start
        self.columns = ["step", "epoch", *LOSSES, "images_per_second", *model.watched]
        self.timed = self.seconds = 0  # steps since the last row, and the time of them
        self.line = None

    def begin(self):
        rows = [self.columns] + run_folder.rows_until(self.path, self.run.start)
        storage.write_file(self.path, "".join(",".join(row) + "\n" for row in rows))
        self.line = progress_line.ProgressLine(self.run.start, self.run.steps)

    def before_run(self, run_context):
        del run_context
        self.step_begun = time.perf_counter()
        return tf.train.SessionRunArgs(self.fetches)

    def after_run(self, run_context, run_values):
        del run_context
        self.timed, self.seconds = self.timed + 1, self.seconds + time.perf_counter() - self.step_begun
        self.seen, values = run_values.results
        losses, watched = values[:len(LOSSES)], values[len(LOSSES):]
        rate = self.timed * self.run.batch_size / self.seconds
        self.line.update(self.seen, losses, rate)
        if is_due(self.seen, self.log_every, self.run.steps):
            self.log([self.seen * self.run.batch_size / self.run.pairs, *losses, rate, *watched])
            self.warn_of_saturated_patches(dict(zip(self.columns[-len(watched):], watched)))
            self.timed = self.seconds = 0

    def log(self, values):
        storage.append(self.path, ",".join(["%d" % self.seen] + ["%.9g" % value for value in values]) + "\n")
        self.run.writer.add_summary(events.scalars(zip(self.columns[1:], values)), self.seen)

    def warn_of_saturated_patches(self, watched):
        for side in ("real", "fake"):
            share = watched["saturated_" + side]
            if share > 0.5 and not self.warned:
                self.warned = True
                self.line.write("warning: step %d: D gets %.0f %% of the %s patches wrong and no gradient "
                                "from them; --gan_loss=log or logits keeps the gradient" % (
                                    self.seen, 100 * share, side))

    def close(self):
        if self.line:
            self.line.close()


class Periodic(tf.train.SessionRunHook):
    """A hook that calls `act` after each step that is due, see `is_due`."""

    def __init__(self, run, every):
        self.run, self.every, self.seen = run, every, run.start

    def before_run(self, run_context):
        del run_context
        self.seen += 1

    def after_run(self, run_context, run_values):
        del run_values
        if is_due(self.seen, self.every, self.run.steps):
            self.act(run_context.session, self.seen)


class Samples(Periodic):
    """Writes a grid of fixed pairs to samples/, and pictures of the batch for TensorBoard.

    It does so at step 0, at multiples of `every` and at the run's last step. Every step leaves its tensors in local
    variables, of which the hook makes the pictures after the step.
    """

    def __init__(self, run, every, fixed, one_image, shown):
        """Takes the fixed pairs, [(name, input, target)], the graph that train.one_image built for them, and what
        `events.of_batch` returned.
        """
        super().__init__(run, every)
        self.fixed, (self.image, self.mask_number, self.output) = fixed, one_image
        self.kept, self.summaries = shown

    def after_create_session(self, session, coord):
        del coord
        if self.run.start == 0:  # what is there may be of another run, which ended before it saved
            gallery.remove_samples(run_folder.samples_of(self.run.folder))
            self.write(session, 0)

    def before_run(self, run_context):
        super().before_run(run_context)
        return tf.train.SessionRunArgs(self.kept)

    def act(self, session, step):
        summary = tf.Summary.FromString(session.run(self.summaries))
        self.run.writer.add_summary(events.described(summary), step)
        self.write(session, step)

    def write(self, session, step):
        rows = []
        for number, (_, image, target) in enumerate(self.fixed):
            output = session.run(self.output, {self.image: image, self.mask_number: number})
            rows.append(np.concatenate([rendering.to_rgb(picture[0], self.run.show_bands)
                                        for picture in (image, output, target)], axis=1))
        folder = run_folder.samples_of(self.run.folder)
        path = os.path.join(folder, "step-%08d.png" % step)
        grid = np.concatenate(rows)
        rendering.write_png(path, grid)
        gallery.write_samples(folder)
        self.run.writer.add_summary(events.picture("samples/fixed_pairs", path, *grid.shape[:2]), step)


class Validation(Periodic):
    """Measures the generator on pairs of val/, and keeps val_metrics.csv and the best checkpoint.

    It does so at multiples of `every` and at the run's last step, also for the step from which a run goes on if that
    one lacks its row.
    """

    def __init__(self, run, every, measures, best, metrics, saving):
        """Takes a validation.Measures, a validation.Best, and the hooks Metrics, for its line, and Checkpoints."""
        super().__init__(run, every)
        self.measures, self.best, self.metrics, self.saving = measures, best, metrics, saving

    def after_create_session(self, session, coord):
        del coord
        rows = validation.rows_of(self.run.folder, self.run.start)
        validation.write_rows(self.run.folder, rows)
        self.metrics.line.validation = rows[-1].l1 if rows else math.nan
        if self.run.start and is_due(self.run.start, self.every, 0) and self.run.start not in {r.step for r in rows}:
            self.act(session, self.run.start)

    def act(self, session, step):
        values = [step * self.run.batch_size / self.run.pairs, *self.measures.of(session)]
        row = validation.Row(step, *(float("%.9g" % value) for value in values))  # as a restart reads it
        before = self.best.row()
        validation.write_rows(self.run.folder, [*validation.rows_of(self.run.folder), row])
        if row == self.best.of([before, row] if before else [row]):
            self.saving.save(session, step)
            self.best.keep(step)
        self.metrics.line.validation = row.l1
        self.run.writer.add_summary(events.scalars(list(row._asdict().items())[2:]), step)
        gallery.write_samples(run_folder.samples_of(self.run.folder))


class Checkpoints(Periodic):
    """Saves at multiples of `every` and at the end of the session, unless an error ended it.

    Attributes:
      saved: the step of the newest checkpoint.
    """

    def __init__(self, run, saver, every, keep, weights_finite):
        super().__init__(run, every)
        self.saver, self.keep, self.weights_finite, self.saved = saver, keep, weights_finite, run.start
        self.folder, self.step = run_folder.checkpoints_of(run.folder), tf.train.get_global_step()
        self.megabytes = sum(v.shape.num_elements() * v.dtype.size for v in tf.global_variables()) / 1e6

    def act(self, session, step):
        self.save(session, step)

    def end(self, session):
        self.save(session, int(session.run(self.step)))

    def save(self, session, step):
        """Saves all variables, unless the step is saved.

        Raises:
          RunError: a weight is not finite, or the files can't be written.
        """
        if step <= self.saved:
            return
        if not all(session.run(self.weights_finite).values()):
            raise RunError("step %d: a weight is no longer finite, so nothing is saved. The last good checkpoint is "
                           "kept in %s; try a lower --learning_rate" % (step, self.folder))
        try:
            path = self.saver.save(session, os.path.join(self.folder, "model.ckpt"), step, write_meta_graph=False)
            storage.sync(path + ".data-00000-of-00001", path + ".index", self.folder)
        except (tf.errors.OpError, ValueError) as error:  # the latter if the folder is gone
            reason = faults.reason_of(error) if isinstance(error, tf.errors.OpError) else str(error)
            raise RunError("step %d: can't save in %s (%s). A checkpoint takes %.3g MB%s. Earlier ones are kept" % (
                step, self.folder, reason, self.megabytes, faults.remedy(reason)))
        checkpoints.tidy(self.folder, path, self.keep)
        self.saved = step
