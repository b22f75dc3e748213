"""How the program ends: by signals, with its output dead, on disks that refuse, without memory, on what is too old."""

import contextlib
import errno
import glob
import importlib
import itertools
import os
import pty
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import types

import pytest
import tensorflow.compat.v1 as tf

import train
from conftest import LIMIT, ROOT, SMALL, rows, write_pairs
from support import checkpoints, events, faults, hooks, memory, packages, rendering, stops, storage, workers
from test_workers import BOTH

PROGRAM = os.path.join(ROOT, "train.py")
ENDLESS = [*SMALL, "--save_every=100000", "--epochs=100000"]
python = pytest.mark.parametrize("python", BOTH)


def wait_for(condition, seconds=LIMIT):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end
        time.sleep(0.1)


def as_from_a_terminal():
    """What a child does first: an own session, and signals that the tests' own start may have had ignored."""
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


started = []  # processes of the test at hand


def start(argv, python=sys.executable, limit=None, **options):
    def first():
        as_from_a_terminal()
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = subprocess.Popen([python, PROGRAM, *argv], text=True, preexec_fn=first,
                               **dict({"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}, **options))
    started.append(process)
    return process


@pytest.fixture(autouse=True)
def nothing_runs_on():
    """Ends what a failed test left running."""
    yield
    while started:
        started.pop().kill()


def steps_of(folder):
    return len(rows(folder)) - 1 if os.path.exists(os.path.join(str(folder), "metrics.csv")) else 0


def saved_in(folder):
    return checkpoints.step_of(checkpoints.newest(os.path.join(str(folder), "checkpoints")) or "")


# ---------------------------------------------------------------------------------------------
# Dead output


@python
def test_ctrl_c_saves_though_the_reader_of_the_output_dies_of_it_too(data, tmp_path, python):
    argv = ["--data_dir=" + data, "--output_dir=%s" % tmp_path, *ENDLESS]
    process = start(argv, python)
    assert process.stdout.readline().startswith("reading 5 pairs from")  # nothing of TensorFlow's is before it
    assert process.stdout.readline().startswith("starting %s" % tmp_path)
    wait_for(lambda: steps_of(tmp_path) > 2)
    process.stdout.close()  # what tee's death does
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(LIMIT) == 130
    assert saved_in(tmp_path) >= 3


@python
def test_a_terminal_that_closes_saves(data, tmp_path, python):
    pid, terminal = pty.fork()
    if not pid:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests' may be off
        os.execv(python, [python, PROGRAM, "--data_dir=" + data, "--output_dir=%s" % tmp_path, *ENDLESS])

    def has_steps():
        while select.select([terminal], [], [], 0)[0]:
            os.read(terminal, 4096)
        return steps_of(tmp_path) > 2

    wait_for(has_steps)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert (os.WIFEXITED(status), os.WEXITSTATUS(status)) == (True, 129)
    assert saved_in(tmp_path) >= 3


DEAD = [">&- 2>&- <&-", "2>&-", "> /dev/full 2>&1", "2>&1 | head -1"]
PRINTS = """
import sys
from support import streams
streams.protect()
for i in range(300):
    print(1000 * "x", "\\u00e9")
    print("y", file=sys.stderr)
with open(sys.argv[1], "w") as file:
    file.write("done")
print("z")
sys.exit(3)
"""


@pytest.mark.parametrize("redirection", DEAD)
def test_what_is_printed_into_nothing_changes_neither_files_nor_the_status(tmp_path, redirection):
    script = 'set -o pipefail; "$@" ' + redirection
    result = subprocess.run(["bash", "-c", script, "bash", sys.executable, "-c", PRINTS, str(tmp_path / "file")],
                            cwd=ROOT, capture_output=True, text=True, check=False,
                            env=dict(os.environ, PYTHONIOENCODING="ascii", PYTHONPATH=ROOT))
    assert result.returncode == 3 and (tmp_path / "file").read_text() == "done"
    assert "Error" not in result.stderr


def test_a_slow_reader_of_a_non_blocking_pipe_gets_all(tmp_path):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = subprocess.Popen([sys.executable, "-c", PRINTS, str(tmp_path / "file")], stdout=writing, cwd=ROOT,
                               stderr=subprocess.DEVNULL)
    os.close(writing)
    time.sleep(0.5)
    with open(reading, "rb") as file:
        assert file.read().endswith(b"z\n") and process.wait(LIMIT) == 3


@pytest.mark.slow
@python
@pytest.mark.parametrize("redirection, number", [*zip(DEAD, itertools.cycle(stops.SIGNALS)),
                                                 *(("", number) for number in stops.SIGNALS)])
def test_any_signal_with_any_output_saves(data, tmp_path, python, redirection, number):
    argv = ["--data_dir=" + data, "--output_dir=%s" % tmp_path, *ENDLESS]
    script = 'echo $$ > "$0.pid"; exec "$@" ' + redirection
    if "|" in redirection:
        script = '(echo $BASHPID > "$0.pid"; exec "$@" 2>&1) | head -1; exit ${PIPESTATUS[0]}'
    process = subprocess.Popen(["bash", "-c", script, str(tmp_path / "bash"), python, PROGRAM, *argv],
                               preexec_fn=as_from_a_terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: steps_of(tmp_path) > 2)
    os.kill(int((tmp_path / "bash.pid").read_text()), number)
    process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + number and saved_in(tmp_path) >= 3


HOLDS = """
import os, sys
from support import streams
with streams.held_stderr():
    os.write(2, b"chatter")
    {}
print("after", file=sys.stderr)
"""


@pytest.mark.parametrize("line, printed", [("pass", "after\n"), ("import nothing_of_this_name", "chatterTraceback"),
                                           ("os.abort()", "Fatal Python error: Aborted"), ("sys.exit('so')", "so\n")])
def test_the_chatter_of_an_import_is_told_only_if_it_fails(line, printed):
    result = subprocess.run([sys.executable, "-c", HOLDS.format(line)], cwd=ROOT, stderr=subprocess.PIPE, text=True,
                            check=False)
    assert result.stderr.startswith(printed), result.stderr


# ---------------------------------------------------------------------------------------------
# Signals


def test_a_second_signal_leaves_at_once(monkeypatch):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    before = signal.getsignal(signal.SIGTERM)
    with stops.Signals() as kept:
        os.kill(os.getpid(), signal.SIGTERM)
        assert left == [] and kept.number == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
        assert left == [128 + signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_ignored_hangup_stays_ignored_as_nohup_wants_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stops.Signals() as kept:
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == kept.receive
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_in_test_mode_leaves_nothing_behind(data, trained, tmp_path):
    folder = shutil.copytree(trained, str(tmp_path / "run"), ignore=shutil.ignore_patterns("test"))
    write_pairs(str(tmp_path / "many"), 3)
    for number in range(4, 2000):  # more than are done before the signal comes, on a busy machine too
        os.link(tmp_path / "many" / "1.png", tmp_path / "many" / ("%d.png" % number))
    process = start(["--mode=test", "--output_dir=" + folder, "--data_dir=%s" % (tmp_path / "many")])
    wait_for(lambda: os.path.isdir(os.path.join(folder, "test")) and os.listdir(os.path.join(folder, "test")))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 143 and "Traceback" not in output
    assert os.listdir(os.path.join(folder, "test")) == []


def of_process(process, name):
    with open("/proc/%d/%s" % (process.pid, name)) as file:
        return file.read()


def handles_signals(process):
    """Whether train.py has begun: before, Python itself starts, which no program can cover."""
    caught = int(re.search("SigCgt:\t(.*)", of_process(process, "status")).group(1), 16)
    return caught >> signal.SIGTERM - 1 & 1


def interrupted(argv, python, seconds=0.0, library=""):
    """Runs train.py and sends Ctrl-C some seconds after it begins and loads a library; returns (status, its errors)."""
    process = start(argv, python, stderr=subprocess.PIPE)
    wait_for(lambda: handles_signals(process) and library in of_process(process, "maps"))
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=LIMIT)
    return process.returncode, said.splitlines()


@python
def test_ctrl_c_in_the_import_of_tensorflow_ends_without_a_line(data, tmp_path, python):
    argv = ["--data_dir=" + data, "--output_dir=%s" % tmp_path, *SMALL]
    assert interrupted(argv, python, library="tensorflow") == (130, [])


@pytest.mark.slow
@python
@pytest.mark.parametrize("mode", ["train", "test", "export"])
def test_ctrl_c_at_any_moment_ends_with_one_line_at_most(data, trained, tmp_path, capsys, python, mode):
    folder, moments, seen = str(tmp_path / "run"), random.Random(0), {}
    argv = ["--mode=" + mode, "--output_dir=" + folder]
    for _ in range(int(os.environ.get("MOMENTS", 6))):
        shutil.rmtree(folder, ignore_errors=True)
        if mode != "train":
            shutil.copytree(trained, folder)
        before = set(os.listdir(folder)) if mode != "train" else set()
        status, said = interrupted(argv + ["--data_dir=" + data, "--max_steps=30", *SMALL] * (mode == "train"), python,
                                   moments.uniform(0, 11))
        assert status in (0, 130) and len(said) <= 1, (status, said)
        left = set(os.listdir(folder)) - before if os.path.exists(folder) else set()
        assert mode == "train" or left <= {mode}, left
        seen[status] = seen.get(status, 0) + 1
    with capsys.disabled():
        print("\n%s: %s" % (mode, seen))


@pytest.mark.parametrize("last, status, says", [
    ("sys.exit(7)", 7, ""), ("sys.exit('error: so')", 1, "error: so\n"), ("pass", 0, ""),
    ("raise ValueError('x')", 1, "Traceback")])
def test_the_process_ends_whatever_still_runs_in_it(last, status, says):
    script = ("import sys, threading, time\nfrom support import stops\n"
              "threading.Thread(target=time.sleep, args=[600]).start()\nwith stops.ending_the_process():\n    " + last)
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False,
                            timeout=LIMIT)
    assert result.returncode == status and result.stderr.startswith(says) and bool(result.stderr) == bool(says)


# ---------------------------------------------------------------------------------------------
# What the disk refuses


@python
def test_a_picture_that_cannot_be_written_ends_test_mode_with_a_line(trained, tmp_path, python):
    folder = shutil.copytree(trained, str(tmp_path / "run"))
    shutil.rmtree(os.path.join(folder, "test"), ignore_errors=True)
    process = start(["--mode=test", "--output_dir=" + folder], python, limit=1000)
    output, _ = process.communicate(timeout=LIMIT)
    read, line = output.splitlines()
    assert read.startswith("reading 2 pairs from ")
    assert process.returncode == 1 and line.startswith("error: %s" % folder) and ".png: File too large; " in line
    assert "disk" not in line and os.listdir(os.path.join(folder, "test")) == []


def test_an_error_in_test_mode_leaves_no_session_behind(run, trained, monkeypatch):
    def write_png(path, image):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    before = set(threading.enumerate())
    monkeypatch.setattr(rendering, "write_png", write_png)
    status, _ = run("--mode=test", "--output_dir=" + trained)
    assert "No space left on device; make room or repair the disk" in status
    assert not [thread for thread in set(threading.enumerate()) - before if "Queue" in thread.name]


@pytest.mark.parametrize("where", [
    "metrics.csv", "samples", pytest.param("events.out.tfevents", marks=pytest.mark.slow)])
def test_a_step_behind_which_nothing_can_be_written_is_saved(run, tmp_path, monkeypatch, where):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / where))

    def from_step_3(whole, step_of):
        return lambda *arguments: (refuse if step_of(*arguments) >= 3 else whole)(*arguments)

    monkeypatch.setattr(*{
        "metrics.csv": (storage, "append", from_step_3(
            storage.append, lambda path, text: int(text.split(",")[0]))),
        "events.out.tfevents": (events.EventWriter, "add_summary", from_step_3(
            events.EventWriter.add_summary, lambda writer, summary, step: step)),
        "samples": (hooks.Samples, "write", from_step_3(
            hooks.Samples.write, lambda samples, session, step: step))}[where])
    argv = ["--output_dir=%s" % tmp_path, *SMALL, "--save_every=100", "--sample_every=3"]
    status, _ = run(*argv, "--max_steps=6")
    assert status == "error: %s: No space left on device; make room or repair the disk, and the same command " \
                     "continues" % (tmp_path / where)
    assert saved_in(tmp_path) == 3
    monkeypatch.undo()
    assert run(*argv, "--max_steps=3")[0] == 0


