"""Checkpoints: what fits, what is damaged, old programs', and runs killed at any moment."""

import collections
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import time
import zlib

import filelock
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import pix2pix
import train
from conftest import LIMIT, ROOT, SMALL, fingerprint, options, rows, without_timing, write_pairs
from support import checkpoints, image_files, pair_files, run_folder, storage
from support.errors import CheckpointError

NEWEST = os.path.join("checkpoints", "model.ckpt-6")


def tensors(checkpoint):
    """{name: array} of all that is in a checkpoint."""
    values = tf.train.load_checkpoint(checkpoint)
    return {name: values.get_tensor(name) for name in values.get_variable_to_shape_map()}


def write_checkpoint(path, values):
    """Writes {name: array} as a checkpoint."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {name: tf.Variable(value, use_resource=True) for name, value in values.items()}
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, path, write_meta_graph=False, write_state=False)


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of a finished run of 6 steps with checkpoints of steps 4 and 6, to be harmed."""
    for name in ("flags.txt", "run.json", "pairs.txt", "metrics.csv"):
        shutil.copy(os.path.join(trained, name), tmp_path)
    shutil.copytree(os.path.join(trained, "checkpoints"), tmp_path / "checkpoints")
    return str(tmp_path)


@pytest.fixture(scope="module")
def small_variables(data):
    """The variables of a run with the flags of SMALL."""
    with tf.Graph().as_default():
        train.training_graph(options(*SMALL), pair_files.find_pairs(os.path.join(data, "train")), "float32")
        return tf.global_variables()


# What fits


def test_init_checkpoint_starts_from_its_weights(run, trained, tmp_path):
    start = os.path.join(trained, NEWEST)
    run("--output_dir=%s" % tmp_path, "--max_steps=1", "--learning_rate=1e-30", "--init_checkpoint=" + start, *SMALL)
    found, expected = tensors(str(tmp_path / "checkpoints" / "model.ckpt-1")), tensors(start)
    for name in filter(checkpoints.WEIGHT.fullmatch, expected):
        assert found[name].tobytes() == expected[name].tobytes()
        average = found.get(name + "/average", expected[name])
        np.testing.assert_allclose(average, expected[name], rtol=1e-6)  # which starts at these weights


@pytest.mark.parametrize("flag,variable,fits", [
    ("--ngf=3", "generator/encoder_1/kernel is [4, 4, 3, 2], the flags make it [4, 4, 3, 3]", "--ngf=2"),
    ("--ndf=3", "discriminator/layer_1/kernel", "--ndf=2"),
    ("--image_size=64", "generator/encoder_5/gamma is missing", "--image_size=32"),
    ("--norm=none", "generator/encoder_2/bias is missing", "--norm=batch"),
    ("--bottleneck_norm", "generator/encoder_5/gamma is missing", "--bottleneck_norm=False"),
    ("--input_channels=1", "generator/encoder_1/kernel", "--input_channels=3"),
    ("--output_channels=1", "generator/decoder_1/kernel", "--output_channels=3")])
def test_a_checkpoint_that_does_not_fit_is_refused_by_variable_and_flag(run, trained, tmp_path, flag, variable, fits):
    shutil.copytree(os.path.join(trained, "checkpoints"), str(tmp_path / "alone"))  # without the run's flags
    start = str(tmp_path / "alone" / os.path.basename(NEWEST))
    status, _ = run("--output_dir=%s" % tmp_path, *SMALL, flag, "--init_checkpoint=" + start)
    assert status.startswith("error: " + start) and "\n" not in status
    assert variable in status and status.endswith("Its shapes are those of " + fits)
    assert not os.path.exists(tmp_path / "flags.txt")


@pytest.mark.parametrize("change,says", [
    (lambda values: values.pop("discriminator/layer_2/kernel"),
     "discriminator/layer_2/kernel is missing. If it is not damaged, --generator, --patch"),
    (lambda values: values.pop("generator/encoder_2/kernel/Adam_G"), "generator/encoder_2/kernel/Adam_G is missing"),
    (lambda values: values.update({"generator/encoder_9/kernel": np.zeros([4, 4, 1, 1], np.float32)}),
     "generator/encoder_9/kernel is not in the model"),
    (lambda values: flatten(values, "generator/encoder_1/kernel"), "generator/encoder_1/kernel is [96], the flags"),
    (lambda values: flatten(values, "generator/decoder_1/kernel"), "generator/decoder_1/kernel is ["),
    (lambda values: flatten(values, "discriminator/layer_1/kernel"), "discriminator/layer_1/kernel is ["),
    (lambda values: values.update({"generator/encoder_1/bias": np.zeros([2])}), "bias is float64, not float32"),
    (lambda values: values.update({"global_step": np.int64(5)}), "model.ckpt-6 is of step 5")])
