"""Models of the PyTorch program: its networks, computed here in numpy and there by PyTorch, against this program's.

The slow tests need a Python with PyTorch and this program's packages, in .venv-torch or wherever TORCH_PYTHON says.
"""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import train
from conftest import ROOT, SMALL, options
from support import checkpoints
from support.errors import CheckpointError, RunError
from tools import from_pytorch, pytorch_weights

PYTHON = os.environ.get("TORCH_PYTHON", os.path.join(ROOT, ".venv-torch", "bin", "python"))
TOOL = os.path.join(ROOT, "tools", "from_pytorch.py")
with open(os.path.join(ROOT, "docs", "old_models.md")) as _file:
    DOCS = _file.read()


# That program's networks in numpy, [N, C, H, W] in float64. A network is a list of modules as in nn.Sequential: a pair
# of a kind and {name of a parameter: array}, or a list, which is the next inner level.


def module(random, kind, norm, before, after, biased=False):
    """A convolution (down, flat), a transposed one (up), or a norm, with random parameters."""
    if kind == "norm":
        drawn = {"weight": random.normal(1, 0.2, after), "bias": random.normal(0, 0.2, after)}
        return "norm" if norm != "none" else "nothing", drawn if norm == "batch" else {}
    shape = (before, after, 4, 4) if kind == "up" else (after, before, 4, 4)
    bias = {"bias": random.normal(0, 0.2, after)} if biased or norm == "instance" else {}
    return kind, dict(bias, weight=random.normal(0, 0.1, shape))


def unet(random, norm, depth=5, filters=2, inputs=3, outputs=3):
    widths, inside = [filters * min(2 ** power, 8) for power in range(depth)], []
    for outer, inner in zip(widths[depth - 2::-1], widths[:0:-1]):
        norms = [module(random, "norm", norm, width, width) for width in (inner, outer)]
        up = module(random, "up", norm, inner * (2 if inside else 1), outer)
        inside = [[("leaky", {}), module(random, "down", norm, outer, inner), *norms[:1] * bool(inside), *inside,
                   ("relu", {}), up, norms[1], *[("nothing", {})] * bool(inside)]]
    return [module(random, "down", norm, inputs, filters), *inside, ("relu", {}),
            module(random, "up", norm, 2 * filters, outputs, biased=True), ("tanh", {})]


def patch_gan(random, norm, layers=3, filters=2, channels=6):
    network, widths = [], [channels] + [filters * min(2 ** power, 8) for power in range(layers + 1)]
    for number, (before, after) in enumerate(zip(widths, widths[1:])):
        network += [module(random, "down" if number < layers else "flat", norm, before, after, biased=number == 0)]
        network += [module(random, "norm", norm, after, after)] * (number > 0) + [("leaky", {})]
    return [*network, module(random, "flat", norm, widths[-1], 1, biased=True)]


def state_of(network, place):
    """The network's state_dict, as {name: float32 array}."""
    state = {}
    for number, part in enumerate(network):
        name = "%s%d." % (place, number)
        state.update(state_of(part, name + "model.") if isinstance(part, list) else
                     {name + parameter: np.float32(value) for parameter, value in part[1].items()})
    return state


def windows(x, stride):
    """The 4x4 windows of x behind padding by one pixel, [N, C, h, w, 4, 4]."""
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    return np.lib.stride_tricks.sliding_window_view(padded, (4, 4), (2, 3))[:, :, ::stride, ::stride]


def doubled(x, weight):
    """Transposed convolution: every pixel adds its 4x4 stamp at twice its place; one pixel is cut off all around."""
    stamps = np.einsum("nchw,coij->nohwij", x, weight)
    result = np.zeros((x.shape[0], weight.shape[1], 2 * x.shape[2] + 2, 2 * x.shape[3] + 2))
    for i in range(4):
        for j in range(4):
            result[:, :, i:i + 2 * x.shape[2]:2, j:j + 2 * x.shape[3]:2] += stamps[..., i, j]
    return result[:, :, 1:-1, 1:-1]


