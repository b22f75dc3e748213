"""Validation in the run: its rows, the best checkpoint, what a kill leaves of both, and the page that shows them."""

import glob
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess

import pytest
import tensorflow.compat.v1 as tf
from absl.testing import flagsaver

import reader
import train
from conftest import ROOT, SMALL, fingerprint, options, result_in, write_pairs
from support import charts, checkpoints, data_flags, gallery, hooks, pair_files, run_folder, validation
from test_checkpoints import tensors
from test_workers import BOTH, Team

ARGV = [*SMALL, "--max_steps=6", "--val_every=1", "--best_by=l1", "--keep=1", "--ema=0"]


@pytest.fixture(scope="module")
def validated(data, tmp_path_factory):
    """A finished run of 6 steps that was validated after each step, and in which the best step is not the last one."""
    folder = str(tmp_path_factory.mktemp("validated"))
    with flagsaver.flagsaver():
        train.FLAGS(["train.py", "--data_dir=" + data, "--output_dir=" + folder, *ARGV])
        assert train.main(["train.py"]) == 0
    return folder


@pytest.fixture
def copied(validated, tmp_path):
    return shutil.copytree(validated, str(tmp_path / "run"))


def best_step(folder):
    return checkpoints.step_of(checkpoints.best(str(folder)))


def pairs_with_val(folder, bad=()):
    """Writes 2 training pairs and 6 of val; the bad ones have pixels that can't be decoded behind a good header."""
    write_pairs(str(folder / "train"), 2)
    write_pairs(str(folder / "val"), 6)
    for number in bad:
        path = folder / "val" / ("%d.png" % number)
        path.write_bytes(path.read_bytes()[:60])
    return "--data_dir=%s" % folder


# What is measured


@pytest.mark.parametrize("checkpoint", [[], ["--checkpoint=best"]])
def test_a_row_is_what_test_mode_measures_of_that_step(run, validated, data, checkpoint):
    status, output = run("--mode=test", "--output_dir=" + validated, "--split=val", *checkpoint)
    with open(os.path.join(result_in(output), "metrics.json")) as file:
        result = json.load(file)
    step = best_step(validated) if checkpoint else 6
    row, = (row for row in validation.rows_of(validated) if row.step == step)
    assert status == 0 and result["images"] == 2 and os.path.basename(result_in(output)) == "val-%d" % step
    for measure in validation.HIGHER_IS_BETTER:
        assert result[measure]["mean"] == pytest.approx(getattr(row, measure), rel=1e-5)


def test_the_table_has_a_row_a_validation(validated):
    with open(os.path.join(validated, "val_metrics.csv")) as file:
        lines = file.read().splitlines()
    assert lines[0] == "step,epoch,l1,psnr,ssim"
    assert [line.split(",")[:2] for line in lines[1:]] == [["%d" % i, "%.9g" % (i * 2 / 5)] for i in range(1, 7)]
    assert all(re.fullmatch(r"[-\d.e]{1,15}", number) for line in lines[1:] for number in line.split(","))


def test_validation_changes_no_bit_of_a_run(validated, trained):
    found, expected = (tensors(os.path.join(folder, "checkpoints", "model.ckpt-6")) for folder in (validated, trained))
    assert all(expected[name].tobytes() == value.tobytes() for name, value in found.items())  # `trained` has an average


def test_with_interval_0_nothing_is_validated(trained):
    assert not os.path.exists(validation.path_of(trained)) and not os.path.exists(run_folder.best_of(trained))


def test_without_val_nothing_is_validated(run, tmp_path):
    write_pairs(str(tmp_path / "train"), 2)
    status, output = run("--data_dir=%s" % tmp_path, "--output_dir=%s" % (tmp_path / "run"), *SMALL, "--max_steps=1",
                         "--val_every=1")
    assert status == 0 and "every 4 steps a sample grid, every 4 a checkpoint, no validation\n" in output
    assert not (tmp_path / "run" / "val_metrics.csv").exists() and "val " not in output
    assert os.listdir(tmp_path / "run" / "checkpoints").count("best") == 0