def test_a_runs_checkpoint_that_was_changed_is_refused_by_variable(small_variables, trained, tmp_path, change, says):
    path, values = str(tmp_path / "model.ckpt-6"), tensors(os.path.join(trained, NEWEST))
    change(values)
    write_checkpoint(path, values)
    with pytest.raises(CheckpointError) as refused:
        checkpoints.check_own(path, small_variables)
    assert says in str(refused.value) and "move it out of" in str(refused.value) and "\n" not in str(refused.value)


def test_a_run_whose_checkpoint_was_changed_is_refused(run, copied):
    values = tensors(os.path.join(copied, NEWEST))
    values.pop("discriminator/layer_2/kernel")
    write_checkpoint(os.path.join(copied, NEWEST), values)
    status, _ = run("--output_dir=" + copied, "--max_steps=9", *SMALL)
    assert status.startswith("error: ") and "discriminator/layer_2/kernel is missing" in status and "\n" not in status
    assert "move it out of" in status


def flatten(values, name):
    values[name] = values[name].ravel()


def test_a_checkpoint_that_is_none_is_named(run, tmp_path):
    status, _ = run("--mode=test", "--output_dir=%s" % tmp_path, "--checkpoint=%s/nothing" % tmp_path)
    assert status.startswith("error: %s/nothing: no checkpoint of this name" % tmp_path)


def test_a_checkpoint_is_looked_for_in_the_folder_that_was_named(run, trained, tmp_path):
    status, _ = run("--mode=export", "--checkpoint=" + os.path.join(trained, "samples"), "--output_dir=%s" % tmp_path)
    assert "samples: no checkpoint of this name" in status  # not the run's beside it


def test_flags_that_contradict_the_checkpoints_run_are_refused(run, trained):
    for flag in ("--norm=batch", "--skip=pre", "--patch=16"):
        status, _ = run("--mode=export", "--output_dir=" + trained, flag)
        assert status.startswith("error: " + flag.split("=")[0]) and "in the run" in status
    assert "--checkpoint" in run("--mode=export", "--output_dir=" + trained, "--init_checkpoint=" + trained)[0]


def test_a_run_from_before_a_default_changed_goes_on_with_its_own_value(run, data, tmp_path):
    argv = ["--data_dir=" + data, "--output_dir=%s" % tmp_path, *SMALL]
    assert run(*argv, "--norm=batch", "--ema=0", "--max_steps=1")[0] == 0
    assert run(*argv, "--max_steps=2")[0] == 0
    assert {"--norm=batch", "--ema=0.0"} <= set((tmp_path / "flags.txt").read_text().splitlines())
    for flag, name in (("--norm=instance", "batch"), ("--ema=0.9", "0.0")):
        status, _ = run(*argv, flag, "--max_steps=3")
        assert "%s is %s here and %s in the run" % (*flag.split("="), name) in status and "\n" not in status


# What a refusal advises


def advised(status):
    """The flags that a refusal advises for a new run, as a shell would split them."""
    return shlex.split(status.rsplit("use the same command with ", 1)[1])


@pytest.mark.parametrize("change,says", [
    (lambda folder: write_pairs(folder, 6), "(6.png was added)"),
    (lambda folder: os.remove(folder + "/2.png"), "(2.png is gone)"),
    (lambda folder: shutil.copy(folder + "/1.png", folder + "/4.png"), "(4.png has changed)"),
    (lambda folder: [shutil.copy(folder + "/1.png", folder + "/%d.png" % i) for i in (3, 5)],
     "(3.png has changed, and 1 more differ)")])
def test_a_changed_pair_is_named_and_what_is_advised_works(run, trained, data, tmp_path, change, says):
    source, folder = str(tmp_path / "data" / "train"), str(tmp_path / "the run")
    shutil.copytree(data, str(tmp_path / "data"))
    argv = ["--data_dir=%s" % (tmp_path / "data"), "--output_dir=" + folder, *SMALL]
    shutil.copytree(trained, folder)
    change(source)
    status, _ = run(*argv, "--max_steps=7")
    assert says in status and "put the pairs back" in status and "--flagfile" not in status and "\n" not in status
    if "added" in says:  # that the weights and their networks are taken is the same for all
        new = ["--init_checkpoint=" + folder, "--output_dir=%s-2" % folder]
        assert advised(status) == new
        given = [flag for flag in argv if flag.split("=")[0] not in ("--image_size", "--ngf", "--ndf")]
        status, output = run(*given, "--max_steps=1", *new)
        assert status == 0 and "--ngf=2 " in output
        assert run(*given, "--max_steps=1", *new)[0] == 0  # and again
    shutil.rmtree(source)
    shutil.copytree(os.path.join(data, "train"), source)
    assert run(*argv, "--max_steps=6")[0] == 0