def apply(network, x, joins=False):
    """Runs a network on one picture; a level that is not the outermost one joins its output to its input."""
    joined = x
    for part in network:
        kind, arrays = ("level", part) if isinstance(part, list) else part
        if kind == "level":
            x = apply(part, x, joins=True)
        elif kind == "leaky":
            x = np.where(x < 0, 0.2 * x, x)
            joined = x if part is network[0] else joined  # it works in place
        elif kind in ("relu", "tanh"):
            x = np.maximum(x, 0) if kind == "relu" else np.tanh(x)
        elif kind == "norm":
            mean, variance = (f(x, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.var))
            x = (x - mean) / np.sqrt(variance + 1e-5)
        elif kind in ("down", "flat"):
            x = np.einsum("nchwij,ocij->nohw", windows(x, 2 if kind == "down" else 1), arrays["weight"])
        elif kind == "up":
            x = doubled(x, arrays["weight"])
        if kind == "norm" and arrays:
            x = x * arrays["weight"][:, None, None]
        if "bias" in arrays:
            x = x + arrays["bias"][:, None, None]
    return np.concatenate([joined, x], axis=1) if joins else x


# This program's


def converted(g, d, folder):
    """Writes the run folder of two state_dicts (None for no D)."""
    networks = []
    for path, state, convert in (("G.pth", g, pytorch_weights.generator), ("D.pth", d, pytorch_weights.discriminator)):
        if state:
            networks.append((path, *convert(state)))
            assert not state
    from_pytorch.write_run(folder, from_pytorch.flags_of(networks, "AtoB"), networks)
    return folder


def computed(folder, inputs):
    """The outputs and D's logits of a run folder's networks, [N, C, H, W], one picture at a time."""
    flags = options("--flagfile=" + os.path.join(folder, "flags.txt"))
    with tf.Graph().as_default():
        picture = tf.placeholder(tf.float32, [1, *inputs.shape[2:], inputs.shape[1]])
        outputs = train.generate(flags, picture, None)
        logits = train.discriminate(flags, picture, outputs)
        with checkpoints.restored_session(checkpoints.full_name(folder)) as session:
            results = [session.run([outputs, logits], {picture: x.transpose(1, 2, 0)[None]}) for x in inputs]
    return [np.concatenate(kind).transpose(0, 3, 1, 2) for kind in zip(*results)]


@pytest.fixture
def inputs():
    return np.random.RandomState(1).uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32)


def networks(norm, **options):
    random = np.random.RandomState(0)
    return unet(random, norm, **options), patch_gan(random, norm)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_outputs_and_logits_are_the_pytorch_networks(norm, inputs, tmp_path):
    g, d = networks(norm)
    folder = converted(state_of(g, "model.model."), state_of(d, "model."), str(tmp_path / "run"))
    outputs, logits = computed(folder, inputs)
    expected = np.concatenate([apply(g, x[None]) for x in np.float64(inputs)])
    assert expected.std() > 0.1
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    pairs = np.concatenate([inputs, expected], axis=1)
    np.testing.assert_allclose(logits, np.concatenate([apply(d, pair[None]) for pair in pairs]), atol=1e-4)


def test_depth_channels_and_patch_are_seen_from_the_shapes():
    random = np.random.RandomState(0)
    state = state_of(unet(random, "batch", depth=7, filters=1, inputs=1, outputs=2), "model.model.")
    flags, _ = pytorch_weights.generator(state)
    assert [flags[name] for name in ("image_size", "input_channels", "output_channels", "ngf", "norm", "skip")] == [
        128, 1, 2, 1, "batch", "pre"]
    for layers, patch in ((1, 16), (2, 34), (3, 70), (4, 142), (5, 286)):
        flags, _ = pytorch_weights.discriminator(state_of(patch_gan(random, "instance", layers, filters=3), "model."))
        assert (flags["patch"], flags["ndf"], flags["norm"]) == (patch, 3, "instance")


