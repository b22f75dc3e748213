"""What happens beside a step: the stop at NaN, metrics, samples, checkpoints and signals.

The order of these hooks in a session is the order within a step: it is checked, then logged, shown and saved.
"""

import csv
import os
import signal
import time

import numpy as np
import tensorflow.compat.v1 as tf
import tqdm

from support import checkpoints, gallery, run_folder
from support.run_folder import RunError

LOSSES = ("d_loss", "g_loss_gan", "g_loss_l1")


class StepHook(tf.train.SessionRunHook):
    """A hook that sees the number and the losses of every step, or whatever else it fetches."""

    def __init__(self, model):
        self.fetches = {"step": model.train_op, "losses": [getattr(model, name) for name in LOSSES]}

    def before_run(self, run_context):
        del run_context
        return tf.train.SessionRunArgs(self.fetches)

    def after_run(self, run_context, run_values):
        self.after_step(run_context.session, int(run_values.results["step"]), run_values.results["losses"])

    def after_step(self, session, step, losses):
        """Called after every step with the three losses, numbers in the order of LOSSES."""
        raise NotImplementedError


class StopOnNan(StepHook):
    """Raises RunError at the first step with a tensor that is not finite, before anything of that step is saved."""

    def __init__(self, model, finite_weights, files_of_step, folder):
        """Takes {name of a weight: whether it is finite}, a function step -> paths of its files, and the run folder."""
        super().__init__(model)
        self.fetches["finite"], self.weights = model.finite, finite_weights
        self.files_of_step, self.folder = files_of_step, folder

    def after_run(self, run_context, run_values):
        step, finite = int(run_values.results["step"]), run_values.results["finite"]
        bad = [name for name in finite if not finite[name]]
        if bad:
            weights = [name for name, good in run_context.session.run(self.weights).items() if not good]
            then = bad[1:] + weights[:1]
            raise RunError(
                "step %d: %s is not finite%s. The batch was %s. What was saved before stays in %s; --gan_loss=log "
                "or logits, a lower --learning_rate or --precision=float32 in a new --output_dir may hold" % (
                    step, bad[0], ", then %s" % ", ".join(then) if then else "",
                    ", ".join(self.files_of_step(step)), os.path.join(self.folder, "checkpoints")))


class Metrics(StepHook):
    """Keeps metrics.csv, TensorBoard's scalars and the progress bar (a line now and then without terminal)."""

    def __init__(self, model, folder, writer, start, record, log_every, batch_size, epochs):
        """Takes a run folder and its record (see train.describe_run), and from which step it goes on."""
        super().__init__(model)
        self.path, self.log_every, self.batch_size, self.epochs = (
            os.path.join(folder, "metrics.csv"), log_every, batch_size, epochs)
        self.watch, self.warned = model.watch, False
        self.columns = ["step", "epoch", *LOSSES, "images_per_second", *model.watch]
        self.bar = self.file = None
        self.writer, self.start, self.seen = writer, start, start
        self.steps, self.pairs = record["steps"], record["pairs"]["train"]

    def begin(self):
        rows = [self.columns] + self.written_rows()
        run_folder.write_file(self.path, "".join(",".join(row) + "\n" for row in rows))
        self.file = open(self.path, "a")
        self.bar = tqdm.tqdm(total=self.steps, initial=self.start, unit="step", disable=None)
        self.logged = self.printed = self.start, time.time()

    def written_rows(self):
        """The rows up to the first step of a metrics.csv that is there; a kill may have cut the last one off."""
        if not self.start or not os.path.exists(self.path):
            return []
        with open(self.path, errors="replace") as file:
            lines = [line for line in file if line.endswith("\n")]
        return [row for row in csv.reader(lines) if row and row[0].isdigit() and int(row[0]) <= self.start]

    def before_run(self, run_context):
        del run_context
        is_logged = (self.seen + 1) % self.log_every == 0 or self.seen + 1 == self.steps
        return tf.train.SessionRunArgs(dict(self.fetches, watch=self.watch if is_logged else {}))

    def after_run(self, run_context, run_values):
        self.watched = run_values.results["watch"]
        super().after_run(run_context, run_values)

    def after_step(self, session, step, losses):
        self.seen = step
        epoch, now = step * self.batch_size / self.pairs, time.time()
        rate = (step - self.logged[0]) * self.batch_size / (now - self.logged[1])
        self.text = "epoch %.4g/%d, D %.3f, GAN %.3f, L1 %.4f, %.3g images/s" % (
            (epoch, self.epochs) + tuple(losses) + (rate,))
        self.bar.set_postfix_str(self.text, refresh=False)
        self.bar.update()
        if self.watched:
            self.log(step, [epoch, *losses, rate, *self.watched.values()])
            self.warn_of_dead_patches(step)
            self.logged = step, now
            if self.bar.disable and now - self.printed[1] > 30:
                self.print_line(step, now)

    def log(self, step, values):
        self.file.write(",".join(["%d" % step] + ["%.9g" % value for value in values]) + "\n")
        self.file.flush()
        self.writer.add_summary(tf.Summary(value=[
            tf.Summary.Value(tag=name, simple_value=float(value)) for name, value in zip(self.columns[1:], values)
        ]), step)

    def warn_of_dead_patches(self, step):
        for side in ("real", "fake"):
            share = self.watched["dead_" + side]
            if share > 0.5 and not self.warned:
                self.warned = True
                self.bar.write("warning: step %d: D gets %.0f %% of the %s patches wrong without a gradient to learn "
                               "from; --gan_loss=log or logits keeps it" % (step, 100 * share, side))

    def print_line(self, step, now):
        left = (self.steps - step) * (now - self.printed[1]) / (step - self.printed[0])
        print("step %d/%d, %s, %s left" % (step, self.steps, self.text, tqdm.tqdm.format_interval(left)),
              flush=True)
        self.printed = step, now

    def close(self):
        for closing in filter(None, (self.bar, self.file)):
            closing.close()


