"""What a GPU changes, on a pretended one."""

import os

import pytest
import tensorflow.compat.v1 as tf

from conftest import SMALL
from support import devices, precisions
from support.errors import RunError


@pytest.fixture
def pretend_gpu(monkeypatch):
    """Returns a function that pretends a GPU of a compute capability; the process's settings are put back."""
    monkeypatch.setenv("TF_DETERMINISTIC_OPS", "0")  # what a test sets is put back behind it
    monkeypatch.setattr(precisions, "runs_bfloat16", lambda: False)
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    yield lambda *capability: monkeypatch.setattr(
        devices, "gpu", lambda: {"device_name": "GPU of a test", "compute_capability": capability})
    tf.config.experimental.enable_tensor_float_32_execution(before)


def test_auto_is_tf32_on_gpus_that_have_it_and_float32_on_older_ones(pretend_gpu, monkeypatch):
    pretend_gpu(9, 0)
    assert [precisions.resolve(name) for name in ("auto", "tf32", "float32")] == ["tf32", "tf32", "float32"]
    with pytest.raises(RunError, match=r"bfloat16 needs a CPU .* and no GPU"):
        precisions.resolve("bfloat16")
    pretend_gpu(7, 5)
    assert precisions.resolve("auto") == "float32"
    with pytest.raises(RunError, match=r"tf32 needs TensorFlow 2 and an NVIDIA GPU of compute capability 8\.0"):
        precisions.resolve("tf32")
    pretend_gpu(9, 0)
    monkeypatch.setattr(precisions, "IS_TF1", True)
    assert precisions.resolve("auto") == "float32"


@pytest.mark.skipif(devices.has_gpu(), reason="there is a GPU")
def test_tf32_without_a_gpu_is_refused_by_name(run, tmp_path):
    status, _ = run("--output_dir=%s" % tmp_path, *SMALL, "--max_steps=1", "--precision=tf32")
    assert status.startswith("error: --precision=tf32 needs TensorFlow 2 and an NVIDIA GPU") and "\n" not in status


@pytest.mark.parametrize("precision", ["tf32", "float32"])
def test_float32_on_a_gpu_is_not_tf32(run, tmp_path, pretend_gpu, precision):
    pretend_gpu(8, 0)
    tf.config.experimental.enable_tensor_float_32_execution(precision == "float32")
    argv = ["--output_dir=%s" % tmp_path, *SMALL, "--max_steps=1", "--jit_compile=false"]
    assert run(*argv, "--precision=" + precision)[0] == 0
    assert tf.config.experimental.tensor_float_32_execution_enabled() == (precision == "tf32")
    assert '"precision": "%s"' % precision in (tmp_path / "run.json").read_text()
    assert '"device": "GPU of a test"' in (tmp_path / "run.json").read_text()
    assert run("--output_dir=%s" % tmp_path, "--mode=test")[0] == 0  # which is float32 if nothing else is asked for
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_a_gpu_is_deterministic_unless_told_otherwise_and_the_run_says_so(run, tmp_path, pretend_gpu):
    pretend_gpu(8, 0)
    argv = ["--output_dir=%s" % tmp_path, *SMALL, "--max_steps=1", "--jit_compile=false"]
    status, output = run(*argv, "--nodeterministic")
    assert status == 0 and os.environ["TF_DETERMINISTIC_OPS"] == "0"
    assert "with --nodeterministic an equal run on a GPU ends with another one:" in output.splitlines()[-2]
    assert "--deterministic=False\n" in (tmp_path / "flags.txt").read_text()
    assert "--deterministic is True here and False in the run" in run(*argv)[0]
    assert os.environ["TF_DETERMINISTIC_OPS"] == "1"


def test_a_cpu_needs_no_deterministic_kernels(monkeypatch):
    monkeypatch.setattr(devices, "gpu", lambda: None)
    monkeypatch.delenv("TF_DETERMINISTIC_OPS", raising=False)
    devices.make_deterministic()
    assert "TF_DETERMINISTIC_OPS" not in os.environ


def test_a_run_that_goes_on_on_another_device_says_so_once(run, tmp_path, pretend_gpu):
    argv = ["--output_dir=%s" % tmp_path, *SMALL, "--precision=float32", "--jit_compile=false"]
    assert "another device" not in run(*argv, "--max_steps=1")[1]
    pretend_gpu(8, 0)
    assert "this is GPU of a test" in run(*argv, "--max_steps=2")[1]
    assert "another device" not in run(*argv, "--max_steps=3")[1]
