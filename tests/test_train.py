"""The program: runs, refusals, test mode and export, on small networks and files the tests make."""

import concurrent.futures
import csv
import functools
import html
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib

import imageio.v3 as imageio
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import tensorflow.compat.v1 as tf
from absl.testing import flagsaver

import pix2pix
import reader
import train
from conftest import ROOT, SMALL, fingerprint, options, rows, without_timing, write_pairs
from support import checkpoints, convolutions, gallery, hooks, pair_files, precisions, storage
from support.errors import RunError


def command(*argv):
    return [sys.executable, os.path.join(ROOT, "train.py")] + list(argv)


# Training


def test_a_run_leaves_the_promised_folder(trained):
    assert sorted(os.listdir(os.path.join(trained, "samples"))) == [
        "index.html", "progress.gif"] + ["step-%08d.png" % step for step in (0, 4, 6)]
    assert imageio.imread(os.path.join(trained, "samples", "progress.gif")).shape == (3, 2 * 32, 3 * 32, 3)
    assert imageio.imread(os.path.join(trained, "samples", "step-00000006.png")).shape == (2 * 32, 3 * 32, 3)
    assert tf.train.latest_checkpoint(os.path.join(trained, "checkpoints")).endswith("model.ckpt-6")
    assert not [name for name in os.listdir(trained) if name.endswith(".tmp")]
    with open(os.path.join(trained, "run.json")) as file:
        record = json.load(file)
    assert record["precision"] == "float32" and record["pairs"] == {"train": 5, "val": 2} and record["steps"] == 6
    assert set(record["parameters"]) == {"generator", "discriminator"}


def test_metrics_have_a_row_a_logged_step_with_finite_losses(trained):
    header, *body = rows(trained)
    assert header == ["step", "epoch", "d_loss", "g_loss_gan", "g_loss_l1", "images_per_second",
                      "d_max_logit", "saturated_real", "saturated_fake", "d_gradient_norm", "g_gradient_norm"]
    assert [int(row[0]) for row in body] == [1, 2, 3, 4, 5, 6]
    values = np.float64(body)
    assert np.isfinite(values).all() and (values[:, 2:7] > 0).all() and (values[:, 9:] > 0).all()
    np.testing.assert_allclose(values[:, 1], values[:, 0] * 2 / 5)


def test_the_same_command_repeats_a_run_bit_for_bit(run, trained, tmp_path):
    status, output = run("--output_dir=%s" % tmp_path, "--max_steps=6", "--reader_threads=3", *SMALL)
    assert status == 0
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))
    assert without_timing(rows(tmp_path)) == without_timing(rows(trained))


def test_a_flagfile_of_a_run_repeats_it(run, trained, tmp_path):
    status, output = run("--flagfile=%s/flags.txt" % trained, "--output_dir=%s" % tmp_path)
    assert status == 0
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))


def test_what_is_logged_and_shown_changes_no_bit(run, trained, tmp_path):
    status, output = run("--output_dir=%s" % tmp_path, "--max_steps=6", *SMALL, "--log_every=9", "--sample_every=2")
    assert status == 0
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))


@pytest.mark.parametrize("stop", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_continuing_a_run_equals_never_having_stopped(run, trained, tmp_path, stop):
    folder = "--output_dir=%s" % tmp_path
    assert run(folder, "--max_steps=%d" % stop, *SMALL)[0] == 0
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("%d,9,9,9,9,9\n7,1." % (stop + 1))  # rows of a later step, as after a kill
    status, output = run(folder, "--max_steps=6", *SMALL)
    assert status == 0 and "from step %d" % stop in output and "continuing" in output
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))
    assert without_timing(rows(tmp_path)) == without_timing(rows(trained))


def test_a_finished_run_says_so_and_keeps_its_fingerprint(run, tmp_path):
    argv = ["--output_dir=%s" % tmp_path, "--max_steps=2", *SMALL]
    first = run(*argv)[1]
    status, output = run(*argv)
    assert status == 0 and "finished, 2 steps" in output
    assert fingerprint(output) == fingerprint(first)


def test_only_the_newest_checkpoints_are_kept_across_a_restart(run, tmp_path):
    folder = ["--output_dir=%s" % tmp_path, "--keep=2", *SMALL, "--save_every=1"]
    run(*folder, "--max_steps=2")
    run(*folder, "--max_steps=4")
    kept = {name for name in os.listdir(tmp_path / "checkpoints") if name.endswith(".index")}
    assert kept == {"model.ckpt-3.index", "model.ckpt-4.index"}


def test_a_lost_list_of_checkpoints_loses_nothing(run, trained, tmp_path):
    folder = ["--output_dir=%s" % tmp_path, *SMALL, "--save_every=1"]
    run(*folder, "--max_steps=4")
    os.remove(tmp_path / "checkpoints" / "checkpoint")
    os.remove(tmp_path / "checkpoints" / "model.ckpt-4.index")
    status, output = run(*folder, "--max_steps=6")
    assert status == 0 and "from step 3" in output
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))


def test_the_reader_gets_the_papers_jitter(monkeypatch, data):
    asked = {}

    def training_batches(pairs, step, batches):
        asked.update(batches._asdict())
        image = tf.zeros([1, 256, 256, 3])
        return image, image

    monkeypatch.setattr(train.reader, "training_batches", training_batches)
    with tf.Graph().as_default():
        train.training_graph(options("--ngf=2", "--ndf=2"), pair_files.Pairs("side_by_side", [()]), "float32")
    assert (asked["image_size"], asked["load_size"], asked["flip"], asked["batch_size"]) == (
        (256, 256), (286, 286), True, 4)


