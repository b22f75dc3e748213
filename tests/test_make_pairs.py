"""Pairs from a folder of pictures or from two: what A is made of, where pairs go, and what is refused."""

import os
import sys

import imageio.v3 as imageio
import numpy as np
import pytest

from support import pair_files
from support.errors import UserError
from tools import make_pairs, pair_kinds


def photo(seed=0, height=64, width=96):
    """A dark rectangle on a smooth bright ground."""
    ground = np.linspace(180, 220, height * width * 3).reshape(height, width, 3)
    ground[20:40, 30 + seed:60 + seed] = 40
    return np.uint8(ground)


@pytest.fixture
def photos(tmp_path):
    """Ten PNGs."""
    return write(tmp_path / "photos", {"%d.png" % number: photo(number) for number in range(10)})


def write(folder, pictures):
    for name, picture in pictures.items():
        os.makedirs(os.path.dirname(str(folder / name)), exist_ok=True)
        imageio.imwrite(folder / name, picture)
    return str(folder)


def contents(folder):
    """{path below the folder: picture}."""
    return {os.path.relpath(os.path.join(parent, name), folder): imageio.imread(os.path.join(parent, name))
            for parent, _, names in os.walk(folder) for name in names}


# What A is


def test_edges_are_thin_black_lines_where_the_luminance_changes():
    lines = pair_kinds.edges(photo(), 0)
    assert set(np.unique(lines)) == {0, 255} and lines.shape == photo().shape
    black = np.argwhere(lines[..., 0] == 0)
    assert black.min(axis=0).tolist() >= [18, 28] and black.max(axis=0).tolist() <= [41, 61]
    row, column = lines[30, :, 0] == 0, lines[:, 45, 0] == 0
    assert 2 <= row.sum() <= 4 and 2 <= column.sum() <= 4
    assert (pair_kinds.edges(np.full_like(photo(), 90), 0) == 255).all()


def test_grey_is_the_luminance_and_blur_keeps_the_mean():
    picture = np.random.RandomState(0).randint(0, 256, (64, 96, 3)).astype(np.uint8)
    found = pair_kinds.grey(picture, 0)
    assert (found[..., 0] == found[..., 2]).all()
    assert found[5, 7, 0] == round(float(picture[5, 7] @ [0.299, 0.587, 0.114]))
    blurred = pair_kinds.blur(picture, 0).astype(float)
    assert abs(blurred.mean() - picture.mean()) < 2 and blurred.std() < 0.5 * picture.std()


@pytest.mark.parametrize("height,width", [(64, 96), (5, 7), (2, 2)])
def test_a_hole_is_grey_and_within_the_picture_and_the_number_decides_it(height, width):
    picture = np.zeros([height, width, 3], np.uint8)
    for number in range(20):
        found = pair_kinds.hole(picture, number)
        rows, columns = (np.unique(places) for places in np.nonzero(found[..., 0]))
        assert len(rows) <= height / 2 and len(columns) <= width / 2 and (found[rows][:, columns] == 128).all()
        assert (found == pair_kinds.hole(picture, number)).all()
    if height > 10:
        assert len({pair_kinds.hole(picture, number).tobytes() for number in range(5)}) == 5


# Where pairs go


@pytest.mark.parametrize("kind", list(pair_kinds.KINDS))
def test_pairs_hold_the_picture_at_the_right_and_are_the_same_each_time(kind, photos, tmp_path):
    made = [str(tmp_path / name) for name in "ab"]
    assert [make_pairs.make(kind, [photos], folder, share=0.3) for folder in made] == [10, 10]
    first, second = map(contents, made)
    assert first.keys() == second.keys() and all((first[name] == second[name]).all() for name in first)
    assert sorted(os.path.basename(name) for name in first) == sorted(os.listdir(photos))
    assert sum(name.startswith("val") for name in first) == 3
    for name, pair in first.items():
        original = imageio.imread(os.path.join(photos, os.path.basename(name)))
        assert (pair[:, 96:] == original).all() and (pair[:, :96] != original).any()
    assert len(pair_files.find_pairs(os.path.join(made[0], "train")).files) == 7


