"""What happens to real runs: bad and hostile files, full disks, NaN, many steps, many pairs.

FUZZ=2000 mutates so many files, STEPS=5000 trains so long; the suite does less.
"""

import csv
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import time
import zlib

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl.testing import flagsaver

import pix2pix
import reader
import train
from conftest import LIMIT, ROOT, SMALL, fingerprint, write_pairs
from support import checkpoints, data_flags, hooks, image_files, pair_files
from support.errors import DataError

SLOW = pytest.mark.slow

# Bad files

FORMATS = (".jpg", ".png", ".gif", ".bmp", ".tiff", ".webp", ".ppm", *([".avif"] if image_files.HAS_AVIF else []))


def colour_of(number):
    return 20 + 20 * (number % 10)


def flip_bits(content, chance):
    for _ in range(chance.randint(1, 30)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def flip_header_bits(content, chance):
    for _ in range(chance.randint(1, 4)):
        content[chance.randrange(min(64, len(content)))] ^= 1 << chance.randrange(8)


def cut(content, chance):
    del content[chance.randrange(len(content)):]


def swap_header(content, chance):
    content[:8] = chance.choice([b"\xff\xd8\xff\xe0\0\x10JF", b"\x89PNG\r\n\x1a\n", b"GIF89a\0\0", b"BM\0\0\0\0\0\0",
                                 b"II*\0\x08\0\0\0", b"RIFF\0\0\0\0", b"P6\n32 16\n", b"\0\0\0 ftyp"])


MUTATIONS = (flip_bits, flip_header_bits, cut, swap_header)


def write_mutated(folder, count, chance):
    """Writes pairs of one colour each in every format; nine of ten are mutated. Returns the numbers of the others."""
    os.makedirs(folder)
    intact = []
    for number in range(count):
        path = os.path.join(folder, "%d%s" % (number, chance.choice(FORMATS)))
        imageio.imwrite(path, np.full((16, 32, 3), colour_of(number), np.uint8))
        if number % 10 == 0:
            intact.append(number)
        elif number % 37 == 1:
            os.remove(path)
            chance.choice([os.mkdir, os.mkfifo, lambda path: open(path, "w").close(),
                           lambda path: os.symlink("nowhere", path)])(path)
        elif number % 37 == 2:  # a wrong ending does no harm
            os.rename(path, os.path.join(folder, "%d%s" % (number, chance.choice(FORMATS))))
        else:
            with open(path, "rb") as file:
                content = bytearray(file.read())
            chance.choice(MUTATIONS)(content, chance)
            with open(path, "wb") as file:
                file.write(content)
    return intact


def test_mutated_files_are_read_or_named_and_pairs_stay_what_they_are(tmp_path):
    count = int(os.environ.get("FUZZ", "300"))
    intact = write_mutated(str(tmp_path / "pairs"), count, random.Random(0))
    pairs = pair_files.find_pairs(str(tmp_path / "pairs"), skip_bad=True)
    print("%d read, %d refused" % (len(pairs.files), len(pairs.skipped)))
    assert len(pairs.files) + len(pairs.skipped) == count
    assert all(message.startswith(str(tmp_path / "pairs")) for message in pairs.skipped)
    read = list(reader.read_in_order(pairs, size=(16, 16)))
    assert len(read) == len(pairs.files)
    values = {int(pair_files.stem(image.path)): images for (image,), images in zip(pairs.files, read)}
    for number in intact:
        for half in values[number]:
            assert np.abs((half + 1) * 127.5 - colour_of(number)).max() < 4
    bad = [message.split(": ")[0] for message in pairs.skipped]
    for path in bad[:20]:  # and without skip_bad the first bad file ends it by name
        folder = tmp_path / "one"
        os.makedirs(folder)
        os.rename(path, folder / os.path.basename(path))
        with pytest.raises(DataError, match=os.path.basename(path)):
            list(reader.read_in_order(pair_files.find_pairs(str(folder)), size=(16, 16)))
        shutil.rmtree(folder)


def test_bad_images_are_left_out_listed_and_change_nothing_else(run, data, trained, tmp_path):
    shutil.copytree(data, tmp_path / "bad")
    (tmp_path / "bad" / "train" / "3x.png").write_bytes(b"no image")
    shutil.copy(tmp_path / "bad" / "train" / "1.png", tmp_path / "bad" / "train" / "4x.png")
    damage_pixels(tmp_path / "bad" / "train" / "4x.png")
    status, output = run("--data_dir=%s" % (tmp_path / "bad"), "--output_dir=%s" % (tmp_path / "run"), *SMALL,
                         "--max_steps=6", "--skip_bad_images")
    assert status == 0 and "2 left out, 5 pairs remain" in output
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))
    with open(tmp_path / "run" / "run.json") as file:
        skipped = json.load(file)["skipped"]
    assert len(skipped) == 2 and "3x.png: not a JPEG" in skipped[0] and "4x.png: can't be decoded" in skipped[1]


