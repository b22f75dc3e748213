"""The three modules on TensorFlow 1.15 (Python 3.7), in processes of their own, beside today's.

They need the environment that docs/tensorflow_1.md makes with one line, in .venv-tf1 or wherever TF1_PYTHON says.
"""

import collections
import os
import subprocess
import sys

import imageio.v3 as imageio
import numpy as np
import pytest
from absl.testing import flagsaver

from conftest import ROOT, SMALL, fingerprint, picture, rows, several_commands
from support import checkpoints
from test_deploy import check_that_wrong_shapes_are_refused, check_the_lines_for_onnx
from test_lab import coloured

sys.path.insert(0, os.path.join(ROOT, "studies"))

import legacy_tf1
import log_stability
import study

pytestmark = pytest.mark.tf1


@pytest.fixture(scope="session")
def tf1():
    """The Python with TensorFlow 1.15."""
    python = os.environ.get("TF1_PYTHON", os.path.join(ROOT, ".venv-tf1", "bin", "python"))
    if "TF1_PYTHON" not in os.environ and not os.path.exists(python):
        pytest.skip("no TensorFlow 1.15 in .venv-tf1 (see docs/tensorflow_1.md), and TF1_PYTHON names none")
    return python


def run_study(python, name, *argv):
    result = subprocess.run([python, os.path.join(ROOT, "studies", name), *argv], capture_output=True, text=True,
                            check=False)
    assert result.returncode == 0, result.stderr


def losses(folder):
    return np.float64([row[2:5] for row in rows(folder)[1:]])


There = collections.namedtuple("There", "trained moved statuses outputs")


@pytest.fixture(scope="module")
def there(tf1, data, trained, tmp_path_factory):
    """What one process on TensorFlow 1.15 makes: the run of `trained`; a copy of `trained`, moved back to step 4, which
    it continues, tests and exports; and a refusal.
    """
    folder, moved = (str(tmp_path_factory.mktemp(name)) for name in ("tf1", "moved"))
    legacy_tf1.moved(trained, moved, 4)
    training = ["--data_dir=" + data, "--max_steps=6", *SMALL]
    ended = several_commands(
        ["--output_dir=" + folder, *training], ["--output_dir=" + moved, *training],
        *(["--mode=" + mode, "--output_dir=" + moved, "--data_dir=" + data] for mode in ("test", "export")),
        ["--output_dir=%s-not" % folder, *training, "--precision=bfloat16"], python=tf1)
    return There(folder, moved, *zip(*ended))


def test_train_py_itself_runs_there(tf1):
    result = subprocess.run([tf1, os.path.join(ROOT, "train.py"), "--help"], capture_output=True, text=True,
                            check=False)
    assert result.returncode == 0 and "--epochs" in result.stdout and result.stderr == ""


def test_both_start_from_equal_bits_and_lose_the_same(tf1, data, tmp_path):
    argv = [*SMALL, "--image_size=64", "--data_dir=" + data]
    run_study(tf1, "legacy_tf1.py", "first", str(tmp_path / "there.npz"), *argv)
    with flagsaver.flagsaver():
        legacy_tf1.first_step(str(tmp_path / "here.npz"), argv)
    with np.load(tmp_path / "here.npz") as here, np.load(tmp_path / "there.npz") as there:
        assert here["version"] != there["version"] and here.files == there.files
        kinds = [name.split("/")[0] for name in here.files]
        assert kinds.count("batch") == 2 and kinds.count("masks") == 3 and kinds.count("losses") == 3
        for kind, name in zip(kinds, here.files):
            if kind in ("weights", "batch", "masks"):
                assert here[name].tobytes() == there[name].tobytes(), name
            elif kind == "losses":
                np.testing.assert_allclose(here[name], there[name], rtol=1e-5)
            elif kind == "stages":
                np.testing.assert_allclose(here[name], there[name], atol=1e-3 * np.abs(here[name]).max())


