"""What docs/deploy.md says of exports: their folders, the servers' JSON, LiteRT, ONNX and bfloat16, as it stands there.

The tests of ONNX need the environment that the page makes, in .venv-onnx or wherever ONNX_PYTHON says.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format

import train
from conftest import ROOT, SMALL, picture
from support import palette, precisions

with open(os.path.join(ROOT, "docs", "deploy.md")) as _file:
    DOCS = _file.read()
PYTHON = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
CURL = re.findall(r"^    (echo .*) \| curl", DOCS, re.MULTILINE)
ONNX = re.findall(r"^    \.venv-onnx/bin/python (-m tf2onnx.*)", DOCS, re.MULTILINE)
ONNX_PYTHON = os.environ.get("ONNX_PYTHON", os.path.join(ROOT, ".venv-onnx", "bin", "python"))
SIZES = [(32, 32), (64, 96), (75, 50)]


@pytest.fixture
def place(exported, tmp_path, monkeypatch):
    """A folder to work in, with an export where the page has it, and front.png."""
    shutil.copytree(exported, str(tmp_path / "runs" / "pix2pix" / "export" / "3200"))
    imageio.imwrite(tmp_path / "front.png", np.random.RandomState(0).randint(0, 256, (40, 48, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def images_of(height, width):
    return np.random.RandomState(0).uniform(-1, 1, (1, height, width, 3)).astype(np.float32)


def test_the_lines_for_python_and_litert_run_as_they_stand_and_give_the_saved_models_outputs(place):
    load, convert, translate, halve, _, _, constants = PYTHON
    model = {}
    exec(load, model)
    assert model["outputs"].shape == (1, 256, 256, 3)
    expected = model["outputs"]
    exec(constants, model)
    assert np.abs(model["outputs"] - expected).max() < 1e-3  # instance norm makes much of rounding in an even picture
    start, end = convert.split("with open")
    assert len(convert.splitlines()) == 5
    exec(convert, model)
    exec(translate, model)
    assert model["outputs"].shape == (1, 256, 256, 3)
    shutil.move("pix2pix.tflite", "whole.tflite")
    exec(start + halve + "with open" + end, {})
    assert os.path.getsize("pix2pix.tflite") < 0.75 * os.path.getsize("whole.tflite")
    for path, error in (("whole.tflite", 1e-4), ("pix2pix.tflite", 5e-2)):
        lite = tf.lite.Interpreter(path).get_signature_runner("serving_default")
        for size in SIZES:
            expected = model["model"].signatures["serving_default"](images=tf.constant(images_of(*size)))["outputs"]
            assert np.abs(lite(images=images_of(*size))["outputs"] - expected).max() < error, (path, size)


TRY_ONNX = """
import sys, numpy as np, tensorflow as tf
signature = tf.saved_model.load("runs/pix2pix/export/3200").signatures["serving_default"]
for batch in (1, 3):
    for size in (64, 64), (64, 96), (75, 50), (20, 300), (7, 5), (1, 1):
        images = np.random.RandomState(0).uniform(-1, 1, (batch, *size, 3)).astype(np.float32)
        exec(sys.argv[1])
        expected = signature(images=tf.constant(images))["outputs"].numpy()
        assert outputs.shape == expected.shape and np.abs(outputs - expected).max() < 1e-5, (batch, size)
