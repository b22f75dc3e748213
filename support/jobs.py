"""The part of a training run that one process does: where it starts, what the run folder keeps, and what it prints.

Of several workers, the chief alone has the run's folder; the others take from the chief what decides the run.
"""

import math
import typing

import tensorflow.compat.v1 as tf

from support import (
    checkpoints,
    data_flags,
    devices,
    gallery,
    hooks,
    pair_files,
    precisions,
    reports,
    run_flags,
    run_folder,
    storage,
    validation,
    workers,
)


class Job(typing.NamedTuple):
    """The options, the data and the starting point of this process in a training run."""

    options: typing.NamedTuple  # the flags in force
    pairs: pair_files.Pairs  # to train on
    record: dict  # what run.json holds, see `run_folder.describe`
    start: int  # the step from which the run goes on
    checkpoint: typing.Optional[str]  # the checkpoint of that step; None in a new run
    team: workers.Workers  # all workers of the run, one without TF_CONFIG

    @property
    def has_folder(self):
        """Whether this process has the run's folder, and writes what is kept in it."""
        return self.team.is_chief

    @property
    def kept_in(self):
        """Where the run's checkpoints are."""
        return run_folder.checkpoints_of(self.options.output_dir) if self.has_folder else (
            "the run of %s" % self.team.names[0])


def limits(options, pairs):
    """Returns [(name of a flag, the steps that it allows, or 0 for any number)] of a run with some Pairs."""
    return [("--epochs", math.ceil(options.epochs * len(pairs.files) / options.batch_size)),
            ("--max_steps", options.max_steps)]


def agreed(rules, options, pairs, checkpoint, team):
    """Returns the Job, on which all workers agree; where it has a run folder, that is made ready for it.

    Args:
      rules: the run_flags.Rules.
      options: the flags in force, with what was found in the pairs.
      pairs: the Pairs to train on.
      checkpoint: the newest one of the run, or None.
      team: the Workers.

    Raises:
      RunError: the run in the folder was started otherwise; see `run_flags.check_same_run`.
      WorkerError: another worker would train otherwise.
    """
    folder, saved = options.output_dir, run_folder.checkpoints_of(options.output_dir)
    steps = min(limit for _, limit in limits(options, pairs) if limit)
    options = options._replace(**hooks.intervals(steps, options.sample_every, options.save_every, options.val_every))
    record = run_folder.describe(pairs, options.data_dir, precisions.resolve(options.precision), steps, len(team),
                                 data_flags.values_of(options, pairs))
    if team.is_chief:
        storage.make_folders(saved, run_folder.samples_of(folder))
        if checkpoint:
            record["precision"] = run_flags.check_same_run(rules, options, pairs, record)
            validation.Best(folder, options.best_by).settle(checkpoints.step_of(checkpoint))
        checkpoints.tidy(saved, checkpoint, options.keep)
    facts = {"--" + name: value for name, (value, _) in run_flags.that_must_agree(rules, options).items()}
    del facts["--init_checkpoint"]  # the chief alone reads it
    facts["--precision"] = options.precision
    start, record["precision"] = team.agree_on_run(facts, record, checkpoints.step_of(checkpoint or ""))
    return Job(options, pairs, record, start, checkpoint, team)


def keep_record(job, unkept):
    """Writes flags.txt, but for the flags whose names are in `unkept`, pairs.txt and run.json."""
    if job.has_folder:
        folder, layers = job.options.output_dir, reports.layer_table(tf.get_default_graph())
        job.record["parameters"] = {network: sum(count for name, _, count in layers if name.startswith(network))
                                    for network in ("generator", "discriminator")}
        run_folder.write_flags(folder, {name: value for name, value in job.options._asdict().items()
                                        if name not in unkept})
        run_folder.write_pairs(folder, pair_files.listing(job.pairs))
        run_folder.write_record(folder, job.record)


def announce(job):
    """Prints what starts and the layers; a worker without the run's folder prints one line."""
    if job.has_folder:
        layers = reports.layer_table(tf.get_default_graph())
        reports.start(job.options.output_dir, job.start, job.record, layers, job.options.jit_compile == "true")
        reports.intervals(job.options)
    else:
        print("%s: from step %d, %s" % (job.team.name, job.start, reports.size_of_run(job.record)), flush=True)


def finish(job, step):
    """Makes samples/progress.gif of what was trained; at the run's last step, says that it is finished."""
    options, steps = job.options, job.record["steps"]
    if job.has_folder and step > job.start:
        gallery.write_progress(run_folder.samples_of(options.output_dir))
    if step >= steps and job.has_folder:
        reports.best(validation.Best(options.output_dir, options.best_by).row(), options.best_by)
        repeats = options.deterministic or not devices.has_gpu()
        reports.finished(options.output_dir, step, reports.way_on(
            steps, limits(options, job.pairs), options.decay_epochs), repeats)
    elif step >= steps:
        print("%s: finished, %d steps done; the run is with %s" % (job.team.name, step, job.team.names[0]))
