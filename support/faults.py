"""Faults of the machine, such as a full disk or a lack of memory, as errors that a user can mend."""

import contextlib
import errno

import tensorflow.compat.v1 as tf

from support.errors import RunError


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
