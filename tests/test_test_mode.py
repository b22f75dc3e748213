"""Test mode: outputs, measures and the gallery."""

import contextlib
import csv
import functools
import html
import json
import os
import re
import shutil
import urllib.parse

import imageio.v3 as imageio
import numpy as np
import pytest
import scipy.ndimage
import tensorflow.compat.v1 as tf
from absl.testing import flagsaver

import train
from conftest import SMALL, fingerprint, picture, result_in, write_pairs
from support import checkpoints, gallery


@pytest.fixture(scope="module")
def tested(trained, tmp_path_factory):
    """A test run over pairs whose names need escaping; returns its folder."""
    folder = tmp_path_factory.mktemp("awkward")
    write_pairs(str(folder), 3)
    os.rename(str(folder / "3.png"), str(folder / "<b>&'50%#.png"))
    with flagsaver.flagsaver():
        train.FLAGS(["train.py", "--mode=test", "--output_dir=" + trained, "--data_dir=%s" % folder])
        assert train.main(["train.py"]) == 0
    (result,) = (os.path.join(trained, "test", name) for name in os.listdir(os.path.join(trained, "test"))
                 if name.startswith(folder.name))
    return result


def test_test_mode_writes_every_output(tested):
    assert sorted(os.listdir(os.path.join(tested, "images"))) == ["input", "output", "patches", "target"]
    for kind in os.listdir(os.path.join(tested, "images")):
        assert sorted(os.listdir(os.path.join(tested, "images", kind))) == ["1.png", "2.png", "<b>&'50%#.png"]


def test_metrics_agree_with_the_written_images(tested):
    with open(os.path.join(tested, "metrics.csv")) as file:
        table = list(csv.DictReader(file))
    with open(os.path.join(tested, "metrics.json")) as file:
        summary = json.load(file)
    assert summary["images"] == len(table) == 3
    for row in table:
        output, target = (np.float64(picture(tested, kind, row["name"])) / 127.5 - 1 for kind in ("output", "target"))
        np.testing.assert_allclose(float(row["l1"]), np.abs(output - target).mean(), atol=0.004)
        np.testing.assert_allclose(float(row["psnr"]), 10 * np.log10(4 / ((output - target) ** 2).mean()), atol=0.1)
        assert -1 <= float(row["ssim"]) <= 1
    for measure in ("l1", "psnr", "ssim"):
        np.testing.assert_allclose(summary[measure]["mean"], np.mean([float(row[measure]) for row in table]), rtol=1e-6)
        assert summary[measure]["low"] <= summary[measure]["mean"] <= summary[measure]["high"]


def scipy_ssim(a, b):
    """SSIM of two uint8 images [H, W, C] as Wang et al. 2004 define it: Gaussian window of 11x11, sigma 1.5."""
    a, b = np.float64(a) / 255, np.float64(b) / 255
    blur = functools.partial(scipy.ndimage.gaussian_filter, sigma=(1.5, 1.5, 0), radius=(5, 5, 0))
    mean_a, mean_b = blur(a), blur(b)
    variances = blur(a * a) - mean_a ** 2 + blur(b * b) - mean_b ** 2
    covariance = blur(a * b) - mean_a * mean_b
    ssim = ((2 * mean_a * mean_b + 0.01 ** 2) * (2 * covariance + 0.03 ** 2)
            / ((mean_a ** 2 + mean_b ** 2 + 0.01 ** 2) * (variances + 0.03 ** 2)))
    return ssim[5:-5, 5:-5].mean()  # the windows inside the image


def test_ssim_is_an_independent_ssim_of_the_written_images(tested):
    with open(os.path.join(tested, "metrics.csv")) as file:
        table = list(csv.DictReader(file))
    for row in table:
        written = (picture(tested, kind, row["name"]) for kind in ("output", "target"))
        assert float(row["ssim"]) == pytest.approx(scipy_ssim(*written), abs=2e-3)


@pytest.mark.parametrize("change", [
    lambda image: image, lambda image: image / 8, lambda image: image - 25, lambda image: image + 40,
    lambda image: scipy.ndimage.gaussian_filter(image, (1, 1, 0))], ids=["equal", "dark", "darker", "brighter", "soft"])
def test_ssim_of_changed_images_is_an_independent_ssim(session, change):
    chance = np.random.RandomState(0)
    smooth = scipy.ndimage.gaussian_filter(chance.uniform(-1000, 1000, (64, 48, 3)), (3, 3, 0))
    image = np.clip(128 + smooth + chance.uniform(-10, 10, smooth.shape), 0, 255)
    images = [np.uint8(np.clip(picture, 0, 255)) for picture in (image, change(image))]
    ours = session.run(gallery.measures(*(tf.constant(picture[np.newaxis] / np.float32(127.5) - 1)
                                           for picture in images)))
    assert ours["ssim"] == pytest.approx(scipy_ssim(*images), abs=2e-3)