@pytest.mark.slow
@python
def test_a_limit_on_the_size_of_files_saves_and_names_the_file(data, tmp_path, python):
    process = start(["--data_dir=" + data, "--output_dir=%s" % tmp_path, *ENDLESS, "--sample_every=2"], python,
                    limit=1300000)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 1 and "Traceback" not in output
    assert re.search(r"\nerror: \S+/events.out.tfevents\S+: File too large; raise the limit .*ulimit -f.*\n$", output)
    assert saved_in(tmp_path) == steps_of(tmp_path) > 2


@pytest.mark.parametrize("number, advised", [
    (errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, True), (errno.EROFS, True), (errno.EFBIG, False),
    (errno.ENAMETOOLONG, False), (errno.EACCES, False), (errno.ENOTDIR, False)])
def test_room_is_advised_where_a_disk_lacks_it_and_the_file_is_named(tmp_path, number, advised):
    with pytest.raises(faults.RunError, match="^%s: %s" % (tmp_path / "x", re.escape(os.strerror(number)))) as raised, (
            faults.naming_failures("folder", "less")), storage.naming(str(tmp_path / "x")):
        raise OSError(number, os.strerror(number))
    assert ("make room" in str(raised.value)) == advised


# ---------------------------------------------------------------------------------------------
# Memory

