"""Mistakes that are refused by name: flags, data, folders, and runs that do not fit."""

import json
import os
import re
import shutil
import subprocess

import pytest
from absl import flags
from absl.testing import flagsaver

import pix2pix
import train
from conftest import SMALL, command, options, write_pairs
from support import bands, checkpoints, pair_files


@pytest.mark.parametrize("flag,says", [
    ("--batch_size=0", "batch_size"), ("--image_size=200", "multiples of 32"),
    ("--image_size=a,b", "multiples of 32"), ("--load_size=-1", "load_size"), ("--gan_loss=hinge", "gan_loss"),
    ("--patch=286 --image_size=64", "--patch=286 of 96"), ("--epochs=2 --decay_epochs=3", "decay_epochs"),
    ("--eps=0.5", "eps"), ("--eps=-1", "eps"), ("--load_size=128", "--load_size must be at least"),
    ("--no_such_flag=1", "no_such_flag"), ("--output_dir=runs/a[1]", "pattern"),
    ("--l1_weight=nan", "l1_weight"), ("--adam_epsilon=0", "adam_epsilon"), ("--data_dir=", "data_dir"),
    ("--seed=99999999999999999999", "seed"), ("--dropout=1.5", "dropout")])
def test_a_wrong_flag_is_named_without_a_traceback(flag, says):
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as refused:
        train.parse(["train.py", *flag.split()])
    assert refused.value.code.startswith("error: ") and says in refused.value.code
    assert refused.value.code.endswith("\npython train.py --help lists all flags")


def test_a_wrong_flag_ends_the_process_with_two_lines():
    result = subprocess.run(command("--norm=odd"), capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stdout == "" and len(result.stderr.splitlines()) == 2
    assert "--norm" in result.stderr


@pytest.mark.parametrize("name", ["output_dir", "checkpoint", "init_checkpoint"])
@pytest.mark.parametrize("path", ["a*", "a?", "a[1]/b", "a\\b", "[\n]", "gs://b/c", "s3://b", "hdfs://h/p", "ram://x",
                                  "file:///tmp/x", "https://x.org/a", "HTTP://x"])
def test_a_path_that_the_graph_would_read_as_a_pattern_or_a_url_is_refused_by_its_flag(name, path):
    with flagsaver.flagsaver(), pytest.raises(flags.IllegalFlagValueError, match="(?s)^flag --%s=.*must " % name):
        train.FLAGS(["train.py", "--%s=%s" % (name, path)])


def test_data_may_lie_below_a_folder_of_any_name_but_not_behind_a_url():
    with flagsaver.flagsaver(), pytest.raises(flags.IllegalFlagValueError, match=r"^flag --data_dir=gs://b.*not a URL"):
        train.FLAGS(["train.py", "--data_dir=gs://b"])
    assert options("--data_dir=my set [1]*?\\", "--output_dir=r:/{1}~%]").output_dir == "r:/{1}~%]"


def test_every_command_works_in_a_folder_of_any_name_that_is_not_refused(run, data, tmp_path, monkeypatch):
    shutil.copytree(data, str(tmp_path / "a [1]*" / "set [2]\\"))
    monkeypatch.chdir(tmp_path / "a [1]*")
    source, folder = "--data_dir=set [2]\\", "run {1} ~%]['\"\n\u00e9"
    small = [source, "--output_dir=" + folder, *SMALL, "--save_every=1", "--keep=1"]
    assert run(*small, "--max_steps=1")[0] == 0
    assert run(*small, "--max_steps=2")[0] == 0
    assert len(os.listdir(os.path.join(folder, "checkpoints"))) == 3
    for argv in (["--mode=export"], ["--mode=test", "--checkpoint=" + folder]):
        assert run(source, "--output_dir=" + folder, *argv)[0] == 0
    small[1], weights = "--output_dir=next", folder.replace("\n", "")
    os.rename(folder, weights)  # flags.txt can't keep a line break
    for _ in range(2):  # flags.txt gives the same name back
        assert run(*small, "--max_steps=1", "--init_checkpoint=%s/checkpoints" % weights)[0] == 0
    with pytest.raises(flags.IllegalFlagValueError, match="must not hold a line break"):
        run(*small, "--init_checkpoint=" + folder)


def test_help_shows_every_flag_once_under_its_group(capsys):
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
        train.parse(["train.py", "--help"])
    text = capsys.readouterr().out
    names = re.findall(r"^  --(\w+) \(", text, re.M)
    assert not ended.value.code
    assert names == list(train.Options._fields) == [flag.name for flag in train.FLAGS.get_flags_for_module("train")]
    for name, title in train.TITLES.items():
        assert "\n%s\n\n  --%s (" % (title, name) in text
    assert all(train.FLAGS[name].help.endswith(".") for name in names)


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
    assert run(*argv, "--max_steps=1", "--log_every=2", "--keep=1",
               "--data_dir=%s" % (tmp_path / "elsewhere"))[0] == 0


@pytest.mark.parametrize("given", ["checkpoints/model.ckpt-6.index", "checkpoints", ""])
def test_a_checkpoint_is_found_by_what_people_give(run, trained, data, given):
    status, output = run("--mode=test", "--checkpoint=" + os.path.join(trained, given))
    assert status == 0 and os.path.join(trained, "checkpoints", "model.ckpt-6") in output
    assert os.path.join(trained, "test", "val-6", "index.html") in output  # beside its own run, not in the default one


@pytest.mark.parametrize("changed,says", [
    ("--image_size=abc", "--image_size=abc: "), ("--norm=odd", "its --norm would be odd"),
    ("--patch=142", "--patch=142 needs an --image_size of 64 or more")])
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


def test_the_flags_offer_what_the_modules_know():
    known = {"layout": ("auto", *pair_files.LAYOUTS), "resize_method": bands.RESIZE_METHODS, "norm": pix2pix.NORMS,
             "skip": [skip for skip in pix2pix.SKIPS if skip != "none"], "gan_loss": pix2pix.GAN_LOSSES,
             "pixel_loss": pix2pix.PIXEL_LOSSES, "update": pix2pix.UPDATES, "patch": map(str, pix2pix.PATCHES)}
    for name, choices in known.items():
        assert train.FLAGS[name].parser.enum_values == list(choices), name


def test_training_refuses_inputs_without_targets(run, tmp_path):
    assert "--layout=inputs is for test mode" in run("--output_dir=%s" % tmp_path, "--layout=inputs", *SMALL)[0]
