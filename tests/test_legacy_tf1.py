"""The three modules on TensorFlow 1.15 (Python 3.7), in processes of their own, beside today's.

They need the environment that docs/tensorflow_1.md makes with one line, in .venv-tf1 or wherever TF1_PYTHON says.
"""

import os
import subprocess
import sys

import imageio.v3 as imageio
import numpy as np
import pytest

from conftest import ROOT, SMALL, fingerprint, rows
from support import checkpoints
from test_deploy import check_that_wrong_shapes_are_refused, check_the_lines_for_onnx

sys.path.insert(0, os.path.join(ROOT, "studies"))

import legacy_tf1
import log_stability
import study

pytestmark = pytest.mark.tf1


@pytest.fixture(scope="session")
def tf1(data):
    """Returns a function that runs a program on TensorFlow 1.15 and returns the finished process."""
    python = os.environ.get("TF1_PYTHON", os.path.join(ROOT, ".venv-tf1", "bin", "python"))
    if "TF1_PYTHON" not in os.environ and not os.path.exists(python):
        pytest.skip("no TensorFlow 1.15 in .venv-tf1 (see docs/tensorflow_1.md), and TF1_PYTHON names none")

    def run(program, *argv):
        return subprocess.run([python, os.path.join(ROOT, program), *argv, "--data_dir=" + data],
                              capture_output=True, text=True, check=False)

    return run


def losses(folder):
    return np.float64([row[2:5] for row in rows(folder)[1:]])


@pytest.fixture(scope="module")
def trained_there(tf1, tmp_path_factory):
    """The run of `trained`, made on TensorFlow 1.15."""
    folder = str(tmp_path_factory.mktemp("tf1"))
    result = tf1("train.py", "--output_dir=" + folder, "--max_steps=6", *SMALL)
    assert result.returncode == 0, result.stderr
    assert fingerprint(result.stdout) == checkpoints.fingerprint(os.path.join(folder, "checkpoints", "model.ckpt-6"))
    return folder


def test_both_start_from_equal_bits_and_lose_the_same(tf1, data, tmp_path):
    program, argv = os.path.join("studies", "legacy_tf1.py"), [*SMALL, "--image_size=64"]
    there = tf1(program, "first", str(tmp_path / "there.npz"), *argv)
    assert there.returncode == 0, there.stderr
    subprocess.run([sys.executable, os.path.join(ROOT, program), "first", str(tmp_path / "here.npz"), *argv,
                    "--data_dir=" + data], check=True, capture_output=True)
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
    result = tf1(os.path.join("studies", "log_stability.py"), "measure", path, "--quick")
    assert result.returncode == 0, result.stderr
    curves = {key: values for key, values in log_stability.curves(study.read_csv(path)).items()
              if key[1] in ("log", "log_literal") and key[2] == 1e-12}
    assert len(curves) == 2 * 2 * len(log_stability.MODES) and all(key[0].startswith("1.15") for key in curves)
    for key, values in curves.items():
        assert np.isfinite(values).all(), key


def test_the_same_run_there_takes_the_same_course(trained, trained_there):
    np.testing.assert_allclose(losses(trained_there), losses(trained), rtol=1e-2)
    names = os.listdir(os.path.join(trained, "samples"))
    assert sorted(os.listdir(os.path.join(trained_there, "samples"))) == sorted(names)
    for name in (name for name in names if name.endswith(".png")):
        here, there = (np.int32(imageio.imread(os.path.join(run, "samples", name))) for run in (trained, trained_there))
        assert np.abs(here - there).max() <= 2


def test_a_run_from_there_goes_on_here(run, trained, trained_there, tmp_path):
    legacy_tf1.moved(trained_there, str(tmp_path), 4)
    status, output = run("--output_dir=%s" % tmp_path, "--max_steps=6", *SMALL)
    assert status == 0 and "from step 4" in output
    np.testing.assert_allclose(losses(tmp_path), losses(trained), rtol=1e-2)


def test_a_run_from_here_goes_on_there_is_tested_and_exported(tf1, trained, tmp_path):
    legacy_tf1.moved(trained, str(tmp_path), 4)
    result = tf1("train.py", "--output_dir=%s" % tmp_path, "--max_steps=6", *SMALL)
    assert result.returncode == 0 and "from step 4" in result.stdout, result.stderr
    np.testing.assert_allclose(losses(tmp_path), losses(trained), rtol=1e-2)
    for mode in ("test", "export"):
        result = tf1("train.py", "--mode=" + mode, "--output_dir=%s" % tmp_path)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "test" / "val-6" / "index.html").exists()
    check_that_wrong_shapes_are_refused(str(tmp_path / "export" / "6"))


@pytest.mark.slow
def test_an_export_from_there_converts_to_onnx(tf1, tmp_path, monkeypatch):
    folder = "--output_dir=%s" % (tmp_path / "runs" / "pix2pix")
    for argv in (["--max_steps=2", *SMALL, "--norm=instance"], ["--mode=export"]):
        result = tf1("train.py", folder, *argv)
        assert result.returncode == 0, result.stderr
    (tmp_path / "runs" / "pix2pix" / "export" / "2").rename(tmp_path / "runs" / "pix2pix" / "export" / "3200")
    monkeypatch.chdir(tmp_path)
    check_the_lines_for_onnx()


def test_what_only_the_new_one_has_is_refused_there_by_name(tf1, tmp_path):
    result = tf1("train.py", "--output_dir=%s" % tmp_path, "--max_steps=1", *SMALL, "--precision=bfloat16")
    assert result.returncode == 1
    assert "error: --precision=bfloat16 needs TensorFlow 2; this is 1.15" in result.stderr
    assert "Traceback" not in result.stderr
