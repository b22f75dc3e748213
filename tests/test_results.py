"""Results of test mode: their folders' names, their pictures' names, the heat maps and the page that leads to all."""

import collections
import csv
import html
import json
import os
import re
import shutil
import urllib.parse

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import picture, result_in, write_pairs
from support import gallery, rendering, results

# Names


TEXT = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=255).filter(
    lambda name: name not in (".", ".."))
PART = TEXT | st.sampled_from(["val", "val-5", "val-5-nodropout", "5", "x" * 240, "ö" * 127])
CHOICES = st.fixed_dictionaries({}, optional={
    "data_dir": st.just(True), "checkpoint": st.sampled_from(["/a/model.ckpt-5", "/b/model.ckpt-5"]),
    "layout": st.sampled_from(["auto", "inputs"]), "direction": st.just("BtoA"), "image_size": st.sampled_from(
        ["64", "64,96", "96,64"]), "test_resize": st.just(False), "test_dropout": st.booleans(),
    "dropout": st.floats(0, 0.99), "norm_epsilon": st.sampled_from([1e-05, 1.001e-5]), "patch": st.just("16"),
    "seed": st.integers(0, 99), "precision": st.just("bfloat16")})
CASE = st.tuples(PART, PART, st.sampled_from([0, 5, 55]), CHOICES)


def name_of(parent, split, step, chosen):
    return results.folder_name("/%s/%s" % (parent, split), step, collections.OrderedDict(sorted(chosen.items())))


@given(CASE, CASE)
@example(("a", "val", 5, {}), ("a", "val-5", 5, {}))
@example(("a", "val", 5, {"data_dir": True}), ("b", "val", 5, {"data_dir": True}))
@example(("a", "val", 5, {"image_size": "64"}), ("a", "val", 64, {}))
def test_results_that_differ_in_anything_have_different_names(one, other):
    def meaning(parent, split, step, chosen):  # the run's own data is in one place alone
        return split, step, chosen, parent if "data_dir" in chosen else None

    assert (name_of(*one) == name_of(*other)) == (meaning(*one) == meaning(*other))


@given(CASE)
def test_a_results_name_is_always_the_same_and_fits_the_file_system(case):
    name = name_of(*case)
    assert name == name_of(*case) and "/" not in name and len(os.fsencode(name)) + 9 <= 255


def test_results_have_readable_names():
    assert results.folder_name("data/val", 3200, {}) == "val-3200"
    assert results.folder_name("/photos", 7, {"test_dropout": False, "precision": "bfloat16"}) == (
        "photos-7-nodropout-bfloat16")
    assert re.fullmatch("val-7-facades-[a-p]{8}-inputs-64x96-noresize", results.folder_name(
        "/d/facades/val", 7, collections.OrderedDict([
            ("data_dir", "/d/facades/val"), ("layout", "inputs"), ("image_size", "64,96"), ("test_resize", False)])))


NAMES = TEXT | st.binary(min_size=1, max_size=255).map(
    lambda name: os.fsdecode(name.replace(b"/", b"-").replace(b"\0", b"-")))


@given(NAMES, NAMES)
@example("a" * 250, "a" * 251)
@example("ö" * 130 + "1", "ö" * 130 + "2")
@example("\udcff" * 245, "\udcff" * 246)
def test_pictures_names_fit_and_stay_different(one, other):
    for name in (one, other):
        short = results.fitting(name)
        assert len(os.fsencode(short)) + len(".png.tmp") <= 255
        assert short == name or len(os.fsencode(name)) > results.MOST_BYTES
    assert (results.fitting(one) == results.fitting(other)) == (one == other)