@pytest.mark.parametrize("begun,continued", [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_a_run_keeps_the_precision_it_began_with_on_another_cpu(run, data, tmp_path, monkeypatch, begun, continued):
    used, training = [], train.pix2pix.training

    def spy(*batch, precision, **options):
        used.append(precision)
        return training(*batch, precision=precision, **options)

    monkeypatch.setattr(train.pix2pix, "training", spy)
    argv = ["--data_dir=" + data, "--output_dir=%s" % tmp_path, *SMALL, "--precision=auto"]
    for number, precision in enumerate((begun, continued), 1):
        monkeypatch.setattr(precisions, "resolve", lambda _, found=precision: found)
        monkeypatch.setattr(precisions, "runs_bfloat16", lambda: True)
        status, text = run(*argv, "--max_steps=%d" % number)
        assert status == 0 and "%d steps, %s" % (number, begun) in text
    assert used == [begun, begun]


def test_bfloat16_is_what_the_session_computes_in_or_is_refused_by_name(run, data, tmp_path, monkeypatch):
    argv = ["--data_dir=" + data, "--output_dir=%s" % tmp_path, *SMALL, "--max_steps=1", "--precision=bfloat16"]
    if not precisions.runs_bfloat16():
        status, _ = run(*argv)
        assert status.startswith("error: --precision=bfloat16 needs a CPU with AVX-512") and "\n" not in status
        assert not os.listdir(tmp_path / "checkpoints")
        return
    with tf.Graph().as_default():
        pairs = pair_files.find_pairs(os.path.join(data, "train"))
        _, model = train.training_graph(options(*argv), pairs, "bfloat16")
        metadata = tf.RunMetadata()
        with tf.train.MonitoredTrainingSession(config=precisions.session_config("bfloat16")) as session:
            session.run(model.train_op, options=tf.RunOptions(output_partition_graphs=True), run_metadata=metadata)
    assert precisions.is_bfloat16(metadata)


def test_bfloat16_without_onednn_is_refused_by_name_and_auto_is_float32(data, tmp_path):
    argv = command("--data_dir=" + data, *SMALL, "--max_steps=1")
    environment = dict(os.environ, TF_ENABLE_ONEDNN_OPTS="0")
    for precision, status, says in (("bfloat16", 1, "--precision=bfloat16 needs a CPU with AVX-512"),
                                    ("auto", 0, "1 steps, float32")):
        result = subprocess.run([*argv, "--precision=" + precision, "--output_dir=%s" % (tmp_path / precision)],
                                capture_output=True, text=True, check=False, env=environment)
        assert result.returncode == status and says in result.stdout + result.stderr
        assert "Traceback" not in result.stderr


def test_a_run_in_bfloat16_is_not_continued_in_another_precision(run, data, tmp_path, monkeypatch):
    argv = ["--data_dir=" + data, "--output_dir=%s" % tmp_path, *SMALL, "--precision=auto"]
    monkeypatch.setattr(precisions, "resolve", lambda _: "bfloat16")
    assert run(*argv, "--max_steps=1")[0] == 0
    monkeypatch.setattr(precisions, "runs_bfloat16", lambda: False)
    status, _ = run(*argv, "--max_steps=2")
    assert "--precision of the run in %s is bfloat16, which needs a CPU with AVX-512" % tmp_path in status


def test_the_session_keeps_no_second_copy_of_initial_values(data):
    with tf.Graph().as_default():
        pairs = pair_files.find_pairs(os.path.join(data, "train"))
        train.training_graph(options(*SMALL, "--ngf=4"), pairs, "float32")
        sizes, metadata = [v.shape.num_elements() for v in tf.global_variables()], tf.RunMetadata()
        with tf.Session(config=precisions.session_config("float32")) as session:
            session.run(tf.global_variables_initializer(), run_metadata=metadata,
                        options=tf.RunOptions(output_partition_graphs=True))
    nodes = [node for graph in metadata.partition_graphs for node in graph.node]
    assert len(nodes) > len(sizes)
    constants = [tf.TensorShape(node.attr["value"].tensor.tensor_shape) for node in nodes if node.op == "Const"]
    assert max(shape.num_elements() for shape in constants) < max(sizes) / 100


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


def test_saturated_patches_are_warned_of_once(run, monkeypatch, tmp_path):
    monkeypatch.setattr(train.pix2pix, "saturated_share",
                        lambda logits, gradient, is_real: tf.constant(0.4 + 0.3 * is_real))
    status, output = run("--output_dir=%s" % tmp_path, "--max_steps=3", *SMALL)
    assert status == 0
    assert output.count("warning: step 1: D gets 70 % of the real patches wrong") == output.count("warning") == 1
    assert "--gan_loss" in output
    assert [row[7:9] for row in rows(tmp_path)[1:]] == [["0.699999988", "0.400000006"]] * 3


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(run, tmp_path):
    argv = ["--output_dir=%s" % tmp_path, *SMALL, "--save_every=1", "--keep=9", "--gan_loss=lsgan"]
    run(*argv, "--max_steps=1")
    good = checkpoints.fingerprint(str(tmp_path / "checkpoints" / "model.ckpt-1"))
    with tf.Graph().as_default(), tf.Session() as session:  # poison a weight of a copy's newest checkpoint
        values = tf.train.load_checkpoint(str(tmp_path / "checkpoints" / "model.ckpt-1"))
        for name in values.get_variable_to_shape_map():
            value = values.get_tensor(name)
            if name == "discriminator/layer_1/kernel":
                value = value + np.float32(1e38)
            tf.get_variable(name, initializer=value, use_resource=True)
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(save_relative_paths=True)
        saver.save(session, str(tmp_path / "checkpoints" / "model.ckpt"), 1, write_meta_graph=False)
    poisoned = checkpoints.fingerprint(str(tmp_path / "checkpoints" / "model.ckpt-1"))
    assert poisoned != good
    status, _ = run(*argv, "--max_steps=4")
    assert status.startswith("error: step 2: real_logits is not finite, then ") and "--learning_rate" in status
    assert checkpoints.newest(str(tmp_path / "checkpoints")).endswith("-1")
    assert checkpoints.fingerprint(str(tmp_path / "checkpoints" / "model.ckpt-1")) == poisoned


FLAGFILES = sorted(os.listdir(os.path.join(ROOT, "flags")))


@pytest.mark.parametrize("name", [
    name if name in ("paper.flags", "tf2_tutorial.flags", "old_checkpoint.flags", "patch_286.flags")
    else pytest.param(name, marks=pytest.mark.slow) for name in FLAGFILES])
def test_every_flagfile_trains_and_tests(run, data, tmp_path, name):
    argv = ["--flagfile=" + os.path.join(ROOT, "flags", name), "--data_dir=" + data, "--output_dir=%s" % tmp_path]
    argv += SMALL
    if name == "patch_286.flags":  # its one logit needs 96 pixels; the test's images have 40 and are padded
        argv.append("--image_size=96")
    assert run(*argv, "--max_steps=2")[0] == 0
    assert run("--mode=test", "--output_dir=%s" % tmp_path)[0] == 0
    assert len(os.listdir(tmp_path / "test" / "images")) == 8


# Trainable parameters of (generator, discriminator) and D's grid on 256x256 images. Sources: the PyTorch program prints
# 54.414 M and 2.769 M; the tutorial's models have 54,414,979 and 2,768,641, without the biases of the first layers (64
# each) that ours have; the one-file TF1 program printed 57,183,616 for both when it had no biases yet (ours: 132).
@pytest.mark.parametrize("name,counts,grid", [
    ("paper", (54414531, 2768705), 30), ("tf2_tutorial", (54414979 + 64, 2768641 + 64), 30),
    ("old_checkpoint", (57183616 + 132 - 2768705, 2768705), 30), ("lsgan", None, 16), ("patch_1", None, 256),
    ("patch_16", None, 126), ("patch_286", None, 6)])
def test_systems_have_their_sources_parameter_counts_and_grids(name, counts, grid):
    chosen = options("--flagfile=" + os.path.join(ROOT, "flags", name + ".flags"))
    with tf.Graph().as_default() as graph:
        image = tf.zeros([1, 256, 256, 3])
        logits = train.discriminate(chosen, image, train.generate(chosen, image, None))
        table = train.pix2pix.layer_table(graph)
    assert logits.shape.as_list() == [1, grid, grid, 1]
    if counts:
        assert tuple(sum(row[2] for row in table if row[0].startswith(network))
                     for network in ("generator", "discriminator")) == counts


@pytest.mark.parametrize("name", FLAGFILES)
def test_every_flagfile_says_what_it_reproduces_and_is_in_the_list_of_systems(name):
    path = os.path.join(ROOT, "docs", "systems.md")
    with open(os.path.join(ROOT, "flags", name)) as file, open(path, encoding="utf-8") as systems:
        text = file.read()
        assert "`%s`" % name in systems.read()
    assert (text.startswith("# ") and "eviation" in text) or name == "facades.flags"
    flags = [line.split("=")[0][2:] for line in text.splitlines() if line.startswith("--")]
    assert len(set(flags)) == len(flags)


# Refusals


@pytest.mark.parametrize("flag,says", [
    ("--batch_size=0", "batch_size"), ("--image_size=200", "multiples of 32"),
    ("--image_size=a,b", "multiples of 32"), ("--load_size=-1", "load_size"), ("--gan_loss=hinge", "gan_loss"),
    ("--patch=286 --image_size=64", "--patch=286 of 96"), ("--epochs=2 --decay_epochs=3", "decay_epochs"),
    ("--eps=0.5", "eps"), ("--eps=-1", "eps"), ("--load_size=128", "--load_size must be at least"),
    ("--no_such_flag=1", "no_such_flag"), ("--output_dir=runs/a[1]", "pattern"),
    ("--l1_weight=nan", "l1_weight"), ("--adam_epsilon=0", "adam_epsilon"), ("--data_dir=", "data_dir"),
    ("--seed=99999999999999999999", "seed"), ("--dropout=1.5", "dropout")])
def test_a_wrong_flag_is_named_without_a_traceback(flag, says):
    result = subprocess.run(command(*flag.split()), capture_output=True, text=True, check=False)
    assert result.returncode in (1, 2) and says in result.stderr
    assert "Traceback" not in result.stderr and "tensorflow" not in result.stderr.lower()


def test_help_shows_every_flag_once_under_its_group():
    result = subprocess.run(command("--help"), capture_output=True, text=True, check=True)
    names = re.findall(r"^  --(\w+) \(", result.stdout, re.M)
    assert names == list(train.Options._fields) == [flag.name for flag in train.FLAGS.get_flags_for_module("train")]
    for name, title in train.TITLES.items():
        assert "\n%s\n\n  --%s (" % (title, name) in result.stdout
    assert all(train.FLAGS[name].help.endswith(".") for name in names)


def test_what_is_said_of_flags_names_flags_that_there_are():
    assert train.FREE | train.RESTORED | train.NETWORKS | train.IN_OLD_CHECKPOINT | set(train.OLDER) <= set(
        train.Options._fields)
    assert train.IN_OLD_CHECKPOINT <= train.NETWORKS and not train.NETWORKS & train.FREE


def test_a_run_older_than_a_flag_has_the_value_that_the_flag_has_for_it(run, trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "flags.txt"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "--beta1=" not in line))
    folder = "--output_dir=%s" % (tmp_path / "run")
    assert run(folder, "--max_steps=7", *SMALL)[0] == 0  # the default is the value of older runs
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "--beta1=" not in line))
    monkeypatch.setitem(train.OLDER, "beta1", 0.25)
    status, _ = run(folder, "--max_steps=8", *SMALL)
    assert "--beta1 is 0.5 here and 0.25 in the run" in status
    assert run(folder, "--max_steps=8", *SMALL, "--beta1=0.25")[0] == 0


