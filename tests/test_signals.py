"""Signals: what is saved, what is left behind, and how a run goes on."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from conftest import SMALL, command, rows, write_pairs
from support import hooks


@pytest.mark.parametrize("number,status", [
    (signal.SIGTERM, 143), *(pytest.param(*form, marks=pytest.mark.slow) for form in [
        (signal.SIGINT, 130), (signal.SIGHUP, 129)])])
def test_a_signal_saves_a_checkpoint_and_the_same_command_continues(data, run, tmp_path, number, status):
    argv = ["--data_dir=" + data, "--output_dir=%s" % tmp_path, *SMALL, "--save_every=100000", "--epochs=100000"]
    process = subprocess.Popen(command(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))  # the tests' may be off
    wait_for(lambda: os.path.exists(tmp_path / "metrics.csv") and len(rows(tmp_path)) > 3)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    step = int(re.search(r"stopped and saved at step (\d+)", output).group(1))
    assert os.path.exists(tmp_path / "checkpoints" / ("model.ckpt-%d.index" % step))
    assert "from step %d" % step in run(*argv, "--max_steps=%d" % (step + 1))[1]


def test_a_signal_in_test_mode_leaves_nothing_behind(data, trained, tmp_path):
    folder = shutil.copytree(trained, str(tmp_path / "run"))
    write_pairs(str(tmp_path / "many"), 3)
    for number in range(4, 400):
        os.link(tmp_path / "many" / "1.png", tmp_path / "many" / ("%d.png" % number))
    before = os.listdir(folder)
    process = subprocess.Popen(command("--mode=test", "--output_dir=" + folder, "--data_dir=%s" % (tmp_path / "many")),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(os.listdir(folder)) > len(before))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143 and "Traceback" not in errors
    assert sorted(os.listdir(folder)) == sorted(before)


def test_a_second_signal_leaves_at_once(monkeypatch):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    hook, before = hooks.Signals(), signal.getsignal(signal.SIGTERM)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        assert left == [] and hook.number == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
        assert left == [128 + signal.SIGINT]
    finally:
        hook.close()
    assert signal.getsignal(signal.SIGTERM) != before


def test_an_ignored_hangup_stays_ignored_as_nohup_wants_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        kept = hooks.Signals()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and signal.getsignal(signal.SIGTERM) == kept.receive
        kept.close()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def wait_for(condition, seconds=120):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end
        time.sleep(0.1)
