"""Faults of the machine, such as a full disk or a lack of memory, as errors that a user can mend."""

import contextlib
import errno
import os
import re

import tensorflow.compat.v1 as tf

from support.errors import RunError

DISK = "make room or repair the disk"
REMEDIES = {errno.ENOSPC: DISK, errno.EDQUOT: DISK, errno.EIO: DISK, errno.EROFS: DISK,
            errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
            errno.EMFILE: "raise the limit on open files (ulimit -n)",
            errno.EACCES: "get the right to write there", errno.EPERM: "get the right to write there",
            errno.ENAMETOOLONG: "take a shorter name"}

# How oneDNN says it, by way of an AbortedError: its status 1 is a lack of memory, and behind such a lack it also fails
# to make a kernel. An operation that it does not have is a "primitive descriptor" that could not be created.
ONEDNN_MEMORY = re.compile(r"Status: 1, message|"
                           r"could not (create|execute) a primitive(?! desc)|could not (create|initialize) a memory")


@contextlib.contextmanager
def naming_failures(folder, smaller):
    """Turns what the disk refuses, and a lack of memory, into a RunError.

    Args:
      folder: the folder that a message names if nothing else is known.
      smaller: what takes less memory, as a clause.
    """
    try:
        with naming_memory("the program", smaller):
            yield
    except OSError as error:
        raise RunError(refusal(error.filename or folder, error.strerror or str(error)))
    except tf.errors.ResourceExhaustedError as error:
        if os.strerror(errno.ENOSPC) not in error.message:
            raise
        raise RunError(refusal(folder, reason_of(error)))


@contextlib.contextmanager
def naming_memory(what, smaller):
    """Turns a lack of memory into a RunError; `what` needs the memory, `smaller` is a clause on what takes less."""
    try:
        yield
    except (tf.errors.OpError, MemoryError) as error:
        if not is_of_memory(error):
            raise
        raise RunError("not enough memory for %s (%s); %s. What was saved before is kept" % (
            what, reason_of(error) if isinstance(error, tf.errors.OpError) else "allocation failed", smaller))


def refusal(path, reason):
    """Returns the sentence on a path that can't be written, or read, for a reason of the system's."""
    return "%s: %s%s" % (path, reason, remedy(reason))


def remedy(reason):
    """Returns the end of a sentence: what to do about a reason of the system's ("No space left on device")."""
    found = [text for number, text in REMEDIES.items() if os.strerror(number) in reason]
    return "; %s, and the same command continues" % found[0] if found else ""


def is_of_memory(error):
    """Whether an error is a lack of memory in this process."""
    if isinstance(error, tf.errors.AbortedError):
        return "Collective ops is aborted" not in error.message and bool(ONEDNN_MEMORY.search(error.message))
    is_disk = isinstance(error, tf.errors.OpError) and os.strerror(errno.ENOSPC) in error.message
    return isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)) and not is_disk


def reason_of(error):
    """The line of a TensorFlow error that says what happened; a trace of graph nodes and some advice are around it."""
    lines = [line.strip() for line in error.message.split("[[")[0].splitlines() if "Restart your program" not in line]
    return next(filter(None, reversed(lines)), error.message)
