"""What the program prints of a run: what it reads, what starts, what came of it."""

import collections
import os

import tensorflow.compat.v1 as tf

from support import checkpoints, gallery, pair_files, run_folder


def left_out(pairs):
    """Prints the files that were left out and how many pairs remain."""
    for message in pairs.skipped:
        say("left out: %s" % message)
    if pairs.skipped:
        say("%s: %d left out, %d pairs remain" % (pairs.folder, len(pairs.skipped), len(pairs.files)))


def reading(pairs, direction, channels, way_out):
    """Prints which pairs are read, and a warning for each doubt; arguments as in `pair_files.summary` and `doubts`."""
    say(pair_files.summary(pairs, direction, channels))
    for doubt in pair_files.doubts(pairs, way_out):
        say("warning: " + doubt)


def say(text):
    """Prints a line that may hold the name of a file in any encoding."""
    print(text.encode("utf-8", "backslashreplace").decode(), flush=True)


def training_pairs(pairs, data_dir, run):
    """Prints a warning if the pairs to test are those that the run in the folder `run` was trained on."""
    record = run_folder.read_record(run) or {}
    is_train = pairs.folder == os.path.join(data_dir, "train")
    if pairs.layout != "inputs" and (is_train or record.get("pairs_sha256") == pair_files.pairs_checksum(pairs)):
        print("warning: the run was trained on these pairs, so they do not tell how well the model does on new "
              "pictures; put others into %s or %s" % (os.path.join(data_dir, "test"), os.path.join(data_dir, "val")))


def layer_table(graph):
    """Returns [(layer's name, output shape, number of parameters)] of both networks, in order."""
    counts = collections.Counter()
    for variable in graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES):
        counts[variable.op.name.rsplit("/", 1)[0]] += variable.shape.num_elements()
    outputs = [op for op in graph.get_operations() if op.name.endswith("/output")]  # of every pass, in its name scope
    return [(name, next(op.outputs[0].shape.as_list() for op in outputs if op.name.endswith(name + "/output")), count)
            for name, count in counts.items()]


def start(folder, step, record, table, is_compiled):
    """Prints what starts and where to look at it.

    Args:
      folder: the run folder.
      step: the step from which the run goes on.
      record: what run.json holds.
      table: [(layer's name, output shape, number of parameters)].
      is_compiled: whether XLA compiles the step.
    """
    begin = "continuing %s from step %d" % (folder, step) if step else "starting %s" % folder
    print("%s: %s" % (begin, size_of_run(record)))
    if is_compiled:
        print("XLA compiles the training step, so the first step takes up to a minute longer")
    for name, shape, count in table:
        print("%-24s %-20s %12s" % (name, "x".join(map(str, shape[1:])), "{:,}".format(count)))
    for network, count in record["parameters"].items():
        print("%-24s %-20s %12s" % (network, "", "{:,}".format(count)))
    print("look at %s (any browser), or: pip install tensorboard && tensorboard --logdir %s"
          % (os.path.join(run_folder.samples_of(folder), "index.html"), folder), flush=True)


def intervals(options):
    """Prints after how many steps a run writes what; options: the flags in force, with their intervals as numbers."""
    val = os.path.join(options.data_dir, "val")
    pairs = min(options.val_pairs, pair_files.count_pairs(val)) if options.val_every else 0
    say("every %d steps a sample grid, every %d a checkpoint, %s" % (
        options.sample_every, options.save_every,
        "every %d validation on %d pairs of %s" % (options.val_every, pairs, val) if pairs else "no validation"))


def size_of_run(record):
    """Returns how many pairs and steps run.json tells of, and in which precision."""
    return "%d pairs, %d steps, %s" % (record["pairs"]["train"], record["steps"], record["precision"])


def way_on(steps, limits, decays):
    """Returns how a finished run can be continued, as the beginning of a sentence; empty where it can't be.

    Args:
      steps: of the whole run.
      limits: [(name of a flag, the steps that it allows)].
      decays: whether the learning rate fell to 0 over the last epochs, from where it can't go on.
    """
    reached = [name for name, limit in limits if limit == steps]
    return "" if decays and "--epochs" in reached else "a larger %s continues it, " % " and ".join(reached)


def finished(folder, steps, way_on, repeats):
    """Prints that the run of a folder is finished and what can follow, and its fingerprint, as `fingerprint` does."""
    print("%s: finished, %d steps done; %spython train.py --mode=test --output_dir=%s tests it" % (
        folder, steps, way_on, folder))
    fingerprint(checkpoints.newest(run_folder.checkpoints_of(folder)), repeats)


def best(row, by):
    """Prints which step is the best by a measure; row: its validation.Row, or None where no step was validated."""
    if row:
        print("the best %s of validation is %.4g, at step %d; --checkpoint=best takes that step" % (
            by.upper(), getattr(row, by), row.step))


def measured(metrics):
    """Prints the means of a test's measures with their intervals."""
    for measure, value in metrics.items():
        form = gallery.DECIMALS[measure] if measure in gallery.IN_UNITS else "%.4f"
        print("%-5s %s  (95 %% interval %s to %s)" % (measure, *(form % value[key] for key in ("mean", "low", "high"))))


def fingerprint(checkpoint, repeats=True):
    """Prints the fingerprint of a checkpoint, always as the last line; `repeats`: whether an equal run has it too."""
    print("the fingerprint is a hash of all weights; %s:" % (
        "equal flags, data and versions give equal weights" if repeats else
        "with --nodeterministic an equal run on a GPU ends with another one"))
    print("fingerprint: %s" % checkpoints.fingerprint(checkpoint))