@pytest.mark.parametrize("bad,count,measured", [
    ((), 16, "123456"), ((), 2, "12"), ((2, 3), 3, "145"), ((2, 3, 4, 5, 6), 3, "1"), (range(1, 7), 3, "")])
def test_validation_takes_the_first_pairs_of_val_that_can_be_read(tmp_path, capsys, bad, count, measured):
    chosen = options(pairs_with_val(tmp_path, bad), *SMALL, "--val_every=1", "--val_pairs=%d" % count)
    _, pairs = data_flags.fixed_pairs(chosen, pair_files.find_pairs(str(tmp_path / "train")), reader.read_in_order)
    assert [name for name, _, _ in pairs] == ["%s.png" % number for number in measured]
    assert all(image.shape == target.shape == (1, 32, 32, 3) for _, image, target in pairs)
    assert ("warning: %s" % (tmp_path / "val") in capsys.readouterr().out) == bool(bad)


# The best checkpoint

ROWS = [validation.Row(1, 1.0, 0.3, 10.0, math.nan), validation.Row(2, 2.0, 0.2, 12.0, 0.5),
        validation.Row(3, 3.0, 0.2, 11.0, 0.7)]


@pytest.mark.parametrize("by,step", [("l1", 2), ("psnr", 2), ("ssim", 3)])
def test_the_best_row_is_the_first_of_the_best_finite_ones(by, step):
    assert validation.Best("", by).of(ROWS).step == step
    assert validation.Best("", by).of([]) is None


def test_the_best_is_kept_beside_the_newest_whatever_keep_says(validated):
    rows, folder = validation.rows_of(validated), run_folder.checkpoints_of(validated)
    best = min(rows, key=lambda row: row.l1)
    assert best_step(validated) == best.step == 5
    assert [checkpoints.step_of(path) for path in checkpoints.find(folder)[0]] == [6]
    assert checkpoints.newest(folder) == tf.train.latest_checkpoint(folder)
    assert sorted(os.listdir(run_folder.best_of(validated))) == ["checkpoint"] + [
        "model.ckpt-%d.%s" % (best.step, ending) for ending in ("data-00000-of-00001", "index")]
    latest = tf.train.latest_checkpoint(run_folder.best_of(validated))
    assert tf.train.load_checkpoint(latest).get_tensor("global_step") == best.step


def test_export_takes_the_best_and_its_run_is_known(run, validated):
    step = best_step(validated)
    status, _ = run("--mode=export", "--output_dir=" + validated, "--checkpoint=best")
    assert status == 0 and os.path.isdir(os.path.join(validated, "export", "%d" % step))
    assert run_folder.run_of(checkpoints.full_name(run_folder.best_of(validated))) == validated
    assert run_folder.run_of("/a/best/checkpoints/model.ckpt-1") == "/a/best"
    assert run_folder.run_of("/a/best/model.ckpt-1") == "/a"


@pytest.mark.parametrize("mode", ["test", "export"])
def test_a_run_without_a_best_checkpoint_says_what_to_do(run, trained, mode):
    status, _ = run("--mode=" + mode, "--output_dir=" + trained, "--checkpoint=best")
    assert status.startswith("error: %s: no checkpoint there; " % run_folder.best_of(trained)) and "val/" in status


def test_another_measure_takes_the_best_of_what_is_there(run, copied):
    rows = [row._replace(psnr=10.0 + row.step % 5) for row in validation.rows_of(copied)]
    validation.write_rows(copied, rows)  # of steps 5 and 6, which are there, 6 is the best; step 4 is better
    before = best_step(copied)
    assert run("--output_dir=" + copied, *ARGV, "--best_by=psnr")[0] == 0
    assert (before, best_step(copied)) == (5, 6)


# What a kill leaves


