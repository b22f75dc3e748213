"""The progress line on real pseudo-terminals and without one, and what metrics.csv and TensorBoard say beside it."""

import fcntl
import glob
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import types

import pytest
import tensorflow.compat.v1 as tf
import tqdm
from absl.testing import flagsaver

import train
from conftest import ROOT, SMALL, fingerprint, rows
from support import checkpoints, events, hooks, precisions, progress_line, reports

FIELDS = r"step +\d+/\d+  L1 \d\.\d{4}  .{5} left  .{4} images/s  GAN .{5}  D .{5}"


@pytest.mark.parametrize("width", [4, 5, 6])
def test_a_number_keeps_its_width_and_its_value(width):
    for value in (0.0, 1e-5, 0.12345, 1.0, 9.9999, 9.99996, 27.63, 123.456, 999.96):
        text = progress_line.fixed(value, width)
        assert len(text) == width and float(text) == pytest.approx(value, rel=0.05, abs=0.005)
    for value in (12345.6, 123456.0, 1e9):
        assert float(progress_line.fixed(value, width)) == pytest.approx(value, rel=0.5)


@pytest.mark.parametrize("seconds,text", [
    (0, " 0:00"), (59.9, " 0:59"), (60, " 1:00"), (3599, "59:59"), (3600, " 1h00"), (100 * 3600 - 1, "99h59"),
    (100 * 3600, "   4d")])
def test_a_duration_has_five_characters(seconds, text):
    assert progress_line.duration(seconds) == text


@pytest.mark.parametrize("columns,shown,left_out", [
    (120, "D", "val"), (80, "images/s", "D "), (60, "left", "images/s"), (40, "L1", "left"), (20, "step", "L1")])
@pytest.mark.parametrize("steps", [3200, 16000])
def test_a_narrow_terminal_leaves_the_last_fields_out(columns, shown, left_out, steps):
    lines = []
    for step, scale in ((1, 0.01), (384, 1), (steps - 1, 20)):
        texts = progress_line.fields(step, steps, (1.2 * scale, scale, 0.09 * scale), 11 * scale, 300 * scale)
        lines.append(tqdm.tqdm.format_meter(step, steps, 1, ncols=columns,
                                            bar_format=progress_line.bar_format(texts, columns)))
    assert {len(line) for line in lines} == {columns}
    assert len({tuple(i for i, c in enumerate(line) if c in "|L") for line in lines}) == 1  # nothing moves
    assert all(shown in line and left_out not in line for line in lines)


@pytest.mark.parametrize("value,shown", [(math.nan, "val      -"), (0.12341, "val 0.1234")])
def test_80_columns_have_room_for_validation_before_and_after_the_first_one(value, shown):
    texts = progress_line.fields(384, 16000, (1.2, 1, 0.1), 11, 300, value)
    line = progress_line.bar_format(texts, 79)
    assert "L1 0.1000  %s  " % shown in line and line.endswith("images/s")


