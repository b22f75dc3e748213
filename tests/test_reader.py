"""Files, decoding, jitter and the queues, on files the tests make."""

import os
import struct

import imageio.v3 as imageio
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow.compat.v1 as tf

import reader
from conftest import write_folders, write_pairs
from support import bands, image_files, pair_files, sample_set
from support.errors import DataError
from support.image_files import DEEP, OTHER, PLAIN

has_avif = pytest.mark.skipif(not image_files.HAS_AVIF, reason="this Pillow can't read AVIF")


def read_training(pairs, steps, start=0, **options):
    """Runs the training queue for some steps from a global step; returns inputs and targets, stacked."""
    options = dict({"batch_size": 2, "image_size": (16, 16), "load_size": (20, 20)}, **options)
    with tf.Graph().as_default():
        step = tf.train.create_global_step()
        begin = step.assign(start)
        batch = reader.training_batches(pairs, step, reader.Batches(**options))
        scaffold = tf.train.Scaffold(init_fn=lambda _, session: session.run(begin))
        creator = tf.train.ChiefSessionCreator(scaffold)
        with tf.train.MonitoredSession(creator) as session:
            batches = [session.run(batch) for _ in range(steps)]
    return [np.concatenate(column) for column in zip(*batches)]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Seven pairs of constant colour: number n has value 10 n on the left and 10 n + 100 on the right."""
    folder = tmp_path_factory.mktemp("numbered")
    for number in range(1, 8):
        image = np.full((16, 32, 3), 10 * number, np.uint8)
        image[:, 16:] += 100
        imageio.imwrite(folder / ("%d.png" % number), image)
    return pair_files.find_pairs(str(folder))


def numbers(images):
    """The pairs' numbers from a stack of constant images in [-1, 1]."""
    values = (images[:, 0, 0, 0] + 1) * 127.5
    return list(np.round(values).astype(int))


# Files