@pytest.mark.parametrize("content", [None, "5\n", "[]\n", "{", "\xff"])
def test_without_a_list_of_its_pairs_a_run_is_refused_without_a_name_and_gets_a_list_when_it_continues(
        run, copied, tmp_path, content):
    write_pairs(str(tmp_path / "more" / "train"), 6)
    os.remove(os.path.join(copied, "pairs.txt"))  # as earlier versions left it
    if content:
        with open(os.path.join(copied, "pairs.txt"), "w", encoding="latin-1") as file:
            file.write(content)
    status, _ = run("--output_dir=" + copied, "--data_dir=%s" % (tmp_path / "more"), "--max_steps=9", *SMALL)
    assert "--data_dir holds other pairs than the run's. To continue it as it was" in status
    if content is None:
        assert run("--output_dir=" + copied, "--max_steps=7", *SMALL)[0] == 0
        assert run_folder.read_pairs(copied)[4][0] == "5.png"


def test_what_is_advised_for_changed_flags_works(run, copied):
    argv = ["--output_dir=" + copied, *SMALL]
    status, _ = run(*argv, "--learning_rate=0.01", "--max_steps=7")
    assert "--learning_rate is 0.01 here and 0.0002 in the run" in status
    back = "--flagfile=%s/flags.txt --output_dir=%s" % (copied, copied)
    assert "To continue it as it was, use %s; for a new run, name another --output_dir; " % back in status
    assert advised(status) == ["--init_checkpoint=" + copied, "--output_dir=%s-2" % copied]
    status, output = run(*argv, "--learning_rate=0.01", "--max_steps=1", *advised(status))
    assert status == 0 and "with the flags of its networks: " in output
    assert run(*back.split(), "--max_steps=6")[0] == 0
    status, _ = run(*argv, "--ngf=3", "--max_steps=8")  # no weights of the run fit
    assert advised(status) == ["--output_dir=%s-3" % copied] and " from its weights" not in status


def test_the_flags_of_the_networks_come_with_the_weights_and_given_ones_must_agree(run, trained, tmp_path):
    other = ["--batch_size=2", "--precision=float32", "--max_steps=1", "--output_dir=%s" % (tmp_path / "new")]
    status, output = run(*other, "--ndf=2", "--init_checkpoint=" + trained)
    assert status == 0
    line, = [line for line in output.splitlines() if "starting from weights of the run in " in line]
    assert " --ngf=2 " in line and " --image_size=32 " in line and "--ndf" not in line
    assert run_folder.read_flags(str(tmp_path / "new"))["image_size"] == "32"
    for flag in ("--ngf=3", "--norm=none", "--patch=16", "--noconditional"):
        status, _ = run(*other[:3], "--output_dir=%s" % (tmp_path / "no"), flag, "--init_checkpoint=" + trained)
        assert status.startswith("error: " + flag.split("=")[0].replace("--no", "--", "conditional" in flag))
        assert "in the run in %s; leave the flag out" % trained in status


# Damage


def cut(path):
    os.truncate(path, os.path.getsize(path) // 2)


def flip_a_bit(path):
    with open(path, "r+b") as file:
        content = bytearray(file.read())
        content[len(content) // 2] ^= 1
        file.seek(0)
        file.write(content)


@pytest.mark.parametrize("part", ["data-00000-of-00001", "index"])
@pytest.mark.parametrize("harm", [flip_a_bit, cut, lambda path: os.truncate(path, 0), os.remove])
def test_a_damaged_or_incomplete_checkpoint_is_named_and_the_one_before_is_the_newest(copied, capsys, harm, part):
    harm("%s/%s.%s" % (copied, NEWEST, part))
    assert checkpoints.newest(os.path.join(copied, "checkpoints")).endswith("-4")
    says = "incomplete" if harm == os.remove else "not a checkpoint that can be read"
    assert capsys.readouterr().out.startswith("warning: %s/%s: %s" % (copied, NEWEST, says))


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(run, trained, copied):
    flip_a_bit("%s/%s.data-00000-of-00001" % (copied, NEWEST))
    status, output = run("--output_dir=" + copied, "--max_steps=6", *SMALL)
    assert status == 0
    assert "warning: %s/%s: not a checkpoint that can be read" % (copied, NEWEST) in output
    assert "from step 4" in output
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, NEWEST))
    assert without_timing(rows(copied)) == without_timing(rows(trained))


@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001"])
def test_a_run_that_lost_its_checkpoints_files_is_not_started_anew(run, copied, ending):
    for name in os.listdir(os.path.join(copied, "checkpoints")):
        if name.endswith(ending):
            os.remove(os.path.join(copied, "checkpoints", name))
    before = rows(copied)
    status, _ = run("--output_dir=" + copied, "--max_steps=6", *SMALL)
    assert "no checkpoint in it can be read" in status and rows(copied) == before


def test_what_a_kill_leaves_of_the_first_save_does_not_count(run, trained, tmp_path):
    os.makedirs(tmp_path / "checkpoints")
    for name in ("model.ckpt-4.data-00000-of-00001", "checkpoint"):
        shutil.copy(os.path.join(trained, "checkpoints", name.replace("-4", "-6")), tmp_path / "checkpoints" / name)
    status, output = run("--output_dir=%s" % tmp_path, "--max_steps=6", *SMALL)
    assert status == 0 and "starting" in output
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, NEWEST))


