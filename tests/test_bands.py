"""Data of any bands, types and ranges: files, values, and what training, test mode and an export make of them."""

import csv
import io
import json
import os

import hypothesis
import hypothesis.strategies as st
import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import tifffile

import reader
import train
from conftest import SMALL, call, result_in
from support import arrays, bands, image_files, pair_files, rendering, run_folder
from support.errors import DataError

PIXELS = np.random.RandomState(0).randint(0, 65536, (16, 24, 12)).astype(np.uint16)
BANDS = {"photometric": "minisblack", "planarconfig": "contig"}


def tiff(array, **options):
    """The bytes of a TIFF file."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def npy(array, **options):
    """The bytes of an .npy file."""
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(**members):
    """The bytes of an .npz file."""
    file = io.BytesIO()
    np.savez_compressed(file, **members)
    return file.getvalue()


def originals(folder, layout="inputs"):
    """The first inputs and targets of a folder, in the files' own numbers."""
    pairs = pair_files.find_pairs(str(folder), layout)
    sides = [[files[0] for files in pairs.files], [files[-1] for files in pairs.files]]
    view = reader.View("AtoB", *(reader.Side(channels=images[0].bands) for images in sides))
    pair = next(reader.originals(pairs, view))
    units = (arrays.unit_of(images[0].dtype) for images in sides)
    return [image.astype(np.float64) * step + zero for image, (zero, step) in zip(pair, units)]


# Files