def damage_pixels(path):
    content = bytearray(path.read_bytes())
    content[60:80] = b"\0" * 20
    path.write_bytes(content)


def test_an_image_that_cannot_be_decoded_costs_no_step_that_was_done(run, data, trained, tmp_path):
    folder = shutil.copytree(data, str(tmp_path / "pairs"))
    argv = ["--data_dir=" + folder, "--output_dir=%s" % (tmp_path / "run"), *SMALL, "--save_every=1000"]
    content = (tmp_path / "pairs" / "train" / "2.png").read_bytes()
    damaged = bytearray(content)
    damaged[-40:-20] = b"\0" * 20
    (tmp_path / "pairs" / "train" / "2.png").write_bytes(damaged)
    status, _ = run(*argv, "--max_steps=6")
    assert "2.png: can't be decoded" in status
    (tmp_path / "pairs" / "train" / "2.png").write_bytes(content)
    status, output = run(*argv, "--max_steps=6")
    assert status == 0
    assert fingerprint(output) == checkpoints.fingerprint(os.path.join(trained, "checkpoints", "model.ckpt-6"))


# Hostile files


def test_a_png_that_claims_too_many_pixels_is_refused_before_memory_is_taken(tmp_path):
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = [b"".join([struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(kind + data))])
              for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))]
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"1\.png.*pixels"):
        pair_files.find_pairs(str(tmp_path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100e3  # kilobytes


NAMES = ["plain", "two words", "it's \"quoted\"", "line\nbreak", "größe-絵", "<script>alert(1)<|script>", "$name ${x}",
         "a,b;c", "%s%d", "..", "-rf", b"\xff\xfe".decode("utf-8", "surrogateescape")]


def test_awkward_names_come_through_training_gallery_and_csv(run, tmp_path):
    for folder in ("train", "val"):
        write_pairs(str(tmp_path / folder), len(NAMES))
        for number, name in enumerate(NAMES, 1):
            os.rename(tmp_path / folder / ("%d.png" % number), tmp_path / folder / (name + ".png"))
    argv = ["--data_dir=%s" % tmp_path, "--output_dir=%s" % (tmp_path / "run")]
    assert run(*argv, *SMALL, "--max_steps=2")[0] == 0
    assert run(*argv, "--mode=test")[0] == 0
    visible = [name for name in NAMES if not (name + ".png").startswith(".")]
    for name in visible:
        assert os.path.exists(tmp_path / "run" / "test" / "val-2" / "images" / "output" / (name + ".png"))
    page = (tmp_path / "run" / "test" / "val-2" / "index.html").read_text()
    assert page.count("<script>") == 1 and "alert" in page and "<script>alert" not in page and "http" not in page
    with open(tmp_path / "run" / "test" / "val-2" / "metrics.csv", newline="") as file:
        table = list(csv.reader(file))
    assert len(table) == len(visible) + 1 and {len(row) for row in table} == {5}
    assert {row[0] for row in table[1:]} >= {name for name in visible if name.isprintable()}


# Full and failing disks


FULL = """
"$@" > "$OUT/printed" 2>&1; echo $? >> "$OUT/printed"
"""
READ_ONLY = """
"$@" > "$OUT/printed" 2>&1 &
until ls "$DISK"/run/checkpoints/*.index; do sleep 0.05; done 2> /dev/null
mount --bind "$DISK/run/checkpoints" "$DISK/run/checkpoints"
mount -o remount,bind,ro "$DISK/run/checkpoints"
wait $!; echo $? >> "$OUT/printed"
"""
needs_mounts = pytest.mark.skipif(
    subprocess.call(["unshare", "-rm", "true"], stderr=subprocess.DEVNULL) if shutil.which("unshare") else True,
    reason="no file system of one's own can be mounted here")


def on_own_disk(tmp_path, size, script, argv):
    """Runs a script of train.py on a file system of a size; returns what it printed, and a copy of the run folder."""
    os.makedirs(tmp_path / "disk", exist_ok=True)
    environment = dict(os.environ, SIZE=size, DISK=str(tmp_path / "disk"), OUT=str(tmp_path))
    script = 'set -u; mount -t tmpfs -o size=$SIZE none "$DISK"' + script + 'cp -r "$DISK/run" "$OUT/copy"'
    subprocess.run(["unshare", "-rm", "bash", "-c", script, "bash", sys.executable, os.path.join(ROOT, "train.py"),
                    "--output_dir=%s" % (tmp_path / "disk" / "run"), *argv], env=environment, check=False,
                   timeout=2 * LIMIT)
    return (tmp_path / "printed").read_text(), str(tmp_path / "copy")


@needs_mounts
@pytest.mark.parametrize("size,script,options,says", [
    ("7m", FULL, ["--ngf=8", "--ndf=8", "--max_steps=8", "--sample_every=100", "--ema=0"],
     "A checkpoint takes 3.68 MB"),
    pytest.param("1700k", FULL, ["--save_every=1000", "--sample_every=1"], "No space left on device", marks=SLOW),
    pytest.param("700k", FULL, ["--save_every=1000", "--sample_every=1000"], "No space left on device", marks=SLOW),
    pytest.param("200m", READ_ONLY, ["--save_every=10", "--max_steps=400", "--log_every=100", "--sample_every=1000"],
                 "Read-only", marks=SLOW)])
def test_a_failing_disk_is_named_and_once_mended_the_run_is_the_same(run, data, tmp_path, size, script, options, says):
    argv = ["--data_dir=" + data, *SMALL, "--max_steps=40", *options]
    _, expected = run("--output_dir=%s" % (tmp_path / "whole"), *argv)
    printed, copy = on_own_disk(tmp_path, size, script, argv)
    *_, message, status = printed.strip().splitlines()
    assert status == "1" and message.startswith("error: ") and str(tmp_path / "disk") in message and says in message
    assert "same command" in message
    _, output = run("--output_dir=" + copy, *argv)
    assert fingerprint(output) == fingerprint(expected)


def test_a_run_folder_that_vanishes_is_named(run, data, tmp_path, monkeypatch):
    write = hooks.Metrics.log

    def log(self, values):
        if self.seen == 3:
            shutil.rmtree(tmp_path / "run")
        write(self, values)

    monkeypatch.setattr(hooks.Metrics, "log", log)
    status, _ = run("--output_dir=%s" % (tmp_path / "run"), *SMALL, "--max_steps=6")
    assert status.startswith("error: ") and str(tmp_path / "run") in status and "\n" not in status


# NaN


@pytest.fixture(scope="module")
def two_steps(data, tmp_path_factory):
    """A run of two steps that saves after each; to be copied."""
    folder = str(tmp_path_factory.mktemp("two") / "run")
    with flagsaver.flagsaver():
        train.FLAGS(["train.py", "--data_dir=" + data, "--output_dir=" + folder, *SAVING, "--max_steps=2"])
        assert train.main(["train.py"]) == 0
    return folder


SAVING = [*SMALL, "--save_every=1", "--keep=9"]


@pytest.mark.parametrize("where,first,then", [
    ("inputs", "inputs", "targets"), ("gradients", "g_gradients", "generator/encoder_1/kernel"),
    ("weights", "real_logits", "fake_logits")])
def test_a_value_that_is_not_finite_stops_the_run_at_its_step_naming_tensor_and_files(
        run, data, two_steps, tmp_path, monkeypatch, where, first, then):
    tmp_path = tmp_path / "run"
    shutil.copytree(two_steps, tmp_path)
    good = checkpoints.fingerprint(str(tmp_path / "checkpoints" / "model.ckpt-2"))
    if where == "inputs":
        monkeypatch.setattr(reader, "normalise", lambda image, *limits: image * np.nan)
        monkeypatch.setattr(data_flags, "fixed_pairs", lambda options, pairs, read: ([], []))
        monkeypatch.setattr(hooks.Samples, "write", lambda self, session, step: None)
    elif where == "gradients":  # the square root's gradient at 0 is infinite
        l1_loss = pix2pix.l1_loss
        monkeypatch.setattr(pix2pix, "l1_loss", lambda outputs, targets: l1_loss(outputs, targets) + tf.sqrt(
            tf.placeholder_with_default(0.0, []) * tf.reduce_sum(outputs)))  # TensorFlow 2.16 folds 0.0 * x to 0.0
    else:
        discriminator = pix2pix.discriminator
        monkeypatch.setattr(pix2pix, "discriminator", lambda *images, **options: discriminator(
            *images, **options) * np.inf)
    status, _ = run("--output_dir=%s" % tmp_path, *SAVING, "--max_steps=6")
    assert status.startswith("error: step 3: %s is not finite, then " % first) and then in status
    assert "--learning_rate" in status
    pairs = pair_files.find_pairs(os.path.join(data, "train"))
    for path in reader.files_of_step(pairs, 3, 2, 0):
        assert path in status
    assert checkpoints.newest(str(tmp_path / "checkpoints")).endswith("-2")
    assert checkpoints.fingerprint(str(tmp_path / "checkpoints" / "model.ckpt-2")) == good


def test_the_files_of_a_step_are_those_that_the_queue_gives(tmp_path):
    for number in range(1, 8):
        imageio.imwrite(tmp_path / ("%d.png" % number), np.full((16, 32, 3), 10 * number, np.uint8))
    pairs = pair_files.find_pairs(str(tmp_path))
    with tf.Graph().as_default():
        batch = reader.training_batches(pairs, tf.train.create_global_step(), reader.Batches(
            batch_size=3, image_size=(16, 16), load_size=(16, 16), seed=5))
        with tf.train.MonitoredSession() as session:
            for step in range(1, 8):
                values = np.round((session.run(batch)[0][:, 0, 0, 0] + 1) * 127.5)
                assert [pair_files.stem(path) for path in reader.files_of_step(pairs, step, 3, 5)] == [
                    "%d" % (value / 10) for value in values]


# Long runs


WATCHED = """
import os, sys
import train
from support import hooks

def log(metrics, values, whole=hooks.Metrics.log):
    whole(metrics, values)
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    print(status["VmRSS"].split()[0], int(status["Threads"]), len(os.listdir("/proc/self/fd")), file=seen)

hooks.Metrics.log, seen = log, open(sys.argv.pop(1), "w", buffering=1)
sys.exit(train.main(train.parse(sys.argv)))
"""


@SLOW
def test_a_long_run_leaks_neither_memory_nor_handles_nor_threads(data, tmp_path):
    steps = int(os.environ.get("STEPS", "600"))
    argv = [*SMALL, "--epochs=1000000", "--max_steps=%d" % steps, "--sample_every=%d" % (steps // 40),
            "--save_every=%d" % (steps // 40)]  # often: the first few take memory of their own, and keep it
    subprocess.run([sys.executable, "-c", WATCHED, str(tmp_path / "seen"), "--data_dir=" + data,
                    "--output_dir=%s" % (tmp_path / "run"), *argv], cwd=ROOT, check=True, capture_output=True)
    seen = np.loadtxt(str(tmp_path / "seen"))
    warm, late = (np.median(seen[int(low * steps):int(high * steps)], axis=0)
                  for low, high in ((0.35, 0.55), (0.8, 0.95)))
    assert len(seen) == steps
    memory, threads, handles = zip(warm, late)
    print("memory %s, threads %s, handles %s" % (memory, threads, handles))
    assert memory[1] < memory[0] * (1.01 if steps >= 5000 else 1.03)
    assert threads[1] <= threads[0] and handles[1] <= handles[0]
    events = sum(os.path.getsize(path) for path in (tmp_path / "run").glob("events*"))
    assert events < 3e6 + 1000 * steps


def test_many_pairs_start_soon(tmp_path):
    count = int(os.environ.get("PAIRS", "5000"))
    write_pairs(str(tmp_path / "few"), 1 + count // 60000)  # a file has at most 65,000 hard links
    os.makedirs(tmp_path / "many")
    for number in range(count):
        os.link(tmp_path / "few" / ("%d.png" % (1 + number // 60000)), tmp_path / "many" / ("%d.png" % number))
    start = time.time()
    pairs = pair_files.find_pairs(str(tmp_path / "many"))
    print("headers checked in %.1f s" % (time.time() - start))
    assert len(pairs.files) == count
    with tf.Graph().as_default():
        batch = reader.training_batches(pairs, tf.train.create_global_step(), reader.Batches(
            image_size=(16, 16), load_size=(16, 16)))
        with tf.train.MonitoredSession() as session:
            assert session.run(batch)[0].shape == (4, 16, 16, 3)