@pytest.mark.parametrize("norm,prefix", [("instance", ""), ("batch", "module."), ("instance", "module._orig_mod.")])
def test_running_statistics_and_the_prefixes_of_wrappers_do_not_count(norm, prefix):
    state = state_of(networks(norm)[0], "model.model.")
    plain = pytorch_weights.generator(dict(state))
    statistics = {place + "." + name: np.float32([3]) for name in ("running_mean", "running_var", "num_batches_tracked")
                  for place in ("model.model.1.model.2", "model.model.1.model.6")}
    left = pytorch_weights.parameters({prefix + name: value for name, value in {**state, **statistics}.items()})
    found = pytorch_weights.generator(left)
    assert not left and found[0] == plain[0] and found[1].keys() == plain[1].keys()
    assert all(np.array_equal(found[1][name], plain[1][name]) for name in plain[1])


def test_a_run_folder_without_a_discriminator_tests_exports_and_starts_a_run(run, inputs, data, tmp_path):
    g, _ = networks("batch")
    folder = converted(state_of(g, "model.model."), None, str(tmp_path / "theirs"))
    status, printed = run("--mode=test", "--output_dir=" + folder)
    assert status == 0 and "2 images" in printed
    assert run("--mode=export", "--output_dir=" + folder)[0] == 0
    with tf.Graph().as_default(), tf.Session() as session:
        signature = tf.saved_model.loader.load(
            session, ["serve"], os.path.join(folder, "export", "0")).signature_def["serving_default"]
        outputs = session.run(signature.outputs["outputs"].name, {
            signature.inputs["images"].name: inputs[:1].transpose(0, 2, 3, 1)})
    np.testing.assert_allclose(outputs.transpose(0, 3, 1, 2), apply(g, np.float64(inputs[:1])), atol=1e-5)
    status, _ = run("--flagfile=" + os.path.join(folder, "flags.txt"), "--init_checkpoint=" + folder, *SMALL[3:],
                    "--output_dir=%s" % (tmp_path / "on"), "--max_steps=1", "--learning_rate=1e-30")
    assert status == 0
    theirs, ours = (tf.train.load_checkpoint(str(path)) for path in (
        checkpoints.full_name(folder), tmp_path / "on" / "checkpoints" / "model.ckpt-1"))
    for name in theirs.get_variable_to_shape_map():
        np.testing.assert_allclose(ours.get_tensor(name), theirs.get_tensor(name), rtol=0, atol=1e-20)


# What is refused


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize("convert,change,says", [
    (pytorch_weights.generator, lambda g, d: {}, "no U-Net of 5 to 8 levels"),
    (pytorch_weights.generator, lambda g, d: d, "no U-Net of 5 to 8 levels"),
    (pytorch_weights.generator, lambda g, d: without(g, "model.model.1.model.3.model.5.weight"), "model.5.weight"),
    (pytorch_weights.generator, lambda g, d: dict(g, **{"model.model.0.weight": np.zeros([2, 3])}), "axes"),
    (pytorch_weights.discriminator, lambda g, d: g, "no PatchGAN of 3 to 7 convolutions"),
    (pytorch_weights.discriminator, lambda g, d: without(d, "model.5.weight"), "model.5.weight"),
    (pytorch_weights.discriminator, lambda g, d: without(d, "model.6.bias"), "model.6.bias")])
def test_other_networks_are_refused(convert, change, says):
    g, d = networks("batch")
    state = dict(change(state_of(g, "model.model."), state_of(d, "model.")))
    with pytest.raises((KeyError, ValueError), match=says):
        convert(state)


def test_files_that_are_not_of_one_model_are_refused_by_file_and_nothing_is_left(tmp_path):
    g, _ = networks("batch")
    random, folder = np.random.RandomState(0), str(tmp_path / "run")
    for d, says in ((patch_gan(random, "instance"), "its norm is instance and that of G.pth is batch"),
                    (patch_gan(random, "batch", channels=3), "layer_1/kernel is ")):
        with pytest.raises(CheckpointError, match="D.pth: .*" + says):
            converted(state_of(g, "model.model."), state_of(d, "model."), folder)
    wrong = state_of(g, "model.model.")
    wrong["model.model.1.model.1.weight"] = wrong["model.model.1.model.1.weight"][..., :3, :3]
    with pytest.raises(CheckpointError, match=r"G.pth: its .*encoder_2/kernel is \[3, 3, 2, 4\]"):
        converted(wrong, None, folder)
    assert not os.listdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("kept")
    with pytest.raises(RunError, match="run: there is something already"):
        converted(state_of(g, "model.model."), None, folder)
    assert os.listdir(folder) == ["mine.txt"]