@pytest.mark.parametrize("arrange,says", [
    (lambda folder: None, "not a folder"),
    (lambda folder: os.makedirs(folder + "/train"), "no image in this folder"),
    (lambda folder: cut_jpeg(folder + "/train"), "cut short"),
])
def test_unusable_data_is_one_line_before_anything_is_written(run, tmp_path, arrange, says):
    arrange(str(tmp_path / "pairs"))
    status, _ = run("--data_dir=%s" % (tmp_path / "pairs"), "--output_dir=%s" % (tmp_path / "out"), *SMALL)
    assert status.startswith("error: %s" % tmp_path) and says in status and "\n" not in status
    assert os.listdir(tmp_path / "out") == ["lock"]


def cut_jpeg(folder):
    write_pairs(folder, 2, size=64, extension=".jpg")
    path = os.path.join(folder, "2.jpg")
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:len(content) // 2])


def test_a_decoding_error_in_the_run_names_the_file(run, tmp_path):
    write_pairs(str(tmp_path / "pairs" / "train"), 3, size=64)
    path = tmp_path / "pairs" / "train" / "2.png"
    content = bytearray(path.read_bytes())
    content[60:80] = b"\0" * 20
    path.write_bytes(content)
    status, _ = run("--data_dir=%s" % (tmp_path / "pairs"), "--output_dir=%s" % (tmp_path / "out"), *SMALL,
                    "--max_steps=20")
    assert status.startswith("error: %s: can't be decoded" % path) and "\n" not in status


