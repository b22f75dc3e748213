"""The run folder: its lock and its flags, and files and folders that are written whole or not at all."""

import contextlib
import ctypes
import errno
import json
import os
import sys
import tempfile

import filelock
import imageio.v3 as imageio
import numpy as np
import tensorflow.compat.v1 as tf


class RunError(Exception):
    """The run can't start or go on; the message names the flag or the path and how to fix it."""


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
    write_file(os.path.join(folder, "flags.txt"), text.encode("utf-8", "surrogateescape"))


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
    write_file(os.path.join(folder, "run.json"), json.dumps(record, indent=2) + "\n")


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
    make_folders(folder)
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


def write_file(path, content):
    """Writes text or bytes as a file, whole or not at all."""
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    with open(path + ".tmp", "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)


def sync(*paths):
    """Returns when files and folders are on the disk, where no power cut can take them."""
    for path in paths:
        if os.name != "nt" or os.path.isfile(path):  # Windows can't open a folder
            descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def sync_folder(folder):
    """As `sync`, for all that is in a folder."""
    sync(*(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names + ["."]))


@contextlib.contextmanager
def replacing(folder):
    """Yields an empty folder beside `folder`, which takes its place in one step when all went well.

    Raises:
      RunError: there is a file or a link of this name.
    """
    if os.path.islink(folder) or os.path.isfile(folder):
        raise RunError("%s: not a folder; move it away, the result goes there" % folder)
    make_folders(os.path.dirname(folder))
    with tempfile.TemporaryDirectory(prefix=os.path.basename(folder) + ".", dir=os.path.dirname(folder)) as beside:
        new = os.path.join(beside, "new")
        os.mkdir(new)
        yield new
        sync_folder(new)
        try:
            os.rename(new, folder)
        except OSError:  # it is there and not empty
            exchange(new, folder)
        sync(os.path.dirname(folder))


def exchange(first, second):
    """Swaps two folders, on Linux without a moment in which one of them is missing."""
    if sys.platform.startswith("linux"):
        here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of renameat2(2)
        renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
        if renameat2 and renameat2(here, os.fsencode(first), here, os.fsencode(second), swap) == 0:
            return
    os.rename(second, first + ".old")
    try:
        os.rename(first, second)
    except OSError:
        os.rename(first + ".old", second)
        raise


def pixels(image):
    """[-1, 1] -> uint8, as numpy."""
    return np.uint8(np.round((np.clip(image, -1, 1) + 1) * 127.5))


def write_png(path, image):
    """Writes [H, W, C] in [-1, 1] as a PNG."""
    image = pixels(image)
    write_file(path, imageio.imwrite("<bytes>", image[..., 0] if image.shape[-1] == 1 else image, extension=".png"))


def make_folders(*folders):
    """Makes folders and checks with a temporary file that they are writable; raises RunError where they are not."""
    for folder in folders:
        try:
            os.makedirs(folder, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"test")
        except OSError as error:
            raise RunError("%s: can't write there (%s); name another folder with --output_dir"
                           % (folder, error.strerror))


@contextlib.contextmanager
def naming_failures(folder):
    """Turns a full or broken disk, and a lack of memory, into a RunError; folder: what it names if nothing else is."""
    again = "make room or repair the disk, and the same command continues"
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise
        raise RunError("%s: %s; %s" % (error.filename or folder, error.strerror, again))
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in error.message:
            raise RunError("%s: %s; %s" % (folder, reason_of(error), again))
        raise RunError("TensorFlow ran out of memory (%s); a smaller --batch_size, --image_size, --ngf or --ndf takes "
                       "less. What was saved before is kept" % reason_of(error))
    except RuntimeError as error:
        if "events.out.tfevents" not in str(error):  # how TensorBoard's writer says that a disk is full
            raise
        raise RunError("%s; %s" % (str(error).splitlines()[0], again))


def reason_of(error):
    """The line of a TensorFlow error that says what happened; a trace of graph nodes and some advice are around it."""
    lines = [line.strip() for line in error.message.split("[[")[0].splitlines() if "Restart your program" not in line]
    return next(filter(None, reversed(lines)), error.message)
