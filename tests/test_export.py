"""Exports, in plain TensorFlow 2: they give test mode's outputs."""

import os
import shutil
import struct
import subprocess
import sys
import zlib

import imageio.v3 as imageio
import numpy as np
import PIL.Image
import tensorflow
import tensorflow.compat.v1 as tf

import train
from conftest import result_in
from support import checkpoints, pair_files


def test_an_export_gives_the_networks_outputs_and_gradients(exported, trained, data):
    pairs = pair_files.find_pairs(os.path.join(data, "val"))
    image = next(train.reader.read_in_order(pairs, size=(32, 32)))[0]
    checkpoint = os.path.join(trained, "checkpoints", "model.ckpt-6")
    with tf.Graph().as_default():
        output = train.pix2pix.generator(tf.constant(image), train.pix2pix.GeneratorOptions(filters=2, norm="instance"))
        with checkpoints.restored_session(checkpoint, averaged=True) as session:
            expected = session.run(output)
    loaded = tensorflow.saved_model.load(exported)
    outputs = loaded.signatures["serving_default"](images=tf.constant(image))["outputs"].numpy()
    assert outputs.shape == expected.shape and np.abs(outputs - expected).max() < 1e-5
    contents = tf.io.read_file(pairs.files[0][0].path)
    pictures = loaded.signatures["serving_bytes"](image_bytes=tf.stack([contents, contents]))["png_bytes"]
    assert pictures.shape == (2,) and tf.io.decode_png(pictures[0]).shape == (32, 32, 3)  # as test mode gives it
    assert loaded.signatures["serving_bytes"](image_bytes=tf.zeros([0], tf.string))["png_bytes"].shape == (0,)
    alone = loaded.signatures["serving_default"](images=tf.zeros([1, 33, 70, 3]))["outputs"]
    assert alone.shape == (1, 33, 70, 3)
    image = tf.constant(image)
    with tf.GradientTape() as tape:
        tape.watch(image)
        total = tf.reduce_sum(loaded.signatures["serving_default"](images=image)["outputs"])
    assert np.abs(tape.gradient(total, image).numpy()).max() > 0


def test_the_export_reads_bytes_as_test_mode_does_and_refuses_what_is_too_large(run, exported, trained, tmp_path):
    folder = shutil.copytree(trained, str(tmp_path / "run"))
    (tmp_path / "in").mkdir()
    y, x = np.mgrid[:40, :72]
    deep = np.stack([y * 1600, x * 900, 65535 - x * 900], axis=-1).astype(np.uint16)
    imageio.imwrite(tmp_path / "in" / "grey.png", (x * 900 + 128).astype(np.uint16))  # 16 bits
    eight = PIL.Image.fromarray((deep // 257).astype(np.uint8))
    names = ["grey"]
    for orientation, form in ((1, {}), (3, {}), (6, {}), (8, {}), (6, {"order": "<"}), (5, {"format": "PNG"})):
        exif = PIL.Image.Exif()
        exif[0x010f], exif[0x0112] = "maker", orientation
        block = exif.tobytes()
        if form.get("order"):  # the same block in the other byte order
            block = (b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0) + bytes(4))
        names.append("%d%s" % (orientation, "".join(form.values()).replace("<", "le")))
        eight.save(str(tmp_path / "in" / (names[-1] + ".jpg")), format=form.get("format", "JPEG"), exif=block)
    _, output = run("--mode=test", "--layout=inputs", "--notest_dropout", "--output_dir=" + folder,
                    "--data_dir=%s" % (tmp_path / "in"))
    shutil.copytree(os.path.join(result_in(output), "images", "output"), str(tmp_path / "expected"))
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 13000, 13000, 8, 2, 0, 0, 0)
    rows_of_zeros = zlib.compress(bytes(13000 * 39001), 1)
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (chunk, b"IDAT" + rows_of_zeros, b"IEND")))
    jpeg = bytearray(next((tmp_path / "in").glob("1.jpg")).read_bytes())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5:frame + 9] = struct.pack(">HH", 60000, 60000)
    (tmp_path / "huge.jpg").write_bytes(jpeg)
    (tmp_path / "other").write_bytes(imageio.imwrite("<bytes>", np.zeros((8, 8, 3), np.uint8), extension=".bmp"))
    script = """
import glob, os, resource, sys, time, numpy as np, tensorflow as tf
export, folder = sys.argv[1:]
model = tf.saved_model.load(export)
def picture(path):
    sent = tf.stack([tf.io.read_file(path)])
    return tf.io.decode_png(model.signatures["serving_bytes"](image_bytes=sent)["png_bytes"][0]).numpy()
def compare():
    for path in sorted(glob.glob(folder + "/in/*")):
        name = os.path.splitext(os.path.basename(path))[0]
        expected = tf.io.decode_png(tf.io.read_file(folder + "/expected/%s.png" % name)).numpy()
        found = picture(path)
        assert found.shape == expected.shape, (path, found.shape, expected.shape)
        assert np.abs(found.astype(int) - expected).max() <= 1, (path, np.abs(found.astype(int) - expected).max())
        assert found.shape == (32, 32, 3), path
compare()
for name, says in (("huge.png", "too many pixels; the limit is 16777216"), ("huge.jpg", "too many pixels; the limit"),
                   ("other", "not a PNG or JPEG"), ("empty", "not a PNG or JPEG")):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        picture(folder + "/" + name)
        raise SystemExit(name + " was not refused")
    except tf.errors.InvalidArgumentError as error:
        assert says in str(error), error
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100000, name  # in KB
compare()
print("the same")
"""
    (tmp_path / "empty").write_bytes(b"")
    result = subprocess.run([sys.executable, "-c", script, exported, str(tmp_path)],
                            capture_output=True, text=True, check=False)
    assert "the same" in result.stdout, result.stderr