def test_a_run_goes_on_with_the_rows_up_to_its_checkpoint_and_ends_as_if_never_stopped(run, validated, tmp_path,
                                                                                       monkeypatch):
    def write_rows(folder, rows, whole=validation.write_rows):
        if rows and rows[-1].step == 3:
            raise OSError(28, os.strerror(28), validation.path_of(folder))
        whole(folder, rows)

    monkeypatch.setattr(validation, "write_rows", write_rows)
    status, _ = run("--output_dir=%s" % tmp_path, *ARGV)  # saves step 3, which has no row then
    assert "%s: No space left on device" % (tmp_path / "val_metrics.csv") in status
    monkeypatch.undo()
    with open(tmp_path / "val_metrics.csv", "a") as file:
        file.write("4,1.6,0.00001,99,1\nno,row\n5,2,0.")  # of a step that was not saved, and half a line
    assert run("--output_dir=%s" % tmp_path, *ARGV)[0] == 0
    for name in ("val_metrics.csv", "checkpoints/best/model.ckpt-5.data-00000-of-00001"):
        with open(tmp_path / name, "rb") as found, open(os.path.join(validated, name), "rb") as expected:
            assert found.read() == expected.read()
    assert best_step(tmp_path) == best_step(validated) == 5


@pytest.mark.parametrize("left", ["nothing", "the one before", "half a link"])
def test_a_best_checkpoint_that_a_kill_prevented_is_made_up_for_even_in_a_finished_run(run, copied, left):
    *rows, last = validation.rows_of(copied)
    validation.write_rows(copied, [*rows, last._replace(l1=0.0)])  # step 6 was the best then
    best, half = run_folder.best_of(copied), os.path.join(run_folder.checkpoints_of(copied), "best.abcd")
    if left == "half a link":
        shutil.copytree(best, os.path.join(half, "new"))
    if left != "the one before":
        shutil.rmtree(best)
    assert run("--output_dir=" + copied, *ARGV)[0] == 0
    assert best_step(copied) == 6 and not os.path.exists(half)
    assert checkpoints.fingerprint(checkpoints.best(copied)) == checkpoints.fingerprint(
        os.path.join(copied, "checkpoints", "model.ckpt-6"))


def test_a_run_of_which_only_the_best_checkpoint_is_left_is_not_started_anew(run, copied, tmp_path):
    folder = run_folder.checkpoints_of(copied)
    for name in os.listdir(folder):
        if name.startswith(("model.ckpt", "checkpoint")):
            os.remove(os.path.join(folder, name))
    before, kept = validation.rows_of(copied), checkpoints.fingerprint(checkpoints.best(copied))
    status, _ = run("--output_dir=" + copied, *ARGV)
    assert "only the best checkpoint of a run is there" in status
    assert validation.rows_of(copied) == before and checkpoints.fingerprint(checkpoints.best(copied)) == kept
    advised = re.search(r"--init_checkpoint=\S+", status).group()
    assert run("--output_dir=%s" % (tmp_path / "new"), *ARGV, "--max_steps=1", advised)[0] == 0


def test_a_run_of_earlier_code_goes_on_with_a_row_of_where_it_stands(run, trained, tmp_path):
    folder = shutil.copytree(trained, str(tmp_path / "run"))
    assert run("--output_dir=" + folder, *SMALL, "--val_every=3", "--max_steps=8")[0] == 0
    assert [row.step for row in validation.rows_of(folder)] == [6, 8] and best_step(folder) in (6, 8)