def test_a_damaged_init_checkpoint_is_one_line(run, copied, tmp_path):
    cut("%s/%s.data-00000-of-00001" % (copied, NEWEST))
    folder = str(tmp_path / "new")
    status, _ = run("--output_dir=" + folder, *SMALL, "--init_checkpoint=%s/%s" % (copied, NEWEST))
    assert "model.ckpt-6: not a checkpoint that can be read" in status and "\n" not in status
    assert not os.path.exists(os.path.join(folder, "flags.txt"))


@pytest.mark.parametrize("name,content,says", [
    ("flags.txt", b"\xff\xfe\0", "flags.txt: damaged"), ("flags.txt", b"--mode\n", "flags.txt: damaged"),
    ("flags.txt", b"", "flags.txt or run.json is missing or damaged"), ("run.json", b"null", "missing or damaged"),
    ("run.json", b"{", "missing or damaged")])
def test_a_damaged_run_folder_is_one_line(run, copied, name, content, says):
    with open(os.path.join(copied, name), "wb") as file:
        file.write(content)
    status, _ = run("--output_dir=" + copied, "--max_steps=9", *SMALL)
    assert status.startswith("error: ") and says in status and "\n" not in status


@pytest.mark.parametrize("flag", ["--cache=False", pytest.param("--cache=True", marks=pytest.mark.slow)])
def test_a_run_with_a_flag_that_is_gone_continues_tests_and_exports(run, copied, flag):
    with open(os.path.join(copied, "flags.txt"), "a") as file:
        file.write(flag + "\n")
    for mode in ("test", "export"):
        assert run("--output_dir=" + copied, "--mode=" + mode)[0] == 0
    status, output = run("--output_dir=" + copied, "--max_steps=6", *SMALL)
    assert status == 0 and "finished, 6 steps done" in output


def test_fewer_kept_checkpoints_make_room_at_the_next_start(run, copied):
    assert run("--output_dir=" + copied, "--max_steps=6", "--keep=1", *SMALL)[0] == 0
    assert [os.path.basename(path) for path in checkpoints.find(os.path.join(copied, "checkpoints"))[0]] == [
        "model.ckpt-6"]


def test_copies_that_a_user_keeps_among_the_checkpoints_stay(run, copied):
    folder = os.path.join(copied, "checkpoints")
    kept = ["best.tar.gz", "best.backup/model.ckpt-3.index", "good-3.index", "good-3.data-00000-of-00001"]
    os.mkdir(os.path.join(folder, "best.backup"))
    for name in kept:
        shutil.copy(os.path.join(folder, "model.ckpt-6" + (os.path.splitext(name)[1] if "-3" in name else ".index")),
                    os.path.join(folder, name))
    assert run("--output_dir=" + copied, "--max_steps=7", "--keep=1", *SMALL)[0] == 0
    assert all(os.path.exists(os.path.join(folder, name)) for name in ["model.ckpt-7.index", *kept])
    assert not os.path.exists(os.path.join(folder, "model.ckpt-6.index"))


def test_a_second_run_in_the_folder_is_refused_and_a_dead_ones_lock_is_not(run, copied):
    with open(os.path.join(copied, "run.json")) as file:
        process = json.load(file)["process"]
    assert process["pid"] == os.getpid()
    with filelock.FileLock(os.path.join(copied, "lock")):
        status, _ = run("--output_dir=" + copied, "--max_steps=6", *SMALL)
    assert status.startswith("error: %s: process %d on %s is training there" % (copied, os.getpid(), process["host"]))
    assert run("--output_dir=" + copied, "--max_steps=6", *SMALL)[0] == 0


def test_the_lock_comes_before_all_else(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with filelock.FileLock(os.path.join(str(tmp_path), "lock")):
        status, _ = run("--output_dir=%s" % tmp_path, "--data_dir=data/sample", *SMALL)
    assert "another process is training there" in status
    assert os.listdir(tmp_path) == ["lock"]  # neither folders nor the sample set


@pytest.mark.slow
def test_two_first_starts_at_once_give_one_run_and_one_refusal(data, tmp_path):
    argv = [sys.executable, os.path.join(ROOT, "train.py"), "--output_dir=%s" % (tmp_path / "run"), *SMALL]
    both = [subprocess.Popen([*argv, "--max_steps=2", "--data_dir=" + data], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True) for _ in range(2)]
    results = [process.communicate(timeout=LIMIT) + (process.returncode,) for process in both]
    assert all("Traceback" not in errors for _, errors, _ in results)
    for output, errors, status in results:
        assert (status == 0 and "fingerprint" in output) or "is training there" in errors
    assert 0 in [status for _, _, status in results]


def test_files_are_on_the_disk_before_they_get_their_names(tmp_path, monkeypatch):
    synced, fsync, replace = [], os.fsync, os.replace

    def checked_replace(source, target):
        assert os.stat(source).st_ino in synced
        replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino) or fsync(file))
    monkeypatch.setattr(os, "replace", checked_replace)
    storage.write_file(str(tmp_path / "file"), "content")
    assert (tmp_path / "file").read_text() == "content"


