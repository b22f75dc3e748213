"""The systems in flags/: each trains and tests, and is what its source says."""

import os
import subprocess

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import train
from conftest import ROOT, SMALL, command, options, result_in, rows
from support import reports

FLAGFILES = sorted(os.listdir(os.path.join(ROOT, "flags")))


@pytest.mark.parametrize("name", [
    name if name == "patch_286.flags" else pytest.param(name, marks=pytest.mark.slow) for name in FLAGFILES])
def test_every_flagfile_trains_and_tests(run, data, tmp_path, name):
    argv = ["--flagfile=" + os.path.join(ROOT, "flags", name), "--data_dir=" + data, "--output_dir=%s" % tmp_path]
    argv += SMALL
    if name == "patch_286.flags":  # its one logit needs 96 pixels; the test's images have 40 and are padded
        argv.append("--image_size=96")
    assert run(*argv, "--max_steps=2")[0] == 0
    status, output = run("--mode=test", "--output_dir=%s" % tmp_path)
    assert status == 0 and len(os.listdir(os.path.join(result_in(output), "images", "output"))) == 2


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
        table = reports.layer_table(graph)
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


@pytest.mark.parametrize("name", [name for name in FLAGFILES if name not in ("facades.flags", "quick.flags")])
def test_no_system_changes_with_the_recipe_that_is_the_default(name):
    with open(os.path.join(ROOT, "flags", name)) as file:
        given = {line.split("=")[0] for line in file if line.startswith("--")}
    assert {"--norm", "--skip", "--upsample", "--d_weight", "--update", "--decay_epochs", "--ema"} <= given


@pytest.mark.slow
def test_the_first_look_learns_within_its_first_minutes(tmp_path):
    argv = "--flagfile=flags/quick.flags", "--output_dir=%s" % tmp_path, "--max_steps=400", "--log_every=1"
    subprocess.run(command(*argv), check=True, cwd=ROOT, capture_output=True)
    l1 = [float(row[4]) for row in rows(tmp_path)[1:]]
    assert np.mean(l1[-100:]) < 0.6 * np.mean(l1[:10])
