"""--layout=lab: the conversions agree with scikit-image, and outputs keep the L of their inputs everywhere."""

import io
import json
import os
import shutil

import imageio.v3 as imageio
import numpy as np
import PIL.Image
import pytest
import tensorflow.compat.v1 as tf
from absl.testing import flagsaver

import reader
import train
from conftest import SMALL, call, fingerprint, picture, result_in
from support import lab, pair_files, precisions

# skimage.color.rgb2lab and lab2rgb of scikit-image 0.26.0.
RGB_TO_LAB = [
    ((0, 0, 0), (0.0, 0.0, 0.0)), ((255, 255, 255), (100.0, -0.0025, 0.0047)),
    ((128, 128, 128), (53.585, -0.0015, 0.0028)), ((3, 3, 3), (0.8225, -0.0001, 0.0001)),
    ((255, 0, 0), (53.2406, 80.0923, 67.2028)), ((0, 255, 0), (87.7351, -86.183, 83.1797)),
    ((0, 0, 255), (32.2957, 79.1856, -107.8573)), ((255, 255, 0), (97.1395, -21.5547, 94.4781)),
    ((0, 255, 255), (91.1133, -48.0906, -14.1263)), ((255, 0, 255), (60.3235, 98.2331, -60.821)),
    ((200, 120, 40), (57.9123, 25.2952, 54.0828)), ((12, 34, 56), (12.6562, 0.1214, -16.8316)),
    ((1, 0, 9), (0.2364, 1.5129, -3.3137)), ((250, 128, 114), (67.264, 45.2255, 29.0965))]
LAB_TO_RGB = [
    ((50, 0, 0), (0.46633, 0.46632, 0.46634)), ((0, 0, 0), (0.0, 0.0, 0.0)), ((100, 0, 0), (1.0, 1.0, 1.0)),
    ((30, 20, -40), (0.2352, 0.24766, 0.52313)), ((70, -30, 60), (0.58498, 0.71994, 0.1983)),
    ((5, 2, -3), (0.07079, 0.06244, 0.08448)),
    # outside of sRGB
    ((60, 110, -110), (0.84454, 0.0, 1.0)), ((20, -110, 110), (0.0, 0.27374, 0.0)),
    ((95, 110, 110), (1.0, 0.41691, 0.0)), ((1, 0, 60), (0.10808, 0.0033, 0.0))]
SCALE, ZERO = np.float64([50, 110, 110]), np.float64([1, 0, 0])
ROUNDING = 0.5  # the most that rounding to 8 bits changes L


def in_units(scaled):
    """Scaled Lab -> L in 0..100, a and b."""
    return (scaled + ZERO) * SCALE


def by_formula(rgb):
    """RGB [..., 3] in 0..1 -> Lab in float64, as CIE and IEC 61966-2-1 write it."""
    light = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    share = light @ np.float64([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169],
                                [0.019334, 0.119193, 0.950227]]).T / [0.95047, 1, 1.08883]
    x, y, z = np.moveaxis(np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def lightness_of(pixels):
    """The L of a picture in 0..255, grey [H, W] or [H, W, 1 or 3]."""
    pixels = np.asarray(pixels, np.float64)
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    return by_formula(np.broadcast_to(pixels, pixels.shape[:-1] + (3,)) / 255)[..., 0]


def inside(pixels):
    """Which pixels of a picture [H, W, 3] in 0..255 were not clipped."""
    return ((pixels > 0) & (pixels < 255)).all(-1)


# Conversions


def test_both_conversions_agree_with_scikit_image_within_a_thousandth(session):
    rgb, expected = map(np.float64, zip(*RGB_TO_LAB))
    assert np.abs(in_units(session.run(lab.to_lab(np.float32(rgb / 127.5 - 1)))) - expected).max() < 1e-3
    colours, expected = map(np.float64, zip(*LAB_TO_RGB))
    back = session.run(lab.to_rgb(np.float32(colours / SCALE - ZERO)))
    assert np.abs((back + 1) / 2 - expected).max() < 1e-3 and np.abs(back).max() <= 1


def test_each_colour_agrees_with_the_formula_lies_in_the_range_and_comes_back(session):
    steps = np.linspace(0, 1, 18)
    rgb = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3)
    scaled = lab.to_lab(np.float32(rgb * 2 - 1))
    found, back, light = session.run([scaled, lab.to_rgb(scaled), lab.lightness(lab.grey(np.float32(rgb * 2 - 1)))])
    assert np.abs(in_units(found) - by_formula(rgb)).max() < 1e-3 and np.abs(found).max() <= 1.00001
    assert np.abs((back + 1) / 2 - rgb).max() < 1e-4
    assert np.abs(light[..., 0] - found[..., 0]).max() < 1e-5  # the grey has the colour's L


