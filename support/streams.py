"""Standard output and error of a program whose work must not depend on who listens.

A terminal may be closed, a reader of a pipe may leave, the disk behind a log may be full. Python would raise an error
from the next `print`, wherever it stands, or fail when it exits.
"""

import contextlib
import errno
import faulthandler
import io
import os
import select
import sys
import tempfile


class Lasting(io.FileIO):
    """A file descriptor that takes all that is written to it, and loses what can't be delivered."""

    told = False  # whether a full disk was reported

    def write(self, content):
        try:
            written = super().write(content)
            while written is None:  # somebody made the descriptor non-blocking, and the reader is slow
                select.select([], [self], [])
                written = super().write(content)
            return written
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # a disk may have room again later
                point_to_nothing(self.fileno())  # for TensorFlow, which writes to the descriptor itself, too
            elif self.fileno() == 1 and not self.told:
                self.told = True
                with contextlib.suppress(OSError):
                    os.write(2, b"warning: the standard output can't be written (%s); the program goes on\n"
                             % os.strerror(error.errno).encode())
            return len(content)


def point_to_nothing(descriptor):
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def protect():
    """Makes `print` and the like never raise in this process, whatever happens to its standard output and error."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed, so that the next file to be opened would get its number, and what is printed
            os.open(os.devnull, os.O_RDWR)
    if os.name != "nt":  # Windows' console is not written to as a file is
        sys.stdout, sys.stderr = (io.TextIOWrapper(
            io.BufferedWriter(Lasting(descriptor, "w", closefd=False)), getattr(stream, "encoding", None) or "utf-8",
            "backslashreplace", line_buffering=True) for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)))


@contextlib.contextmanager
def held_stderr():
    """Keeps back what is written to file descriptor 2 meanwhile, and gives it out only if an error is raised.

    TensorFlow tells things about itself when it is imported, and from 2.16 on no setting of its own silences that.
    """
    said, is_ours = b"", not faulthandler.is_enabled()
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        before = os.dup(2)
        if is_ours:  # so that an end by a signal, such as that of a CPU too old for TensorFlow, leaves a trace
            faulthandler.enable(before)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            sys.stderr.flush()
            held.seek(0)
            said = held.read()
            raise
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            if is_ours:
                faulthandler.disable()
            os.close(before)
            sys.stderr.write(said.decode("utf-8", "replace"))