print("all equal")
"""


def check_the_lines_for_onnx():
    """Converts the export in runs/pix2pix with the page's lines and compares its outputs with TensorFlow's."""
    if "ONNX_PYTHON" not in os.environ and not os.path.exists(ONNX_PYTHON):
        pytest.skip("no tf2onnx in .venv-onnx (see docs/deploy.md), and ONNX_PYTHON names none")
    line, = ONNX
    subprocess.run([ONNX_PYTHON, *line.split()], check=True, capture_output=True)
    result = subprocess.run([ONNX_PYTHON, "-c", TRY_ONNX, PYTHON[4]], capture_output=True, text=True, check=False)
    assert "all equal" in result.stdout, result.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_the_lines_for_onnx_run_as_they_stand_and_give_the_saved_models_outputs(norm, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("--norm=" + norm, "--max_steps=2", *SMALL, "--image_size=64", "--ngf=8")[0] == 0
    assert run("--mode=export")[0] == 0
    os.rename("runs/pix2pix/export/2", "runs/pix2pix/export/3200")
    check_the_lines_for_onnx()


def test_a_newer_export_stays_beside_the_older_and_nothing_half_made_is_seen(run, trained, tmp_path, monkeypatch):
    folder = shutil.copytree(trained, str(tmp_path / "run"), ignore=shutil.ignore_patterns("export"))
    earlier = os.path.join(folder, "checkpoints", "model.ckpt-4")
    assert run("--mode=export", "--output_dir=" + folder, "--checkpoint=" + earlier)[0] == 0
    seen, write = [], palette.write

    def spy(*arguments):
        seen.extend(name for name in os.listdir(os.path.join(folder, "export")) if name.isdigit())
        write(*arguments)

    monkeypatch.setattr(palette, "write", spy)
    status, output = run("--mode=export", "--output_dir=" + folder)
    assert status == 0 and "to %s, averaged weights, dropout off" % os.path.join(folder, "export", "6") in output
    assert seen == ["4"] and sorted(os.listdir(os.path.join(folder, "export"))) == ["4", "6"]
    assert run("--mode=export", "--output_dir=" + folder)[0] == 0  # again, over itself


TRY_SHAPES = """
import sys, tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
png = tf.io.encode_png(tf.fill([20, 30, 3], tf.constant(99, tf.uint8)))
wrong = [("serving_default", tf.zeros(shape)) for shape in (
    [], [3], [64, 3], [64, 64, 3], [32, 32, 1], [1, 2, 64, 64, 3], [1, 64, 64, 3, 3], [1, 64, 64, 3, 1],
    [0, 1, 64, 64, 3], [1, 64, 64, 0], [1, 64, 64, 1], [1, 64, 64, 4], [2, 64, 64, 6], [1, 64, 64, 33], [0, 64, 64, 3],
    [1, 0, 64, 3], [1, 64, 0, 3], [0, 0, 0, 3])]
wrong += [("serving_bytes", tf.fill(shape, png)) for shape in ([], [1, 1], [1, 0], [2, 1, 1])]
for name, tensor in wrong:
    try:
        signatures[name](**{"images" if name == "serving_default" else "image_bytes": tensor})
        sys.exit("%s was taken" % tensor.shape)
    except tf.errors.InvalidArgumentError as error:
        rule = "images must be a batch of one or more images, of shape [N, H, W, 3]" if name == "serving_default" else (
            "image_bytes must be a list, of shape [N]")
        assert "%s, but the shape given is %s" % (rule, tensor.shape.as_list()) in str(error), error
for shape in ([1, 1, 1, 3], [2, 33, 70, 3], [10, 64, 64, 3]):
    assert signatures["serving_default"](images=tf.zeros(shape))["outputs"].shape == shape
for count in (0, 1, 11):
    assert signatures["serving_bytes"](image_bytes=tf.fill([count], png))["png_bytes"].shape == [count]
for signature, shape in (("serving_default", [None, None, None, 3]), ("serving_bytes", [None])):
    (_, spec), = signatures[signature].structured_input_signature[1].items()
    assert spec.shape.as_list() == shape