def broken(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    return str(tmp_path)


@pytest.mark.parametrize("content,says", [
    (b"this is no image", "not a JPEG, PNG, BMP, GIF"), (b"BM", "can't be opened"),
    (b"", "not a JPEG, PNG, BMP, GIF"),
    (b"\xff\xd8\xff\xe0" + b"x" * 50 + b"\xff\xd9", "can't be opened")])
def test_a_file_that_is_no_image_is_named(tmp_path, content, says):
    with pytest.raises(DataError, match="x.jpg.*" + says):
        pair_files.find_pairs(broken(tmp_path, "x.jpg", content))


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_truncated_file_is_named(tmp_path, extension):
    write_pairs(str(tmp_path), 1, size=64, extension=extension)
    path = tmp_path / ("1" + extension)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cut short"):
        pair_files.find_pairs(str(tmp_path))


def test_a_jpeg_with_more_behind_its_end_is_read(tmp_path):
    write_pairs(str(tmp_path), 1, size=64, extension=".jpg")
    (tmp_path / "1.jpg").write_bytes((tmp_path / "1.jpg").read_bytes() + b"more" * 1000)
    assert len(list(reader.read_in_order(pair_files.find_pairs(str(tmp_path)), size=(16, 16)))) == 1


def with_thumbnail(content):
    """The bytes of a JPEG with an EXIF block that holds a small JPEG, as cameras write it."""
    thumbnail = imageio.imwrite("<bytes>", np.zeros((8, 8, 3), np.uint8), extension=".jpg")
    block = b"Exif\0\0II*\0" + thumbnail
    return content[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block + content[2:]


@pytest.mark.parametrize("kept", [1.0, 0.9, 0.5, 0.02])
def test_the_end_of_a_thumbnail_is_not_the_end_of_its_jpeg(tmp_path, kept):
    noise = np.random.RandomState(0).randint(0, 256, (64, 128, 3), np.uint8)
    content = with_thumbnail(imageio.imwrite("<bytes>", noise, extension=".jpg"))
    (tmp_path / "1.jpg").write_bytes(content[:int(kept * len(content))])
    if kept == 1:
        assert len(pair_files.find_pairs(str(tmp_path)).files) == 1
    else:
        with pytest.raises(DataError, match=r"1\.jpg.*(cut short|can't be opened)"):
            pair_files.find_pairs(str(tmp_path))


def test_fill_bytes_before_the_markers_of_a_jpeg_are_allowed(tmp_path):
    write_pairs(str(tmp_path), 1, size=64, extension=".jpg")
    content = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(content.replace(b"\xff\xda", b"\xff\xff\xff\xda", 1))
    assert len(list(reader.read_in_order(pair_files.find_pairs(str(tmp_path)), size=(16, 16)))) == 1
    (tmp_path / "1.jpg").write_bytes(content.replace(b"\xff\xda", b"\xff\xff\xff\xda", 1)[:-20])
    with pytest.raises(DataError, match="cut short"):
        pair_files.find_pairs(str(tmp_path))


def test_pixels_that_cannot_be_decoded_are_named(tmp_path):
    write_pairs(str(tmp_path), 3, size=64)
    pairs = pair_files.find_pairs(str(tmp_path))
    content = bytearray((tmp_path / "2.png").read_bytes())
    content[60:80] = b"\0" * 20
    (tmp_path / "2.png").write_bytes(content)
    with pytest.raises(DataError, match=r"2\.png: can't be decoded \(.*PNG.*\); replace or remove it"):
        list(reader.read_in_order(pairs, size=(16, 16)))


def test_an_error_that_is_no_bad_file_is_passed_on(numbered):
    with pytest.raises(tf.errors.AbortedError), reader.naming_bad_files(numbered):
        raise tf.errors.AbortedError(None, None, "something else")


# Decoding


@pytest.mark.parametrize("extension,tolerance", [(".png", 0), (".bmp", 0), (".gif", 12), (".jpg", 12)])
def test_every_format_is_decoded_to_its_pixels(tmp_path, session, extension, tolerance):
    y, x = np.mgrid[:16, :32] * 8
    image = np.stack([y, x, 255 - y], axis=-1).astype(np.uint8)
    path = tmp_path / ("1" + extension)
    imageio.imwrite(path, image)
    pairs = pair_files.find_pairs(str(tmp_path))
    decoded = session.run(image_files.decode(tf.constant(path.read_bytes()), pairs.files[0][0].kind))
    assert decoded.shape == (16, 32, 3) and decoded.dtype == np.uint8
    assert np.abs(np.float32(decoded) - image).max() <= tolerance


@pytest.mark.parametrize("name,mode,options,kind", [
    ("a.tif", "RGB", {}, OTHER), ("a.tiff", "L", {"compression": "tiff_lzw"}, OTHER),
    ("a.webp", "RGB", {"lossless": True}, OTHER), ("a.ppm", "RGB", {}, OTHER), ("a.pgm", "L", {}, OTHER),
    ("a.pnm", "RGB", {}, OTHER), ("a.jfif", "RGB", {"quality": 98}, PLAIN), ("a.jpe", "L", {"quality": 98}, PLAIN),
    pytest.param("a.avif", "RGB", {"quality": 100, "subsampling": "4:4:4"}, OTHER, marks=has_avif),
    ("a.bmp", "P", {}, OTHER),
    ("a.png", "RGBA", {}, PLAIN), ("a.png", "LA", {}, PLAIN), ("a.png", "P", {}, PLAIN),
    ("a.jpg", "RGB", {"progressive": True, "quality": 98}, PLAIN), ("a.jpg", "L", {"quality": 98}, PLAIN),
    ("a.jpg", "CMYK", {"quality": 98}, PLAIN)])
def test_colour_spaces_and_other_formats_become_rgb(tmp_path, session, name, mode, options, kind):
    y, x = np.mgrid[:16, :32] * 8
    image = PIL.Image.fromarray(np.stack([y, x, 255 - y], axis=-1).astype(np.uint8))
    if mode in ("RGBA", "LA"):
        image.putalpha(PIL.Image.fromarray(x.astype(np.uint8)))
    image = image.convert(mode)
    image.save(tmp_path / name, **options)
    (found,), = pair_files.find_pairs(str(tmp_path), "inputs").files
    assert found[1:4] == (kind, 16, 32)
    decoded = session.run(image_files.decode(tf.constant((tmp_path / name).read_bytes()), tf.constant(found.kind)))
    expected = np.asarray(image.convert("RGB"), np.float32)
    assert decoded.shape == (16, 32, 3)
    assert np.abs(decoded - expected).max() <= (12 if name[:4] in ("a.jp", "a.jf", "a.av") else 0)


def test_an_animated_gif_gives_its_first_frame(tmp_path, session):
    frames = np.stack([np.full((8, 16, 3), value, np.uint8) for value in (200, 10)])
    imageio.imwrite(tmp_path / "1.gif", frames)
    pair_files.find_pairs(str(tmp_path))
    decoded = session.run(image_files.decode(tf.constant((tmp_path / "1.gif").read_bytes())))
    assert decoded.shape == (8, 16, 3) and abs(decoded.mean() - 200) < 3


def test_a_16_bit_png_keeps_its_depth_and_grey_becomes_colour(tmp_path, session):
    image = np.arange(0, 65536, 128, np.uint16).reshape(16, 32)
    imageio.imwrite(tmp_path / "1.png", image)
    pairs = pair_files.find_pairs(str(tmp_path))
    assert pairs.files[0][0].kind == DEEP
    decoded = session.run(image_files.decode(tf.constant((tmp_path / "1.png").read_bytes()), DEEP,
                                        tf.float32))
    np.testing.assert_allclose(decoded, np.repeat(image[..., None] / 257.0, 3, axis=2), rtol=1e-6)


def write_turned(path, orientation, size=(16, 32), **options):
    """Writes an image of size (height, width) as stored; returns the pixels people see, [H, W, 3]."""
    y, x = np.mgrid[:size[0], :size[1]] * (240 // max(size))
    image = PIL.Image.fromarray(np.stack([y, x, 255 - y], axis=-1).astype(np.uint8))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    subsampling = "4:4:4" if str(path).endswith(".avif") else 0
    image.save(str(path), exif=exif.tobytes(), subsampling=subsampling, **options)
    with PIL.Image.open(str(path)) as image:
        return np.asarray(PIL.ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["1.jpg", "1.png", "1.webp", "1.tif", pytest.param("1.avif", marks=has_avif)])
def test_images_are_read_as_people_see_them(tmp_path, name, orientation):
    expected = write_turned(tmp_path / name, orientation, quality=95)
    pairs = pair_files.find_pairs(str(tmp_path), "inputs")
    image = pairs.files[0][0]
    assert (image.height, image.width) == expected.shape[:2] == ((16, 32) if orientation < 5 else (32, 16))
    (read, _), = reader.read_in_order(pairs)
    assert read.shape == (1, *expected.shape)
    assert np.abs((read[0] + 1) * 127.5 - expected).max() <= 6


def test_files_of_any_orientation_lie_beside_others(tmp_path):
    names = ["1.jpg", "2.png", "3.webp", "4.jpg"]
    expected = [write_turned(tmp_path / name, orientation, quality=95)
                for name, orientation in zip(names, (6, 1, 8, 3))]
    read = reader.read_in_order(pair_files.find_pairs(str(tmp_path), "inputs"))
    for (image, _), seen in zip(read, expected):
        assert np.abs((image[0] + 1) * 127.5 - seen).max() <= 6


def test_an_orientation_that_is_none_and_one_in_broken_exif_leave_the_image_as_it_is(tmp_path):
    for number, exif in enumerate((b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0", b"Exif\0\0II", b"x")):
        PIL.Image.new("RGB", (32, 16)).save(str(tmp_path / ("%d.jpg" % number)), exif=exif)
    for image, in pair_files.find_pairs(str(tmp_path)).files:
        assert (image.orientation, image.height, image.width) == (1, 16, 32)


def test_the_pairs_of_training_have_the_size_people_see(tmp_path):
    (tmp_path / "A").mkdir()
    (tmp_path / "B").mkdir()
    seen = write_turned(tmp_path / "A" / "1.jpg", 6, quality=95)
    imageio.imwrite(tmp_path / "B" / "1.png", seen)
    write_turned(tmp_path / "1.jpg", 6, size=(33, 32))  # 33 pixels wide as seen, as no two halves are
    inputs, targets = read_training(pair_files.find_pairs(str(tmp_path)), 2, load_size=(16, 16), flip=False)
    assert np.abs(inputs - targets).max() < 0.05 and np.ptp(inputs) > 1
    with pytest.raises(DataError, match="33 pixels wide"):
        pair_files.find_pairs(str(tmp_path), "side_by_side")
    grey, colour = next(reader.read_in_order(pair_files.find_pairs(str(tmp_path), "colorize")))
    assert grey.shape == colour.shape == (1, 32, 33, 3)
    write_turned(tmp_path / "B" / "1.png", 1)
    with pytest.raises(DataError, match="partners must have the same size"):
        pair_files.find_pairs(str(tmp_path))


def test_usual_files_are_not_turned_in_the_graph(numbered):
    with tf.Graph().as_default() as graph:
        reader.pair_loader(numbered)(tf.constant(0, tf.int64))
    assert not {"Case", "If", "Switch", "ReverseV2", "Transpose"} & {op.type for op in graph.get_operations()}


def test_images_are_normalised_to_minus_one_to_one(session):
    values = session.run(reader.normalise(tf.constant([[[0.0, 127.5, 255.0]]])))
    np.testing.assert_allclose(values, [[[-1, 0, 1]]], atol=1e-6)


# Layouts


def test_folders_are_paired_by_stem_and_seen_by_auto(tmp_path):
    write_folders(tmp_path, ["1.png", "10.png", "2.bmp"], ["2.png", "1.bmp", "10.png"])
    pairs = pair_files.find_pairs(str(tmp_path))
    assert pairs.layout == "folders"
    assert [[os.path.basename(image.path) for image in files] for files in pairs.files] == [
        ["1.png", "1.bmp"], ["2.bmp", "2.png"], ["10.png", "10.png"]]
    read = [np.round((np.stack([image[0, 0, 0, 0], target[0, 0, 0, 0]]) + 1) * 127.5).tolist()
            for image, target in reader.read_in_order(pairs)]
    assert read == [[40, 210], [60, 200], [50, 220]]


def test_colorize_takes_the_luminance_of_an_image_as_its_input(tmp_path):
    image = np.random.RandomState(0).randint(0, 256, (16, 15, 3), np.uint8)  # an odd width is no matter here
    imageio.imwrite(tmp_path / "1.png", image)
    pairs = pair_files.find_pairs(str(tmp_path), "colorize")
    (grey, colour), = reader.read_in_order(pairs, view=reader.View(input=reader.Side(channels=1)))
    np.testing.assert_allclose(colour[0], image / 127.5 - 1, atol=1e-5)
    np.testing.assert_allclose(grey[0, ..., 0], image @ [0.2989, 0.587, 0.114] / 127.5 - 1, atol=1e-3)


def test_inputs_alone_keep_their_size_and_order(tmp_path):
    for number, size in ((1, (16, 15)), (2, (9, 40))):
        imageio.imwrite(tmp_path / ("%d.png" % number), np.zeros((*size, 3), np.uint8))
    read = list(reader.read_in_order(pair_files.find_pairs(str(tmp_path), "inputs"), view=reader.View("BtoA")))
    assert [image.shape for image, _ in read] == [(1, 16, 15, 3), (1, 9, 40, 3)]


@pytest.mark.parametrize("layout", ["folders", "colorize"])
def test_training_batches_come_from_every_layout(tmp_path, layout):
    if layout == "folders":
        write_folders(tmp_path, ["1.png", "2.webp", "3.tif"], ["1.jpg", "2.png", "3.png"])
    else:
        write_pairs(str(tmp_path), 3)
    inputs, targets = read_training(pair_files.find_pairs(str(tmp_path), layout), 3)
    assert inputs.shape == targets.shape == (6, 16, 16, 3)
    if layout == "folders":
        np.testing.assert_allclose(targets.mean((1, 2, 3)) - inputs.mean((1, 2, 3)), 160 / 127.5, atol=0.02)
    else:
        assert np.ptp(inputs, axis=3).max() < 1e-5 < np.ptp(targets, axis=3).max()


# Jitter


def jittered(session, pair, seed, load_size=20, image_size=16, flip=True):
    sizes = (load_size, load_size), (image_size, image_size)
    batches = reader.Batches(load_size=sizes[0], image_size=sizes[1], flip=flip)
    return np.stack(session.run(reader.jitter(tf.unstack(pair), batches, tf.constant(seed, tf.int64))))


@pytest.mark.parametrize("method", bands.RESIZE_METHODS)
def test_images_are_resized_and_cropped_to_height_and_width(session, method):
    pair = np.random.RandomState(0).uniform(0, 255, (2, 20, 30, 3)).astype(np.float32)
    view = reader.View(input=reader.Side(method), target=reader.Side("nearest"))
    batches = reader.Batches(load_size=(24, 40), image_size=(16, 32), view=view)
    results = session.run(reader.jitter(tf.unstack(pair), batches, tf.constant([0, 0], tf.int64)))
    assert [result.shape for result in results] == 2 * [(16, 32, 3)]
    made_new = [not set(result.ravel()) <= set(before.ravel()) for result, before in zip(results, pair)]
    assert made_new == [method != "nearest", False]


@pytest.mark.parametrize("method", bands.RESIZE_METHODS)
def test_resizing_an_edge_stays_in_range(session, method):
    edge = np.zeros((16, 16, 3), np.uint8)
    edge[:, 8:] = 255
    for size in ((37, 37), (10, 10)):
        result = session.run(reader.resize(tf.constant(edge), size, reader.Side(method)))
        assert -1e-3 < result.min() < 1 and 254 < result.max() < 255 + 1e-3


def test_both_halves_get_the_same_jitter(tmp_path):
    half = np.random.RandomState(0).randint(0, 256, (24, 24, 3), np.uint8)
    imageio.imwrite(tmp_path / "1.png", np.concatenate([half, half], axis=1))
    inputs, targets = read_training(pair_files.find_pairs(str(tmp_path)), 6)
    np.testing.assert_array_equal(inputs, targets)
    assert len({image.tobytes() for image in inputs}) > 3


def test_jitter_is_a_crop_of_the_resized_image_mirrored_half_the_time(session):
    pair = np.random.RandomState(0).uniform(0, 255, (2, 20, 20, 3)).astype(np.float32)
    places, mirrored = set(), 0
    for number in range(40):
        result = jittered(session, pair, (0, number))
        hits = [(y, x, flip) for y in range(5) for x in range(5) for flip in (False, True)
                if np.allclose(result, pair[:, y:y + 16, x:x + 16][:, :, ::-1 if flip else 1], atol=1e-3)]
        assert len(hits) == 1
        places.add(hits[0][:2])
        mirrored += hits[0][2]
    assert 10 <= mirrored <= 30 and len(places) > 10
    assert {y for y, _ in places} == {x for _, x in places} == set(range(5))


def test_without_flip_and_with_equal_sizes_nothing_is_jittered(session):
    pair = np.random.RandomState(0).uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)
    for number in range(8):
        np.testing.assert_allclose(jittered(session, pair, (0, number), 16, 16, False), pair, atol=1e-3)


# Queues


def test_every_epoch_holds_each_pair_exactly_once_in_another_order(numbered):
    inputs, targets = read_training(numbered, 14)  # 28 pairs: four epochs, batches across their ends
    seen = numbers(inputs)
    epochs = [seen[i:i + 7] for i in range(0, 28, 7)]
    for epoch in epochs:
        assert sorted(epoch) == [10, 20, 30, 40, 50, 60, 70]
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert numbers(targets) == [number + 100 for number in seen]


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 7}])
def test_threads_change_no_bit(numbered, options):
    for ours, reference in zip(read_training(numbered, 6, **options), read_training(numbered, 6)):
        np.testing.assert_array_equal(ours, reference)


def test_sixteen_bits_survive_among_files_of_eight(tmp_path, session):
    write_pairs(str(tmp_path), 3)
    imageio.imwrite(tmp_path / "4.png", np.full((40, 80), 300, np.uint16))
    pair = session.run(reader.pair_loader(pair_files.find_pairs(str(tmp_path)))(tf.constant(3, tf.int64)))
    np.testing.assert_allclose(pair, 300 / 257, rtol=1e-6)


@pytest.mark.parametrize("start", [1, 3, 4, 9])
def test_a_restart_goes_on_with_exactly_the_next_pair(tmp_path, start):
    write_pairs(str(tmp_path), 5)
    pairs = pair_files.find_pairs(str(tmp_path))
    whole, rest = read_training(pairs, 12)[0], read_training(pairs, 12 - start, start=start)[0]
    np.testing.assert_array_equal(rest, whole[2 * start:])


def test_the_seed_decides_order_and_jitter(numbered):
    assert numbers(read_training(numbered, 7, seed=1)[0]) != numbers(read_training(numbered, 7)[0])


def test_the_index_queue_is_as_its_worked_example_says():
    def read(count, step):
        with tf.Graph().as_default():
            start = tf.constant(2 * step, tf.int64)
            queue = reader.index_queue(5, 0, start).dequeue_many(count)
            with tf.train.MonitoredSession() as session:
                return [list(part) for part in session.run(queue)]

    assert read(11, step=0) == [list(range(11)), [0, 4, 1, 3, 2, 0, 4, 1, 2, 3, 4]]
    assert list(zip(*read(4, step=3))) == [(6, 4), (7, 1), (8, 2), (9, 3)]
    for line in ("index       0   4 | 1   3 | 2   0 | 4   1 | 2   3 | 4  ...", "(6, 4) (7, 1) (8, 2) (9, 3)"):
        assert line in reader.index_queue.__doc__


def test_direction_and_channels(numbered):
    inputs, targets = read_training(numbered, 2, view=reader.View("BtoA", reader.Side(channels=1)))
    assert inputs.shape[1:] == (16, 16, 1) and targets.shape[1:] == (16, 16, 3)
    assert [a - 100 for a in numbers(inputs)] == numbers(targets)


def test_test_reading_goes_through_every_pair_once_in_order(numbered):
    pairs = reader.read_in_order(numbered, size=(16, 16))
    inputs, targets = (np.concatenate(column) for column in zip(*pairs))
    assert numbers(inputs) == [10, 20, 30, 40, 50, 60, 70]
    assert numbers(targets) == [110, 120, 130, 140, 150, 160, 170]


# The sample set


def test_the_sample_set_is_always_the_same_and_reads_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_set, "COUNTS", {"train": 2, "val": 1})
    for name in ("a", "b"):
        sample_set.draw(str(tmp_path / name))
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    for path in ("train/1.png", "train/2.png", "val/1.png"):
        first = imageio.imread(tmp_path / "a" / path)
        np.testing.assert_array_equal(first, imageio.imread(tmp_path / "b" / path))
        assert first.shape == (256, 512, 3)
        labels = {tuple(color) for color in first[:, :256].reshape(-1, 3)}
        assert labels == set(sample_set.LABELS.values())
        assert first[:, 256:].std() > 20
    assert len(pair_files.find_pairs(str(tmp_path / "a" / "train")).files) == 2


def test_a_drawing_that_was_killed_does_not_block_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_set, "COUNTS", {"train": 1})
    os.makedirs(str(tmp_path / ("sample.%d.tmp" % os.getpid()) / "train"))
    sample_set.draw(str(tmp_path / "sample"))
    sample_set.draw(str(tmp_path / "sample"))  # somebody else was first: theirs stays
    assert os.listdir(tmp_path / "sample" / "train") == ["1.png"]


@pytest.mark.parametrize("message, is_readers", [
    ("Invalid PNG data\n\t [[{{node reader/DecodePng}}]]", True),
    ("From /job:worker/replica:0/task:1:\nInvalid PNG data, size 9\n\t [[{{node DecodePng}}]]", True),
    ("From /job:worker/replica:0/task:1:\nOSError: cut short\n\n\t [[{{node PyFunc}}]]", True),
    ("no memory left\n\t [[{{function_node cond}}{{node PyFunc}}]]", False),
    ("Socket closed\n\t [[{{node CollectiveReduce}}]]", False)])
def test_the_readers_errors_are_known_by_their_ops(message, is_readers):
    assert reader.is_from_queues(tf.errors.InvalidArgumentError(None, None, message)) == is_readers