def test_an_output_folder_that_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / "file").write_text("")
    status, _ = run("--output_dir=%s" % (tmp_path / "file" / "run"), *SMALL)
    assert status.startswith("error: %s" % (tmp_path / "file")) and "--output_dir" in status


def test_other_flags_than_the_runs_are_refused_by_name_and_nothing_is_lost(run, trained):
    before = checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))
    status, _ = run("--output_dir=" + trained, "--max_steps=9", *SMALL, "--ngf=3", "--gan_loss=lsgan")
    assert "--ngf is 3 here and 2 in the run" in status and "--gan_loss is lsgan here and log in the run" in status
    assert checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6")) == before
    assert checkpoints.newest(os.path.join(trained, "checkpoints")).endswith("-6")


def test_a_file_replaced_by_another_of_its_size_makes_other_pairs(run, tmp_path):
    write_pairs(str(tmp_path / "data" / "train"), 2, extension=".bmp")
    argv = ["--data_dir=%s" % (tmp_path / "data"), "--output_dir=%s" % (tmp_path / "run"), *SMALL]
    assert run(*argv, "--max_steps=1")[0] == 0
    shutil.copy(str(tmp_path / "data" / "train" / "1.bmp"), str(tmp_path / "data" / "train" / "2.bmp"))
    assert "--data_dir holds other pairs" in run(*argv, "--max_steps=1")[0]
    record_of(tmp_path / "run", lambda record: record.pop("pairs_sha256"))  # as earlier versions wrote it
    assert run(*argv, "--max_steps=1")[0] == 0
    os.remove(str(tmp_path / "data" / "train" / "2.bmp"))
    assert "--data_dir holds other pairs" in run(*argv, "--max_steps=1")[0]


def record_of(folder, change):
    with open(os.path.join(str(folder), "run.json")) as file:
        record = json.load(file)
    change(record)
    with open(os.path.join(str(folder), "run.json"), "w") as file:
        json.dump(record, file)


def test_other_pairs_than_the_runs_are_refused(run, trained, tmp_path):
    write_pairs(str(tmp_path / "train"), 6)
    status, _ = run("--output_dir=" + trained, "--data_dir=%s" % tmp_path, "--max_steps=9", *SMALL)
    assert "--data_dir holds other pairs" in status


def test_the_same_pairs_elsewhere_and_other_intervals_are_accepted(run, tmp_path):
    write_pairs(str(tmp_path / "elsewhere" / "train"), 5)
    argv = ["--output_dir=%s" % (tmp_path / "run"), *SMALL]
    assert run(*argv, "--max_steps=1")[0] == 0
    assert run(*argv, "--max_steps=2", "--log_every=2", "--keep=1",
               "--data_dir=%s" % (tmp_path / "elsewhere"))[0] == 0


@pytest.mark.parametrize("given", ["checkpoints/model.ckpt-6.index", "checkpoints", ""])
def test_a_checkpoint_is_found_by_what_people_give(run, trained, data, given):
    status, output = run("--mode=test", "--checkpoint=" + os.path.join(trained, given))
    assert status == 0 and os.path.join(trained, "checkpoints", "model.ckpt-6") in output
    assert os.path.join(trained, "test", "index.html") in output  # beside its own run, not in the default one


@pytest.mark.parametrize("changed,says", [
    ("--image_size=abc", "--image_size=abc: "), ("--norm=odd", "its --norm would be odd"),
    ("--load_size=16", "--load_size must be at least --image_size")])
def test_a_value_in_flags_txt_is_checked_as_one_that_is_given(run, trained, tmp_path, changed, says):
    folder = shutil.copytree(trained, str(tmp_path / "run"))
    with open(os.path.join(folder, "flags.txt"), "a") as file:
        file.write(changed + "\n")
    status, _ = run("--mode=test", "--output_dir=" + folder)
    assert status.startswith("error: ") and says in status and "\n" not in status


def test_training_refuses_a_checkpoint_flag_and_a_run_without_its_flags(run, trained, tmp_path):
    assert "--init_checkpoint" in run("--checkpoint=" + trained, "--output_dir=%s" % tmp_path, *SMALL)[0]
    shutil.copytree(os.path.join(trained, "checkpoints"), tmp_path / "checkpoints")
    status, _ = run("--output_dir=%s" % tmp_path, "--max_steps=9", *SMALL)
    assert "flags.txt or run.json is missing" in status


def test_test_and_export_without_a_run_say_so(run, tmp_path):
    for mode in ("test", "export"):
        status, _ = run("--mode=" + mode, "--output_dir=%s" % tmp_path)
        assert status.startswith("error: %s: no checkpoint" % tmp_path)


# Test mode


@pytest.fixture(scope="module")
def tested(trained, tmp_path_factory):
    """A test run over pairs whose names need escaping; returns its folder."""
    folder = tmp_path_factory.mktemp("awkward")
    write_pairs(str(folder), 3)
    os.rename(str(folder / "3.png"), str(folder / "<b>&'50%#.png"))
    with flagsaver.flagsaver():
        train.FLAGS(["train.py", "--mode=test", "--output_dir=" + trained, "--data_dir=%s" % folder])
        assert train.main(["train.py"]) == 0
    return os.path.join(trained, "test")


def test_test_mode_writes_every_output(tested):
    assert sorted(os.listdir(os.path.join(tested, "images"))) == sorted(
        "%s-%s.png" % (name, kind) for name in ("1", "2", "<b>&'50%#")
        for kind in ("input", "output", "patches", "target"))