class Samples(tf.train.SessionRunHook):
    """Writes the sample grid of fixed pairs, and the batch and D's logits for TensorBoard."""

    def __init__(self, model, folder, writer, start, steps, every, fixed, one_image, summaries):
        """Takes the fixed pairs, the graph that train.one_image built for them, and the batch's summaries."""
        self.step, self.writer, self.next, self.steps, self.every = model.train_op, writer, start + 1, steps, every
        self.folder, self.fixed, self.summaries = os.path.join(folder, "samples"), fixed, summaries
        self.image, self.draw, self.output = one_image

    def is_due(self, step):
        return step % self.every == 0 or step == self.steps

    def after_create_session(self, session, coord):
        del coord
        if self.next == 1:
            self.write(session, 0)

    def before_run(self, run_context):
        del run_context
        summaries = [self.summaries] if self.is_due(self.next) else []
        return tf.train.SessionRunArgs({"step": self.step, "summaries": summaries})

    def after_run(self, run_context, run_values):
        step = int(run_values.results["step"])
        self.next = step + 1
        for summary in run_values.results["summaries"]:
            self.writer.add_summary(summary, step)
            self.write(run_context.session, step)

    def write(self, session, step):
        rows = []
        for number, (image, target) in enumerate(self.fixed):
            output = session.run(self.output, {self.image: image, self.draw: number})
            rows.append(np.concatenate([to_rgb(picture[0]) for picture in (image, output, target)], axis=1))
        path = os.path.join(self.folder, "step-%08d.png" % step)
        run_folder.write_png(path, np.concatenate(rows))
        gallery.write_samples(self.folder)
        with open(path, "rb") as file:
            picture = tf.Summary.Image(encoded_image_string=file.read())
        self.writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag="samples", image=picture)]), step)
        self.writer.flush()


def to_rgb(image):
    return np.broadcast_to(image, image.shape[:2] + (3,))


class Checkpoints(StepHook):
    """Saves every save_every steps and at the end, unless an error ended the run."""

    def __init__(self, model, folder, saver, start, every, keep, finite):
        """Takes the run folder, and a bool tensor that says whether all weights are finite."""
        super().__init__(model)
        self.folder, self.saver, self.saved, self.seen = os.path.join(folder, "checkpoints"), saver, start, start
        self.every, self.keep, self.finite = every, keep, finite
        self.megabytes = sum(v.shape.num_elements() * v.dtype.size for v in tf.global_variables()) / 1e6

    def after_create_session(self, session, coord):
        del coord
        self.session = session

    def after_step(self, session, step, losses):
        self.seen = step
        if step % self.every == 0:
            self.save(session)

    def end(self, session):
        if self.seen != self.saved:
            self.save(session)

    def save(self, session):
        if not session.run(self.finite):
            raise RunError("step %d: a weight is no longer finite and is not saved. The last good checkpoint is "
                           "kept in %s; a lower --learning_rate may hold" % (self.seen, self.folder))
        try:
            path = self.saver.save(session, os.path.join(self.folder, "model.ckpt"), self.seen, write_meta_graph=False)
            run_folder.sync(path + ".data-00000-of-00001", path + ".index", self.folder)
        except tf.errors.OpError as error:
            raise RunError("step %d: can't save in %s (%s). A checkpoint takes %.3g MB; make room or mend it, and the "
                           "same command continues from the one before" % (
                               self.seen, self.folder, run_folder.reason_of(error), self.megabytes))
        checkpoints.tidy(self.folder, path, self.keep)
        self.saved = self.seen


SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]  # not on Windows


class StopOnSignal(tf.train.SessionRunHook):
    """SIGTERM, SIGHUP and Ctrl-C end the run after the step at hand; a second one leaves at once."""

    def __init__(self):
        self.number = 0
        self.before = {number: signal.signal(number, self.receive) for number in SIGNALS}

    def receive(self, number, frame):
        del frame
        if self.number:
            os._exit(128 + number)
        self.number = number
        print("\n%s: stopping after this step" % signal.Signals(number).name, flush=True)

    def after_run(self, run_context, run_values):
        del run_values
        if self.number:
            run_context.request_stop()

    def close(self):
        for number, handler in self.before.items():
            signal.signal(number, handler)
