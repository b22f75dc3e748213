"""What a GPU changes, on a pretended one."""

import os

import pytest
import tensorflow.compat.v1 as tf

import train
from conftest import SMALL, options
from support import devices, pair_files, precisions
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
    assert precisions.resolve("auto") == "tf32"
    assert [precisions.resolve(name) for name in precisions.PRECISIONS] == list(precisions.PRECISIONS)
    pretend_gpu(7, 5)
    assert precisions.resolve("auto") == "float32"
    for name in ("tf32", "bfloat16"):
        with pytest.raises(RunError, match=name + r" needs TensorFlow 2 and an NVIDIA GPU of compute capability 8\.0"):
            precisions.resolve(name)
    pretend_gpu(9, 0)
    monkeypatch.setattr(precisions, "IS_TF1", True)
    assert precisions.resolve("auto") == "float32"


@pytest.mark.skipif(devices.has_gpu(), reason="there is a GPU")
def test_tf32_without_a_gpu_is_refused_by_name(run, tmp_path):
    status, _ = run("--output_dir=%s" % tmp_path, *SMALL, "--max_steps=1", "--precision=tf32")
    assert status.startswith("error: --precision=tf32 needs TensorFlow 2 and an NVIDIA GPU") and "\n" not in status


def first_step(precision, *argv):
    """Returns (the graph of a training step, its losses)."""
    chosen = options(*SMALL, "--jit_compile=false", *argv)
    pairs = pair_files.find_pairs(os.path.join(chosen.data_dir, "train"))
    with tf.Graph().as_default() as graph:
        _, model = train.training_graph(chosen, pairs, precision)
        with tf.train.SingularMonitoredSession(config=precisions.session_config(precision)) as session:
            losses = session.run([model.d_loss, model.g_loss_gan, model.g_loss_l1, model.train_op])[:3]
    return graph, losses


OTHERS = [("--norm=instance", "--update=alternating", "--ema=0.9"), ("--norm=none", "--patch=1", "--gan_loss=lsgan"),
          ("--jit_compile=true",), ("--jit_compile=true", "--update=alternating", "--gan_loss=log_literal")]


@pytest.mark.parametrize("argv", [("--upsample=resize",), *(
    pytest.param(argv, marks=pytest.mark.slow) for argv in OTHERS)], ids="-".join)
def test_bfloat16_on_a_gpu_is_in_the_convolutions_alone(data, pretend_gpu, argv):
    pretend_gpu(8, 0)
    graph, losses = first_step("bfloat16", "--data_dir=" + data, *argv)
    convolutions = [op for op in graph.get_operations() if "Conv2D" in op.type]
    assert len(convolutions) > 30 and {op.get_attr("T") for op in convolutions} == {tf.bfloat16}
    around = {op for op in graph.get_operations() if tf.bfloat16 in {x.dtype for x in (*op.inputs, *op.outputs)}}
    assert {op.type for op in around} <= {"Cast", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter",
                                          "Pad", "Slice", "ShapeN"}
    assert not any(name in op.name for op in around for name in ("_loss/", "diagnostics", "Adam"))
    assert {v.dtype.base_dtype for v in graph.get_collection("variables")} == {tf.float32, tf.int64}
    rewrites = precisions.session_config("bfloat16").graph_options.rewrite_options
    assert not rewrites.auto_mixed_precision_onednn_bfloat16
    assert losses == pytest.approx(first_step("float32", "--data_dir=" + data, *argv)[1], rel=5e-3)


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


def test_a_run_that_goes_on_on_another_device_says_so_once_and_keeps_its_precision(run, tmp_path, pretend_gpu,
                                                                                   monkeypatch):
    argv = ["--output_dir=%s" % tmp_path, *SMALL, "--jit_compile=false"]
    pretend_gpu(8, 0)
    assert run(*argv, "--precision=bfloat16", "--max_steps=1")[0] == 0
    monkeypatch.setattr(devices, "gpu", lambda: None)
    monkeypatch.setattr(precisions, "runs_bfloat16", lambda: True)
    _, output = run(*argv, "--precision=auto", "--max_steps=2")
    assert "the run was last on another device (GPU of a test; " in output and "2 steps, bfloat16\n" in output
    assert "another device" not in run(*argv, "--precision=auto", "--max_steps=3")[1]