@pytest.mark.parametrize("name,contents,expected", [
    ("bands.tif", tiff(PIXELS, **BANDS), PIXELS),
    ("planes.tif", tiff(PIXELS.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate"), PIXELS),
    ("pages.tif", tiff(PIXELS.transpose(2, 0, 1)), PIXELS),
    ("as_tifffile_has_it.tif", tiff(PIXELS), PIXELS),
    ("rgb.tif", tiff(PIXELS[..., :3]), PIXELS[..., :3]),
    ("alpha.tif", tiff(PIXELS[..., :4], photometric="rgb", extrasamples=["unassalpha"]), PIXELS[..., :3]),
    ("grey.tiff", tiff(PIXELS[..., 0]), PIXELS[..., :1]),
    ("deflate.tif", tiff(PIXELS, compression="zlib", **BANDS), PIXELS),
    ("float.tif", tiff(np.float32(PIXELS) / 7, **BANDS), np.float32(PIXELS) / 7),
    ("bytes.tif", tiff(np.uint8(PIXELS[..., :5] >> 8), **BANDS), PIXELS[..., :5] >> 8),
    ("a.npy", npy(PIXELS), PIXELS), ("two.npy", npy(PIXELS[..., 0]), PIXELS[..., :1]),
    ("fortran.npy", npy(np.asfortranarray(PIXELS)), PIXELS), ("big_endian.npy", npy(PIXELS.astype(">u2")), PIXELS),
    ("int16.npy", npy(np.int16(PIXELS >> 1) - 9), np.int16(PIXELS >> 1) - 9),
    ("bool.npy", npy(PIXELS > 999), PIXELS > 999), ("half.npy", npy(np.float16(PIXELS >> 8)), PIXELS >> 8),
    ("double.npy", npy(PIXELS / 7.0), np.float32(PIXELS / 7.0)), ("int32.npy", npy(np.int32(PIXELS)), PIXELS),
    ("a.npz", npz(anything=PIXELS), PIXELS)])
def test_every_value_of_an_array_is_read(tmp_path, name, contents, expected):
    (tmp_path / name).write_bytes(contents)
    image = pair_files.find_pairs(str(tmp_path), "inputs").files[0][0]
    assert (image.height, image.width, image.bands) == expected.shape
    read = originals(tmp_path)[0]
    if arrays.has_range(image.dtype):
        read = np.round(read)
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("options,array", [
    ({"photometric": "rgb", "extrasamples": ["unassalpha"]}, np.uint8(PIXELS[..., :4] >> 8)),
    ({"photometric": "separated"}, np.uint8(PIXELS[..., :4] >> 8)), ({}, np.uint8(PIXELS[..., 0] >> 8))])
def test_a_tiff_of_8_bits_that_is_a_picture_stays_one(tmp_path, options, array):
    (tmp_path / "1.tif").write_bytes(tiff(array, **options))
    image = pair_files.find_pairs(str(tmp_path), "inputs").files[0][0]
    assert (image.kind, image.bands, image.dtype) == (image_files.OTHER, 3, "uint8")
    assert originals(tmp_path)[0].shape == (16, 24, 3)


def test_an_npz_with_a_and_b_is_a_pair_and_they_may_differ(tmp_path):
    (tmp_path / "1.npz").write_bytes(npz(A=PIXELS, B=np.float32(PIXELS[..., 0])))
    assert pair_files.find_pairs(str(tmp_path)).layout == "arrays"
    first, second = originals(tmp_path, "auto")
    np.testing.assert_allclose(first, PIXELS, atol=0.01)
    np.testing.assert_array_equal(second[..., 0], PIXELS[..., 0])
    with pytest.raises(DataError, match=r"1\.npz.*arrays A and B"):
        pair_files.find_pairs(str(tmp_path), "inputs")


def test_two_halves_may_be_an_array(tmp_path):
    (tmp_path / "1.npy").write_bytes(npy(PIXELS))
    first, second = originals(tmp_path, "auto")
    np.testing.assert_array_equal(np.round(np.concatenate([first, second], axis=1)), PIXELS)


BROKEN = {
    "cut.npy": (npy(PIXELS)[:-1], "cut short"), "head.npy": (npy(PIXELS)[:20], "can't be opened"),
    "objects.npy": (npy(np.array([[{}]], object), allow_pickle=True), "Python objects"),
    "text.npy": (npy(np.array([["a"]])), "not numbers"), "complex.npy": (npy(np.ones([2, 2], complex)), "not numbers"),
    "one.npy": (npy(np.ones(5)), r"shape is \[5\]"), "four.npy": (npy(np.ones([2, 2, 2, 2])), r"\[2, 2, 2, 2\]"),
    "none.npy": (npy(np.ones([0, 4])), r"\[0, 4\]"), "nan.npy": (npy(np.float32([[1, np.nan]])), "NaN"),
    "infinite.npy": (npy(np.float64([[1, -np.inf]])), "infinity"),
    "large.npy": (npy(np.float64([[1e300, 1]])), "large"),
    "nan.tif": (tiff(np.float32([[1, np.nan]])), "NaN"), "cut.tif": (tiff(PIXELS, **BANDS)[:-1], "cut short"),
    "cut_deflate.tif": (tiff(PIXELS, compression="zlib", **BANDS)[:-1], "cut short"),
    "head.tif": (tiff(PIXELS, **BANDS)[:100], "can't be opened"),
    "cut.npz": (npz(a=PIXELS)[:-1], "can't be opened"), "three.npz": (npz(a=PIXELS, b=PIXELS), "arrays a, b"),
    "nan.npz": (npz(a=np.float32([[np.nan]])), "NaN"), "other.npz": (b"PK\3\4", "can't be opened")}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_array_is_named_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name][0])
    with pytest.raises(DataError, match=r"%s: .*%s" % (name, BROKEN[name][1])) as error:
        originals(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending,contents", [
    (".tif", tiff(PIXELS, **BANDS)), (".tif", tiff(PIXELS.transpose(2, 0, 1), compression="zlib")),
    (".npy", npy(PIXELS)), (".npz", npz(a=PIXELS))])
