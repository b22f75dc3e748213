"""The run folder: its lock and its flags, and files and folders that are written whole or not at all."""

import contextlib
import json
import os

import filelock

from support import storage
from support.errors import RunError


def checkpoints_of(folder):
    """The folder of a run's checkpoints."""
    return os.path.join(folder, "checkpoints")


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


def write_record(folder, record):
    """Writes run.json."""
    storage.write_file(os.path.join(folder, "run.json"), json.dumps(record, indent=2) + "\n")


def differences(record, old):
    """Returns a sentence for each thing, flags apart, that decides the bits of a run and is another than in `old`.

    Both are what run.json holds; that of an earlier version has no checksum of the pairs and no number of workers.
    """
    found = []
    if old.get("pairs_sha256", record["pairs_sha256"]) != record["pairs_sha256"] or (
            old["pairs"]["train"] != record["pairs"]["train"]):
        found.append("--data_dir holds other pairs than the run's")
    if record["precision"] != old["precision"]:
        found.append("--precision is %s here and %s in the run" % (record["precision"], old["precision"]))
    if record["workers"] != old.get("workers", 1):
        found.append("TF_CONFIG makes %d workers here and there were %d in the run"
                     % (record["workers"], old.get("workers", 1)))
    return found


def newest_export(folder):
    """Returns the export of the highest step in a run's export folder; raises RunError where there is none."""
    steps = [int(name) for name in (os.listdir(folder) if os.path.isdir(folder) else []) if name.isdigit()]
    if not steps:
        raise RunError("%s: no export there; make one with --mode=export" % folder)
    return os.path.join(folder, str(max(steps)))


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