def test_join_pairs_files_by_name_and_keeps_the_splits(tmp_path):
    sides = [write(tmp_path / side, {"train/1.%s" % ending: photo(shift), "test/1.%s" % ending: photo(shift + 1)})
             for side, ending, shift in (("A", "png", 0), ("B", "bmp", 5))]
    make_pairs.make("join", sides, str(tmp_path / "out"))
    found = contents(str(tmp_path / "out"))
    assert sorted(found) == [os.path.join("test", "1.png"), os.path.join("train", "1.png")]
    assert (found[os.path.join("test", "1.png")] == np.concatenate([photo(1), photo(6)], axis=1)).all()


def test_the_command_resizes_the_shorter_side_and_says_how_to_train(photos, tmp_path, monkeypatch, capsys):
    folder = str(tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["make_pairs.py", "grey", photos, "--output_dir=" + folder, "--size=32",
                                      "--val=0"])
    make_pairs.main()
    assert "10 pairs in %s; train with: python train.py --data_dir=%s" % (folder, folder) in capsys.readouterr().out
    assert os.listdir(folder) == ["train"]
    assert {pair.shape for pair in contents(folder).values()} == {(32, 96, 3)}


# What is refused


def cut(folder, name):
    os.truncate(os.path.join(folder, name), os.path.getsize(os.path.join(folder, name)) - 100)


def damage(folder, name):
    with open(os.path.join(folder, name), "r+b") as file:
        file.seek(60)
        file.write(b"\0" * 60)


@pytest.mark.parametrize("harm,says", [
    (lambda a, b: cut(a, "3.png"), "A/3.png: the file is cut short"),
    (lambda a, b: damage(b, "3.png"), "B/3.png: can't be decoded"),
    (lambda a, b: os.remove(os.path.join(b, "3.png")), "A/3.png: no picture of this name"),
    (lambda a, b: os.remove(os.path.join(a, "3.png")), "B/3.png: no picture of this name"),
    (lambda a, b: imageio.imwrite(os.path.join(a, "3.bmp"), photo()), "have the same name"),
    (lambda a, b: imageio.imwrite(os.path.join(a, "3.png"), np.uint16(photo())[..., 0]), "A/3.png: more than 8 bits"),
    (lambda a, b: imageio.imwrite(os.path.join(a, "3.png"), photo()[:10]), "A/3.png is 96x10 pixels and .*B/3.png is"),
    (lambda a, b: [os.remove(os.path.join(a, name)) for name in os.listdir(a)], "A: no folder with pictures"),
    (lambda a, b: os.rename(b, b + "2"), "B: no folder with pictures")])
def test_what_can_not_be_a_pair_is_named_in_one_line_and_nothing_is_written(harm, says, tmp_path):
    sides = [write(tmp_path / side, {"%d.png" % number: photo() for number in range(5)}) for side in "AB"]
    harm(*sides)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UserError, match=says) as caught:
        make_pairs.make("join", sides, str(tmp_path / "out"))
    assert "\n" not in str(caught.value) and sorted(os.listdir(tmp_path)) == before


def test_nothing_is_overwritten(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_pairs.py", "grey", photos, "--output_dir=" + photos])
    before = contents(photos)
    with pytest.raises(SystemExit, match=r"^error: .*photos: there is something already"):
        make_pairs.main()
    after = contents(photos)
    assert before.keys() == after.keys() and all((before[name] == after[name]).all() for name in before)


@pytest.mark.parametrize("arguments", [["join", "A"], ["edges", "A", "B"], ["grey", "A", "--val=1"],
                                       ["grey", "A", "--size=-1"], ["sepia", "A"]])
def test_arguments_that_do_not_go_together_are_refused(arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_pairs.py", *arguments, "--output_dir=out"])
    with pytest.raises(SystemExit) as caught:
        make_pairs.main()
    assert caught.value.code == 2
