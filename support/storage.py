"""Files and folders that are written whole or not at all, and are on the disk before they take their names."""

import contextlib
import ctypes
import os
import sys
import tempfile

from support.errors import RunError


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