@hypothesis.settings(max_examples=25, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(data=st.data())
def test_a_damaged_array_is_read_or_named(tmp_path, ending, contents, data):
    place = data.draw(st.one_of(st.integers(0, 400), st.integers(0, len(contents) - 1)))
    noise = data.draw(st.binary(min_size=0, max_size=8))
    end = data.draw(st.sampled_from([len(contents), place, place + 500]))
    path = tmp_path / ("x" + ending)
    path.write_bytes((contents[:place] + noise + contents[place + len(noise):])[:end])
    try:
        image = image_files.check_image(str(path))
        if image.kind == image_files.ARRAY:
            assert arrays.read(path.read_bytes()).shape[2] <= image.bands
    except (DataError, ValueError) as error:
        assert isinstance(error, ValueError) or str(path) in str(error)


def test_a_file_that_is_no_pair_among_files_of_arrays_is_named_and_a_pair_where_one_array_belongs(tmp_path):
    (tmp_path / "1.npz").write_bytes(npz(A=PIXELS, B=PIXELS))
    with pytest.raises(DataError, match="it holds a pair, the arrays A and B; --layout=arrays reads such files"):
        pair_files.find_pairs(str(tmp_path), "inputs")
    for name, contents in (("2.npz", npz(x=PIXELS)), ("3.npy", npy(PIXELS))):
        (tmp_path / name).write_bytes(contents)
        with pytest.raises(DataError, match=r"%s: not an \.npz file with arrays named A and B" % name):
            pair_files.find_pairs(str(tmp_path))
        os.remove(str(tmp_path / name))
    assert len(pair_files.find_pairs(str(tmp_path)).files) == 1


def test_a_named_pipe_before_all_other_files_is_named_and_does_not_hang(tmp_path):
    os.mkfifo(str(tmp_path / "0.png"))
    with pytest.raises(DataError, match=r"0\.png"):
        pair_files.find_pairs(str(tmp_path))


@pytest.mark.parametrize("value", [0.0, 2e7, -3.4028235e38, 1e-30])
def test_files_of_one_value_get_a_range_whose_ends_differ_in_float32(value):
    images = [image_files.Image("1.npy", image_files.ARRAY, 1, 1, 1, 0, 1, "float32")]
    text = bands.found(images, np.float32(value), np.float32(value))
    low, high = bands.limits(images, text, "--input_range")
    assert low < high
    with pytest.raises(DataError, match="--input_range=20000000,20000001: in float32 both ends are 2"):
        bands.limits(images, "20000000,20000001", "--input_range")


def test_bands_to_show_are_those_of_files_with_more_than_three():
    assert [rendering.bands_of(count, [3, 1, 0]) for count in (1, 3, 4)] == [[0], [0, 1, 2], [3, 1, 0]]
    assert rendering.bands_of(3, [2, 1, 0]) == [0, 1, 2] and rendering.bands_of(5, [4]) == [4]


def test_images_of_one_side_must_be_alike(tmp_path):
    (tmp_path / "1.npy").write_bytes(npy(PIXELS))
    (tmp_path / "2.npy").write_bytes(npy(PIXELS[..., :11]))
    with pytest.raises(DataError, match=r"1\.npy has 12 bands and .*2\.npy has 11 bands"):
        pair_files.find_pairs(str(tmp_path))
    (tmp_path / "2.npy").write_bytes(npy(np.float32(PIXELS)))
    with pytest.raises(DataError, match=r"1\.npy holds uint16 and .*2\.npy holds float32"):
        pair_files.find_pairs(str(tmp_path))


# Values


@hypothesis.settings(max_examples=50)
@hypothesis.given(dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]), data=st.data())
def test_values_come_back_as_they_were(dtype, data):
    info = np.finfo(dtype) if dtype == "float32" else np.iinfo(dtype)
    ends = st.integers(-10 ** 6, 10 ** 6) if dtype == "float32" else st.integers(int(info.min), int(info.max))
    low, high = sorted(data.draw(st.lists(ends, min_size=2, max_size=2, unique=True)))
    given_range = data.draw(st.sampled_from([None, "%d,%d" % (low, high)])) if dtype != "float32" else (
        "%d,%d" % (low, high))
    if not given_range:
        low, high = int(info.min), int(info.max)
    values = np.linspace(low, high, 48).astype(dtype).reshape(4, 4, 3)
    image = image_files.Image("x", image_files.ARRAY, 4, 4, 1, 0, 3, dtype)
    side = reader.Side("bilinear", 3, *bands.limits([image], given_range, "--input_range"))
    with tf.Graph().as_default(), tf.Session() as session:
        seen = session.run(reader.normalise(tf.constant(arrays.scaled(values)), side))
    assert np.abs(seen).max() < 1.00001
    back = bands.in_units(seen, dtype, given_range)
    if dtype == "float32":
        np.testing.assert_allclose(back, values, atol=3e-7 * max(abs(low), abs(high)))
    else:
        np.testing.assert_array_equal(back, values)