ONEDNN = ("Operation received an exception:Status: 1, message: could not create a primitive, in file "
          "tensorflow/core/kernels/mkl/mkl_conv_ops.cc:800\n\t [[{{node generator/encoder_1/Conv2D}}]]")
LACKING = [tf.errors.AbortedError(None, None, ONEDNN), MemoryError("std::bad_alloc"),
           tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[1]\n\t [[{{node x}}]]")]


@pytest.mark.parametrize("error", LACKING)
def test_a_lack_of_memory_is_a_line_with_what_to_make_smaller(error):
    with pytest.raises(faults.RunError) as raised, faults.naming_failures("folder", memory.LESS["train"]):
        raise error
    status = str(raised.value)
    assert status.startswith("not enough memory") and "\n" not in status and "--batch_size" in status


def test_a_lack_of_memory_in_training_is_a_line(run, tmp_path, monkeypatch):
    def before_run(hook, context):
        raise LACKING[0]

    monkeypatch.setattr(hooks.StopOnNan, "before_run", before_run)
    status, _ = run("--output_dir=%s" % tmp_path, *SMALL)
    assert status.startswith("error: not enough memory") and "\n" not in status and "--batch_size" in status


def test_a_lack_of_memory_in_test_mode_names_the_picture(run, trained, monkeypatch):
    whole = checkpoints.restored_session

    def session(*arguments):
        made = whole(*arguments)
        monkeypatch.setattr(made, "run", lambda *arguments: (_ for _ in ()).throw(LACKING[0]))
        return made

    monkeypatch.setattr(checkpoints, "restored_session", session)
    status, _ = run("--mode=test", "--output_dir=" + trained)
    assert "not enough memory for 1.png at 32x32 pixels (" in status and "--test_resize" in status


def test_a_lack_of_memory_is_no_lost_worker():
    team = workers.Workers('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}')
    began = time.time()
    for error in LACKING:
        with pytest.raises(type(error)), team.naming_lost():
            raise error
    assert time.time() - began < 5
    assert not faults.is_of_memory(tf.errors.AbortedError(None, None, "Collective ops is aborted by: " + ONEDNN))
    assert not faults.is_of_memory(tf.errors.AbortedError(None, None, ONEDNN.replace("1", "3").replace(
        "primitive", "primitive descriptor")))


# ---------------------------------------------------------------------------------------------
# What is too old, or missing


@pytest.mark.parametrize("version", ["3.6"])
def test_a_python_that_is_too_old_gets_a_line(version):
    found = glob.glob(os.path.expanduser("~/.pyenv/versions/%s.*/bin/python" % version)) + list(
        filter(None, [shutil.which("python" + version)]))
    if not found:
        pytest.skip("no Python %s here" % version)
    result = subprocess.run([found[0], PROGRAM], stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert re.fullmatch(r"error: train\.py needs Python 3\.7 or later; this is %s\.\d+\n" % version, result.stderr)


@pytest.mark.parametrize("name", ["scipy", "tqdm", "PIL", "filelock"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    says = "^error: the package %s is missing; %s -m pip install -r .*requirements.txt$" % (name, sys.executable)
    with pytest.raises(SystemExit, match=says), packages.needed():
        importlib.import_module(name)


@pytest.mark.parametrize("name, says", [("absl", "absl is missing"), ("tensorflow", "tensorflow is too old")])
def test_a_missing_package_ends_the_program_with_that_line(name, says):
    script = "import runpy, sys, types; sys.modules[%r] = %s; runpy.run_path(%r, run_name='__main__')" % (
        name, "types.ModuleType('tensorflow')" if "old" in says else None, PROGRAM)
    result = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT,
                            env=dict(os.environ, PYTHONPATH=ROOT))
    assert result.returncode == 1 and result.stderr == "error: the package %s; %s -m pip install -r %s\n" % (
        says, sys.executable, os.path.join(ROOT, "requirements.txt"))


@pytest.mark.parametrize("version, supported", [
    ("1.15.5", True), ("2.16.2", True), ("2.21.0", True), ("2.22.0.dev20261101", True), ("3.0.0", True),
    ("1.14.0", False), ("2.0.0", False), ("2.15.1", False)])
def test_a_tensorflow_that_is_too_old_is_a_line(monkeypatch, version, supported):
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(__version__=version))
    with contextlib.nullcontext() if supported else pytest.raises(SystemExit, match="this is TensorFlow " + version), (
            packages.needed()):
        pass


def test_the_line_on_what_starts_is_before_the_layers(run, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise faults.RunError("so")

    monkeypatch.setattr(train, "training_session", refuse)
    _, output = run("--output_dir=%s" % tmp_path, *SMALL, "--max_steps=1")
    lines = output.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("generator/"))
    assert any(line.startswith("starting %s" % tmp_path) for line in lines[:first])


def test_a_full_disk_behind_the_output_is_reported_once_and_changes_no_status():
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True,
                               check=False)
    assert ended.returncode == 0
    assert ended.stderr == "warning: the standard output can't be written (%s); the program goes on\n" % os.strerror(
        errno.ENOSPC)