def shown_on_a_terminal(columns, argv, then=None):
    """Runs train.py on a pseudo-terminal; returns (exit status, what stood on its lines, one after another).

    Args:
      columns: of the terminal.
      argv: the flags.
      then: columns that the terminal is resized to as soon as a bar is seen.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, os.path.join(ROOT, "train.py"), *argv])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    output = b""
    try:
        while True:
            output += os.read(terminal, 65536)
            if then and b"images/s" in output:
                fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, then, 0, 0))
    except OSError:  # EIO: the program ended
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), re.split(r"[\r\n]+", output.decode())


def test_the_line_fits_an_80_column_terminal_and_follows_its_size(data, tmp_path):
    argv = ["--data_dir=" + data, "--output_dir=%s" % tmp_path, *SMALL, "--max_steps=400", "--save_every=200"]
    status, lines = shown_on_a_terminal(80, argv, then=60)
    assert status == 0
    bars = [line for line in lines if re.match(r" *\d+% \|.*\| step", line)]
    widths = [len(line) for line in bars]
    assert set(widths) == {79, 59} and widths == sorted(widths, reverse=True)
    first = bars[0]
    assert re.match(r" *\d+% \|.{4,}\| step +\d+/400  L1 \d\.\d{4}  .{5} left  .{4} images/s", first)
    assert re.match(r"100% \|\S+\| step 400/400  L1 \d\.\d{4}  .{5} left$", bars[-1])


def test_without_a_terminal_a_line_comes_within_10_seconds_and_then_every_30(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress_line, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    line, printed = progress_line.ProgressLine(0, 100), []
    for step in range(1, 31):
        now[0] += 4
        line.update(step, (1.2, 0.9, 0.1), 3.5)
        text = capsys.readouterr().out
        if text:
            assert re.fullmatch(r" *%d%%  %s\n" % (step, FIELDS), text)
            printed.append((now[0], len(text)))
    assert [time for time, _ in printed] == [8, 36, 64, 92, 120] and len({length for _, length in printed}) == 1


def test_the_time_left_counts_all_that_is_done_and_the_rate_is_given(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress_line, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    line = progress_line.ProgressLine(10, 40)
    now[0] = 100
    line.update(20, (1.2, 0.9, 0.1), 3.5)
    text = capsys.readouterr().out
    assert text == " 50%  step 20/40  L1 0.1000   3:20 left  3.50 images/s  GAN 0.900  D 1.200\n"


def test_the_rate_is_that_of_the_steps_alone(run, tmp_path, monkeypatch):
    clock = [0.0]

    def tick():
        clock[0] += 1
        return clock[0]

    def slow(function):
        def call(*arguments):
            clock[0] += 100
            return function(*arguments)
        return call

    monkeypatch.setattr(hooks, "time", types.SimpleNamespace(perf_counter=tick))
    monkeypatch.setattr(hooks.Checkpoints, "save", slow(hooks.Checkpoints.save))
    monkeypatch.setattr(hooks.Samples, "write", slow(hooks.Samples.write))
    monkeypatch.setattr(hooks.Metrics, "log", slow(hooks.Metrics.log))
    monkeypatch.setattr(events, "described", slow(events.described))
    status, _ = run("--output_dir=%s" % tmp_path, *SMALL, "--save_every=2", "--sample_every=3", "--max_steps=7",
                    "--log_every=2")
    assert status == 0 and clock[0] > 800
    assert [row[5] for row in rows(tmp_path)] == ["images_per_second", "2", "2", "2", "2"]


def test_tensorboard_has_tags_in_groups_with_descriptions(trained):
    path, = glob.glob(os.path.join(trained, "events*"))
    steps, descriptions, plugins = {}, {}, []
    for event in tf.train.summary_iterator(path):
        for value in event.summary.value:
            steps.setdefault(value.tag, []).append(event.step)
            if value.tag not in descriptions:  # TensorFlow writes the metadata of a tag once
                descriptions[value.tag] = value.metadata.summary_description
                plugins.append(value.metadata.plugin_data.plugin_name)
    assert all(descriptions.values()) and set(plugins) == {"scalars", "images", "histograms"}
    assert {tag.split("/")[0] for tag in steps} == {"loss", "discriminator", "gradient", "speed", "batch", "samples"}
    assert {tag.split("/")[-1] for tag in steps if "/image/" not in tag} >= set(rows(trained)[0][1:])
    assert steps["loss/d_loss"] == steps["gradient/g_gradient_norm"] == [1, 2, 3, 4, 5, 6]
    assert steps["samples/fixed_pairs"] == [0, 4, 6]
    assert steps["batch/inputs/image/0"] == steps["discriminator/logits_real"] == [4, 6]


@pytest.mark.skipif(not precisions.runs_bfloat16(), reason="this CPU has no bfloat16")
def test_pictures_of_a_batch_change_no_bit_in_bfloat16(run, tmp_path):
    argv = [*SMALL, "--max_steps=6", "--precision=bfloat16", "--image_size=64", "--ngf=16", "--ndf=16",
            "--batch_size=4"]
    outputs = [run("--output_dir=%s" % (tmp_path / every), *argv, "--sample_every=" + every)[1] for every in ("2", "9")]
    assert fingerprint(outputs[0]) == fingerprint(outputs[1])


@pytest.mark.parametrize("epoch_steps,max_steps,decays,says", [
    (5, 0, False, "a larger --epochs continues it, "),
    (9, 5, False, "a larger --max_steps continues it, "),
    (5, 5, False, "a larger --epochs and --max_steps continues it, "),
    (9, 5, True, "a larger --max_steps continues it, "),
    (5, 0, True, "")])
def test_a_finished_run_says_what_continues_it(epoch_steps, max_steps, decays, says):
    assert reports.way_on(5, [("--epochs", epoch_steps), ("--max_steps", max_steps)], decays) == says


def test_a_finished_run_explains_its_fingerprint_before_the_last_line(run, trained, data):
    status, output = run("--output_dir=" + trained, "--max_steps=6", *SMALL)
    finished, explanation, last = output.splitlines()[-3:]
    assert status == 0 and "finished, 6 steps done; a larger --max_steps continues it" in finished
    assert "--mode=test --output_dir=%s" % trained in finished and "weights" in explanation
    assert last == "fingerprint: " + checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))


@pytest.mark.parametrize("flag", ["--epoch=3", "--epochs=x", "--gan_loss=lsgn", "--flagfile=flagfile", "--eps=0.5",
                                  "--batch_size"])
def test_a_flag_error_points_to_help(flag):
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as refused:
        train.parse(["train.py", flag])
    first, last = refused.value.code.splitlines()
    assert first.startswith("error: ") and flag.lstrip("-").split("=")[0] in first
    assert last == "python train.py --help lists all flags"
    assert flag != "--epoch=3" or "Did you mean: epochs" in first


def test_make_alone_prints_its_targets():
    result = subprocess.run(["make", "--no-print-directory", "-C", ROOT], capture_output=True, text=True, check=True)
    names = [line.split("\t")[0] for line in result.stdout.splitlines()]
    assert names == ["make help", "make train", "make test", "make lint", "make lock"]