def test_what_the_flags_say_of_the_channels_must_fit_the_files():
    picture, twelve, one = (image_files.Image("x.tif", 0, 4, 4, 1, 0, count) for count in (3, 12, 1))
    assert [bands.channels([image], None, "--f") for image in (picture, twelve, one)] == [3, 12, 1]
    assert bands.channels([picture], 1, "--f") == 1 and bands.channels([one], 3, "--f") == 3
    with pytest.raises(DataError, match=r"x\.tif has 12 bands, and --input_channels is 3"):
        bands.channels([twelve], 3, "--input_channels")


# Runs


def write_known(folder, count, size=40, dtype="float32"):
    """Writes pairs of 12 smooth bands of 16 bits (TIFF), and one band (.npy) that is a known function of them."""
    for side in "AB":
        os.makedirs(os.path.join(str(folder), side))
    for number in range(count):
        coarse = np.random.RandomState(number).uniform(size=(5, 5, 12)).astype(np.float32)
        with tf.Graph().as_default(), tf.Session() as session:
            smooth = session.run(reader.resize(tf.constant(coarse), (size, size), reader.Side("bilinear")))
        whole = np.uint16(np.round(smooth * 65535))
        tifffile.imwrite(os.path.join(str(folder), "A", "%d.tif" % number), whole, **BANDS)
        known = 280 + 5 * smooth[..., 0] - 3 * smooth[..., 5] ** 2
        np.save(os.path.join(str(folder), "B", "%d.npy" % number), known.astype(dtype))


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """(data_dir, run folder) of two steps from 12 bands of 16 bits to one of floats."""
    folder = tmp_path_factory.mktemp("known")
    write_known(folder / "data" / "train", 3)
    write_known(folder / "data" / "val", 2)
    assert call("--data_dir=%s" % (folder / "data"), "--output_dir=%s" % (folder / "run"), "--max_steps=2", *SMALL) == 0
    return folder / "data", folder / "run"


def ends_of(folder):
    """The lowest and the highest value of the arrays in a folder."""
    values = np.stack([np.load(str(path)) for path in sorted(folder.iterdir())])
    return values.min(), values.max()


def test_a_run_keeps_the_channels_and_ranges_that_it_found(known):
    data, run = known
    flags, record = run_folder.read_flags(str(run)), run_folder.read_record(str(run))
    assert (flags["input_channels"], flags["output_channels"]) == ("12", "1") and "input_range" not in flags
    low, high = map(np.float32, flags["output_range"].split(","))
    assert (low, high) == ends_of(data / "train" / "B")
    assert record["values"]["input"] == {"channels": 12, "dtype": "uint16", "file": ".tif", "low": 0, "high": 65535}
    assert record["values"]["output"]["dtype"] == "float32"


def test_a_test_writes_values_in_the_units_and_size_of_the_targets(known, capsys):
    data, run = known
    assert call("--mode=test", "--output_dir=%s" % run) == 0
    output = capsys.readouterr().out
    assert "12 channels to 1" in output and "mae" in output
    result = result_in(output)
    with open(os.path.join(result, "metrics.csv")) as file:
        table = list(csv.DictReader(file))
    for number, row in enumerate(table):
        written = np.load(os.path.join(result, "outputs", "%d.npy" % number))
        truth = np.load(str(data / "val" / "B" / ("%d.npy" % number)))
        assert written.shape == truth.shape == (40, 40) and written.dtype == np.float32
        np.testing.assert_allclose(float(row["mae"]), np.abs(written - truth).mean(), rtol=1e-4)
        np.testing.assert_allclose(float(row["rmse"]), np.sqrt(np.square(written - truth).mean()), rtol=1e-4)
    assert imageio.imread(os.path.join(result, "images", "input", "0.png")).shape == (32, 32, 3)
    assert len(table) == 2


def test_inputs_alone_give_outputs_as_the_runs_targets_were(known, capsys):
    data, run = known
    assert call("--mode=test", "--output_dir=%s" % run, "--layout=inputs", "--data_dir=%s" % (data / "val" / "A"),
                "--show_bands=5") == 0
    result = result_in(capsys.readouterr().out)
    assert np.load(os.path.join(result, "outputs", "0.npy")).dtype == np.float32
    assert imageio.imread(os.path.join(result, "images", "input", "0.png")).shape == (32, 32)