def test_an_old_checkpoint_is_removed_when_the_new_one_is_on_the_disk(run, tmp_path, monkeypatch):
    synced, fsync, remove = [], os.fsync, tf.train.remove_checkpoint

    def checked_remove(path):
        step = checkpoints.step_of(path) + 1
        for ending in ("data-00000-of-00001", "index"):
            assert os.stat(tmp_path / "checkpoints" / ("model.ckpt-%d.%s" % (step, ending))).st_ino in synced
        remove(path)

    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino) or fsync(file))
    monkeypatch.setattr(tf.train, "remove_checkpoint", checked_remove)
    assert run("--output_dir=%s" % tmp_path, "--max_steps=3", "--keep=1", *SMALL, "--save_every=1")[0] == 0
    assert [checkpoints.step_of(path) for path in checkpoints.find(str(tmp_path / "checkpoints"))[0]] == [3]


def test_a_run_goes_on_from_its_own_start_when_the_run_it_began_from_went_on(run, trained, tmp_path):
    source = shutil.copytree(trained, str(tmp_path / "source"))
    argv = ["--output_dir=%s" % (tmp_path / "run"), *SMALL]
    assert run(*argv, "--max_steps=2", "--init_checkpoint=" + source)[0] == 0
    for ending in ("index", "data-00000-of-00001"):  # what the source has after two more steps with --keep=1
        os.remove("%s/checkpoints/model.ckpt-4.%s" % (source, ending))
        os.rename("%s/%s.%s" % (source, NEWEST, ending), "%s/checkpoints/model.ckpt-8.%s" % (source, ending))
    assert run(*argv, "--max_steps=2", "--init_checkpoint=" + source)[0] == 0
    shutil.rmtree(source)
    status, output = run(*argv, "--max_steps=3", "--init_checkpoint=" + source)
    assert status == 0 and "from step 2" in output
    assert run(*argv, "--max_steps=3")[0] == 0  # flags.txt knows
    status, _ = run(*argv, "--max_steps=6", "--init_checkpoint=" + trained)
    assert "--init_checkpoint is %s here and %s" % (trained, source) in status


def test_an_error_in_a_half_made_step_costs_the_steps_since_the_checkpoint(run, tmp_path, monkeypatch):
    gan_loss = pix2pix.generator_gan_loss

    def failing(*options):  # after D's update, in step 6
        full = tf.cond(tf.train.get_global_step() < 5, lambda: 0, lambda: tf.py_func(run_out, [], tf.int32))
        with tf.control_dependencies([full]):
            return tf.identity(gan_loss(*options))

    def run_out():
        raise MemoryError("no memory left")

    monkeypatch.setattr(pix2pix, "generator_gan_loss", failing)
    monkeypatch.setattr(image_files, "undecodable", lambda images: pytest.fail("looked for a bad file"))
    status, _ = run("--output_dir=%s" % tmp_path, *SMALL, "--max_steps=6", "--update=alternating")
    assert status.startswith("error: not enough memory for the program (MemoryError: no memory left)")
    assert "\n" not in status
    assert checkpoints.newest(str(tmp_path / "checkpoints")).endswith("-4")  # the half-made step is in none


@pytest.mark.parametrize("mode", ["test", "export"])
def test_test_and_export_fall_back_too_but_not_from_a_checkpoint_that_was_named(run, copied, mode):
    cut("%s/%s.data-00000-of-00001" % (copied, NEWEST))
    status, output = run("--mode=" + mode, "--output_dir=" + copied)
    assert status == 0 and "warning: " in output and "model.ckpt-4" in output.split("warning: ")[1].split("\n", 1)[1]
    status, _ = run("--mode=" + mode, "--output_dir=" + copied, "--checkpoint=%s/%s" % (copied, NEWEST))
    assert "model.ckpt-6: not a checkpoint that can be read" in status and "\n" not in status


def test_a_run_whose_every_checkpoint_is_damaged_is_not_started_anew(run, copied):
    for name in os.listdir(os.path.join(copied, "checkpoints")):
        if name.endswith(".index"):
            cut(os.path.join(copied, "checkpoints", name))
    before = rows(copied)
    status, _ = run("--output_dir=" + copied, "--max_steps=9", *SMALL)
    assert "no checkpoint in it can be read" in status and rows(copied) == before


# Checkpoints of the one-file TF1 program

REFERENCE = os.path.join(ROOT, "..", "shared", "reference", "affinelayer_ngf8")