def test_a_python_without_pytorch_says_where_the_page_is(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(sys, "argv", [TOOL, "G.pth", "--output_dir=%s" % (tmp_path / "run")])
    with pytest.raises(SystemExit, match="error: this Python has no PyTorch"):
        from_pytorch.main()


# With PyTorch itself


@pytest.fixture(scope="module")
def torch_python():
    if "TORCH_PYTHON" not in os.environ and not os.path.exists(PYTHON):
        pytest.skip("no PyTorch in .venv-torch (see docs/old_models.md), and TORCH_PYTHON names none")
    return PYTHON


def made_by_torch(python, folder, *what):
    subprocess.run([python, os.path.join(ROOT, "tests", "torch_models.py"), str(folder), *map(str, what)], check=True)
    return np.load(os.path.join(str(folder), "pictures.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("depth,norm,steps", [(8, "batch", 0), (8, "instance", 3), (7, "batch", 3)])
def test_the_documented_lines_give_pytorchs_outputs_at_full_size(torch_python, run, data, tmp_path, depth, norm, steps,
                                                                 monkeypatch):
    made = made_by_torch(torch_python, tmp_path, depth, norm, 64, steps)
    line = re.search(r"^    \S+/python (tools/from_pytorch.py .*)$", DOCS, re.MULTILINE).group(1)
    monkeypatch.chdir(tmp_path)
    said = subprocess.run([torch_python, TOOL, *line.replace("CHECKPOINTS/", "").split()[1:]], text=True, check=True,
                          stdout=subprocess.PIPE).stdout
    assert "--norm=%s" % norm in said
    outputs, logits = computed("runs/theirs", made["inputs"])
    differences = [np.abs(found - made[kind]).max() for found, kind in ((outputs, "outputs"), (logits, "logits"))]
    assert differences[0] <= 1e-5 and differences[1] <= 1e-4, differences
    assert run("--mode=export", "--output_dir=runs/theirs")[0] == 0


@pytest.mark.slow
def test_files_of_torch_that_are_no_such_model_are_refused_by_name(torch_python, tmp_path):
    made_by_torch(torch_python, tmp_path, 5, "batch", 2, 0)
    code = """import torch
g = torch.load("latest_net_G.pth")
torch.save({"net": g, "epoch": 3}, "whole.pth")
torch.save(torch.nn.ReLU(), "pickled.pth")
torch.save({"module." + name: value for name, value in g.items()}, "old.pth", _use_new_zipfile_serialization=False)
open("cut.pth", "wb").write(open("latest_net_G.pth", "rb").read()[:5000])
"""
    subprocess.run([torch_python, "-c", code], check=True, cwd=tmp_path)
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "again.py").write_text("""import sys
sys.path.insert(0, %r)
from tools import from_pytorch
for name in sys.argv[1:]:
    sys.argv[1:] = [name, "--output_dir=run-" + name[:3]]
    try:
        from_pytorch.main()
    except SystemExit as error:
        print(error)
""" % ROOT)
    names = ["whole.pth", "pickled.pth", "cut.pth", "text.pth", "missing.pth", ".", "latest_net_D.pth", "old.pth"]
    said = subprocess.run([torch_python, "again.py", *names], cwd=tmp_path, text=True, check=True,
                          stdout=subprocess.PIPE).stdout.splitlines()
    for name, line in zip(names[:-1], said):
        assert line.startswith("error: %s: " % name), said
    assert len(said) == len(names) + 1 and said[-2].startswith("run-old: --batch_size=1")
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith("run-")) == ["run-old"]
