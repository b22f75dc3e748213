"""What the studies compute of what they measure, without measuring."""

import argparse
import importlib
import os
import subprocess
import sys

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import pix2pix
import train
from conftest import ROOT
from support import convolutions, seeds

sys.path.insert(0, os.path.join(ROOT, "studies"))

import contender
import legacy_tf1
import log_stability
import perceptual
import quality
import recipe
import study
import texture
import throughput


@pytest.mark.parametrize("name", [name[:-3] for name in sorted(os.listdir(os.path.join(ROOT, "studies")))
                                  if name.endswith(".py") and name not in ("study.py", "peer_torch.py")])
def test_every_study_loads_and_says_its_command(name):
    text = importlib.import_module(name).__doc__
    assert name.startswith("peer_") or "python studies/%s.py " % name in text


def test_a_study_without_matplotlib_ends_before_it_measures(monkeypatch):
    monkeypatch.setattr(study.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install matplotlib"):
        study.parser("doc", "runs/study")


@pytest.mark.parametrize("values,text", [([], "-"), ([2.0], "2"), ([3.0, 1.0, 2.0], "2 (1 to 3)")])
def test_a_spread_is_the_median_and_the_range(values, text):
    assert study.spread(values) == text


def test_what_is_kept_is_made_once_and_never_taken_for_something_else(tmp_path):
    path = str(tmp_path / "piece.json")
    assert study.kept(path, ["--seed=0"], lambda: {"l1": 0.5}) == {"l1": 0.5}
    assert study.kept(path, ["--seed=0"], lambda: pytest.fail("made again")) == {"l1": 0.5}
    with pytest.raises(SystemExit, match="new --output_dir"):
        study.kept(path, ["--seed=1"], dict)


def test_a_program_that_fails_ends_the_study_with_its_last_line():
    with pytest.raises(SystemExit, match=r"error: .* ZeroDivisionError"):
        study.run(sys.executable, "-c", "1 / 0")
    with pytest.raises(SystemExit, match="must be the path of a Python"):
        study.run("no-such-python", "-c", "")


def test_a_report_names_the_commit_and_whether_files_were_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "ROOT", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert study.commit() == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    (tmp_path / "file").write_text("1")
    for command in (["init"], ["add", "file"], ["commit", "-m", "first"]):
        subprocess.run(git + command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    clean = study.commit()
    (tmp_path / "file").write_text("2")
    assert len(clean) >= 7 and study.commit() == clean + "-dirty"
    monkeypatch.setenv("PATH", "")
    assert study.commit() == "unknown"


def test_a_run_of_train_is_read_and_found_finished(trained, data):
    with open(os.path.join(trained, "flags.txt")) as file:
        flags = file.read().split()
    run = study.train(trained, *flags)
    assert len(run.rows) == len(run.seconds) == 6 and min(run.seconds) > 0
    assert run.parameters > 0 and run.peak > 1e8 and len(run.fingerprint) == 64


def test_a_report_escapes_words_and_holds_its_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "facts", lambda: [["CPU", "a & b"]])
    text = "`a` < $b\n\n## Head $b\n\n$part"
    study.write_report(str(tmp_path / "report.html"), "T <1>", text, b="<b>", part="<i>part</i>")
    page = (tmp_path / "report.html").read_text()
    for piece in ("<h1>T &lt;1&gt;</h1>", "<td>a &amp; b</td>", "<p><code>a</code> &lt; &lt;b&gt;</p>",
                  "<h2>Head &lt;b&gt;</h2>", "\n<i>part</i>\n"):
        assert piece in page


@pytest.mark.parametrize("name,eps", [("log", 1e-12), ("logits", 0.0), ("lsgan", 0.0), ("log_literal", 1e-7)])
@pytest.mark.parametrize("side", ["real", "fake"])
def test_log_stability_s_float64_agrees_with_the_program(session, name, eps, side):
    z = np.float32(np.arange(-9, 10, 3))
    fed = tf.constant(z)
    loss = pix2pix.patch_loss(fed, side == "real", name, eps)
    value, slope = session.run([loss, tf.gradients(loss, fed)[0]])
    exact_value, exact_slope = log_stability.exact(name, side, np.float64(z), eps)
    np.testing.assert_allclose(value, exact_value, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(slope, exact_slope, rtol=2e-3, atol=1e-6)


def test_the_text_as_people_write_it_dies_where_the_default_does_not(session):
    z = tf.placeholder(tf.float32, [3])
    losses = [loss(z, False, "log", 1e-12) for loss in (
        log_stability.naive_in_training, pix2pix.patch_loss)]
    naive, ours = session.run(losses, {z: [0.0, 10.0, 20.0]})
    np.testing.assert_allclose(naive[:2], ours[:2], rtol=1e-3)
    assert np.isinf(naive[2]) and ours[2] == pytest.approx(20, rel=1e-4)


def test_log_stability_finds_where_a_loss_dies_and_is_not_finite():
    z = np.array([-20.0, 0.0, 15.0, 17.0, 20.0])
    value, slope = log_stability.exact("log", "fake", z, 1e-12)
    value[3:], slope[2:] = np.inf, 0
    row = dict(zip(log_stability.FINDINGS, log_stability.findings(
        ("2", "log", 1e-12, "float32", "folding", "static", "fake"), (z, value, slope, value))))
    assert row["gradient dead from |z|"] == "15" and row["inf or NaN from |z|"] == "17"
    assert row["negative from |z|"] == "" and row["largest finite value"] == "15"


def test_legacy_tells_equal_bits_from_others():
    first = {"2.21": {"weights/a": np.float32([0.0, 4.0])}, "1.15": {"weights/a": np.float32([-0.0, 4.0])}}
    assert legacy_tf1.same_bits(first, "weights")[1:3] == [1, "2"]
    assert legacy_tf1.same_bits(first, "weights")[-1] == "NOT EQUAL"
    assert legacy_tf1.relative(*(arrays["weights/a"] for arrays in first.values())) == 0


def measurements(precision="float32"):
    """Two rounds of made-up measurements; the second is of a machine half as fast."""
    for number, speed in enumerate((1.0, 0.5)):
        for batch in ("batch 1", "batch 4"):
            yield "bound", throughput.BOUND + precision, batch, "images/s", number, 4 * speed
            for name, rate in (("this project, ", 3), ("this project on TensorFlow 1.15, ", 9),
                               ("TensorFlow 2 tutorial (Keras), ", 2), ("PyTorch, ", 1)):
                for part in ("training", "inference"):
                    yield part, name + precision, batch, "images/s", number, rate * speed
                yield "training", name + precision, batch, "peak GB", number, rate
            yield "inference", "PyTorch, float32, channels_last, compiled", batch, "images/s", number, 4 * speed
            yield "inference", "this project, %s, constants" % precision, batch, "images/s", number, 5 * speed
        for name, rate in (("this project", 600), ("tf.data as in the tutorial", 300)):
            yield "reading", name, "cores: 1", "pairs/s", number, rate * speed
        for name, value in (("wait", 0.02), ("plain", 0.99), ("sample", 1), ("checkpoint", 0)):
            yield "loop", "this project", "", name, number, value / speed
        yield "start", "this project", "", "first step", number, 7
        yield "start", "TensorFlow", "", "import", number, 3


def test_throughput_s_summary_has_ratios_within_a_round():
    every, rounds = throughput.grouped([dict(zip(throughput.HEADER, row)) for row in measurements()])
    assert every["training", "this project, float32", "batch 4", "images/s"] == [3, 1.5]
    found = dict(throughput.summary(rounds, ["float32"]))
    peer = "over the fastest peer (%s)"
    assert [(what, found.pop(what)) for what in list(found)[:6]] == [
        ("training, float32, batch 1, " + peer % "TensorFlow 2 tutorial (Keras), float32", [1.5, 1.5]),
        ("training, float32, batch 4, " + peer % "TensorFlow 2 tutorial (Keras), float32", [1.5, 1.5]),
        ("inference, float32, batch 1, " + peer % "PyTorch, float32, channels_last, compiled", [1.25, 1.25]),
        ("inference, float32, batch 4, " + peer % "PyTorch, float32, channels_last, compiled", [1.25, 1.25]),
        ("training, float32, batch 4, share of the bound", [0.75, 0.75]),
        ("reading on one core, over the faster of the others (tf.data as in the tutorial)", [2, 2])]
    assert [values[0] for values in found.values()] == pytest.approx([100 * 0.02 / 1.01, 100 * 1 / 100 / 0.99, 4])


def test_throughput_s_bfloat16_inference_is_held_against_every_peer_in_either_precision():
    _, rounds = throughput.grouped([dict(zip(throughput.HEADER, row)) for row in measurements("bfloat16")])
    found = [row for row in throughput.summary(rounds, ["bfloat16"]) if row[0].startswith("inference")]
    assert found == [("inference, bfloat16, batch %d, over the fastest peer (PyTorch, float32, channels_last, compiled)"
                      % batch, [1.25, 1.25]) for batch in (1, 4)]


def test_throughput_s_tables_lay_rounds_together():
    every, _ = throughput.grouped([dict(zip(throughput.HEADER, row)) for row in measurements()])
    assert throughput.table(every, "reading") == study.table(["", "", "pairs/s"], [
        ["this project", "cores: 1", "450 (300 to 600)"],
        ["tf.data as in the tutorial", "cores: 1", "225 (150 to 300)"]])


def test_throughput_s_compiled_peer_stands_beside_the_eager_one(monkeypatch):
    monkeypatch.setattr(study, "version_of", lambda python, package: "2")
    found = {name: what for name, _, what in throughput.peers("python", ["bfloat16"], ["channels_last"])}
    eager, compiled, first = list(found)[1:]
    assert first == "PyTorch, bfloat16, channels_first" and compiled == eager + ", compiled"
    assert found[compiled] == dict(found[eager], compiled=True)


def test_quality_takes_the_settings_in_which_a_peer_trains_fastest(monkeypatch):
    seconds = {"float32": [2.0, 3.0, 9.0], "bfloat16": [1.0, 2.9, 99.0]}
    monkeypatch.setattr(study, "measure", lambda *_, precision, **options: ({"seconds": seconds[precision]}, 0))
    settings = [("python", {"peer": "peer_keras", "precision": precision}) for precision in seconds]
    options = argparse.Namespace(batch_size=4, data_dir="data")
    assert quality.fastest(options, settings, 4) == settings[1]


def test_quality_trains_each_program_at_both_batch_sizes_for_equal_epochs(monkeypatch):
    monkeypatch.setattr(study, "version_of", lambda python, package: "2")
    monkeypatch.setattr(study, "precisions", lambda: (["float32", "bfloat16"], ""))
    options = argparse.Namespace(epochs=3, max_steps=0, batch_size=4, torch_python="python")
    made = quality.contenders(options, 10)
    assert next(iter(made)) == quality.BASE and len(made) == 7
    for name in ("TensorFlow 2 tutorial (Keras)", "PyTorch"):
        assert [made[each].args[2:] for each in (name, name + ", batch 1")] == [(4, 8), (1, 30)]


@pytest.mark.parametrize("width,pairs,message", [
    (600, 4, r"val.1\.png has 600x256 pixels.* 512x256 in val"),
    (512, 3, "train has 3 pairs, fewer than --batch_size=4")])
def test_quality_refuses_what_its_peers_cannot_train_on_or_translate(tmp_path, width, pairs, message):
    for split, count in (("train", pairs), ("val", 1)):
        (tmp_path / split).mkdir()
        for number in range(count):
            imageio.imwrite(str(tmp_path / split / ("%d.png" % (number + 1))), np.zeros((256, width, 3), np.uint8))
    with pytest.raises(SystemExit, match=message):
        quality.check(study.pairs_of(str(tmp_path), ["train", "val"], peers=True), 4)


def test_quality_passes_pairs_as_its_peers_need_them_and_names_a_file_that_is_none(tmp_path):
    imageio.imwrite(str(tmp_path / "1.png"), np.zeros((256, 512, 3), np.uint8))
    quality.check({split: study.pairs_of(str(tmp_path), [""], peers=True)[""] for split in ("train", "val")}, 1)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(SystemExit, match=r"notes\.txt: no pair"):
        study.pairs_of(str(tmp_path), [""], peers=True)


def test_quality_measures_pngs_and_pairs_the_contenders_image_by_image(tmp_path):
    random = np.random.RandomState(0)
    for name in ("1", "2"):
        target = random.randint(100, 150, (16, 16, 3), np.uint8)
        (tmp_path / "target").mkdir(exist_ok=True)
        imageio.imwrite(str(tmp_path / "target" / (name + ".png")), target)
        for folder, shift in (("ours", 1), ("peer", 1 + int(name))):
            (tmp_path / folder / "output").mkdir(parents=True, exist_ok=True)
            imageio.imwrite(str(tmp_path / folder / "output" / (name + ".png")), target + np.uint8(shift))
    found = {name: [quality.measured(str(tmp_path / folder), str(tmp_path))] * 2
             for name, folder in ((quality.BASE, "ours"), ("peer", "peer"))}
    single = quality.BASE + ", batch 1"
    found[single] = found["peer"][:1]
    rows = quality.results(found, {name: [] for name in found})
    assert [(row["contender"], row["row"]) for row in rows] == [
        (quality.BASE, "seed 0"), (quality.BASE, "seed 1"),
        (quality.BASE, "all seeds, over images"), (quality.BASE, "all seeds, over seeds"),
        (quality.BASE, "minus this project, batch 1, image by image"),
        ("peer", "seed 0"), ("peer", "seed 1"), ("peer", "all seeds, over images"), ("peer", "all seeds, over seeds"),
        ("peer", "minus this project, image by image"), ("peer", "minus this project, batch 1, image by image"),
        (single, "seed 0"), (single, "all seeds, over images"), (single, "minus this project, image by image")]
    assert rows[0]["l1"]["mean"] == pytest.approx(1 / 127.5, rel=1e-3)
    apart = {(row["contender"], row["row"].partition(", image")[0]): row["l1"]["mean"] for row in rows}
    assert apart["peer", "minus this project"] == pytest.approx(1.5 / 127.5, rel=1e-3)
    assert apart["peer", "minus " + single] == 0 and rows[9]["psnr"]["mean"] < 0
    page = quality.table(rows)
    assert page.count("<tr>") == 1 + len(rows)
    assert "<td>this project</td><td>seed 0</td><td>0.0078 [0.0078, 0.0078]</td>" in page


def mmd(one, other):
    """KID as its definition writes it, pair by pair."""
    def kernel(a, b):
        return (float(a @ b) / len(a) + 1) ** 3
    n = len(one)
    own = [sum(kernel(each[i], each[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
           for each in (one, other)]
    return 1000 * (sum(own) - 2 * sum(kernel(a, b) for a in one for b in other) / n ** 2)


def test_kid_is_its_definition_for_all_and_without_each_pair():
    one, other = np.random.RandomState(0).normal(size=(2, 7, 5)) + [[[0.5]], [[0.0]]]
    values = perceptual.kid(one, other)
    expected = [mmd(one, other)] + [mmd(np.delete(one, i, 0), np.delete(other, i, 0)) for i in range(7)]
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    spread = 1.96 * np.sqrt(6 / 7 * np.sum((np.array(expected[1:]) - np.mean(expected[1:])) ** 2))
    assert perceptual.jackknife(values)["high"] == pytest.approx(expected[0] + spread)


def test_the_interval_over_seeds_is_students():
    found = quality.over_seeds([{"l1": {"mean": mean}} for mean in (0.1, 0.2, 0.4)])["l1"]
    assert found["mean"] == pytest.approx(0.7 / 3)
    assert found["high"] - found["mean"] == pytest.approx(4.3027 * np.std([0.1, 0.2, 0.4], ddof=1) / 3 ** 0.5, rel=1e-4)


def test_quality_adds_kid_to_its_rows_if_there_are_features():
    found = {name: [{"1.png": {"l1": 0.1, "deep": 0.2}, "2.png": {"l1": 0.2, "deep": 0.3}}] for name in (
        quality.BASE, "peer")}
    kids = {quality.BASE: [np.array([3.0, 2.0, 4.0])], "peer": [np.array([5.0, 4.0, 6.0])]}
    rows = quality.results(found, kids)
    assert [row["kid"]["mean"] for row in rows] == [3, 3, 5, 5, 2]
    assert rows[-1]["kid"]["low"] == rows[-1]["kid"]["high"] == 2  # both without one pair are apart by 2 too
    assert "<th>deep distance</th><th>KID x 1000</th>" in quality.table(rows)


@pytest.mark.parametrize("deep_high,kid_low,l1,wins", [
    (-0.01, 0, 0.002, True), (0.0, 0, 0.0, False), (-0.01, 1, 0.0, False), (-0.01, -9, 0.0021, False)])
def test_recipe_s_rule_wants_a_lower_deep_distance_and_no_worse_kid_and_l1(deep_high, kid_low, l1, wins):
    added = {"deep": {"mean": -1, "low": -2, "high": deep_high}, "kid": {"mean": 2, "low": kid_low, "high": 3},
             "l1": {"mean": l1, "low": -1, "high": 1}}
    assert recipe.wins(added) == wins


def test_recipe_trains_once_for_the_settings_that_differ_in_test_mode_alone(monkeypatch, tmp_path):
    trained, tested = {}, []
    monkeypatch.setattr(study, "train", lambda folder, *flags: trained.setdefault(folder, flags) and argparse.Namespace(
        fingerprint="f"))
    monkeypatch.setattr(study, "test", lambda *call: tested.append(call) or call[0])
    options = argparse.Namespace(output_dir=str(tmp_path), data_dir="d", direction="BtoA", epochs=1)
    for setting in recipe.SETTINGS:
        recipe.piece(options, setting, 1)
    assert len(trained) == len(recipe.SETTINGS) - 2
    batch = str(tmp_path / "__norm_batch-seed1")
    assert trained[batch][-1] == "--norm=batch" and "--notest_ema" not in str(trained)
    assert (batch,) in tested and (batch, "--notest_ema") in tested


def test_a_python_without_the_packages_of_deep_features_ends_a_study_before_it_trains(monkeypatch, tmp_path):
    monkeypatch.setattr(study.importlib.util, "find_spec", lambda name: "matplotlib, which the tests do without")
    monkeypatch.setattr(study, "train", lambda *call: pytest.fail("trained"))
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--output_dir=%s" % tmp_path, "--features_python=" + sys.executable])
    with pytest.raises(SystemExit, match="No module named"):
        recipe.main()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--epochs=7"])
    with pytest.raises(SystemExit, match="--epochs=7: at least 8"):
        recipe.main()


def test_recipe_s_settings_are_flags_that_train_py_has():
    known = {flag.name for flag in train.MODULE_FLAGS}
    for flag in " ".join(recipe.SETTINGS).replace(recipe.DEFAULTS, "").split():
        name = flag[2:].split("=")[0]
        assert name in known or (name.startswith("no") and name[2:] in known), flag


@pytest.mark.parametrize("side,filters", [(4, 3), (64, 3), (64, 512)])
def test_a_convolution_and_its_two_gradients_count_three_times_its_operations(side, filters):
    with tf.Graph().as_default() as graph:
        x = tf.Variable(tf.zeros([2, side, side, 5]), use_resource=True)
        with graph.gradient_override_map(convolutions.BFLOAT16_GRADIENTS), tf.variable_scope(
                "layer", custom_getter=seeds.seeded(0), use_resource=True):
            y = pix2pix.conv(x, filters)
        gradients = tf.gradients(y, tf.global_variables())
        fetch = tf.identity(tf.add_n([tf.reduce_sum(gradient) for gradient in [y, *gradients]]))
        counted = sum(flops for _, flops in contender.operations(fetch))
    assert counted == 3 * 2 * 2 * (side // 2) ** 2 * 16 * 5 * filters


@pytest.mark.slow
def test_the_study_of_a_gpu_measures_all_its_parts_on_tiny_networks(data, tmp_path):
    command = [sys.executable, os.path.join(ROOT, "studies", "gpu.py"), "--small", "--steps=20", "--limit=600",
               "--minutes=60", "--data_dir=" + data, "--output_dir=%s" % tmp_path]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = study.read_json(str(tmp_path / "gpu.json"))
    assert found["bits"] == {"repeated": {"equal": True}, "stopped and continued": {"equal": True}}
    assert {"step, batch 4", "step, batch 1", "train.py, batch 4", "train.py, batch 1"} < set(found)
    assert "failed" not in str(found) and set(found["after training"]) == {"test", "export"}
    assert "step, batch 4 | this program, plain, float32 | ms " in first
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert " | " not in again  # nothing is measured twice


@pytest.mark.parametrize("period", texture.PERIODS)
def test_a_woven_texture_is_a_peak_at_its_period_and_noise_has_none(period):
    noise = np.random.RandomState(0).normal(128, 20, (64, 64))
    woven = noise + 20 * (np.arange(64) % period == 0) + 20 * (np.arange(64) % period == 0)[:, np.newaxis]
    assert texture.peak(woven, period) > 4 and 0.5 < texture.peak(noise, period) < 2