def test_the_gallery_escapes_names_and_links_every_image(tested):
    with open(os.path.join(tested, "index.html")) as file:
        page = file.read()
    assert "<b>&'" not in page and "&lt;b&gt;&amp;" in page and "$" not in page
    links = [urllib.parse.unquote(html.unescape(link)) for link in re.findall('src="([^"]+)"', page)]
    assert len(links) == 12 and all(os.path.exists(os.path.join(tested, link)) for link in links)
    assert "http" not in page


def test_an_output_does_not_depend_on_the_images_beside_it(run, trained, tmp_path):
    write_pairs(str(tmp_path / "all"), 3)
    write_pairs(str(tmp_path / "one"), 3)
    os.remove(tmp_path / "one" / "1.png")
    os.remove(tmp_path / "one" / "3.png")
    measured = []
    for name in ("all", "one"):
        status, output = run("--mode=test", "--output_dir=" + trained, "--data_dir=%s" % (tmp_path / name))
        assert status == 0
        with open(os.path.join(result_in(output), "metrics.csv")) as file:
            measured.append([row[:4] for row in csv.reader(file) if row[0] == "2"])
    assert measured[0] == measured[1] != []


def test_an_output_is_the_same_beside_a_file_of_its_stem(run, trained, tmp_path):
    write_pairs(str(tmp_path), 2)
    argv = ["--mode=test", "--output_dir=" + trained, "--data_dir=%s" % tmp_path]
    result = result_in(run(*argv)[1])
    alone = picture(result, "output", "2")
    imageio.imwrite(tmp_path / "1.jpg", np.zeros((16, 32, 3), np.uint8))
    both = result_in(run(*argv)[1])
    np.testing.assert_array_equal(picture(both, "output", "2.png"), alone)
    assert len(os.listdir(os.path.join(both, "images", "output"))) == 3


def test_test_mode_prints_the_runs_fingerprint(run, trained, tmp_path):
    status, output = run("--mode=test", "--output_dir=" + trained)
    assert status == 0
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))


@pytest.mark.parametrize("count", [1, 2])
def test_an_interval_holds_its_mean(count):
    result = gallery.interval([0.25, 0.5][:count])
    assert result["low"] <= result["mean"] <= result["high"]
    assert count > 1 or result["low"] == result["high"] == 0.25


def test_images_of_any_size_are_tested_at_their_own(run, trained, tmp_path):
    for number, (height, width) in enumerate([(11, 22), (33, 140), (64, 64)], 1):
        image = np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8)
        imageio.imwrite(tmp_path / ("%d.png" % number), image)
    argv = ["--mode=test", "--output_dir=" + trained, "--data_dir=%s" % tmp_path, "--notest_resize"]
    result = result_in(run(*argv)[1])
    for kind in ("input", "output", "target", "patches"):
        assert [picture(result, kind, number).shape for number in (1, 2, 3)] == [(11, 11, 3), (33, 70, 3), (64, 32, 3)]
    result = result_in(run(*argv, "--test_resize")[1])
    assert picture(result, "output", 2).shape == picture(result, "patches", 2).shape == (32, 32, 3)
    imageio.imwrite(tmp_path / "4.png", np.zeros((10, 40, 3), np.uint8))
    assert run(*argv)[0].startswith("error: %s/4.png: an image of 20x10 pixels, fewer than the 11x11" % tmp_path)
    assert run(*argv, "--layout=inputs")[0] == run(*argv, "--test_resize")[0] == 0


def test_test_mode_shows_what_training_saw_whatever_flags_txt_of_an_earlier_version_says(run, trained, tmp_path):
    folder = shutil.copytree(trained, str(tmp_path / "run"))
    with open(os.path.join(folder, "flags.txt"), "a") as file:
        file.write("--test_resize=False\n")
    result = result_in(run("--mode=test", "--output_dir=" + folder)[1])
    assert picture(result, "output", 1).shape == (32, 32, 3)
    with open(os.path.join(trained, "flags.txt")) as file:
        assert "test_resize" not in file.read()


def test_inputs_without_targets_get_outputs_and_a_gallery_without_metrics(run, trained, tmp_path):
    write_pairs(str(tmp_path), 2)
    status, output = run("--mode=test", "--output_dir=" + trained, "--data_dir=%s" % tmp_path, "--layout=inputs")
    assert status == 0 and "2 images" in output and "l1" not in output
    result = result_in(output)
    assert result.endswith("-inputs") and sorted(os.listdir(os.path.join(result, "images"))) == [
        "input", "output", "patches"]
    assert sorted(os.listdir(os.path.join(result, "images", "output"))) == ["1.png", "2.png"]
    with open(os.path.join(result, "index.html")) as file:
        page = file.read()
    assert "L1" not in page and "no target" in page and "<label hidden>" in page
    with open(os.path.join(result, "metrics.csv")) as file:
        assert file.read() == "name,picture\n1,1.png\n2,2.png\n"


