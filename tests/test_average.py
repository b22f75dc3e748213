"""The moving average of the generator's weights: what it is, that it lasts, and who takes it."""

import csv
import json
import os
import shutil

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl.testing import flagsaver

import train
from conftest import SMALL, fingerprint, options, picture, result_in
from support import checkpoints, precisions
from test_checkpoints import NEWEST, tensors, write_checkpoint

EMA = 0.2  # which (1 + t) / (10 + t) passes at step 2
FLAGS = (*SMALL, "--ema=%s" % EMA, "--notest_dropout")


def trained_with(data, folder, *argv):
    with flagsaver.flagsaver():
        train.FLAGS(["train.py", "--data_dir=" + data, "--output_dir=" + folder, "--max_steps=6", *FLAGS, *argv])
        assert train.main(["train.py"]) == 0
    return folder


@pytest.fixture(scope="module")
def averaged(data, tmp_path_factory):
    """The run of `trained` with an average, and with a checkpoint of each step."""
    return trained_with(data, str(tmp_path_factory.mktemp("averaged")), "--save_every=1", "--keep=9", "--val_every=6")


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """The run of `averaged` without an average."""
    return trained_with(data, str(tmp_path_factory.mktemp("plain")), "--ema=0")


def step(folder, number):
    """{name: array} of the checkpoint of a step."""
    return tensors(os.path.join(folder, "checkpoints", "model.ckpt-%d" % number))


def weights(values):
    return {name: value for name, value in values.items() if checkpoints.WEIGHT.fullmatch(name)}


def averages(values):
    """{name of the weight: array} of the averages."""
    return {name[:-len("/average")]: value for name, value in values.items() if name.endswith("/average")}


def initial_weights(data, *argv):
    chosen = options(*FLAGS, *argv, "--data_dir=" + data)
    with tf.Graph().as_default(), tf.Session() as session:
        train.generate(chosen, tf.zeros([1, 32, 32, 3]), None)
        session.run(tf.global_variables_initializer())
        return session.run({v.op.name: v for v in tf.global_variables()})


def check_recurrence(folder, data, *argv):
    expected = initial_weights(data, *argv)
    for number in range(6):
        decay = min(EMA, (1 + number) / (10 + number))
        values = step(folder, number + 1)
        expected = {name: decay * average + (1 - decay) * values[name] for name, average in expected.items()}
        assert set(averages(values)) == set(expected)
        for name, average in averages(values).items():
            np.testing.assert_allclose(average, expected[name], rtol=1e-6, atol=1e-8)


def test_the_average_is_of_the_weights_after_each_step_and_forgets_the_first_ones(averaged, data):
    check_recurrence(averaged, data)


@pytest.mark.slow
@pytest.mark.skipif(bool(precisions.lacks("bfloat16")), reason="no bfloat16 here")
@pytest.mark.parametrize("update", ["simultaneous", "alternating"])
def test_it_is_float32_in_a_bfloat16_run(data, tmp_path, update):
    argv = "--precision=bfloat16", "--ngf=16", "--update=" + update
    check_recurrence(trained_with(data, str(tmp_path), "--save_every=1", "--keep=9", *argv), data, *argv)


def test_it_changes_no_bit_of_the_training(averaged, plain):
    without, values = step(plain, 6), step(averaged, 6)
    assert set(values) - set(without) == {
        name + "/average" for name in weights(without) if name.startswith("generator")}
    assert all(without[name].tobytes() == values[name].tobytes() for name in without)


def test_the_fingerprint_tells_of_the_average(averaged, tmp_path):
    values = step(averaged, 6)
    values["generator/decoder_1/bias/average"][0] += 1e-3
    write_checkpoint(str(tmp_path / "model.ckpt-6"), values)
    assert checkpoints.fingerprint(str(tmp_path / "model.ckpt-6")) != checkpoints.fingerprint(
        os.path.join(averaged, NEWEST))


def test_a_run_that_was_stopped_goes_on_with_its_average(run, averaged, tmp_path):
    for last in (3, 6):
        status, output = run("--output_dir=%s" % tmp_path, *FLAGS, "--max_steps=%d" % last)
        assert status == 0
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(averaged, NEWEST))
    for name in ("step-00000004.png", "step-00000006.png"):
        ours, whole = (os.path.join(str(folder), "samples", name) for folder in (tmp_path, averaged))
        assert open(ours, "rb").read() == open(whole, "rb").read()