KILLS = r"""
import os, re, signal, sys
sys.path.insert(0, %r)
import tensorflow.compat.v1 as tf
import train
from support import hooks, storage, validation

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def killed_at(owner, name, step_of, step, before):
    whole = getattr(owner, name)
    def call(*arguments):
        due = step_of(*arguments) == step
        if due and before:
            kill()
        result = whole(*arguments)
        if due:
            kill()
        return result
    setattr(owner, name, call)

measured = validation.Measures.of
def of(measures, session):
    l1, psnr, ssim = measured(measures, session)
    step = session.run(tf.train.get_global_step(session.graph))
    return [l1, psnr - 100 if step in (5, 9) else psnr + step, ssim]  # every other step is a new best
validation.Measures.of = of

point, step = sys.argv[1], int(sys.argv[2])
if point == "before the row":
    killed_at(validation, "write_rows", lambda folder, rows: rows[-1].step if rows else 0, step, True)
elif point == "behind the row":
    killed_at(validation, "write_rows", lambda folder, rows: rows[-1].step if rows else 0, step, False)
elif point == "before the link":
    killed_at(hooks.Checkpoints, "save", lambda hook, session, number: number, step, False)
elif point == "in the link":
    killed_at(storage, "link", lambda source, target: int(
        (re.search(r"ckpt-(\d+)\.data", target) or ["", 0])[1]), step, False)
elif point == "before the exchange":
    killed_at(storage, "sync_folder", lambda folder: step if os.path.exists(
        os.path.join(folder, "model.ckpt-%%d.index" %% step)) else 0, step, False)
train.main(train.parse(["train.py", *sys.argv[3:]]))
""" % ROOT
POINTS = [("before the row", 2), ("behind the row", 3), ("before the link", 4), ("behind the row", 5),
          ("in the link", 6), ("before the exchange", 7), ("before the row", 9), ("before the link", 12)]


