"""Label maps stay labels: they are resized without new colours, and measured by their classes."""

import csv
import json
import os
import re

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow as tf

import reader
from conftest import SMALL, options, picture, result_in
from support import data_flags, flag_texts, label_maps

COLOURS = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (40, 60, 250)]


def label_map(number, size=40):
    """A picture of the four colours in blocks of 8 pixels, uint8 [size, size, 3]."""
    coarse = np.random.RandomState(number).randint(0, 4, (size // 8, size // 8))
    return np.uint8(COLOURS)[coarse.repeat(8, 0).repeat(8, 1)]


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A data_dir of photos A and label maps B, 4 pairs in train/ and 3 in val/."""
    folder = tmp_path_factory.mktemp("maps")
    for split, count in (("train", 4), ("val", 3)):
        for side in "AB":
            os.makedirs(folder / split / side)
        for number in range(count):
            photo = np.random.RandomState(number).randint(0, 256, (10, 10, 3), np.uint8).repeat(4, 0).repeat(4, 1)
            imageio.imwrite(folder / split / "A" / ("%d.png" % number), photo)
            imageio.imwrite(folder / split / "B" / ("%d.png" % number), label_map(number))
    return "--data_dir=%s" % folder


@pytest.mark.parametrize("flags,same", [
    ([], [True, True]), (["--input_resize=nearest"], [False, True]), (["--output_resize=nearest"], [True, False]),
    (["--resize_method=nearest", "--input_resize=bilinear"], [True, False])], ids=lambda item: " ".join(map(str, item)))
def test_each_side_has_a_resize_method_of_its_own(maps, flags, same):
    def read(*flags):
        given = options(maps, "--direction=BtoA", *flags)
        pairs = data_flags.pairs_of(given, "val")
        return list(reader.read_in_order(pairs, (32, 32), data_flags.view_of(given, pairs)))

    for ours, bilinear in zip(read(*flags), read()):
        assert [np.array_equal(*images) for images in zip(ours, bilinear)] == same
        shades = np.unique(np.round((ours[0] + 1) * 127.5).reshape(-1, 3), axis=0)
        assert ({tuple(shade) for shade in shades} <= set(COLOURS)) == (not same[0])


@pytest.mark.parametrize("text,fine", [
    ("", True), ("000000,ff0000", True), ("00A0ff,00a0fe,123456", True), ("000000", False), ("000000,ff000", False),
    ("000000,ff0000,", False), ("00a0ff,00A0FF", False), ("red,blue", False)])
def test_a_text_of_label_colours_is_checked(text, fine):
    assert flag_texts.LABELS.test(text) == fine
    if fine and text:
        assert flag_texts.text_of(flag_texts.colours_of(text)) == text.lower()


def test_a_pixel_has_the_channel_of_its_nearest_colour(session):
    near = np.int32(label_map(0)) + np.random.RandomState(0).randint(-20, 20, (40, 40, 3))
    picture = np.uint8(np.clip(near, 0, 255))
    channels = session.run(label_maps.one_hot(picture[np.newaxis] / np.float32(127.5) - 1, COLOURS))
    np.testing.assert_array_equal(channels[0], np.eye(4)[classes_of(picture)])


def test_one_hot_networks_see_classes_and_everything_else_sees_pictures(run, maps, tmp_path):
    flags = ("--output_dir=%s" % tmp_path, maps, "--direction=BtoA", "--one_hot", *SMALL)
    status, output = run(*flags, "--max_steps=2")
    labels = re.search(r"^4 classes in the inputs: --labels=(.*)$", output, re.MULTILINE).group(1)
    assert status == 0 and sorted(flag_texts.colours_of(labels)) == sorted(COLOURS)
    status, output = run(*flags, "--max_steps=3")
    assert status == 0 and "from step 2" in output
    reader = tf.train.load_checkpoint(str(tmp_path / "checkpoints" / "model.ckpt-3"))
    assert reader.get_tensor("generator/encoder_1/kernel").shape == (4, 4, 4, 2)
    assert reader.get_tensor("discriminator/layer_1/kernel").shape == (4, 4, 4 + 3, 2)
    tested = ("--output_dir=%s" % tmp_path, maps)
    status, output = run(*tested, "--mode=test")
    assert status == 0 and picture(result_in(output), "input", 0).shape == (32, 32, 3)
    status, output = run(*tested, "--mode=test", "--one_hot", "--labels=000000,ffffff")
    assert "--labels is 000000,ffffff here and %s in the run" % labels in status
    assert run(*tested, "--mode=export")[0] == 0
    translate = tf.saved_model.load(str(tmp_path / "export" / "3")).signatures["serving_default"]
    image = label_map(5, 32)[np.newaxis] / np.float32(127.5) - 1
    outputs = translate(images=tf.constant(image))["outputs"].numpy()
    np.testing.assert_array_equal(translate(images=tf.constant(image * 0.9))["outputs"], outputs)  # no other class
    assert np.abs(translate(images=tf.constant(image[:, :, ::-1]))["outputs"] - outputs).max() > 1e-3


@pytest.mark.parametrize("flags,message", [
    (["--one_hot"], "/train are not label maps, which have few colours; name the colours with --labels="),
    (["--one_hot", "--mode=export", "--checkpoint=RUN/checkpoints/model.ckpt-6"], "--one_hot is True here and False"),
])
def test_one_hot_is_refused_where_there_are_no_labels(run, maps, trained, tmp_path, flags, message):
    flags = [flag.replace("RUN", trained) for flag in flags]
    assert message in run("--output_dir=%s" % tmp_path, maps, *flags)[0]


def classes_of(picture):
    """The nearest colour of each pixel, computed the slow way."""
    return np.square(picture[:, :, None].astype(float) - COLOURS).sum(axis=3).argmin(axis=2)


def expected(outputs, targets):
    """Accuracy and mean IoU of classes, by their definitions."""
    outputs, targets = np.array(outputs), np.array(targets)
    of_classes = [np.sum((outputs == i) & (targets == i)) / np.sum((outputs == i) | (targets == i))
                  for i in range(4) if i in outputs or i in targets]
    return np.mean(outputs == targets), np.mean(of_classes)


def test_scores_are_those_of_the_definitions():
    random = np.random.RandomState(0)
    for count in (2, 3, 4):
        target, near = random.randint(0, count, (2, 20, 30)), random.randint(-20, 20, (20, 30, 3))
        output = np.where(random.uniform(size=target[0].shape) < 0.7, *target)
        pictures = [np.uint8(np.clip(np.array(COLOURS)[classes] + near, 0, 255)) for classes in (output, target[1])]
        counts = label_maps.confusion(*pictures, COLOURS)
        assert counts.sum() == 600 and counts[1, 0] == np.sum((target[1] == 1) & (output == 0))
        assert list(label_maps.scores(counts).values()) == pytest.approx(expected(output, target[1]))


def test_test_mode_measures_label_maps_by_their_classes_over_all_pixels(run, maps, tmp_path):
    flags = ("--output_dir=%s" % tmp_path, maps)
    assert run(*flags, *SMALL, "--max_steps=1")[0] == 0
    status, output = run(*flags, "--mode=test")
    assert status == 0 and "accuracy 0." in output and "iou   0." in output
    with open(os.path.join(result_in(output), "metrics.csv")) as file:
        rows = list(csv.DictReader(file))
    with open(os.path.join(result_in(output), "metrics.json")) as file:
        metrics = json.load(file)
    pairs = [[classes_of(picture(result_in(output), kind, number)) for kind in ("output", "target")]
             for number in range(3)]
    for row, pair in zip(rows, pairs):
        assert (float(row["accuracy"]), float(row["iou"])) == pytest.approx(expected(*pair))
    of_set = expected(*zip(*pairs))
    assert (metrics["accuracy"]["mean"], metrics["iou"]["mean"]) == pytest.approx(of_set)
    for measure in ("accuracy", "iou"):
        assert metrics[measure]["low"] <= metrics[measure]["mean"] <= metrics[measure]["high"]
    status, output = run(*flags, "--mode=test", "--direction=BtoA")  # the targets are photos
    assert status == 0 and "accuracy" not in output


def test_label_colours_are_looked_for_in_fewer_pairs_if_they_are_large(maps, monkeypatch):
    given = options(maps, "--image_size=32")
    monkeypatch.setattr(data_flags, "PALETTE_PIXELS", 2 * 32 ** 2)
    inputs, targets = data_flags.label_pictures(given, data_flags.pairs_of(given, "train"), reader.read_in_order)
    assert len(inputs) == len(targets) == 2