def test_metrics_agree_with_the_written_images(tested):
    with open(os.path.join(tested, "metrics.csv")) as file:
        table = list(csv.DictReader(file))
    with open(os.path.join(tested, "metrics.json")) as file:
        summary = json.load(file)
    assert summary["images"] == len(table) == 3
    for row in table:
        output, target = (np.float64(imageio.imread(os.path.join(tested, "images", "%s-%s.png" % (row["name"], kind))))
                          / 127.5 - 1 for kind in ("output", "target"))
        np.testing.assert_allclose(float(row["l1"]), np.abs(output - target).mean(), atol=0.004)
        np.testing.assert_allclose(float(row["psnr"]), 10 * np.log10(4 / ((output - target) ** 2).mean()), atol=0.1)
        assert -1 <= float(row["ssim"]) <= 1
    for measure in ("l1", "psnr", "ssim"):
        np.testing.assert_allclose(summary[measure]["mean"], np.mean([float(row[measure]) for row in table]), rtol=1e-6)
        assert summary[measure]["low"] <= summary[measure]["mean"] <= summary[measure]["high"]


def scipy_ssim(a, b):
    """SSIM of two uint8 images [H, W, C] as Wang et al. 2004 define it: Gaussian window of 11x11, sigma 1.5."""
    a, b = np.float64(a) / 255, np.float64(b) / 255
    blur = functools.partial(scipy.ndimage.gaussian_filter, sigma=(1.5, 1.5, 0), radius=(5, 5, 0))
    mean_a, mean_b = blur(a), blur(b)
    variances = blur(a * a) - mean_a ** 2 + blur(b * b) - mean_b ** 2
    covariance = blur(a * b) - mean_a * mean_b
    ssim = ((2 * mean_a * mean_b + 0.01 ** 2) * (2 * covariance + 0.03 ** 2)
            / ((mean_a ** 2 + mean_b ** 2 + 0.01 ** 2) * (variances + 0.03 ** 2)))
    return ssim[5:-5, 5:-5].mean()  # the windows inside the image


def test_ssim_is_an_independent_ssim_of_the_written_images(tested):
    with open(os.path.join(tested, "metrics.csv")) as file:
        table = list(csv.DictReader(file))
    for row in table:
        written = (imageio.imread(os.path.join(tested, "images", "%s-%s.png" % (row["name"], kind)))
                   for kind in ("output", "target"))
        assert float(row["ssim"]) == pytest.approx(scipy_ssim(*written), abs=2e-3)


@pytest.mark.parametrize("change", [
    lambda image: image, lambda image: image / 8, lambda image: image - 25, lambda image: image + 40,
    lambda image: scipy.ndimage.gaussian_filter(image, (1, 1, 0))], ids=["equal", "dark", "darker", "brighter", "soft"])
def test_ssim_of_changed_images_is_an_independent_ssim(session, change):
    chance = np.random.RandomState(0)
    smooth = scipy.ndimage.gaussian_filter(chance.uniform(-1000, 1000, (64, 48, 3)), (3, 3, 0))
    image = np.clip(128 + smooth + chance.uniform(-10, 10, smooth.shape), 0, 255)
    images = [np.uint8(np.clip(picture, 0, 255)) for picture in (image, change(image))]
    ours = session.run(gallery.measures(*(tf.constant(picture[np.newaxis] / np.float32(127.5) - 1)
                                           for picture in images)))
    assert ours["ssim"] == pytest.approx(scipy_ssim(*images), abs=2e-3)


def test_the_gallery_escapes_names_and_links_every_image(tested):
    with open(os.path.join(tested, "index.html")) as file:
        page = file.read()
    assert "<b>&'" not in page and "&lt;b&gt;&amp;" in page and "$" not in page
    links = [urllib.parse.unquote(html.unescape(link)) for link in re.findall('src="([^"]+)"', page)]
    assert len(links) == 12 and all(os.path.exists(os.path.join(tested, link)) for link in links)
    assert "http" not in page


def test_an_output_does_not_depend_on_the_images_beside_it(run, trained, tmp_path):
    write_pairs(str(tmp_path / "all"), 3)
    write_pairs(str(tmp_path / "one"), 3)
    os.remove(tmp_path / "one" / "1.png")
    os.remove(tmp_path / "one" / "3.png")
    measured = []
    for name in ("all", "one"):
        assert run("--mode=test", "--output_dir=" + trained, "--data_dir=%s" % (tmp_path / name))[0] == 0
        with open(os.path.join(trained, "test", "metrics.csv")) as file:
            measured.append([row for row in csv.reader(file) if row[0] == "2"])
    assert measured[0] == measured[1] != []
    assert len(os.listdir(os.path.join(trained, "test", "images"))) == 4  # none of the earlier test's


def test_an_output_is_the_same_beside_a_file_of_its_stem(run, trained, tmp_path):
    write_pairs(str(tmp_path), 2)
    argv = ["--mode=test", "--output_dir=" + trained, "--data_dir=%s" % tmp_path]
    assert run(*argv)[0] == 0
    alone = imageio.imread(os.path.join(trained, "test", "images", "2-output.png"))
    imageio.imwrite(tmp_path / "1.jpg", np.zeros((16, 32, 3), np.uint8))
    assert run(*argv)[0] == 0
    beside = imageio.imread(os.path.join(trained, "test", "images", "2.png-output.png"))
    np.testing.assert_array_equal(beside, alone)


def test_the_flags_offer_what_the_modules_know():
    known = {"layout": ("auto", *pair_files.LAYOUTS), "resize_method": reader.RESIZE_METHODS, "norm": pix2pix.NORMS,
             "skip": [skip for skip in pix2pix.SKIPS if skip != "none"], "gan_loss": pix2pix.GAN_LOSSES,
             "pixel_loss": pix2pix.PIXEL_LOSSES, "update": pix2pix.UPDATES, "patch": map(str, pix2pix.PATCHES)}
    for name, choices in known.items():
        assert train.FLAGS[name].parser.enum_values == list(choices), name


def test_a_new_run_removes_the_sample_grids_of_one_that_ended_before_it_saved(run, tmp_path):
    samples = tmp_path / "run" / "samples"
    samples.mkdir(parents=True)
    (samples / "step-00000003.png").write_bytes(b"of other flags")
    (samples / "mine.png").write_bytes(b"kept")
    run("--output_dir=%s" % (tmp_path / "run"), *SMALL, "--max_steps=1")
    assert sorted(os.listdir(samples)) == ["index.html", "mine.png", "progress.gif", "step-00000000.png",
                                           "step-00000001.png"]


