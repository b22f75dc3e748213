"""What the tests share: small pairs on disk, and train.py's modes called in this process."""

import contextlib
import csv
import itertools
import json
import os
import re
import socket
import subprocess
import sys

import hypothesis
import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl.testing import flagsaver

import train

hypothesis.settings.register_profile("steady", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("steady")

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
LIMIT = 400  # seconds after which a hang is one, on a busy machine
PORTS = itertools.cycle(40 * (os.getpid() % 400) + port for port in range(15000, 15040))
SMALL = ("--image_size=32", "--ngf=2", "--ndf=2", "--batch_size=2", "--precision=float32",
         "--log_every=1", "--sample_every=4", "--save_every=4", "--val_every=0")


def call(*argv):
    """Runs train.py in this process; returns its exit status."""
    with flagsaver.flagsaver():
        train.FLAGS(["train.py", *map(str, argv)])
        try:
            return train.main(["train.py"])
        except SystemExit as error:
            return error.code


def write_pairs(folder, count, size=40, extension=".png"):
    """Writes `count` pairs of smooth random halves, size x 2 size pixels, as 1.png, 2.png, ..."""
    os.makedirs(folder, exist_ok=True)
    for number in range(1, count + 1):
        coarse = np.random.RandomState(number).randint(0, 256, (size // 8, size // 4, 3), np.uint8)
        imageio.imwrite(os.path.join(folder, "%d%s" % (number, extension)), coarse.repeat(8, 0).repeat(8, 1))


def write_folders(folder, names_a, names_b, size_b=(16, 16), sides=("A", "B")):
    """Writes pictures of one colour into the two folders `sides` below a folder, 16x16 pixels in the first."""
    for side, names, size, value in ((sides[0], names_a, (16, 16), 40), (sides[1], names_b, size_b, 200)):
        os.makedirs(os.path.join(str(folder), side))
        for number, name in enumerate(names):
            imageio.imwrite(os.path.join(str(folder), side, name), np.full((*size, 3), value + 10 * number, np.uint8))


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A data_dir with 5 training and 2 validation pairs."""
    folder = tmp_path_factory.mktemp("data")
    write_pairs(str(folder / "train"), 5)
    write_pairs(str(folder / "val"), 2)
    return str(folder)


def free_addresses(count):
    """Addresses whose ports stay free until a program is up: the system itself gives away only ports from 32768 on, and
    another process of tests has others.
    """
    found = []
    while len(found) < count:
        port = next(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("localhost", port)):
            found.append("localhost:%d" % port)
    return found


def options(*argv):
    """The Options that flags give."""
    with flagsaver.flagsaver():
        train.FLAGS(["train.py", *argv])
        return train.options_in_force()


def command(*argv):
    """The command line that runs train.py in a process of its own."""
    return [sys.executable, os.path.join(ROOT, "train.py"), *argv]


def several_commands(*argvs, python=sys.executable, **environment):
    """Runs train.py with flags, again and again, in one process of its own; returns [exit status, output] of each."""
    result = subprocess.run([python, os.path.join(ROOT, "tests", "several_commands.py"), json.dumps(argvs)],
                            stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ, **environment))
    return json.loads(result.stdout)


@pytest.fixture
def run(data, capsys):
    """Returns a function that runs train.py with flags, and returns (exit status, what it printed)."""

    def run_train(*argv):
        with flagsaver.flagsaver():
            train.FLAGS(["train.py", "--data_dir=" + data] + list(argv))
            try:
                status = train.main(["train.py"])
            except SystemExit as error:
                status = error.code
        return status, capsys.readouterr().out

    return run_train


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """A finished run of 6 steps, made once for the tests that only look at it or write beside it."""
    folder = str(tmp_path_factory.mktemp("run"))
    with flagsaver.flagsaver():
        train.FLAGS(["train.py", "--data_dir=" + data, "--output_dir=" + folder, "--max_steps=6", *SMALL])
        assert train.main(["train.py"]) == 0
    return folder


@pytest.fixture(scope="session")
def exported(data, trained, tmp_path_factory):
    """The export of `trained`, a folder."""
    with flagsaver.flagsaver():
        folder = str(tmp_path_factory.mktemp("exported"))
        train.FLAGS(["train.py", "--mode=export", "--checkpoint=" + trained, "--data_dir=" + data,
                     "--output_dir=" + folder])
        assert train.main(["train.py"]) == 0
    return os.path.join(folder, "export", "6")


@pytest.fixture
def session():
    """A session on a graph of the test's own."""
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def result_in(output):
    """The folder of a result of test mode, from what it printed."""
    return re.search(r"; open (.*)/index\.html in a browser$", output, re.MULTILINE).group(1)


def picture(result, kind, name):
    """A picture of a result, uint8."""
    return imageio.imread(os.path.join(str(result), "images", kind, "%s.png" % name))


def fingerprint(output):
    """The last line of a run's output."""
    return output.strip().splitlines()[-1].split("fingerprint: ")[1]


def rows(folder):
    with open(os.path.join(str(folder), "metrics.csv")) as file:
        return list(csv.reader(file))


def without_timing(table):
    return [row[:5] + row[6:] for row in table]