def test_a_checkpoint_without_a_part_of_the_average_is_refused_by_name(run, averaged, tmp_path):
    folder = shutil.copytree(averaged, str(tmp_path / "run"))
    values = step(folder, 6)
    del values["generator/encoder_2/kernel/average"]
    write_checkpoint(os.path.join(folder, NEWEST), values)
    for argv in (("--max_steps=7", *FLAGS), ("--mode=test",)):
        status, _ = run("--output_dir=" + folder, *argv)
        assert "generator/encoder_2/kernel" in status and "is missing" in status and "\n" not in status


# Who takes it


def test_samples_validation_test_mode_and_export_take_it_and_the_latter_two_the_weights_on_request(run, averaged):
    values, pictures, l1 = step(averaged, 6), {}, {}
    for flag, kind, suffix in (("--test_ema", "averaged", ""), ("--notest_ema", "plain", "-noema")):
        status, output = run("--mode=test", "--output_dir=" + averaged, flag)
        assert status == 0 and "model.ckpt-6, %s weights, translated 2 images" % kind in output
        assert result_in(output).endswith("val-6" + suffix)
        l1[kind] = json.load(open(os.path.join(result_in(output), "metrics.json")))["l1"]["mean"]
        pictures[kind] = [picture(result_in(output), "output", name) for name in (1, 2)]
        status, output = run("--mode=export", "--output_dir=" + averaged, flag)
        assert status == 0 and ", %s weights, dropout off" % kind in output
        expected = averages(values) if kind == "averaged" else weights(values)
        exported = tensors(os.path.join(averaged, "export", "6", "variables", "variables"))
        assert all(exported[name].tobytes() == expected[name].tobytes() for name in exported)
    sample = imageio.imread(os.path.join(averaged, "samples", "step-00000006.png"))
    np.testing.assert_array_equal(sample[:, 32:64], np.concatenate(pictures["averaged"]))
    assert (sample[:, 32:64] != np.concatenate(pictures["plain"])).any()
    with open(os.path.join(averaged, "val_metrics.csv")) as file:
        validation = float(list(csv.DictReader(file))[-1]["l1"])
    assert validation == pytest.approx(l1["averaged"], rel=1e-6) and validation != pytest.approx(l1["plain"], rel=1e-6)


def test_a_run_without_an_average_has_plain_weights_whatever_is_asked(run, plain):
    status, output = run("--mode=test", "--output_dir=" + plain, "--notest_ema")
    assert status == 0 and "plain weights" in output and result_in(output).endswith("val-6")


# Runs


def test_another_average_than_the_runs_is_refused_by_name(run, averaged):
    for ema in ("0.3", "0.0"):
        status, _ = run("--output_dir=" + averaged, "--max_steps=9", *SMALL, "--ema=" + ema)
        assert "--ema is %s here and 0.2 in the run" % ema in status


def test_a_run_older_than_the_flag_goes_on_without_an_average(run, plain, tmp_path):
    folder = shutil.copytree(plain, str(tmp_path / "run"))
    path = os.path.join(folder, "flags.txt")
    lines = [line for line in open(path) if not line.startswith("--ema")]
    with open(path, "w") as file:
        file.writelines(lines)
    assert run("--output_dir=" + folder, *SMALL, "--notest_dropout", "--max_steps=7")[0] == 0
    assert not averages(step(folder, 7))


@pytest.mark.parametrize("ema", ["0", "0.9"])
def test_training_from_an_averaged_runs_weights_starts_its_own_average_there(run, averaged, tmp_path, ema):
    status, _ = run("--output_dir=%s" % tmp_path, *SMALL, "--ema=" + ema, "--init_checkpoint=" + averaged,
                    "--max_steps=1", "--learning_rate=1e-30")
    start, values = weights(step(averaged, 6)), step(str(tmp_path), 1)
    assert status == 0
    assert all(start[name].tobytes() == value.tobytes() for name, value in weights(values).items())
    assert set(averages(values)) == (set() if ema == "0" else {name for name in start if name.startswith("generator")})
    for name, average in averages(values).items():
        np.testing.assert_allclose(average, start[name], rtol=1e-6)


def test_wrong_decays_are_refused():
    for ema in ("1", "-0.1", "nan"):
        with pytest.raises(train.flags.IllegalFlagValueError, match="--ema"):
            options("--ema=" + ema)