@pytest.mark.parametrize("mode", ["test", "export"])
def test_the_last_result_stays_until_a_new_one_is_whole(run, trained, tmp_path, monkeypatch, mode):
    folder = shutil.copytree(trained, str(tmp_path / "run"))
    argv = ["--mode=" + mode, "--output_dir=" + folder]
    result = os.path.join(folder, mode if mode == "test" else "export/6")
    assert run(*argv)[0] == 0
    with open(os.path.join(result, "of_the_first"), "w"):
        before = sorted(os.listdir(result))
    write, seen = train.pix2pix.generator, []

    def failing(*images, **options):
        seen.append(sorted(os.listdir(result)))
        raise RunError("stopped")

    monkeypatch.setattr(train.pix2pix, "generator", failing)
    assert run(*argv)[0] == "error: stopped"
    assert sorted(os.listdir(result)) == before == seen[0]
    monkeypatch.setattr(train.pix2pix, "generator", write)
    assert run(*argv)[0] == 0
    assert "of_the_first" not in os.listdir(result)
    parent, name = os.path.split(result)
    assert [beside for beside in os.listdir(parent) if beside.startswith(name)] == [name]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux swaps two folders in one step")
def test_a_folder_is_replaced_without_a_moment_in_which_there_is_none(tmp_path):
    folder, missing, done = str(tmp_path / "result"), [], threading.Event()

    def watch():
        while not done.is_set():
            missing.append(not os.path.exists(os.path.join(folder, "file")))

    def replace():
        with storage.replacing(folder) as new, open(os.path.join(new, "file"), "w"):
            pass

    replace()
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(200):
        replace()
    done.set()
    watcher.join()
    assert len(missing) > 200 and not any(missing)
    assert os.listdir(tmp_path) == ["result"]


def test_a_folder_that_cannot_be_swapped_in_leaves_the_old_one(tmp_path, monkeypatch):
    for name in ("old", "new"):
        os.makedirs(tmp_path / name / name)
    rename = os.rename

    def failing(source, target):
        if os.path.basename(source) == "new":
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    monkeypatch.setattr(sys, "platform", "other")  # without Linux' swap
    with pytest.raises(OSError, match="no"):
        storage.exchange(str(tmp_path / "new"), str(tmp_path / "old"))
    assert os.listdir(tmp_path / "old") == ["old"]


def test_many_at_once_can_look_whether_a_folder_can_be_written(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(storage.make_folders, 400 * [str(tmp_path / "folder")]))
    assert os.listdir(tmp_path / "folder") == []


def test_a_bad_picture_in_val_costs_a_warning_and_its_row_of_the_grid(run, tmp_path):
    write_pairs(str(tmp_path / "train"), 3)
    write_pairs(str(tmp_path / "val"), 3)
    (tmp_path / "val" / "2.png").write_bytes(b"no image")
    argv = ["--data_dir=%s" % tmp_path, "--output_dir=%s" % (tmp_path / "run"), *SMALL]
    status, output = run(*argv, "--max_steps=1")
    assert status == 0 and "warning: %s" % (tmp_path / "val" / "2.png") in output
    assert imageio.imread(tmp_path / "run" / "samples" / "step-00000001.png").shape == (2 * 32, 3 * 32, 3)
    for name in ("1.png", "3.png"):
        (tmp_path / "val" / name).write_bytes(b"no image")
    assert run(*argv, "--max_steps=2")[0] == 0  # then the training pairs are shown
    assert imageio.imread(tmp_path / "run" / "samples" / "step-00000002.png").shape == (3 * 32, 3 * 32, 3)


def test_the_modules_load_where_the_system_lacks_what_only_unix_has():
    script = """
import os, signal, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
for module, name in ((signal, "SIGHUP"), (os, "wait4"), (os, "fork")):
    delattr(module, name)
sys.path[:0] = [%r, %r]
import reader, pix2pix, train, study
print("loaded")
""" % (ROOT, os.path.join(ROOT, "studies"))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "loaded" in result.stdout, result.stderr


def test_help_into_a_closed_pipe_shows_no_traceback():
    process = subprocess.run("%s --help | head -1" % " ".join(command()), shell=True, capture_output=True, text=True,
                             check=False)
    assert process.stderr == "" and process.stdout


def test_the_modules_can_be_loaded_again_as_notebooks_do():
    script = "import importlib, pix2pix, reader; importlib.reload(pix2pix); importlib.reload(reader); print('loaded')"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "loaded" in result.stdout, result.stderr


def test_the_reader_stays_on_the_cpu_and_the_forms_for_cpus_off_gpus(data, monkeypatch):
    monkeypatch.setattr(convolutions, "has_gpu", lambda: True)
    with tf.Graph().as_default() as graph:
        train.training_graph(options(*SMALL), pair_files.find_pairs(os.path.join(data, "train")), "float32")
        queues = [op for op in graph.get_operations() if op.name.startswith("reader/")]
        others = [op for op in graph.get_operations() if op.name.startswith(("generator/", "discriminator/"))]
    assert len(queues) > 20 and all("CPU:0" in op.device for op in queues if not op.name.startswith("reader/position"))
    assert not any(op.device or op.type in ("GatherV2", "MatMul") for op in others)
    assert precisions.session_config("float32").gpu_options.allow_growth


def test_test_mode_prints_the_runs_fingerprint(run, trained, tmp_path):
    status, output = run("--mode=test", "--output_dir=" + trained)
    assert status == 0
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))


@pytest.mark.parametrize("count", [1, 2])
def test_an_interval_holds_its_mean(count):
    result = gallery.interval([0.25, 0.5][:count])
    assert result["low"] <= result["mean"] <= result["high"]
    assert count > 1 or result["low"] == result["high"] == 0.25