def test_an_export_takes_and_gives_floats_and_holds_the_ranges(known, capsys):
    _, run = known
    assert call("--mode=export", "--output_dir=%s" % run) == 0
    export = os.path.join(str(run), "export", "2")
    with open(os.path.join(export, "assets.extra", "values.json")) as file:
        values = json.load(file)
    assert values == run_folder.read_record(str(run))["values"]
    with tf.Graph().as_default(), tf.Session() as session:
        signatures = tf.saved_model.load(session, ["serve"], export).signature_def
        assert list(signatures) == ["serving_default"]
        names = [signatures["serving_default"].inputs["images"].name,
                 signatures["serving_default"].outputs["outputs"].name]
        assert session.run(names[1], {names[0]: np.zeros([2, 32, 64, 12])}).shape == (2, 32, 64, 1)


def test_values_outside_of_the_range_are_counted(known, tmp_path, capsys):
    data, _ = known
    argv = "--data_dir=%s" % data, "--output_dir=%s" % tmp_path, "--max_steps=1", *SMALL
    assert call(*argv, "--output_range=281,282") == 0
    values = np.stack([np.load(str(path)) for path in (data / "train" / "B").iterdir()])
    outside = int(((values < 281) | (values > 282)).sum())
    said = "warning: %d of %d output values" % (outside, values.size)
    assert said in capsys.readouterr().out and outside
    assert call("--mode=test", "--output_dir=%s" % tmp_path, "--split=train") == 0
    assert said in capsys.readouterr().out
    assert "another run: --output_range is" in call(*argv)


@pytest.mark.parametrize("flag,says", [
    ("--input_channels=3", "has 12 bands, and --input_channels is 3"),
    ("--layout=colorize", "no image in this folder")])
def test_flags_that_do_not_fit_the_files_are_refused(known, tmp_path, flag, says):
    assert says in call("--data_dir=%s" % known[0], "--output_dir=%s" % tmp_path, flag)


def test_a_run_of_whole_numbers_does_not_guess_the_range_of_floats(tmp_path, trained):
    (tmp_path / "1.npy").write_bytes(npy(np.float32(PIXELS[..., :3])))
    assert "holds float32 numbers, whose range is not known here; give --input_range=LOW,HIGH" in call(
        "--mode=test", "--output_dir=%s" % trained, "--data_dir=%s" % tmp_path, "--layout=inputs")


@pytest.mark.parametrize("ending,array", [
    (".tif", PIXELS), (".png", PIXELS[..., :3]), *(pytest.param(*of, marks=pytest.mark.slow) for of in (
        (".npy", PIXELS[..., :2]), (".tif", np.float32(PIXELS) / 7 - 999), (".npy", PIXELS[..., :4] / 7.0),
        (".tif", np.uint8(PIXELS[..., :5] >> 8)), (".png", np.uint8(PIXELS[..., :3] >> 8))))])
def test_a_generator_that_passes_its_input_on_gives_the_files_values(tmp_path, monkeypatch, capsys, ending, array):
    for side in "AB":
        os.makedirs(str(tmp_path / "data" / side))
        contents = {".tif": tiff(array, **BANDS), ".npy": npy(array)}.get(ending) or png(array)
        (tmp_path / "data" / side / ("1" + ending)).write_bytes(contents)
    argv = "--data_dir=%s" % (tmp_path / "data"), "--output_dir=%s" % (tmp_path / "run"), "--max_steps=1", *SMALL
    assert call(*argv) == 0
    monkeypatch.setattr(train, "generate", lambda options, images, mask_number: tf.identity(images))
    capsys.readouterr()
    assert call("--mode=test", "--output_dir=%s" % (tmp_path / "run"), "--notest_resize") == 0
    result = result_in(capsys.readouterr().out)
    is_picture = array.dtype == np.uint8 and ending == ".png"
    path = os.path.join(result, *(("images", "output") if is_picture else ("outputs",)), "1" + ending)
    written = read_png(path) if ending == ".png" else np.load(path) if ending == ".npy" else tifffile.imread(path)
    assert written.dtype == array.dtype
    step = np.ptp(array) * 1e-6 if array.dtype.kind == "f" else 0
    np.testing.assert_allclose(written, array, rtol=0, atol=step)