def test_names_that_are_too_long_with_an_ending_are_shortened_and_listed_in_full(run, trained, tmp_path):
    long = ["x" * 240, "ä" * 125 + "1", "ä" * 124 + "2", "y" * 251]
    write_pairs(str(tmp_path), len(long))
    for number, name in enumerate(long, 1):
        os.rename(tmp_path / ("%d.png" % number), tmp_path / (name + ".png"))
    status, output = run("--mode=test", "--output_dir=" + trained, "--data_dir=%s" % tmp_path)
    assert status == 0
    result = result_in(output)
    with open(os.path.join(result, "metrics.csv"), encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert sorted(row["name"] for row in table) == sorted(long)
    for kind in ("input", "output", "target", "patches"):
        assert sorted(os.listdir(os.path.join(result, "images", kind))) == sorted(row["picture"] for row in table)
    assert {row["picture"][:-4] for row in table} >= {"x" * 240} and len({row["picture"] for row in table}) == 4
    with open(os.path.join(result, "index.html"), encoding="utf-8") as file:
        links = [urllib.parse.unquote(html.unescape(link)) for link in re.findall('src="([^"]+)"', file.read())]
    assert len(links) == 16 and all(os.path.exists(os.path.join(result, link)) for link in links)


# Nothing is lost


def write_both(folder):
    for name in ("first", "second"):
        write_pairs(str(folder / name / "pictures"), 2)


def test_no_result_takes_the_place_of_another(run, trained, tmp_path, monkeypatch):
    folder = shutil.copytree(trained, str(tmp_path / "run"), ignore=shutil.ignore_patterns("test", "export"))
    write_both(tmp_path)
    earlier = os.path.join(folder, "checkpoints", "model.ckpt-4")
    tests = [(), ("--notest_dropout",), ("--notest_resize",), ("--split=train",), ("--direction=BtoA",), ("--seed=1",),
             ("--checkpoint=" + earlier,), ("--checkpoint=%s" % os.path.join(trained, "checkpoints", "model.ckpt-6"),),
             *(("--data_dir=%s" % (tmp_path / name / "pictures"),) for name in ("first", "second")),
             ("--data_dir=%s" % (tmp_path / "first" / "pictures"), "--layout=inputs")]
    monkeypatch.setattr(gallery, "write", lambda *arguments: {})
    made = [result_in(run("--mode=test", "--output_dir=" + folder, *argv)[1]) for argv in tests]
    assert len(set(made)) == len(tests)
    assert [os.path.basename(path) for path in made[:7]] == [
        "val-6", "val-6-nodropout", "val-6-noresize", "train-6", "val-6-BtoA", "val-6-seed1", "val-4"]
    for same in (("--test_resize",), ("--test_dropout", "--precision=float32"), ("--reader_threads=3",)):
        assert result_in(run("--mode=test", "--output_dir=" + folder, *same)[1]) == made[0]


def test_all_results_are_listed_with_what_they_show_and_measured(run, trained, tmp_path):
    folder = shutil.copytree(trained, str(tmp_path / "run"), ignore=shutil.ignore_patterns("test", "export"))
    write_both(tmp_path)
    tests = [(), ("--test_dropout",), ("--notest_resize",), ("--data_dir=%s" % (tmp_path / "first" / "pictures"),),
             ("--data_dir=%s" % (tmp_path / "second" / "pictures"), "--layout=inputs")]
    made = [result_in(run("--mode=test", "--output_dir=" + folder, *argv)[1]) for argv in tests]
    assert made[0] == made[1] and len(set(made)) == 4
    listed = os.path.join(folder, "test", "index.html")
    with open(listed) as file:
        page = file.read()
    links = {os.path.normpath(os.path.join(folder, "test", urllib.parse.unquote(html.unescape(link))))
             for link in re.findall('href="([^"]+)"', page)}
    assert links == {os.path.join(path, "index.html") for path in made} and all(map(os.path.exists, links))
    with open(os.path.join(made[0], "metrics.json")) as file:
        metrics = json.load(file)
    assert "%.4f" % metrics["l1"]["mean"] in page and "%.2f" % metrics["psnr"]["mean"] in page
    for path, says in ((made[0], "resized to 32x32"), (made[2], "each picture at its own size")):
        with open(os.path.join(path, "index.html")) as file:
            assert says in file.read() and says in page
    assert metrics["step"] == 6 and metrics["image_size"] == "32x32" and "$" not in page


def test_a_result_of_an_earlier_version_is_moved_aside_whole(tmp_path):
    for time in ("first", "second"):
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "1-output.png").write_text(time)
        (tmp_path / "index.html").write_text("<img src=images/1-output.png>")
        if time == "first":  # without targets there was no metrics.json
            (tmp_path / "metrics.json").write_text(json.dumps({
                "images": 3, "checkpoint": "model.ckpt-9", "folder": "d/val",
                "l1": {"mean": 0.5, "low": 0, "high": 1}}))
        gallery.write_results(str(tmp_path), "mine")
    assert (tmp_path / "older" / "images" / "1-output.png").read_text() == "first"
    assert (tmp_path / "older-2" / "images" / "1-output.png").read_text() == "second"
    assert (tmp_path / "older" / "index.html").read_text() == "<img src=images/1-output.png>"
    assert sorted(os.listdir(tmp_path)) == [".lock", "index.html", "older", "older-2"]
    page = (tmp_path / "index.html").read_text()
    assert "model.ckpt-9, 3 images of d/val" in page and "0.5000" in page and "older-2/index.html" in page