def test_images_of_any_size_are_tested_at_their_own(run, trained, tmp_path):
    for number, (height, width) in enumerate([(11, 22), (33, 140), (64, 64)], 1):
        image = np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8)
        imageio.imwrite(tmp_path / ("%d.png" % number), image)
    argv = ["--mode=test", "--output_dir=" + trained, "--data_dir=%s" % tmp_path, "--notest_resize"]
    assert run(*argv)[0] == 0
    for kind in ("input", "output", "target", "patches"):
        assert [imageio.improps(os.path.join(trained, "test", "images", "%d-%s.png" % (number, kind))).shape
                for number in (1, 2, 3)] == [(11, 11, 3), (33, 70, 3), (64, 32, 3)]
    assert run(*argv, "--test_resize")[0] == 0
    assert imageio.improps(os.path.join(trained, "test", "images", "2-output.png")).shape == (32, 32, 3)
    imageio.imwrite(tmp_path / "4.png", np.zeros((10, 40, 3), np.uint8))
    assert run(*argv)[0].startswith("error: %s/4.png: an image of 20x10 pixels, fewer than the 11x11" % tmp_path)
    assert run(*argv, "--layout=inputs")[0] == run(*argv, "--test_resize")[0] == 0


def test_test_mode_shows_what_training_saw_whatever_flags_txt_of_an_earlier_version_says(run, trained, tmp_path):
    folder = shutil.copytree(trained, str(tmp_path / "run"))
    with open(os.path.join(folder, "flags.txt"), "a") as file:
        file.write("--test_resize=False\n")
    assert run("--mode=test", "--output_dir=" + folder)[0] == 0
    assert imageio.improps(os.path.join(folder, "test", "images", "1-output.png")).shape == (32, 32, 3)
    with open(os.path.join(trained, "flags.txt")) as file:
        assert "test_resize" not in file.read()


def test_inputs_without_targets_get_outputs_and_a_gallery_without_metrics(run, trained, tmp_path):
    write_pairs(str(tmp_path), 2)
    status, output = run("--mode=test", "--output_dir=" + trained, "--data_dir=%s" % tmp_path, "--layout=inputs")
    assert status == 0 and "2 images" in output and "l1" not in output
    assert sorted(os.listdir(os.path.join(trained, "test", "images"))) == [
        "%d-%s.png" % (number, kind) for number in (1, 2) for kind in ("input", "output", "patches")]
    assert sorted(os.listdir(os.path.join(trained, "test"))) == ["images", "index.html"]
    with open(os.path.join(trained, "test", "index.html")) as file:
        assert "L1" not in file.read()


def test_training_refuses_inputs_without_targets(run, tmp_path):
    assert "--layout=inputs is for test mode" in run("--output_dir=%s" % tmp_path, "--layout=inputs", *SMALL)[0]


def test_folders_of_grey_and_colour_train_and_test_at_a_size_that_is_not_square(run, tmp_path):
    for split, side, channels in (("train", "A", ()), ("train", "B", (3,)), ("val", "A", ()), ("val", "B", (3,))):
        os.makedirs(tmp_path / split / side)
        for number in (1, 2):
            imageio.imwrite(tmp_path / split / side / ("%d.png" % number),
                            np.random.RandomState(number).randint(0, 256, (40, 72, *channels), np.uint8))
    argv = ["--data_dir=%s" % tmp_path, "--output_dir=%s" % (tmp_path / "run")]
    status, _ = run(*argv, *SMALL, "--image_size=32,64", "--input_channels=1", "--max_steps=2")
    assert status == 0
    assert imageio.imread(tmp_path / "run" / "samples" / "step-00000002.png").shape == (2 * 32, 3 * 64, 3)
    for flag, size in (("--test_resize", (32, 64)), ("--notest_resize", (40, 72))):
        assert run(*argv, "--mode=test", flag)[0] == 0
        assert imageio.improps(tmp_path / "run" / "test" / "images" / "1-input.png").shape == size
        assert imageio.improps(tmp_path / "run" / "test" / "images" / "1-output.png").shape == (*size, 3)


def test_the_learning_rate_decays_to_zero_over_the_last_epochs(run, tmp_path):
    chosen = options("--epochs=4", "--decay_epochs=2", "--batch_size=1", "--learning_rate=1.0")
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.get_variable("step", initializer=tf.constant(0, tf.int64), use_resource=True)
        rate = train.learning_rate(chosen, step, 5)
        session.run(step.initializer)
        rates = []
        for at in (0, 10, 15, 19, 20):
            session.run(step.assign(at))
            rates.append(session.run(rate))
    assert rates == pytest.approx([1, 1, 0.5, 0.1, 0])
    argv = ["--output_dir=%s" % tmp_path, *SMALL, "--epochs=2", "--decay_epochs=1"]
    assert run(*argv, "--max_steps=1")[0] == 0
    assert "--epochs is 3 here and 2 in the run" in run(*argv, "--epochs=3", "--max_steps=2")[0]


# Export


def test_an_export_gives_test_modes_outputs_in_plain_tensorflow_2(run, trained, data, tmp_path):
    assert run("--mode=export", "--output_dir=" + trained)[0] == 0
    pairs = pair_files.find_pairs(os.path.join(data, "val"))
    image = next(train.reader.read_in_order(pairs, size=(32, 32)))[0]
    with tf.Graph().as_default(), tf.Session() as session:
        output = train.pix2pix.generator(tf.constant(image), filters=2)
        tf.train.Saver().restore(session, os.path.join(trained, "checkpoints", "model.ckpt-6"))
        expected = session.run(output)
    np.savez(tmp_path / "io.npz", image=image, expected=expected)
    script = """
import sys, numpy as np, tensorflow as tf
folder, files, png = sys.argv[1:]
io = np.load(files)
signatures = tf.saved_model.load(folder).signatures
outputs = signatures["serving_default"](images=tf.constant(io["image"]))["outputs"].numpy()
assert tf.executing_eagerly() and outputs.shape == io["expected"].shape
assert np.abs(outputs - io["expected"]).max() < 1e-5, np.abs(outputs - io["expected"]).max()
contents = tf.io.read_file(png)
pictures = signatures["serving_bytes"](image_bytes=tf.stack([contents, contents]))["png_bytes"]
assert pictures.shape == (2,) and tf.io.decode_png(pictures[0]).shape == (32, 32, 3)  # as test mode gives it
assert signatures["serving_bytes"](image_bytes=tf.zeros([0], tf.string))["png_bytes"].shape == (0,)
alone = signatures["serving_default"](images=tf.zeros([1, 33, 70, 3]))["outputs"]
assert alone.shape == (1, 33, 70, 3)
image = tf.constant(io["image"])
loaded = tf.saved_model.load(folder)
with tf.GradientTape() as tape:
    tape.watch(image)
    total = tf.reduce_sum(loaded.signatures["serving_default"](images=image)["outputs"])
assert np.abs(tape.gradient(total, image).numpy()).max() > 0
print("the same")
"""
    result = subprocess.run([sys.executable, "-c", script, os.path.join(trained, "export", "6"),
                             str(tmp_path / "io.npz"), pairs.files[0][0].path],
                            capture_output=True, text=True, check=False)
    assert "the same" in result.stdout, result.stderr


