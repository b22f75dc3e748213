"""Files and folders that are written whole or not at all, and are on the disk before they take their names."""

import contextlib
import ctypes
import os
import shutil
import sys
import tempfile

from support import stops
from support.errors import RunError

temporary = set()  # the folders of `folder_beside` that there may be


def write_file(path, content):
    """Writes text or bytes as a file, whole or not at all."""
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    with naming(path):
        try:
            with open(path + ".tmp", "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(path + ".tmp", path)
        except OSError:
            with contextlib.suppress(OSError):
                os.remove(path + ".tmp")
            raise


def append(path, text):
    """Writes text at the end of a file."""
    with naming(path), open(path, "a") as file:
        file.write(text)


@contextlib.contextmanager
def naming(path):
    """Makes an OSError name a path; where a file is written, as on a full disk, it names none."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise


def link(source, target):
    """Gives a file, which must never change, a second name; copies it where the file system has no such links."""
    try:
        os.link(source, target)
    except OSError:
        with naming(target):
            shutil.copyfile(source, target)


def sync(*paths):
    """Returns when files and folders are on the disk, where no power cut can take them."""
    for path in paths:
        if os.name != "nt" or os.path.isfile(path):  # Windows can't open a folder
            descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
            try:
                with naming(path):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)


def sync_folder(folder):
    """As `sync`, for all that is in a folder."""
    sync(*(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names + ["."]))


@contextlib.contextmanager
def folder_beside(path):
    """Yields a new temporary folder beside a path, as an absolute path."""
    parent, name = os.path.split(os.path.abspath(path))
    folder = tempfile.mktemp(prefix=name + ".", dir=parent)
    temporary.add(folder)  # before it is there, so that no signal comes in between
    try:
        os.mkdir(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        temporary.discard(folder)


def remove_temporary():
    """Removes the folders of `folder_beside`, where a signal ends the process in the middle."""
    for folder in list(temporary):
        shutil.rmtree(folder, ignore_errors=True)


stops.before_leaving.append(remove_temporary)


@contextlib.contextmanager
def replacing(folder):
    """Yields an empty folder beside `folder`, which takes its place in one step when all went well.

    Raises:
      RunError: there is a file or a link of this name.
    """
    if os.path.islink(folder) or os.path.isfile(folder):
        raise RunError("%s: not a folder; move it away, because the result gets this name" % folder)
    make_folders(os.path.dirname(folder))
    with folder_beside(folder) as beside:
        new = os.path.join(beside, "new")
        os.mkdir(new)
        yield new
        sync_folder(new)
        try:
            os.rename(new, folder)
        except OSError:  # it is there and not empty
            exchange(new, folder)
        sync(os.path.dirname(folder))


def is_left_over(folder):
    """Whether a folder is one of `folder_beside` that `replacing` left when its process was killed."""
    return os.path.isdir(folder) and set(os.listdir(folder)) <= {"new", "new.old"}


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