@pytest.mark.parametrize("depths", [("uint8", "uint16"), ("uint16", "uint8")])
def test_targets_of_8_and_16_bits_in_one_split_get_outputs_of_their_type_and_no_errors_in_two_units(
        tmp_path, monkeypatch, capsys, depths):
    pixels = {"uint8": np.uint8(PIXELS[..., :3] >> 8), "uint16": PIXELS[..., 3:6]}
    for side in "AB":
        os.makedirs(str(tmp_path / "data" / side))
        for number, depth in enumerate(depths):
            (tmp_path / "data" / side / ("%d.png" % number)).write_bytes(png(pixels[depth]))
    argv = "--data_dir=%s" % (tmp_path / "data"), "--output_dir=%s" % (tmp_path / "run"), "--max_steps=1", *SMALL
    assert call(*argv, "--batch_size=2") == 0
    monkeypatch.setattr(train, "generate", lambda options, images, mask_number: tf.identity(images))
    capsys.readouterr()
    assert call("--mode=test", "--output_dir=%s" % (tmp_path / "run"), "--notest_resize") == 0
    result = result_in(capsys.readouterr().out)
    with open(os.path.join(result, "metrics.csv")) as file:
        rows = list(csv.DictReader(file))
    assert [float(row["l1"]) for row in rows] == pytest.approx([0, 0], abs=1e-6) and "mae" not in rows[0]
    for number, depth in enumerate(depths):
        folder = "outputs" if depth == "uint16" else os.path.join("images", "output")
        np.testing.assert_array_equal(read_png(os.path.join(result, folder, "%d.png" % number)), pixels[depth])


@pytest.mark.slow
@pytest.mark.parametrize("is_float", [False, True])
def test_a_known_function_of_the_bands_is_learned_within_a_small_part_of_its_range(tmp_path, capsys, is_float):
    write_known(tmp_path / "train", 16, 64)
    write_known(tmp_path / "test", 4, 64)
    if is_float:  # the input as well: floats in .npy
        for path in tmp_path.glob("*/A/*.tif"):
            np.save(str(path)[:-4], tifffile.imread(str(path)) / np.float32(700))
            path.unlink()
    argv = "--data_dir=%s" % tmp_path, "--output_dir=%s" % (tmp_path / "run")
    assert call(*argv, "--max_steps=600", "--image_size=64", "--load_size=64", "--ngf=16", "--ndf=8", "--norm=none",
                "--gan_weight=0", "--dropout=0", "--precision=float32", "--learning_rate=1e-3") == 0
    assert call("--mode=test", "--output_dir=%s" % (tmp_path / "run")) == 0
    with open(os.path.join(result_in(capsys.readouterr().out), "metrics.json")) as file:
        metrics = json.load(file)
    low, high = ends_of(tmp_path / "train" / "B")
    assert metrics["mae"]["mean"] < 0.02 * (high - low) and metrics["rmse"]["mean"] < 0.03 * (high - low)
    assert call("--mode=export", "--output_dir=%s" % (tmp_path / "run")) == 0
    export = tmp_path / "run" / "export" / "600"
    sides = json.loads((export / "assets.extra" / "values.json").read_text())
    (path,) = (tmp_path / "test" / "A").glob("0.*")
    image = np.load(path) if is_float else tifffile.imread(path)
    image = np.float32((image - sides["input"]["low"]) / (sides["input"]["high"] - sides["input"]["low"]) * 2 - 1)
    translate = tf.compat.v2.saved_model.load(str(export)).signatures["serving_default"]
    output = translate(images=tf.constant(image[np.newaxis]))
    values = (output["outputs"].numpy()[0, ..., 0] + 1) / 2 * (sides["output"]["high"] - sides["output"]["low"])
    truth = np.load(tmp_path / "test" / "B" / "0.npy") - sides["output"]["low"]
    assert np.abs(values - truth).mean() < 0.02 * (high - low)
    print("mae of test mode %(mean).4g" % metrics["mae"], "of the export %.4g" % np.abs(values - truth).mean(),
          "in a range of %.4g" % (high - low))


def png(array):
    """The bytes of a PNG of [H, W, 3], in 8 or 16 bits."""
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(tf.image.encode_png(array))


def read_png(path):
    """The pixels of a PNG, in 8 or 16 bits."""
    with open(path, "rb") as file:
        contents = file.read()
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(tf.image.decode_png(contents, dtype=tf.uint16 if contents[24] == 16 else tf.uint8))
