"""Training: what a run leaves, that it repeats and continues to the bit, and when it stops by itself."""

import json
import os
import shutil
import subprocess
import sys

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import train
from conftest import ROOT, SMALL, fingerprint, options, rows, several_commands, without_timing, write_pairs
from support import checkpoints, devices, pair_files, precisions


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


def test_a_runs_flagfile_repeats_it_bit_for_bit_with_any_number_of_threads(run, trained, tmp_path):
    status, output = run("--flagfile=%s/flags.txt" % trained, "--output_dir=%s" % tmp_path, "--reader_threads=3")
    assert status == 0
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))
    assert without_timing(rows(tmp_path)) == without_timing(rows(trained))


def test_what_is_logged_and_shown_changes_no_bit(run, trained, tmp_path):
    status, output = run("--output_dir=%s" % tmp_path, "--max_steps=6", *SMALL, "--log_every=9", "--sample_every=2")
    assert status == 0
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 4])
def test_continuing_a_run_equals_never_having_stopped(run, trained, tmp_path, stop):
    folder = "--output_dir=%s" % tmp_path
    assert run(folder, "--max_steps=%d" % stop, *SMALL)[0] == 0
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("%d,9,9,9,9,9\n7,1." % (stop + 1))  # rows of a later step, as after a kill
    status, output = run(folder, "--max_steps=6", *SMALL)
    assert status == 0 and "from step %d" % stop in output and "continuing" in output
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))
    assert without_timing(rows(tmp_path)) == without_timing(rows(trained))


def test_a_lost_list_of_checkpoints_loses_nothing_and_only_the_newest_are_kept(run, trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    os.remove(folder / "checkpoints" / "checkpoint")
    os.remove(folder / "checkpoints" / "model.ckpt-6.index")
    with open(folder / "metrics.csv", "a") as file:
        file.write("7,1.")  # as after a kill
    status, output = run("--output_dir=%s" % folder, "--max_steps=6", *SMALL, "--keep=2", "--save_every=1")
    assert status == 0 and "from step 4" in output
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))
    assert without_timing(rows(folder)) == without_timing(rows(trained))
    kept = {name for name in os.listdir(folder / "checkpoints") if name.endswith(".index")}
    assert kept == {"model.ckpt-5.index", "model.ckpt-6.index"}


def test_the_reader_gets_the_papers_jitter(monkeypatch, data):
    asked = {}

    def training_batches(pairs, step, batches):
        asked.update(batches._asdict())
        image = tf.zeros([1, 256, 256, 3])
        return image, image

    monkeypatch.setattr(train.reader, "training_batches", training_batches)
    with tf.Graph().as_default():
        pairs = pair_files.find_pairs(os.path.join(data, "train"))
        train.training_graph(options("--ngf=2", "--ndf=2"), pairs, "float32")
    assert (asked["image_size"], asked["load_size"], asked["flip"], asked["batch_size"]) == (
        (256, 256), (286, 286), True, 4)


