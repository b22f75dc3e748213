"""Several commands of train.py in one process, on a TensorFlow or in an environment that is not the tests' own.

    python tests/several_commands.py '[["--max_steps=1"], ["--mode=test"]]'

It prints a JSON list of [exit status or message, output], one for each command.
"""

import contextlib
import io
import json
import os
import sys

from absl.testing import flagsaver

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import train


def called(argv):
    """What conftest.py's `run` returns, here."""
    output = io.StringIO()
    with flagsaver.flagsaver(), contextlib.redirect_stdout(output):
        try:
            status = train.main(train.parse(["train.py", *argv]))
        except SystemExit as error:
            status = error.code
    return status, output.getvalue()


if __name__ == "__main__":
    print(json.dumps([called(argv) for argv in json.loads(sys.argv[1])]))