# Heat maps


def test_a_heat_map_goes_from_blue_over_white_to_red_and_is_the_same_in_the_graph(session):
    logits = np.float32([-2, -1, 0.5, 2, 3]).reshape(1, 1, 5, 1)
    here = rendering.heat_map(logits, 0.5, 2.5, np.concatenate)
    assert [tuple(colour) for colour in rendering.pixels(here[0, 0])] == [
        (0, 0, 255), (102, 102, 255), (255, 255, 255), (255, 102, 102), (255, 0, 0)]
    there = session.run(rendering.heat_map(tf.constant(logits), 0.5, 2.5, tf.concat))
    np.testing.assert_allclose(there, here, atol=1e-6)
    assert np.isfinite(rendering.heat_map(np.zeros([1, 2, 2, 1], np.float32), 0.0, 0.0, np.concatenate)).all()


def test_logits_are_enlarged_to_the_part_that_is_shown():
    logits = np.arange(6).reshape(2, 3, 1)
    np.testing.assert_array_equal(rendering.enlarged(logits, (4, 6), (3, 5))[..., 0], [
        [0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]])


def test_a_results_heat_maps_have_one_scale_which_its_page_says(tmp_path):
    def translated():
        for number in (1, 4, 2):  # the second image has the largest logits
            grey = np.zeros([1, 8, 8, 3], np.float32)
            logits = np.float32([[0.1, -0.25], [0.0, 0.2]]).reshape(1, 2, 2, 1) * number
            yield str(number), {"input": grey, "output": grey}, (logits, np.array([8, 8])), {}, None

    gallery.write(str(tmp_path), "mine", translated(), {"image_size": None}, 0.0)
    assert tuple(picture(tmp_path, "patches", 4)[0, 7]) == (0, 0, 255)  # the largest distance of all
    assert tuple(picture(tmp_path, "patches", 1)[0, 7]) == (191, 191, 255)
    assert tuple(picture(tmp_path, "patches", 1)[7, 0]) == (255, 255, 255)
    page = (tmp_path / "index.html").read_text()
    assert "blue (fake, -1), white (0) and red\n  (real, 1)" in page


def test_a_page_links_the_outputs_that_have_a_file_in_the_datas_units(tmp_path):
    grey, logits = np.zeros([1, 8, 8, 3], np.float32), (np.zeros([1, 2, 2, 1], np.float32), np.array([8, 8]))
    made = [("1", None), ("a #2", (".tif", b"pixels")), ("3", (".npy", b"numbers"))]
    gallery.write(str(tmp_path), "mine", ((name, {"input": grey, "output": grey}, logits, {}, stored)
                                          for name, stored in made), {"image_size": None}, 0.0)
    links = re.findall('href="(outputs/[^"]*)"', (tmp_path / "index.html").read_text())
    assert [(tmp_path / urllib.parse.unquote(link)).read_bytes() for link in links] == [b"pixels", b"numbers"]


# Pages


@pytest.mark.parametrize("name", ["gallery", "samples", "results"])
def test_a_page_needs_nothing_from_elsewhere_and_its_buttons_have_names(name):
    text = gallery.template(name)
    assert "http" not in text and "src=\"//" not in text
    for attributes, words in re.findall("<button([^>]*)>([^<]*)", text):
        assert "aria-label" in attributes or words.isalpha(), (attributes, words)
    if name != "results":
        assert {"previous", "next"} <= {words for _, words in re.findall("<button([^>]*)>([^<]*)", text)}
        assert "ontouchend" in text


def test_pictures_that_changed_in_their_folder_erase_no_result(run, trained, tmp_path):
    folder = shutil.copytree(trained, str(tmp_path / "run"), ignore=shutil.ignore_patterns("test"))
    argv = ["--mode=test", "--layout=inputs", "--output_dir=" + folder, "--data_dir=%s" % (tmp_path / "inbox")]
    write_pairs(str(tmp_path / "inbox"), 1)
    found = []
    for count in (1, 1, 2, 2):
        write_pairs(str(tmp_path / "inbox"), count)
        assert run(*argv)[0] == 0
        found.append(sorted(name for name in os.listdir(os.path.join(folder, "test")) if name.startswith("inbox")))
    assert list(map(len, found)) == [1, 1, 2, 2] and found[0][0] in found[3]
    first = os.path.join(folder, "test", found[0][0], "images", "output")
    assert os.listdir(first) == ["1.png"]
