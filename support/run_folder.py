"""The run folder: its lock, its flags, its record and its pairs, and what keeps a run from going on."""

import collections
import contextlib
import csv
import itertools
import json
import os
import platform
import shlex
import sys

import filelock
import numpy as np
import scipy
import tensorflow.compat.v1 as tf

from support import image_files, pair_files, precisions, storage
from support.errors import RunError


def checkpoints_of(folder):
    """The folder of a run's checkpoints."""
    return os.path.join(folder, "checkpoints")


def best_of(folder):
    """The folder of a run's best checkpoint."""
    return os.path.join(checkpoints_of(folder), "best")


def samples_of(folder):
    """The folder of a run's sample grids."""
    return os.path.join(folder, "samples")


def read_flags(folder):
    """Returns the flags of the run in a folder as {name: text}; empty where there is none."""
    path = os.path.join(folder, "flags.txt")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().split("\n")
        if any("\0" in line for line in lines):
            raise ValueError("zero bytes in it")
        return dict(line[2:].split("=", 1) for line in lines if line.startswith("--"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise RunError("%s: damaged (%s); put it back, or name a new --output_dir" % (path, error))


def write_flags(folder, values):
    """Writes {name: value} as a flagfile, flags.txt; those without a value, None, are left out."""
    text = "".join("--%s=%s\n" % item for item in values.items() if item[1] is not None)
    storage.write_file(os.path.join(folder, "flags.txt"), text.encode("utf-8", "surrogateescape"))


def read_record(folder):
    """Returns the run.json of the run in a folder; None where it is missing or damaged."""
    try:
        with open(os.path.join(folder, "run.json")) as file:
            record = json.load(file)
        return record if record["pairs"]["train"] and record["precision"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def values_of(folder):
    """Returns what run.json says of the values of input and output (see `bands.described`); {} where it does not."""
    return (read_record(folder) or {}).get("values") or {}


def write_record(folder, record):
    """Writes run.json."""
    storage.write_file(os.path.join(folder, "run.json"), json.dumps(record, indent=2) + "\n")


def rows_until(path, last=sys.maxsize):
    """Returns the rows of a table, lists of texts that begin with a step, up to the step `last`; none without a file.

    A kill may have cut the last line short; it is left out, and so is the header.
    """
    if not os.path.exists(path):
        return []
    with open(path, errors="replace") as file:
        lines = [line for line in file if line.endswith("\n")]
    return [row for row in csv.reader(lines) if row and row[0].isdigit() and int(row[0]) <= last]


def read_pairs(folder):
    """Returns the listing of its pairs that a run keeps (see `pair_files.listing`); empty where it has none."""
    try:
        with open(os.path.join(folder, "pairs.txt"), encoding="utf-8") as file:
            pairs = [json.loads(line) for line in file]
        return pairs if all(isinstance(pair[0], str) for pair in pairs) else []
    except (OSError, ValueError, LookupError, TypeError):
        return []  # a run of an earlier version has none, and a damaged one only costs a name


def describe(pairs, data_dir, precision, steps, workers, values):
    """Returns what run.json holds: the machine, the versions and the process of a run, its pairs and its length.

    Args:
      pairs: the pair_files.Pairs to train on, of data_dir.
      precision: one of precisions.PRECISIONS.
      steps: of the whole run.
      workers: how many processes train together.
      values: {"input" and "output": what `bands.described` returns}.
    """
    splits = {split: pair_files.count_pairs(os.path.join(data_dir, split)) for split in pair_files.SPLITS}
    return {"versions": {"python": platform.python_version(), "tensorflow": tf.version.VERSION,
                         "numpy": np.__version__, "scipy": scipy.__version__},
            "process": {"pid": os.getpid(), "host": platform.node()}, "workers": workers,
            "device": precisions.device_name(), "precision": precision,
            "pairs": dict({split: count for split, count in splits.items() if count}, train=len(pairs.files)),
            "values": values, "skipped": list(pairs.skipped), "pairs_sha256": pair_files.pairs_checksum(pairs),
            "steps": steps}


def write_pairs(folder, listing):
    """Writes pairs.txt, a line a pair."""
    lines = (json.dumps(pair, ensure_ascii=False) + "\n" for pair in listing)
    storage.write_file(os.path.join(folder, "pairs.txt"), "".join(lines))


def note_undecodable(folder, record, pairs):
    """Notes in run.json the first file that can't be decoded, if there is one.

    No step has seen its pixels, so a repaired file may take its place (see `is_repaired`).
    """
    for path, _ in image_files.undecodable(pair_files.all_images(pairs)):
        write_record(folder, dict(record, undecodable=os.path.relpath(path, pairs.folder)))
        return


def is_repaired(old, now, before):
    """Whether two `pair_files.listing`s of a run's pairs differ in the file alone that run.json, `old`, notes."""
    noted = old.get("undecodable")
    others = [[pair for pair in listing if noted not in pair] for listing in (now, before)]
    return bool(noted) and len(now) == len(before) and [list(pair) for pair in others[0]] == others[1]


def differences(record, old, change):
    """Returns {"pairs", "precision" or "workers": sentence} of what decides the bits of a run and is not as in `old`.

    Args:
      record, old: what run.json holds, of now and of the run; that of an earlier version has no checksum of the pairs
        and no number of workers.
      change: how the pairs differ, as far as that is known (see `pair_files.first_change`).
    """
    found = collections.OrderedDict()
    if old.get("pairs_sha256", record["pairs_sha256"]) != record["pairs_sha256"] or (
            old["pairs"]["train"] != record["pairs"]["train"]):
        found["pairs"] = "--data_dir holds other pairs than the run's%s" % (" (%s)" % change if change else "")
    if record["precision"] != old["precision"]:
        found["precision"] = "--precision is %s here and %s in the run" % (record["precision"], old["precision"])
    if record["workers"] != old.get("workers", 1):
        found["workers"] = "TF_CONFIG makes %d workers here and there were %d in the run" % (
            record["workers"], old.get("workers", 1))
    return found


def ways_out(folder, differing, fits):
    """Says how to go on where something is not as it was in the run in a folder.

    Args:
      folder: of the run.
      differing: the names of the flags that differ; "pairs" and "workers" stand for themselves.
      fits: whether the networks are the run's, so that a new run can begin with its weights.
    """
    back = ["put the pairs back as they were, or name the --data_dir that holds them"] if "pairs" in differing else []
    back += ["start as many workers as there were"] if "workers" in differing else []
    if set(differing) - {"pairs", "workers"}:
        back.append("use " + quoted(flagfile=os.path.join(folder, "flags.txt"), output_dir=folder))
    new = collections.OrderedDict([("init_checkpoint", folder)] if fits else [], output_dir=unused_name(folder))
    other = "for a new run, name another --output_dir; for a new run from its weights" if fits else "for a new run"
    return "To continue it as it was, %s; %s, use the same command with %s" % (" and ".join(back), other, quoted(**new))


def quoted(**flags):
    """Flags as they are written in a shell."""
    return " ".join("--%s=%s" % (name, shlex.quote(value)) for name, value in flags.items())


def unused_name(folder):
    """Returns the first of FOLDER-2, FOLDER-3, ... that does not exist."""
    folder = os.path.normpath(folder)
    return next(name for name in ("%s-%d" % (folder, i) for i in itertools.count(2)) if not os.path.lexists(name))


def run_of(checkpoint):
    """The folder of the run to which a checkpoint, PATH/NAME-STEP, belongs if it belongs to one."""
    run = os.path.dirname(os.path.dirname(checkpoint))
    is_best = os.path.dirname(checkpoint) == best_of(os.path.dirname(run))
    return os.path.dirname(run) if is_best else run


@contextlib.contextmanager
def run_lock(folder):
    """Makes the run folder and holds its lock, which the system takes back when the process ends, however it ends.

    Raises:
      RunError: another process holds it, or the folder can't be written.
    """
    storage.make_folders(folder)
    lock = filelock.FileLock(os.path.join(folder, "lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise RunError("%s: %s is training there; wait for it, or name another --output_dir"
                       % (folder, process_of_the_run(folder)))
    try:
        yield
    finally:
        lock.release()


def process_of_the_run(folder):
    """Says which process wrote the run's record, as far as it tells."""
    try:
        with open(os.path.join(folder, "run.json")) as file:
            return "process %(pid)s on %(host)s" % json.load(file)["process"]
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