def test_both_log_losses_hold_there_wherever_the_naive_one_breaks(tf1, tmp_path):
    path = str(tmp_path / "values.csv")
    run_study(tf1, "log_stability.py", "measure", path, "--quick")
    curves = {key: values for key, values in log_stability.curves(study.read_csv(path)).items()
              if key[1] in ("log", "log_literal") and key[2] == 1e-12}
    assert len(curves) == 2 * 2 * len(log_stability.MODES) and all(key[0].startswith("1.15") for key in curves)
    for key, values in curves.items():
        assert np.isfinite(values).all(), key


def test_the_same_run_there_takes_the_same_course(trained, there):
    newest = os.path.join(there.trained, "checkpoints", "model.ckpt-6")
    assert there.statuses[0] == 0 and fingerprint(there.outputs[0]) == checkpoints.fingerprint(newest)
    np.testing.assert_allclose(losses(there.trained), losses(trained), rtol=1e-2)
    names = os.listdir(os.path.join(trained, "samples"))
    assert sorted(os.listdir(os.path.join(there.trained, "samples"))) == sorted(names)
    for name in (name for name in names if name.endswith(".png")):
        pictures = (np.int32(imageio.imread(os.path.join(run, "samples", name))) for run in (trained, there.trained))
        assert np.abs(np.subtract(*pictures)).max() <= 2


def test_a_run_from_there_goes_on_here(run, trained, there, tmp_path):
    legacy_tf1.moved(there.trained, str(tmp_path), 4)
    status, output = run("--output_dir=%s" % tmp_path, "--max_steps=6", *SMALL)
    assert status == 0 and "from step 4" in output
    np.testing.assert_allclose(losses(tmp_path), losses(trained), rtol=1e-2)


def test_a_run_from_here_goes_on_there_is_tested_and_exported(trained, there):
    assert there.statuses[1:4] == (0, 0, 0) and "from step 4" in there.outputs[1]
    np.testing.assert_allclose(losses(there.moved), losses(trained), rtol=1e-2)
    assert os.path.exists(os.path.join(there.moved, "test", "val-6", "index.html"))
    check_that_wrong_shapes_are_refused(os.path.join(there.moved, "export", "6"))


@pytest.mark.slow
def test_an_export_from_there_converts_to_onnx(tf1, data, tmp_path, monkeypatch):
    folder = "--output_dir=%s" % (tmp_path / "runs" / "pix2pix")
    ended = several_commands(*([folder, "--data_dir=" + data, *argv] for argv in (
        ["--max_steps=2", *SMALL, "--norm=instance"], ["--mode=export"])), python=tf1)
    assert [status for status, _ in ended] == [0, 0]
    (tmp_path / "runs" / "pix2pix" / "export" / "2").rename(tmp_path / "runs" / "pix2pix" / "export" / "3200")
    monkeypatch.chdir(tmp_path)
    check_the_lines_for_onnx()


def test_what_only_the_new_one_has_is_refused_there_by_name(there):
    assert there.statuses[4].startswith("error: --precision=bfloat16 needs TensorFlow 2; this is 1.15")
    assert "\n" not in there.statuses[4]


@pytest.mark.slow
def test_lab_has_the_same_losses_there(tf1, tmp_path):
    for number in range(2):
        imageio.imwrite(tmp_path / ("%d.png" % number), coloured(number))
    runs = [tmp_path / "there", tmp_path / "here"]
    for folder, python in zip(runs, (tf1, sys.executable)):
        argv = ["--layout=lab", "--data_dir=%s" % tmp_path, "--output_dir=%s" % folder, "--max_steps=2", *SMALL]
        ended = several_commands(argv, ["--mode=test", "--output_dir=%s" % folder], python=python)
        assert [status for status, _ in ended] == [0, 0]
    np.testing.assert_allclose(losses(runs[0]), losses(runs[1]), rtol=1e-4)
    here, there = (picture(next((folder / "test").glob("*-2")), "output", "0").astype(int) for folder in runs)
    assert here.shape == (32, 32, 3) and np.abs(here - there).max() <= 1