@pytest.mark.slow  # tests/test_devices.py has the choice itself
@pytest.mark.parametrize("begun,continued", [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_a_run_keeps_the_precision_it_began_with_on_another_cpu(run, data, tmp_path, monkeypatch, begun, continued):
    used, training = [], train.pix2pix.training

    def spy(batch, step, generate, discriminate, options, mean):
        used.append(options.precision)
        return training(batch, step, generate, discriminate, options, mean)

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


@pytest.mark.slow
def test_bfloat16_without_onednn_is_refused_by_name_and_auto_is_float32(data, tmp_path):
    argv = ["--data_dir=" + data, *SMALL, "--max_steps=1"]
    (refused, _), (status, output) = several_commands(*(
        [*argv, "--precision=" + precision, "--output_dir=%s" % (tmp_path / precision)]
        for precision in ("bfloat16", "auto")), TF_ENABLE_ONEDNN_OPTS="0")
    assert refused.startswith("error: --precision=bfloat16 needs a CPU with AVX-512") and "\n" not in refused
    assert status == 0 and "1 steps, float32" in output


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


def test_saturated_patches_are_warned_of_once(run, monkeypatch, tmp_path):
    monkeypatch.setattr(train.diagnostics, "saturated_share",
                        lambda logits, gradient, is_real: tf.constant(0.4 + 0.3 * is_real))
    status, output = run("--output_dir=%s" % tmp_path, "--max_steps=3", *SMALL)
    assert status == 0
    assert output.count("warning: step 1: D gets 70 % of the real patches wrong") == output.count("warning") == 1
    assert "--gan_loss" in output
    assert [row[7:9] for row in rows(tmp_path)[1:]] == [["0.699999988", "0.400000006"]] * 3


def test_what_is_said_of_flags_names_flags_that_there_are():
    assert train.RULES.free | train.RULES.restored | train.RULES.networks | set(train.RULES.older) <= set(
        train.Options._fields)
    assert train.RULES.in_old_checkpoint <= train.RULES.networks and not train.RULES.networks & train.RULES.free


def test_a_run_older_than_a_flag_has_the_value_that_the_flag_has_for_it(run, trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "flags.txt"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "--beta1=" not in line))
    folder = "--output_dir=%s" % (tmp_path / "run")
    assert run(folder, "--max_steps=6", *SMALL)[0] == 0  # the default is the value of older runs
    monkeypatch.setitem(train.RULES.older, "beta1", 0.25)
    status, _ = run(folder, "--max_steps=6", *SMALL)
    assert "--beta1 is 0.5 here and 0.25 in the run" in status
    assert run(folder, "--max_steps=6", *SMALL, "--beta1=0.25")[0] == 0


def test_a_new_run_removes_the_sample_grids_of_one_that_ended_before_it_saved(run, tmp_path):
    samples = tmp_path / "run" / "samples"
    samples.mkdir(parents=True)
    (samples / "step-00000003.png").write_bytes(b"of other flags")
    (samples / "mine.png").write_bytes(b"kept")
    run("--output_dir=%s" % (tmp_path / "run"), *SMALL, "--max_steps=1")
    assert sorted(os.listdir(samples)) == ["index.html", "mine.png", "progress.gif", "step-00000000.png",
                                           "step-00000001.png"]


def test_a_bad_picture_in_val_costs_a_warning_and_its_row_of_the_grid(run, tmp_path):
    write_pairs(str(tmp_path / "train"), 3)
    write_pairs(str(tmp_path / "val"), 3)
    (tmp_path / "val" / "2.png").write_bytes(b"no image")
    argv = ["--data_dir=%s" % tmp_path, "--output_dir=%s" % (tmp_path / "run"), *SMALL, "--val_every=1"]
    status, output = run(*argv, "--max_steps=1")
    assert status == 0 and "warning: %s" % (tmp_path / "val" / "2.png") in output
    assert len((tmp_path / "run" / "val_metrics.csv").read_text().splitlines()) == 2
    assert imageio.imread(tmp_path / "run" / "samples" / "step-00000001.png").shape == (2 * 32, 3 * 32, 3)
    for name in ("1.png", "3.png"):
        (tmp_path / "val" / name).write_bytes(b"no image")
    assert run(*argv, "--max_steps=2")[0] == 0  # then the training pairs are shown
    assert imageio.imread(tmp_path / "run" / "samples" / "step-00000002.png").shape == (3 * 32, 3 * 32, 3)


def test_the_modules_load_where_the_system_lacks_what_only_unix_has_and_again_as_notebooks_do():
    script = """
import importlib, os, signal, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
for module, name in ((signal, "SIGHUP"), (os, "wait4"), (os, "fork")):
    delattr(module, name)
sys.path[:0] = [%r, %r]
import reader, pix2pix, train, study
importlib.reload(pix2pix)
importlib.reload(reader)
print("loaded")
""" % (ROOT, os.path.join(ROOT, "studies"))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "loaded" in result.stdout, result.stderr


def test_the_reader_stays_on_the_cpu_and_the_forms_for_cpus_off_gpus(data, monkeypatch):
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    with tf.Graph().as_default() as graph:
        train.training_graph(options(*SMALL), pair_files.find_pairs(os.path.join(data, "train")), "float32")
        queues = [op for op in graph.get_operations() if op.name.startswith("reader/")]
        others = [op for op in graph.get_operations() if op.name.startswith(("generator", "discriminator"))]
    assert len(queues) > 20 and all("CPU:0" in op.device for op in queues if not op.name.startswith("reader/position"))
    assert not any(op.device or op.type in ("GatherV2", "MatMul") for op in others)
    assert precisions.session_config("float32").gpu_options.allow_growth


def test_the_learning_rate_decays_to_zero_over_the_last_epochs(run, trained, tmp_path):
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
    folder = shutil.copytree(trained, str(tmp_path / "run"))
    with open(os.path.join(folder, "flags.txt"), "a") as file:
        file.write("--epochs=2\n--decay_epochs=1\n")
    status, _ = run("--output_dir=" + folder, *SMALL, "--decay_epochs=1", "--epochs=3", "--max_steps=7")
    assert "--epochs is 3 here and 2 in the run" in status