def test_the_export_reads_bytes_as_test_mode_does_and_refuses_what_is_too_large(run, trained, tmp_path):
    folder = shutil.copytree(trained, str(tmp_path / "run"))
    (tmp_path / "in").mkdir()
    y, x = np.mgrid[:40, :72]
    deep = np.stack([y * 1600, x * 900, 65535 - x * 900], axis=-1).astype(np.uint16)
    imageio.imwrite(tmp_path / "in" / "grey.png", (x * 900 + 128).astype(np.uint16))  # 16 bits
    eight = PIL.Image.fromarray((deep // 257).astype(np.uint8))
    names = ["grey"]
    for orientation, form in ((1, {}), (3, {}), (6, {}), (8, {}), (6, {"order": "<"}), (5, {"format": "PNG"})):
        exif = PIL.Image.Exif()
        exif[0x010f], exif[0x0112] = "maker", orientation
        block = exif.tobytes()
        if form.get("order"):  # the same block in the other byte order
            block = (b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0) + bytes(4))
        names.append("%d%s" % (orientation, "".join(form.values()).replace("<", "le")))
        eight.save(str(tmp_path / "in" / (names[-1] + ".jpg")), format=form.get("format", "JPEG"), exif=block)
    assert run("--mode=test", "--layout=inputs", "--notest_dropout", "--output_dir=" + folder,
               "--data_dir=%s" % (tmp_path / "in"))[0] == 0
    shutil.copytree(os.path.join(folder, "test", "images"), str(tmp_path / "expected"))
    assert run("--mode=export", "--output_dir=" + folder)[0] == 0
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 13000, 13000, 8, 2, 0, 0, 0)
    rows_of_zeros = zlib.compress(bytes(13000 * 39001), 1)
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (chunk, b"IDAT" + rows_of_zeros, b"IEND")))
    jpeg = bytearray(next((tmp_path / "in").glob("1.jpg")).read_bytes())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5:frame + 9] = struct.pack(">HH", 60000, 60000)
    (tmp_path / "huge.jpg").write_bytes(jpeg)
    (tmp_path / "other").write_bytes(imageio.imwrite("<bytes>", np.zeros((8, 8, 3), np.uint8), extension=".bmp"))
    script = """
import glob, os, resource, sys, time, numpy as np, tensorflow as tf
export, folder = sys.argv[1:]
model = tf.saved_model.load(export)
def picture(path):
    sent = tf.stack([tf.io.read_file(path)])
    return tf.io.decode_png(model.signatures["serving_bytes"](image_bytes=sent)["png_bytes"][0]).numpy()
def compare():
    for path in sorted(glob.glob(folder + "/in/*")):
        name = os.path.splitext(os.path.basename(path))[0]
        expected = tf.io.decode_png(tf.io.read_file(folder + "/expected/%s-output.png" % name)).numpy()
        found = picture(path)
        assert found.shape == expected.shape, (path, found.shape, expected.shape)
        assert np.abs(found.astype(int) - expected).max() <= 1, (path, np.abs(found.astype(int) - expected).max())
        assert found.shape == (32, 32, 3), path
compare()
for name, says in (("huge.png", "too many pixels; the limit is 16777216"), ("huge.jpg", "too many pixels; the limit"),
                   ("other", "not a PNG or JPEG"), ("empty", "not a PNG or JPEG")):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.time()
    try:
        picture(folder + "/" + name)
        raise SystemExit(name + " was not refused")
    except tf.errors.InvalidArgumentError as error:
        assert says in str(error), error
    assert time.time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100000, name  # in KB
compare()
print("the same")
"""
    (tmp_path / "empty").write_bytes(b"")
    result = subprocess.run([sys.executable, "-c", script, os.path.join(folder, "export", "6"), str(tmp_path)],
                            capture_output=True, text=True, check=False)
    assert "the same" in result.stdout, result.stderr


def test_jpegs_in_the_layout_of_facades_train_and_test_from_b_to_a(run, tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        write_pairs(str(tmp_path / "data" / split), count, size=256, extension=".jpg")
    argv = ["--data_dir=%s" % (tmp_path / "data"), "--output_dir=%s" % (tmp_path / "run")]
    assert run(*argv, "--direction=BtoA", *SMALL, "--max_steps=2")[0] == 0
    assert run("--mode=test", *argv, "--notest_resize")[0] == 0
    pair = np.float32(imageio.imread(tmp_path / "data" / "val" / "1.jpg"))
    for half, kind in ((pair[:, :256], "target"), (pair[:, 256:], "input")):
        written, = (tmp_path / "run" / "test").glob("**/*1-%s.png" % kind)
        assert np.abs(imageio.imread(written) - half).mean() < 2  # two decoders of JPEG


def test_equal_images_have_a_psnr_that_json_can_hold(monkeypatch):
    monkeypatch.setattr(train, "generate", lambda options, images, draw: images)
    picture = np.random.RandomState(0).uniform(-1, 1, (1, 32, 32, 3))
    with tf.Graph().as_default(), tf.Session() as session:
        image, target, draw, _, measures = train.test_graph(options("--ndf=2"))
        session.run(tf.global_variables_initializer())
        values = session.run(measures, {image: picture, target: picture, draw: 0})
    assert (values["l1"], values["psnr"], values["ssim"]) == (0, 100, 1)


@pytest.mark.slow
def test_the_first_look_learns_within_its_first_minutes(tmp_path):
    argv = "--flagfile=flags/quick.flags", "--output_dir=%s" % tmp_path, "--max_steps=400", "--log_every=1"
    subprocess.run(command(*argv), check=True, cwd=ROOT, capture_output=True)
    l1 = [float(row[4]) for row in rows(tmp_path)[1:]]
    assert np.mean(l1[-100:]) < 0.6 * np.mean(l1[:10])