print("all refused")
"""


def check_that_wrong_shapes_are_refused(export):
    """Loads an export in a process of its own, since TensorFlow itself aborts at some shapes, and tries them."""
    result = subprocess.run([sys.executable, "-c", TRY_SHAPES, export], capture_output=True, text=True, check=False)
    assert "all refused" in result.stdout, (result.returncode, result.stderr[-3000:])


def test_an_export_refuses_wrong_ranks_channels_and_empty_images_with_a_sentence(place):
    check_that_wrong_shapes_are_refused("runs/pix2pix/export/3200")


def as_tensor(values, spec):
    """A JSON list of instances as TensorFlow's protocol buffers read it: bytes from base64, by protobuf's own rule."""
    if spec.dtype == tf.string:
        message = {"dtype": "DT_STRING", "stringVal": [value["b64"] for value in values]}
        shape = [len(values)]
    else:
        shape = np.shape(values)
        message = {"dtype": "DT_FLOAT", "floatVal": np.ravel(values).tolist()}
    message["tensorShape"] = {"dim": [{"size": str(size)} for size in shape]}
    return tf.constant(tf.make_ndarray(json_format.ParseDict(message, tf.compat.v1.make_tensor_proto(0).__class__())))


def test_the_json_of_the_curl_lines_is_what_the_signatures_take(place):
    model = tf.saved_model.load("runs/pix2pix/export/3200")
    for line in CURL:
        sent = json.loads(subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout)
        signature = model.signatures[sent["signature_name"]]
        (name, spec), = signature.structured_input_signature[1].items()
        answer = signature(**{name: as_tensor(sent["instances"], spec)})
        (name, values), = answer.items()
        if name.endswith("_bytes"):  # which the server gives as {"b64": ...}
            png = base64.b64decode(base64.b64encode(values.numpy()[0]))
            assert imageio.imread(png).shape == (32, 32, 3)
        else:
            assert np.shape(values) == np.shape(sent["instances"]) == (1, 2, 2, 3)
    assert len(CURL) == 2


@pytest.mark.skipif(bool(precisions.lacks("bfloat16")), reason="the CPU has no bfloat16")
def test_the_line_for_bfloat16_changes_an_exports_arithmetic_a_little(place):
    script = """
import sys, numpy as np, tensorflow as tf
exec(sys.argv[1])
signature = tf.saved_model.load("runs/pix2pix/export/3200").signatures["serving_default"]
np.save(sys.argv[2], signature(images=tf.constant(np.load("images.npy")))["outputs"].numpy())
"""
    np.save("images.npy", images_of(64, 64))
    subprocess.run([sys.executable, "-c", script, PYTHON[5], "there.npy"], check=True, capture_output=True)
    here = tf.saved_model.load("runs/pix2pix/export/3200").signatures["serving_default"](
        images=tf.constant(np.load("images.npy")))["outputs"]
    assert 0 < np.abs(np.load("there.npy") - here).max() < 0.1


@pytest.mark.skipif(bool(precisions.lacks("bfloat16")), reason="the CPU has no bfloat16")
def test_test_mode_takes_a_precision_and_its_measures_stay_float32(run, trained, tmp_path, monkeypatch):
    configs, session = [], train.checkpoints.restored_session
    monkeypatch.setattr(train.checkpoints, "restored_session", lambda path, precision="float32", *more: (
        configs.append(precision), session(path, precision, *more))[1])
    found = []
    for precision in ("auto", "float32", "bfloat16"):
        folder = shutil.copytree(trained, str(tmp_path / precision))
        assert run("--mode=test", "--precision=" + precision, "--output_dir=" + folder)[0] == 0
        result = os.path.join(folder, "test", "val-6" + ("-bfloat16" if precision == "bfloat16" else ""))
        with open(os.path.join(result, "metrics.json")) as file:
            metrics = json.load(file)
        images = [picture(result, kind, 1) / np.float32(127.5) - 1 for kind in ("output", "target")]
        measured = tf.image.ssim(*(np.float32((image + 1) / 2) for image in images), max_val=1.0).numpy()
        with open(os.path.join(result, "metrics.csv")) as file:
            ssim = float(file.readlines()[1].split(",")[3])
        assert abs(ssim - measured) < 2e-3, precision  # the images have 8 bits
        found.append((metrics["precision"], metrics["l1"]["mean"]))
    assert configs == ["float32", "float32", "bfloat16"] == [name for name, _ in found]
    assert found[0][1] == found[1][1] != found[2][1]