def old_name(name):
    layer, part = name.rsplit("/", 1)
    if part in ("gamma", "beta"):
        return "%s/batch_normalization/%s" % (layer, part)
    return "%s/%s/%s" % (layer, "conv2d_transpose" if "/decoder" in layer else "conv2d", part)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """(an old checkpoint with few filters, an input, what this project's own names make of it)."""
    path = str(tmp_path_factory.mktemp("old") / "model-80")
    image = np.random.RandomState(0).uniform(-1, 1, (1, 256, 256, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        output = pix2pix.generator(tf.constant(image), pix2pix.GeneratorOptions(
            filters=2, skip="pre", bottleneck_norm=True, seed=3))
        pix2pix.discriminator(tf.constant(image), output, pix2pix.DiscriminatorOptions(filters=4, seed=3))
        session.run(tf.global_variables_initializer())
        session.run([v.assign_add(0.1 * tf.ones_like(v)) for v in tf.trainable_variables() if len(v.shape) == 1])
        expected, values = session.run([output, {old_name(v.op.name): v for v in tf.trainable_variables()}])
    for name, value in list(values.items()):  # what the old program has and this one doesn't need
        if name.endswith("gamma"):
            layer = name.rsplit("/", 2)[0]
            kernel = "conv2d_transpose" if "/decoder" in layer else "conv2d"
            values["%s/%s/bias" % (layer, kernel)] = np.full_like(value, 7)
            values["%s/batch_normalization/moving_mean" % layer] = np.full_like(value, 7)
    write_checkpoint(path, dict(values, global_step=np.int64(80)))
    return path, image, expected


def test_an_old_checkpoint_exports_without_a_flag(run, old, tmp_path):
    path, image, expected = old
    status, output = run("--mode=export", "--checkpoint=" + path, "--output_dir=%s" % tmp_path)
    assert status == 0
    assert ("--bottleneck_norm=True --input_channels=3 --ndf=4 --ngf=2 --norm=batch --output_channels=3 --skip=pre "
            "--upsample=transposed"
            in output)
    with tf.Graph().as_default(), tf.Session() as session:
        signature = tf.saved_model.loader.load(session, ["serve"], str(tmp_path / "export" / "80")).signature_def
        names = [next(iter(part.values())).name for part in (signature["serving_default"].inputs,
                                                             signature["serving_default"].outputs)]
        np.testing.assert_allclose(session.run(names[1], {names[0]: image}), expected, atol=1e-6)


def test_training_starts_from_an_old_checkpoint_and_continues_without_it(run, old, tmp_path):
    path = shutil.copytree(os.path.dirname(old[0]), str(tmp_path / "old"))
    argv = ["--output_dir=%s" % (tmp_path / "run"), "--init_checkpoint=%s/model-80" % path, "--batch_size=1",
            "--precision=float32", "--learning_rate=1e-30", "--ema=0"]
    assert run(*argv, "--max_steps=1")[0] == 0
    first = str(tmp_path / "run" / "checkpoints" / "model.ckpt-1")
    assert checkpoints.fingerprint(first) == checkpoints.fingerprint(old[0])
    shutil.rmtree(path)
    status, output = run(*argv, "--max_steps=1")
    assert status == 0 and fingerprint(output) == checkpoints.fingerprint(first)


@pytest.mark.parametrize("given", ["", "checkpoint", "model-80.index"])
def test_an_old_checkpoint_is_found_by_what_people_give(old, tmp_path, given):
    folder = shutil.copytree(os.path.dirname(old[0]), str(tmp_path / "old"))
    if given == "checkpoint":  # TensorFlow's list, of another machine
        with open(os.path.join(folder, given), "w") as file:
            file.write('model_checkpoint_path: "/elsewhere/model-80"\n')
    assert checkpoints.full_name(os.path.join(folder, given)) == folder + "/model-80"


@pytest.mark.parametrize("flag,has", [("--ngf=4", "2"), ("--nobottleneck_norm", "True"), ("--skip=post", "pre"),
                                      ("--norm=instance", "batch"), ("--input_channels=1", "3")])
def test_a_flag_that_contradicts_an_old_checkpoint_is_refused_by_name(run, old, tmp_path, flag, has):
    for mode in ("--mode=test", "--mode=export"):
        status, _ = run(mode, "--checkpoint=" + old[0], "--output_dir=%s" % tmp_path, flag)
        assert status.startswith("error: " + flag.split("=")[0].replace("--nob", "--b")) and has in status


def test_an_old_checkpoint_of_another_depth_is_refused(run, old, tmp_path):
    status, _ = run("--mode=test", "--checkpoint=" + old[0], "--output_dir=%s" % tmp_path, "--image_size=128")
    assert "generator/decoder_7/conv2d_transpose/kernel is [4, 4, 16, 32], the flags make it [4, 4, 16, 16]" in status
    assert "--image_size=256" in status


def old_layer(x, kind, filters, scope, normalised=True, stride=2):
    """A layer of the old program without its activation, with the old program's variables, of random values."""
    _, height, width, channels = x.shape.as_list()
    shape = [4, 4, filters, channels] if kind == "conv2d_transpose" else [4, 4, channels, filters]
    draw = np.random.RandomState(zlib.crc32(scope.encode()))

    def variable(name, shape, mean, deviation):
        value = draw.normal(mean, deviation, shape).astype(np.float32)
        return tf.get_variable("%s/%s" % (scope, name), initializer=value, use_resource=True)

    kernel = variable(kind + "/kernel", shape, 0, 0.1)
    if kind == "conv2d_transpose":
        x = tf.nn.conv2d_transpose(x, kernel, [x.shape[0], 2 * height, 2 * width, filters], [1, 2, 2, 1], "SAME")
    elif scope.startswith("discriminator"):
        x = tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), kernel, [1, stride, stride, 1], "VALID")
    else:
        x = tf.nn.conv2d(x, kernel, [1, 2, 2, 1], "SAME")
    x += variable(kind + "/bias", [filters], 0, 0.5)
    if not normalised:
        return x
    names = ("gamma", 1, 0.1), ("beta", 0, 0.1), ("moving_mean", 0, 1), ("moving_variance", 1, 0.1)
    gamma, beta, _, _ = (variable("batch_normalization/" + name, [filters], *spread) for name, *spread in names)
    return tf.nn.batch_normalization(x, *tf.nn.moments(x, [0, 1, 2]), beta, gamma, 1e-5)