@pytest.mark.skipif(not precisions.runs_bfloat16(), reason="this CPU has no bfloat16")
def test_the_conversion_stays_float32_behind_bfloat16_convolutions():
    images = np.random.RandomState(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    config, metadata = precisions.session_config("bfloat16"), tf.RunMetadata()
    config.graph_options.rewrite_options.min_graph_nodes = -1  # otherwise so small a graph is not rewritten
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        image = tf.placeholder(tf.float32, images.shape)
        kernels = [tf.constant(np.random.RandomState(number).uniform(-0.3, 0.3, (3, 3, 3, 3)).astype(np.float32))
                   for number in range(3)]
        hidden = tf.nn.relu(tf.nn.conv2d(image, kernels[0], [1, 1, 1, 1], "SAME"))
        scaled = tf.tanh(tf.nn.conv2d(hidden, kernels[1], [1, 1, 1, 1], "SAME"))
        with tf.name_scope("conversion"):
            rgb = lab.to_rgb(scaled)
        fetches = tf.identity(scaled), tf.identity(rgb), tf.nn.conv2d(rgb, kernels[2], [1, 1, 1, 1], "SAME")
        scaled, rgb, _ = session.run(
            fetches, {image: images}, tf.RunOptions(output_partition_graphs=True), metadata)
    assert precisions.is_bfloat16(metadata)
    types = {tf.as_dtype(node.attr["T"].type) for graph in metadata.partition_graphs for node in graph.node
             if node.name.startswith("conversion") and "T" in node.attr}
    assert tf.float32 in types and tf.bfloat16 not in types
    with tf.Graph().as_default(), tf.Session() as session:
        assert np.abs(session.run(lab.to_rgb(scaled)) - rgb).max() < 1e-5


# Data


def coloured(number, size=(40, 40)):
    """A picture of smooth colours, uint8 [*size, 3]."""
    y, x = np.mgrid[:size[0], :size[1]]
    phases = np.random.RandomState(number).uniform(0, 6, (3, 3))
    return np.uint8(128 + 90 * np.stack([np.sin(y / 9 + a) * np.cos(x / (7 + b) + c) for a, b, c in phases], -1))


def write_any(folder):
    """Writes pictures of every kind that people have into a folder; returns how many."""
    os.makedirs(folder, exist_ok=True)
    image = PIL.Image.fromarray(coloured(9))
    image.save(os.path.join(folder, "1.jpg"))
    image.quantize(60).save(os.path.join(folder, "2.png"))
    image.putalpha(77)
    image.save(os.path.join(folder, "3.png"))
    imageio.imwrite(os.path.join(folder, "4.png"), np.uint8(coloured(4).mean(-1)))
    imageio.imwrite(os.path.join(folder, "5.png"), np.uint16(coloured(5)[..., 0]) * 257)
    with tf.Graph().as_default(), tf.Session() as session, open(os.path.join(folder, "6.png"), "wb") as file:
        file.write(session.run(tf.image.encode_png(np.uint16(coloured(6)) * 257)))
    return 6


def test_the_jittered_inputs_have_the_lightness_of_their_targets(tmp_path, session):
    count = write_any(str(tmp_path))
    pairs = pair_files.find_pairs(str(tmp_path), "lab")
    view = reader.View(input=reader.Side(channels=1, is_lightness=True))
    batches = reader.Batches(batch_size=count, image_size=(32, 32), load_size=(36, 36), view=view)
    with tf.Graph().as_default():
        batch = reader.training_batches(pairs, tf.train.create_global_step(), batches)
        with tf.train.MonitoredSession() as training:
            inputs, targets = training.run(batch)
    assert inputs.shape == (count, 32, 32, 1) and targets.shape == (count, 32, 32, 3)
    scaled, light = session.run([lab.to_lab(targets), lab.lightness(inputs)])
    np.testing.assert_allclose(light[..., 0], scaled[..., 0], atol=1e-5)
    greys = np.abs(scaled[..., 1:]).max((1, 2, 3)) < 1e-4  # a and b of grey pictures
    assert greys.sum() == 2 and np.ptp(light, axis=(1, 2, 3)).min() > 0.3


def test_arrays_are_refused_by_name_and_a_line_says_what_is_read(tmp_path):
    imageio.imwrite(tmp_path / "1.png", coloured(1))
    assert pair_files.summary(pair_files.find_pairs(str(tmp_path), "lab"), "AtoB", (1, 2)) == (
        "reading 1 pair from %s: lab, pictures of 40x40, L to a and b, 1 channel to 2" % tmp_path)
    np.save(tmp_path / "0.npy", coloured(1))
    with pytest.raises(pair_files.DataError, match=r"0\.npy: --layout=lab takes pictures, not arrays"):
        pair_files.find_pairs(str(tmp_path), "lab")


@pytest.mark.parametrize("flag", ["direction=BtoA", "input_channels=3", "output_channels=3", "one_hot",
                                  "input_range=0,1", "output_range=0,255", "input_resize=nearest"])
def test_flags_that_make_no_sense_with_lab_are_refused_by_name(flag):
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as refused:
        train.parse(["train.py", "--layout=lab", "--" + flag])
    assert "--layout=lab" in refused.value.code and "leave --%s" % flag.split("=")[0] in refused.value.code


# A run


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """(data_dir, run folder, flags) of 4 steps in lab."""
    folder = tmp_path_factory.mktemp("lab")
    for split, count in (("train", 4), ("val", 2)):
        os.makedirs(folder / split)
        for number in range(count):
            imageio.imwrite(folder / split / ("%d.png" % number), coloured(number))
    argv = ["--layout=lab", "--data_dir=%s" % folder, *SMALL, "--sample_every=2", "--save_every=2", "--val_every=4"]
    assert call(*argv, "--output_dir=%s" % (folder / "run"), "--max_steps=4") == 0
    return folder, folder / "run", argv


def test_sample_grids_show_rgb_with_the_lightness_of_the_inputs(learned):
    for step in 0, 4:
        grid = imageio.imread(learned[1] / "samples" / ("step-%08d.png" % step))
        given, output, target = np.split(grid, 3, axis=1)
        assert np.ptp(given, axis=-1).max() == 0 and np.ptp(target, axis=-1).max() > 50
        for shown in output, target:
            distance = np.abs(lightness_of(shown) - lightness_of(given))
            assert distance[inside(shown)].max() < 2 * ROUNDING and inside(shown).mean() > 0.5
    assert np.ptp(output, axis=-1).max() > 5  # in colour


def test_tensorboard_shows_a_batch_in_rgb(learned):
    events, = learned[1].glob("events.out.tfevents.*")
    shown = {}
    for event in tf.train.summary_iterator(str(events)):
        for value in event.summary.value:
            if value.tag.startswith("batch/"):
                shown[value.tag] = imageio.imread(value.tensor.string_val[2], extension=".png")
    lights = []
    for kind, channels in (("inputs", 2), ("outputs", 3), ("targets", 3)):
        pixels, = (pixels for tag, pixels in shown.items() if tag.startswith("batch/%s/image/0" % kind))
        assert pixels.ndim == channels
        lights.append((lightness_of(pixels), inside(pixels) if channels == 3 else True))
    for light, counts in lights[1:]:
        assert np.abs(light - lights[0][0])[counts].max() < 2 * ROUNDING


@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_went_through(learned, tmp_path, capsys):
    ends = []
    for folder, limits in ((learned[1], [4]), (tmp_path / "run", [2, 4])):
        for limit in limits:
            assert call(*learned[2], "--output_dir=%s" % folder, "--max_steps=%d" % limit) == 0
        ends.append(fingerprint(capsys.readouterr().out))
    assert ends[0] == ends[1]


def test_test_mode_shows_and_measures_rgb_and_keeps_the_lightness(learned, capsys):
    assert call("--mode=test", "--output_dir=%s" % learned[1], "--notest_dropout") == 0
    result = result_in(capsys.readouterr().out)
    distances = []
    for name in "01":
        given, output, target = (picture(result, kind, name) for kind in ("input", "output", "target"))
        assert given.ndim == 2 and output.shape == target.shape == (32, 32, 3)
        assert np.abs(lightness_of(output) - lightness_of(given))[inside(output)].max() < 2 * ROUNDING
        distances.append(np.abs(np.float64(output) - target).mean() / 127.5)
    with open(os.path.join(result, "metrics.json")) as file:
        assert abs(json.load(file)["l1"]["mean"] - np.mean(distances)) < 2e-3  # 8 bits
    assert call("--mode=test", "--output_dir=%s" % learned[1], "--notest_dropout", "--layout=inputs",
                "--data_dir=%s" % (learned[0] / "val")) == 0
    alone = result_in(capsys.readouterr().out)
    assert all(np.array_equal(picture(alone, kind, "0"), picture(result, kind, "0")) for kind in ("input", "output"))


@pytest.mark.parametrize("layout", ["lab", "inputs"])
def test_an_output_in_the_size_of_its_input_keeps_every_detail_of_its_lightness(learned, tmp_path, capsys, layout):
    fine = np.uint8(np.random.RandomState(0).randint(60, 190, (72, 80, 1)) + np.arange(3) * 9)
    imageio.imwrite(str(tmp_path / "fine.png"), fine)
    assert call("--mode=test", "--output_dir=%s" % learned[1], "--data_dir=%s" % tmp_path, "--layout=" + layout) == 0
    result = result_in(capsys.readouterr().out)
    output = imageio.imread(os.path.join(result, "outputs", "fine.png"))
    enlarged = PIL.Image.fromarray(picture(result, "output", "fine")).resize((80, 72), PIL.Image.BILINEAR)
    apart = [np.abs(lightness_of(pixels) - lightness_of(fine))[inside(output)] for pixels in (output, enlarged)]
    assert output.shape == fine.shape and inside(output).mean() > 0.5
    assert apart[0].max() < 2 * ROUNDING and apart[1].mean() > 5


def test_an_export_takes_grey_pictures_or_files_and_gives_rgb(learned, tmp_path, capsys):
    run = shutil.copytree(str(learned[1]), str(tmp_path / "run"))
    assert call("--mode=test", "--output_dir=" + run, "--notest_dropout") == 0
    result = result_in(capsys.readouterr().out)
    assert call("--mode=export", "--output_dir=" + run) == 0
    export = os.path.join(run, "export", "4")
    with open(os.path.join(export, "assets.extra", "values.json")) as file:
        assert [side["channels"] for side in json.load(file).values()] == [1, 3]
    signatures = tf.compat.v2.saved_model.load(export).signatures
    contents = (learned[0] / "val" / "0.png").read_bytes()
    png = signatures["serving_bytes"](image_bytes=tf.constant([contents]))["png_bytes"][0].numpy()
    expected = picture(result, "output", "0").astype(int)
    assert np.abs(imageio.imread(io.BytesIO(png)) - expected).max() <= 1
    given = np.float32(picture(result, "input", "0")[np.newaxis, ..., np.newaxis] / 127.5 - 1)
    outputs = signatures["serving_default"](images=tf.constant(given))["outputs"].numpy()
    assert outputs.shape == (1, 32, 32, 3) and np.abs((outputs[0] + 1) * 127.5 - expected).max() < 4
    lite = tf.compat.v2.lite.TFLiteConverter.from_saved_model(export, signature_keys=["serving_default"]).convert()
    runner = tf.compat.v2.lite.Interpreter(model_content=lite).get_signature_runner("serving_default")
    assert np.abs(runner(images=given)["outputs"] - outputs).max() < 1e-4


def test_flags_of_a_run_that_fit_only_together_come_back_together(learned, tmp_path, capsys):
    folder = "--output_dir=%s" % tmp_path
    assert call("--layout=lab", "--input_resize=nearest", "--output_resize=nearest", "--load_size=40", folder,
                "--data_dir=%s" % learned[0], "--max_steps=1", *SMALL) == 0
    assert call("--mode=test", folder, "--image_size=96") == 0


def test_a_model_of_another_layout_is_not_taken_for_one_of_lab(trained, learned, tmp_path):
    for argv in (["--mode=test", "--output_dir=%s" % trained],
                 ["--output_dir=%s" % tmp_path, "--init_checkpoint=%s" % trained, *SMALL]):
        message = call("--layout=lab", "--data_dir=%s" % learned[0], *argv)
        assert "--layout=lab and --lab predict a and b" in message and "the run in %s has --" % trained in message
    assert "--layout is auto here and lab in the run" in call(
        "--data_dir=%s" % learned[0], "--output_dir=%s" % learned[1], *SMALL)
    message = call("--layout=colorize", "--nolab", "--data_dir=%s" % learned[0], "--output_dir=%s" % tmp_path, *SMALL,
                   "--init_checkpoint=%s" % learned[1])
    assert message.startswith("error: --lab is False here and True in the run")
