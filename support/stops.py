"""How the program ends: by a signal, at any moment, and by itself.

Nothing here prints or raises inside a signal's handler, which may run in the middle of any code. It is imported first,
so it imports little itself.
"""

import contextlib
import os
import signal
import sys

before_leaving = []  # functions without arguments that `leave` calls
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]  # not on Windows


def handle(handler):
    """Makes a function the handler of SIGNALS; returns {number: the handler before}.

    SIGHUP stays ignored where it is, as nohup wants it.
    """
    return {number: signal.signal(number, handler) for number in SIGNALS
            if not (name_of(number) == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN)}


def name_of(number):
    """Returns the name of a signal, such as SIGINT."""
    return signal.Signals(number).name


def leave(number, frame):
    """A handler that ends the process at once with status 128 + number; only `before_leaving` is called before.

    An exception, as Python raises it for Ctrl-C, would come out of the middle of TensorFlow's code, which is not made
    for that.
    """
    del frame
    for call in before_leaving:
        call()
    os._exit(128 + number)


class Signals:
    """A handler that only keeps the first signal, for a loop that ends when it can; a second one leaves at once.

    Attributes:
      number: of the first one that came, or 0.
    """

    def __init__(self):
        self.number = 0

    def __enter__(self):
        self.before = handle(self.receive)
        return self

    def receive(self, number, frame):
        if self.number:
            leave(number, frame)
        self.number = number

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ending_the_process():
    """Ends the process behind the block, with the status that sys.exit was called with, as soon as all is printed.

    Python's own exit would wait for what still runs in threads of TensorFlow's, and take its parts down in an order in
    which some of them hang or print a trace behind the last line.
    """
    status = 0
    try:
        yield
    except SystemExit as error:
        status = error.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