def old_generator(x, filters):
    encoded = [old_layer(x, "conv2d", filters, "generator/encoder_1", normalised=False)]
    for i in range(2, 9):
        encoded.append(old_layer(tf.nn.leaky_relu(encoded[-1], 0.2), "conv2d", filters * min(2 ** (i - 1), 8),
                                 "generator/encoder_%d" % i))
    x = encoded[-1]
    for i in range(8, 1, -1):
        x = old_layer(tf.nn.relu(x), "conv2d_transpose", filters * min(2 ** (i - 2), 8), "generator/decoder_%d" % i)
        x = tf.concat([x, encoded[i - 2]], axis=3)
    return tf.tanh(old_layer(tf.nn.relu(x), "conv2d_transpose", 3, "generator/decoder_1", normalised=False))


def old_discriminator(inputs, targets, filters):
    x = tf.concat([inputs, targets], axis=3)
    for i, (width, stride) in enumerate(((1, 2), (2, 2), (4, 2), (8, 1)), 1):
        x = tf.nn.leaky_relu(old_layer(x, "conv2d", width * filters, "discriminator/layer_%d" % i, i > 1, stride), 0.2)
    return tf.sigmoid(old_layer(x, "conv2d", 1, "discriminator/layer_5", False, 1))


@pytest.fixture(scope="module")
def old_program(tmp_path_factory):
    """A folder with a checkpoint of the old program's network, written out here anew, and io.npz: what it computes."""
    folder = tmp_path_factory.mktemp("old_program")
    inputs, targets = np.random.RandomState(0).uniform(-1, 1, (2, 2, 256, 256, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        outputs = old_generator(tf.constant(inputs), 2)
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            real, fake = (old_discriminator(tf.constant(inputs), images, 2) for images in (targets, outputs))
        made = {"outputs": outputs, "predict_real": real, "predict_fake": fake,
                "d_loss": tf.reduce_mean(-(tf.log(real + 1e-12) + tf.log(1 - fake + 1e-12))),
                "g_loss_gan": tf.reduce_mean(-tf.log(fake + 1e-12)),
                "g_loss_l1": tf.reduce_mean(tf.abs(targets - outputs))}
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(folder / "model-80"))
        np.savez(str(folder / "io.npz"), inputs=inputs, targets=targets, **session.run(made))
    return str(folder)


@pytest.mark.parametrize("written", ["here", pytest.param("there", marks=pytest.mark.skipif(
    not os.path.isdir(REFERENCE), reason="the old program's own checkpoint is not at hand"))])
def test_the_old_programs_outputs_and_losses_come_back(old_program, written):
    folder = old_program if written == "here" else REFERENCE
    expected, checkpoint = np.load(os.path.join(folder, "io.npz")), checkpoints.full_name(folder)
    filters = checkpoints.options_of(checkpoints.shapes_of(checkpoints.variables_in(checkpoint)))["ngf"]
    with tf.Graph().as_default(), tf.Session() as session:
        inputs, targets = tf.constant(expected["inputs"]), tf.constant(expected["targets"])
        outputs = pix2pix.generator(inputs, pix2pix.GeneratorOptions(filters=filters, skip="pre", bottleneck_norm=True))
        real, fake = (pix2pix.discriminator(inputs, images, pix2pix.DiscriminatorOptions(filters=filters))
                      for images in (targets, outputs))
        tf.train.Saver(checkpoints.check_checkpoint(checkpoint, tf.trainable_variables())).restore(session, checkpoint)
        result = session.run({"outputs": outputs, "predict_real": tf.sigmoid(real), "predict_fake": tf.sigmoid(fake),
                              "d_loss": pix2pix.discriminator_loss(real, fake),
                              "g_loss_gan": pix2pix.generator_gan_loss(fake),
                              "g_loss_l1": pix2pix.l1_loss(outputs, targets)})
    for name in ("outputs", "predict_real", "predict_fake"):
        assert expected[name].std() > 0.01
        np.testing.assert_allclose(result[name], expected[name], atol=1e-4, rtol=0)
    for name in ("d_loss", "g_loss_gan", "g_loss_l1"):
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-4)


