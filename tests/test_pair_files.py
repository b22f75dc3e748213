"""How files become pairs: names, layouts, splits, and what is said of them."""

import hashlib
import os
import shutil
import zlib

import imageio.v3 as imageio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import write_folders, write_pairs
from support import pair_files
from support.errors import DataError

SIDES = {"A/ and B/ in a split": ("{}/A", "{}/B"), "trainA/": ("{}A", "{}B"), "A/train/": ("A/{}", "B/{}")}


def write_split(folder, form, split, names=("1.png", "2.png")):
    """Writes a split of two folders in one of the forms of SIDES; returns its path, as `split_folder` gives it."""
    write_folders(folder, names, names, sides=[side.format(split) for side in SIDES[form]])
    return os.path.join(str(folder), split)


# Names


def test_files_sort_as_people_count(tmp_path):
    write_pairs(str(tmp_path), 11)
    os.rename(tmp_path / "3.png", tmp_path / "02.png")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "._1.png").write_text("")
    names = [os.path.basename(image.path) for image, in pair_files.find_pairs(str(tmp_path)).files]
    assert names == ["1.png", "02.png", "2.png", *("%d.png" % number for number in range(4, 12))]


@given(st.lists(st.text("ab019._-\u00b2", max_size=8)))
def test_any_names_have_one_order(names):
    assert sorted(names, key=pair_files.natural_key) == sorted(sorted(names), key=pair_files.natural_key)


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: not a folder"):
        pair_files.find_pairs(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no image in this folder"):
        pair_files.find_pairs(str(tmp_path))


def test_pairs_are_known_by_name_place_size_and_their_first_and_last_bytes(tmp_path):
    write_folders(tmp_path / "a", ["1.bmp", "2.bmp"], ["1.bmp", "2.bmp"])
    shutil.copytree(str(tmp_path / "a"), str(tmp_path / "b"))
    known = [pair_files.pairs_checksum(pair_files.find_pairs(str(tmp_path / name))) for name in "ab"]
    assert known[0] == known[1] and len(known[0]) == 64
    shutil.copy(str(tmp_path / "b" / "A" / "1.bmp"), str(tmp_path / "b" / "B" / "1.bmp"))  # another of its size
    known.append(pair_files.pairs_checksum(pair_files.find_pairs(str(tmp_path / "b"))))
    os.rename(str(tmp_path / "a" / "A"), str(tmp_path / "a" / "C"))
    os.rename(str(tmp_path / "a" / "B"), str(tmp_path / "a" / "A"))
    os.rename(str(tmp_path / "a" / "C"), str(tmp_path / "a" / "B"))
    known.append(pair_files.pairs_checksum(pair_files.find_pairs(str(tmp_path / "a"))))
    assert len(set(known)) == 3


def test_an_odd_width_is_refused(tmp_path):
    imageio.imwrite(tmp_path / "1.png", np.zeros((8, 17, 3), np.uint8))
    with pytest.raises(DataError, match=r"1\.png: 17 pixels wide"):
        pair_files.find_pairs(str(tmp_path))


@pytest.mark.parametrize("a,b,size,says", [
    (["1.png", "2.png", "3.png"], ["1.png"], (16, 16), r"A/2\.png: no file of this name .*for 1 more: .*A/3\.png"),
    (["1.png"], ["1.png", "7.png"], (16, 16), r"B/7\.png: no file of this name"),
    (["1.png", "1.bmp"], ["1.png"], (16, 16), "have the same name"),
    (["1.png"], ["1.png"], (16, 20), r"A/1\.png is 16x16 pixels and .*B/1\.png is 20x16"),
    ([], ["1.png"], (16, 16), "A: no image in this folder")])
def test_folders_that_do_not_pair_name_the_files(tmp_path, a, b, size, says):
    write_folders(tmp_path, a, b, size)
    with pytest.raises(DataError, match=says):
        pair_files.find_pairs(str(tmp_path))


# Layouts and splits


@pytest.mark.parametrize("form", SIDES)
def test_two_folders_are_a_split_in_every_form(tmp_path, form):
    for split in ("train", "val", "more"):
        path = write_split(tmp_path, form, split, names=["%s-%d.png" % (split, i) for i in range(3)])
        pairs = pair_files.find_pairs(path)
        assert pairs.layout == pair_files.find_pairs(path, "folders").layout == "folders"
        assert [[os.path.relpath(image.path, str(tmp_path)) for image in files] for files in pairs.files] == [
            [os.path.join(side.format(split), "%s-%d.png" % (split, i)) for side in SIDES[form]] for i in range(3)]
        assert pair_files.count_pairs(path) == 3
    found = [pair_files.split_folder(str(tmp_path), split, is_named=False) for split in ("train", None)]
    assert [os.path.basename(path) for path in found] == ["train", "val"]
    assert pair_files.split_folder(str(tmp_path), "more", is_named=True).endswith("more")


@pytest.mark.parametrize("form", SIDES)
def test_a_file_without_its_partner_names_the_folder_that_lacks_it(tmp_path, form):
    path = write_split(tmp_path, form, "train")
    missing = os.path.join(str(tmp_path), SIDES[form][1].format("train"))
    os.remove(os.path.join(missing, "2.png"))
    with pytest.raises(DataError, match=r"2\.png: no file of this name in %s;" % missing):
        pair_files.find_pairs(path)


def test_pairs_that_a_run_read_before_stay_what_they_are(tmp_path):
    write_pairs(str(tmp_path), 2)  # images in the data_dir itself, and folders that only look like splits
    write_split(tmp_path, "trainA/", "train")
    assert pair_files.split_folder(str(tmp_path), "train", is_named=False) == str(tmp_path)
    assert pair_files.find_pairs(str(tmp_path)).layout == "side_by_side"
    write_pairs(str(tmp_path / "train"), 2)  # a split of single files beside them
    assert pair_files.find_pairs(str(tmp_path / "train")).layout == "side_by_side"
    write_folders(tmp_path / "both", ["1.png"], ["1.png"])
    write_folders(tmp_path / "both", ["1.png"], ["1.png"], sides=("A/train", "B/train"))
    both = str(tmp_path / "both")
    assert pair_files.split_folder(both, "train", is_named=False) == both
    digest = hashlib.sha256()
    for name in (b"A/1.png", b"B/1.png"):  # less than a KB each, so both their first and their last KB
        content = (tmp_path / "both" / name.decode()).read_bytes()
        digest.update(b"%s %d %08x\n" % (name, len(content), zlib.crc32(2 * content)))
    assert pair_files.pairs_checksum(pair_files.find_pairs(both)) == digest.hexdigest()


@pytest.mark.parametrize("split,layout", [("train", "auto"), ("", "auto"), ("", "folders"), ("", "inputs")])
def test_where_no_pair_is_the_folders_with_images_and_the_layouts_are_named(tmp_path, split, layout):
    write_pairs(str(tmp_path / "photos" / "new"), 3)
    write_pairs(str(tmp_path / "maps"), 2)
    write_pairs(str(tmp_path / ".hidden"), 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as raised:
        pair_files.find_pairs(os.path.join(str(tmp_path), split), layout)
    message = str(raised.value)
    assert "images are in maps (2), photos/new (3) of %s;" % tmp_path in message and "\n" not in message
    for part in ("side by side", "DATA/train/A/", "DATA/trainA/", "DATA/A/train/", "docs/data.md"):
        assert part in message


# What is said of them


def write_sizes(folder, *sizes):
    """Writes black images, (width, height) each, as 1.png, 2.png, ..."""
    os.makedirs(str(folder), exist_ok=True)
    for number, (width, height) in enumerate(sizes, 1):
        imageio.imwrite(os.path.join(str(folder), "%d.png" % number), np.zeros((height, width, 3), np.uint8))


@pytest.mark.parametrize("sizes,layout,direction,says", [
    ([(64, 16)], "auto", "AtoB", "reading 1 pair from {}: side by side, halves of 32x16, A to B"),
    ([(64, 16), (20, 40)], "auto", "BtoA",
     "reading 2 pairs from {}: side by side, halves of 10x16 to 32x40, B to A"),
    ([(15, 16), (15, 16)], "colorize", "AtoB",
     "reading 2 pairs from {}: colorize, pictures of 15x16, luminance to colour"),
    ([(15, 16)], "colorize", "BtoA",
     "reading 1 pair from {}: colorize, pictures of 15x16, colour to luminance"),
    ([(15, 16), (16, 16)], "inputs", "AtoB",
     "reading 2 pictures from {}: inputs without targets, pictures of 15x16 to 16x16")])
def test_a_line_says_what_is_read(tmp_path, sizes, layout, direction, says):
    write_sizes(tmp_path, *sizes)
    assert pair_files.summary(pair_files.find_pairs(str(tmp_path), layout), direction) == says.format(tmp_path)


@pytest.mark.parametrize("form", SIDES)
def test_the_line_names_both_folders_of_partners(tmp_path, form):
    line = pair_files.summary(pair_files.find_pairs(write_split(tmp_path, form, "train")), "BtoA")
    first, second = (os.path.join(str(tmp_path), side.format("train")) for side in SIDES[form])
    assert line == "reading 2 pairs from %s and %s: two folders, pictures of 16x16, B to A" % (first, second)


def test_the_line_says_the_channels_that_are_not_those_of_colour_pictures(tmp_path):
    write_sizes(tmp_path, (64, 16))
    pairs = pair_files.find_pairs(str(tmp_path))
    assert pair_files.summary(pairs, "AtoB", (12, 3)).endswith("A to B, 12 channels to 3")
    assert pair_files.summary(pairs._replace(layout="inputs"), "AtoB", (1, 3)).endswith("of 64x16, 1 channel")


def test_square_images_that_are_cut_into_halves_are_doubtful(tmp_path):
    write_sizes(tmp_path, (32, 16), (16, 16), (32, 32))
    doubt, = pair_files.doubts(pair_files.find_pairs(str(tmp_path)), "use THIS")
    assert doubt.startswith("2 of 3 images are square, such as %s/2.png, and are cut into a left" % tmp_path)
    assert doubt.endswith("use THIS")
    for layout in ("inputs", "colorize"):
        assert not pair_files.doubts(pair_files.find_pairs(str(tmp_path), layout), "use THIS")


def test_files_left_out_for_their_endings_are_counted(tmp_path):
    path = write_split(tmp_path, "trainA/", "train")
    assert not pair_files.doubts(pair_files.find_pairs(path), "")
    for name in ("trainA/a.txt", "trainA/b.TXT", "trainB/c.heic", "trainB/LICENSE", "trainB/.DS_Store",
                 "trainA/Thumbs.db", "trainA/.x.jpg"):
        (tmp_path / name).write_text("")
    (tmp_path / "trainA" / "more.txt").mkdir()
    doubt, = pair_files.doubts(pair_files.find_pairs(path), "")
    assert doubt.startswith("left out 4 files: 2 .txt, 1 without an ending, 1 .heic; ")


# What came, went and changed


def test_the_first_pair_that_came_went_or_changed_is_named(tmp_path):
    def change(act):
        shutil.rmtree(str(tmp_path), ignore_errors=True)
        write_pairs(str(tmp_path), 10, extension=".bmp")
        before = pair_files.listing(pair_files.find_pairs(str(tmp_path)))
        act()
        return pair_files.first_change(pair_files.listing(pair_files.find_pairs(str(tmp_path))), before)

    one, two, ten = (str(tmp_path / ("%d.bmp" % number)) for number in (1, 2, 10))
    assert change(lambda: None) == ""
    assert change(lambda: os.remove(two)) == "2.bmp is gone"
    assert change(lambda: shutil.copy(one, str(tmp_path / "11.bmp"))) == "11.bmp was added"
    assert change(lambda: shutil.copy(one, ten)) == "10.bmp has changed"
    assert change(lambda: os.rename(two, str(tmp_path / "x.bmp"))) == "2.bmp is gone, and 1 more differ"
    assert pair_files.first_change([["1.bmp", 1, "0"]], []) == ""