@pytest.mark.slow
@pytest.mark.parametrize("python", BOTH)
def test_a_run_killed_at_each_point_of_a_validation_ends_with_the_same_table_and_best(data, tmp_path, python):
    argv = ["--data_dir=" + data, *ARGV, "--best_by=psnr", "--max_steps=12", "--keep=2", "--save_every=5"]
    for name, points in (("whole", []), ("killed", POINTS)):
        for point, step in [*points, ("", 0)]:
            result = subprocess.run([python, "-c", KILLS, point, str(step), *argv, "--output_dir=%s" % (
                tmp_path / name)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            assert result.returncode == (-signal.SIGKILL if point else 0), (point, step, result.stdout)
    whole, killed = str(tmp_path / "whole"), str(tmp_path / "killed")
    assert validation.rows_of(killed) == validation.rows_of(whole) and len(validation.rows_of(whole)) == 12
    assert best_step(killed) == best_step(whole) == 12
    for found in (checkpoints.best, lambda folder: checkpoints.newest(run_folder.checkpoints_of(folder))):
        assert checkpoints.fingerprint(found(killed)) == checkpoints.fingerprint(found(whole))
    assert not glob.glob(os.path.join(killed, "checkpoints", "best.*"))


@pytest.mark.slow
@pytest.mark.parametrize("python", BOTH)
def test_the_chief_alone_validates_and_the_weights_stay_those_of_the_workers(data, tmp_path, python):
    argv = ["--data_dir=" + data, "--max_steps=5"]
    plain, watched = (Team(tmp_path / name, *argv, "--val_every=" + every, python=python).end()
                      for name, every in (("plain", "0"), ("watched", "2")))
    assert [worker.status for worker in plain + watched] == [0] * 4
    assert fingerprint(watched[0].output) == fingerprint(plain[0].output)
    assert [row.step for row in validation.rows_of(str(tmp_path / "watched"))] == [2, 4, 5]


# When


@pytest.mark.parametrize("steps", [1, 500, 3200, 20000, 20001, 80000, 400001, 10 ** 7])
def test_intervals_suit_the_length_of_a_run_and_are_never_shorter_than_in_a_short_one(steps):
    found = hooks.intervals(steps, None, None, None)
    assert found["sample_every"] >= 100 and found["save_every"] >= 500 and found["val_every"] == found["save_every"]
    assert steps / found["sample_every"] <= 200 and steps / found["save_every"] <= 40
    if steps <= 20000:
        assert found == {"sample_every": 100, "save_every": 500, "val_every": 500}


def test_intervals_of_a_long_run_are_round_numbers():
    assert hooks.intervals(80000, None, None, None) == {"sample_every": 500, "save_every": 2000, "val_every": 2000}
    assert [hooks.interval(500, steps, 40) for steps in (20001, 40001, 80001, 200001)] == [1000, 2000, 5000, 10000]


@pytest.mark.parametrize("given,val_every", [((7, 4, 0), 0), ((7, 4, 3), 3), ((7, 4, None), 500), ((7, 300, None), 600),
                                             ((7, 8000, None), 8000)])
def test_given_intervals_are_kept_and_validation_comes_with_a_checkpoint(given, val_every):
    assert hooks.intervals(3000, *given) == {"sample_every": 7, "save_every": given[1], "val_every": val_every}


def test_a_run_says_its_intervals_and_keeps_them_in_its_flags(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "training_session", lambda *arguments: (_ for _ in ()).throw(train.UserError("enough")))
    status, output = run("--output_dir=%s" % tmp_path, "--image_size=32", "--ngf=2", "--ndf=2", "--epochs=64000",
                         "--batch_size=4")
    assert status == "error: enough"
    assert "every 500 steps a sample grid, every 2000 a checkpoint, every 2000 validation on 2 pairs of %s\n" % (
        os.path.join(data, "val")) in output
    shown = run_folder.read_flags(str(tmp_path))
    assert (shown["sample_every"], shown["save_every"], shown["val_every"]) == ("500", "2000", "2000")


# Where it is shown


def test_a_finished_run_names_its_best_step(run, validated):
    _, output = run("--output_dir=" + validated, *ARGV)
    best = min(row.l1 for row in validation.rows_of(validated))
    assert "the best L1 of validation is %.4g, at step %d; --checkpoint=best takes that step" % (
        best, best_step(validated)) in output


def test_tensorboard_has_the_measures_with_descriptions(validated):
    path, = glob.glob(os.path.join(validated, "events*"))
    found = {}
    for event in tf.train.summary_iterator(path):
        for value in event.summary.value:
            if value.tag.startswith("validation/"):
                assert "pairs of val/" in value.metadata.summary_description
                found.setdefault(value.tag[11:], []).append((event.step, float(tf.make_ndarray(value.tensor))))
    rows = validation.rows_of(validated)
    assert found == {name: [(row.step, pytest.approx(getattr(row, name), rel=1e-6)) for row in rows]
                     for name in ("l1", "psnr", "ssim")}


def test_the_page_of_the_samples_draws_losses_and_validation_by_itself(validated, trained):
    for folder, count in ((validated, 4), (trained, 2)):
        with open(os.path.join(folder, "samples", "index.html")) as file:
            page = file.read()
        assert page.count("<svg ") == count and "http" not in page and "src=" not in page
        assert page.count('data-last="6"') == count
        ringed = re.findall(r'class="best"[^>]*><title>step (\d+): ', page)
        assert ringed == ([str(best_step(folder))] * 3 if folder == validated else [])


@pytest.mark.parametrize("low,high", [(0.11, 0.47), (0, 1), (12.4, 12.9), (3, 3), (-2, 5e4), (1e-7, 3e-7), (0, 0)])
def test_marks_are_few_evenly_spaced_and_hold_the_values(low, high):
    marks = charts.ticks(low, high)
    assert marks[0] <= low + 1e-9 and marks[-1] >= high - 1e-9 and 1 <= len(marks) <= 6
    assert len({round(b - a, 12) for a, b in itertools.pairwise(marks)} if len(marks) > 1 else [1]) == 1


def test_a_chart_of_many_values_is_small_and_leaves_out_what_is_not_finite():
    points = [(step, math.nan if step % 7 == 0 else float(step)) for step in range(1, 50001)]
    drawn = charts.chart("x", [charts.Line("a <b>", "train", points)], 50000)
    assert len(drawn) < 5000 and "nan" not in drawn and "a &lt;b&gt;" in drawn
    assert charts.chart("x", [charts.Line("a", "val", [(1, math.inf)])], 1) == ""


def test_a_damaged_table_costs_its_points_alone(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "metrics.csv").write_bytes(b"step\n1,1,1,1,1\n2,\xff\xfe,x\n3,1,2,2,2\n4,1,")
    gallery.write_samples(str(tmp_path / "samples"))
    assert (tmp_path / "samples" / "index.html").read_text().count("<polyline ") == 3