# Kills


def test_a_run_killed_while_it_saves_and_started_again_equals_one_never_killed(run, data, trained, tmp_path):
    argv = ["--output_dir=%s" % tmp_path, *SMALL, "--max_steps=6", "--save_every=2"]
    killed = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "watched_worker.py"), "--data_dir=" + data,
                             *argv], env=dict(os.environ, FAIL="save-4:KILL"), check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    status, output = run(*argv)
    assert status == 0 and re.search("continuing .* from step [24]", output)
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, NEWEST))
    assert without_timing(rows(tmp_path)) == without_timing(rows(trained))
    assert not has(str(tmp_path / "checkpoints"), ".tempstate")
    for path in (tmp_path / "samples").glob("*.png"):
        with open(os.path.join(trained, "samples", path.name), "rb") as file:
            assert path.read_bytes() == file.read()


# KILLS=20 makes it 20 kills; the moments come in turn: in a checkpoint, in a sample, anywhere.


def last_step(folder):
    """The last step of metrics.csv, 0 before the first."""
    try:
        return int(rows(folder)[-1][0])
    except (OSError, ValueError, IndexError):
        return 0


def has(folder, part):
    return os.path.isdir(folder) and any(part in name for name in os.listdir(folder))


def wait_for(sign, process, limit=LIMIT):
    end = time.time() + limit
    while not sign():
        assert process.poll() is None, "the run ended before it was killed: %s" % process.stderr.read().decode()
        assert time.time() < end, "the moment did not come"


@pytest.mark.slow
def test_a_run_killed_at_any_moment_and_started_again_equals_one_never_killed(run, data, capsys, tmp_path):
    folder, kills, chance = str(tmp_path / "killed"), int(os.environ.get("KILLS", 5)), random.Random(0)
    argv = ["--data_dir=" + data, *SMALL, "--ngf=16", "--ndf=16", "--max_steps=%d" % (40 * kills), "--epochs=1000",
            "--save_every=2", "--sample_every=2", "--val_every=2", "--ema=0.9"]
    status, whole = run("--output_dir=%s" % (tmp_path / "whole"), *argv)
    assert status == 0
    moments = {  # the name of an unfinished file shows that it is being written
        "in a checkpoint": lambda: has(os.path.join(folder, "checkpoints"), ".tempstate"),
        "in a sample": lambda: has(os.path.join(folder, "samples"), ".tmp"),
        "anywhere": lambda: time.sleep(chance.uniform(0, 0.1)) or True}
    caught = []  # (moment, whether what was being written is unfinished after the kill)
    while len(caught) < kills or (("in a checkpoint", True) not in caught and len(caught) < kills + 5):
        moment = list(moments)[len(caught) % len(moments) if len(caught) < kills else 0]
        goal = last_step(folder) + chance.randint(1, 12)
        with subprocess.Popen([sys.executable, os.path.join(ROOT, "train.py"), "--output_dir=" + folder, *argv],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            wait_for(lambda goal=goal: time.sleep(0.005) or last_step(folder) >= goal, process)
            wait_for(moments[moment], process)
            process.kill()
        caught.append((moment, moments[moment]()))
    if "KILLS" in os.environ:
        with capsys.disabled():
            print("\nkilled while unfinished: %s" % collections.Counter(caught))
    assert ("in a checkpoint", True) in caught
    status, output = run("--output_dir=" + folder, *argv)
    assert status == 0 and "continuing" in output
    assert fingerprint(output) == fingerprint(whole)
    assert without_timing(rows(folder)) == without_timing(rows(tmp_path / "whole"))
    assert (tmp_path / "killed" / "val_metrics.csv").read_bytes() == (
        tmp_path / "whole" / "val_metrics.csv").read_bytes()
    best, expected = (checkpoints.best(str(tmp_path / name)) for name in ("killed", "whole"))
    assert checkpoints.step_of(best) == checkpoints.step_of(expected)
    assert checkpoints.fingerprint(best) == checkpoints.fingerprint(expected)
    assert not has(os.path.join(folder, "checkpoints"), ".tempstate")
    for path in (tmp_path / "whole" / "samples").glob("*[!l]"):  # index.html has the folder's name in it
        assert path.read_bytes() == (tmp_path / "killed" / "samples" / path.name).read_bytes()