def test_folders_of_grey_and_colour_train_and_test_at_a_size_that_is_not_square(run, tmp_path):
    for split, side, channels in (("train", "A", ()), ("train", "B", (3,)), ("val", "A", ()), ("val", "B", (3,))):
        os.makedirs(tmp_path / split / side)
        for number in (1, 2):
            imageio.imwrite(tmp_path / split / side / ("%d.png" % number),
                            np.random.RandomState(number).randint(0, 256, (40, 72, *channels), np.uint8))
    argv = ["--data_dir=%s" % tmp_path, "--output_dir=%s" % (tmp_path / "run")]
    status, _ = run(*argv, *SMALL, "--image_size=32,64", "--input_channels=1", "--max_steps=2")
    assert status == 0
    assert imageio.imread(tmp_path / "run" / "samples" / "step-00000002.png").shape == (2 * 32, 3 * 64, 3)
    for flag, size in (("--test_resize", (32, 64)), ("--notest_resize", (40, 72))):
        result = result_in(run(*argv, "--mode=test", flag)[1])
        assert picture(result, "input", 1).shape == size and picture(result, "output", 1).shape == (*size, 3)


def test_jpegs_in_the_layout_of_facades_train_and_test_from_b_to_a(run, tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        write_pairs(str(tmp_path / "data" / split), count, size=256, extension=".jpg")
    argv = ["--data_dir=%s" % (tmp_path / "data"), "--output_dir=%s" % (tmp_path / "run")]
    assert run(*argv, "--direction=BtoA", *SMALL, "--max_steps=2")[0] == 0
    result = result_in(run("--mode=test", *argv, "--notest_resize")[1])
    pair = np.float32(imageio.imread(tmp_path / "data" / "val" / "1.jpg"))
    for half, kind in ((pair[:, :256], "target"), (pair[:, 256:], "input")):
        assert np.abs(picture(result, kind, 1) - half).mean() < 2  # two decoders of JPEG


def test_equal_images_have_a_psnr_that_json_can_hold():
    picture = np.random.RandomState(0).uniform(-1, 1, (1, 32, 32, 3))
    with contextlib.closing(gallery.Measures([1, None, None, 3])) as measures:
        values = measures.of(picture, picture)
    assert (values["l1"], values["psnr"], values["ssim"]) == (0, 100, 1)


# What is read


def test_training_and_test_say_what_they_read_and_what_is_doubtful(run, tmp_path):
    os.makedirs(str(tmp_path / "data" / "train"))
    for number in (1, 2):
        imageio.imwrite(tmp_path / "data" / "train" / ("%d.png" % number), np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "data" / "train" / "notes.txt").write_text("")
    argv = ["--data_dir=%s" % (tmp_path / "data"), "--output_dir=%s" % (tmp_path / "run")]
    folder = tmp_path / "data" / "train"
    says = ["reading 2 pairs from %s: side by side, halves of 20x40, A to B" % folder,
            "warning: 2 of 2 images are square, such as %s/1.png, and are cut into a left and a right half" % folder,
            "warning: left out 1 file: 1 .txt"]
    status, output = run(*argv, *SMALL, "--max_steps=1")
    assert status == 0 and all(line in output for line in says) and "trained on these pairs" not in output
    status, output = run("--mode=test", *argv)
    assert status == 0 and all(line in output for line in says)
    assert "--layout=inputs" in output and "warning: the run was trained on these pairs" in output
    _, output = run("--mode=test", *argv, "--layout=inputs", "--direction=AtoB")
    assert "reading 2 pictures from %s: inputs without targets" % folder in output
    assert "is square" not in output and "trained on these pairs" not in output and "warning: --direction" not in output
    status, output = run("--mode=test", *argv, "--split=train", "--direction=BtoA")
    assert status == 0 and "A to B" not in output and "trained on these pairs" not in output
    assert "warning: --direction=BtoA differs from the direction of the run in %s, which is AtoB" % (
        tmp_path / "run") in output


def test_training_pairs_are_known_again_without_a_split(run, trained, data, tmp_path):
    for source, is_training in (("train", True), ("val", False)):
        _, output = run("--mode=test", "--output_dir=%s" % tmp_path, "--checkpoint=" + trained,
                        "--data_dir=" + os.path.join(data, source))
        assert ("the run was trained on these pairs" in output) == is_training
