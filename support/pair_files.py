"""How the files of a folder become pairs: the layouts, partners by name, and every check before decoding."""

import collections
import hashlib
import os
import re

from support import arrays, image_files
from support.errors import DataError

LAYOUTS = ("side_by_side", "folders", "arrays", "colorize", "lab", "inputs")
SPLITS = ("train", "val", "test")
DIRECTIONS = ("AtoB", "BtoA")  # AtoB makes A the input and B the target; BtoA swaps them

Pairs = collections.namedtuple("Pairs", "layout files skipped folder")
Pairs.__new__.__defaults__ = ((), "")
Pairs.__doc__ = """The pairs of a folder, in order.

* layout: one of LAYOUTS.
    side_by_side: a pair is one file, A in its left half and B in its right half.
    folders: a pair is a file in one folder and the file of the same stem in another (see `sides_of`).
    arrays: a pair is one .npz file with arrays named A and B.
    colorize: a pair is one file, which is B; A is its luminance.
    lab: a pair is one file, which is B; A is its lightness, the grey of the same L in Lab.
    inputs: a pair is one file, the input; there is no target.
* files: a list with a tuple of `image_files.Image` for each pair: one, or A's and B's.
* skipped: the messages about files that were left out.
* folder: where they are; for `folders`, the split's path, which `sides_of` takes.
"""
WHERE = ("a split such as train is a folder with one image per pair, A and B side by side, DATA/train/; or two folders "
         "with matching file names, DATA/train/A/ and DATA/train/B/, DATA/trainA/ and DATA/trainB/, or DATA/A/train/ "
         "and DATA/B/train/")
DEPTH = 2  # how many levels of folders `advice` searches for images
NO_DATA = {".ds_store", "thumbs.db", "desktop.ini"}  # what file managers leave behind


def split_folder(data_dir, split, is_named):
    """Returns the path of a split, as `find_pairs` takes it: data_dir/SPLIT, or data_dir where the images lie there.

    Args:
      data_dir: where the splits, or the images, are.
      split: None stands for the first of test, val and train that there is.
      is_named: whether the split was asked for by name, and has to be there.
    """
    has_images = bool(count_pairs(data_dir))
    there = [name for name in ("test", "val", "train") if os.path.isdir(os.path.join(data_dir, name))
             or (not has_images and sides_of(os.path.join(data_dir, name)))]
    if split is None:
        return os.path.join(data_dir, there[0]) if there else data_dir
    folder = os.path.join(data_dir, split)
    return folder if there or is_named or os.path.isdir(folder) else data_dir


def sides_of(folder):
    """Returns the two folders in which the partners of a split lie, (of A, of B), or None where there are none.

    They are A/ and B/ in the split's folder. Where there is no such folder as DATA/train, they are DATA/trainA and
    DATA/trainB, or DATA/A/train and DATA/B/train.
    """
    parent, name = os.path.split(os.path.normpath(folder))
    places = [[os.path.join(folder, side) for side in "AB"]]
    if not os.path.isdir(folder):
        places += [[os.path.join(parent, name + side) for side in "AB"],
                   [os.path.join(parent, side, name) for side in "AB"]]
    return next((tuple(sides) for sides in places if all(map(os.path.isdir, sides))), None)


def find_pairs(folder, layout="auto", skip_bad=False):
    """Returns the Pairs of a folder in natural order, every file checked by its header.

    Args:
      folder: where the images are, or a split's path as `sides_of` takes it.
      layout: one of LAYOUTS; auto is folders where `sides_of` finds two, arrays where the first file is an .npz with A
        and B, else side_by_side.
      skip_bad: whether files that can't be used are left out. All files are decoded then, which takes time.

    Raises:
      DataError: there is no such folder, no image in it, a file that can't be read, a file without its
        partner in the other folder, partners of different size, or images of different numbers of bands.
    """
    if layout == "auto" and sides_of(folder):
        layout = "folders"
    names = partners(folder) if layout == "folders" else [(path,) for path in image_paths(folder)]
    if layout == "auto":
        layout = "arrays" if arrays.is_pair(names[0][0]) else "side_by_side"
    files, skipped = [], []
    for paths in names:
        try:
            files.append(check_pair(paths, layout))
        except DataError as error:
            if not skip_bad:
                raise
            skipped.append(str(error))
    if skip_bad:
        bad = dict(image_files.undecodable(image for pair in files for image in pair))
        skipped += bad.values()
        files = [pair for pair in files if not bad.keys() & {image.path for image in pair}]
    if not files:
        raise DataError("%s: none of its images can be used; the first error: %s" % (folder, skipped[0]))
    for images in zip(*files):
        check_alike(images)
    return Pairs(layout, files, tuple(skipped), folder)


def image_paths(folder):
    """Returns the paths of a folder's images in natural order; raises DataError where there is none."""
    names = image_names(folder) if os.path.isdir(folder) else []
    if not names:
        what = "no image in this folder" if os.path.isdir(folder) else (
            "not a folder; --data_dir and --split name where the pairs are")
        raise DataError("%s: %s%s" % (folder, what, advice(folder)))
    return [os.path.join(folder, name) for name in names]


def advice(folder):
    """Says which folders in this one, or beside it where it is not there, hold images, and which layouts there are."""
    top = os.path.abspath(folder if os.path.isdir(folder) else os.path.dirname(folder))
    found = []
    for path, folders, names in os.walk(top):
        below = os.path.relpath(path, top)
        depth = 0 if path == top else 1 + below.count(os.sep)
        folders[:] = sorted((name for name in folders if depth < DEPTH and not name.startswith(".")), key=natural_key)
        images = sum(map(is_image_name, names))
        if images and depth:
            found.append("%s (%d)" % (below, images))
    there = "; images are in %s%s of %s" % (", ".join(found[:6]), ", ..." if found[6:] else "", top)
    return "%s; %s (docs/data.md)" % (there if found else "", WHERE)


def image_names(folder):
    """Returns the names of a folder's images, by their endings, in natural order; hidden files are left out."""
    return sorted((name for name in os.listdir(folder) if is_image_name(name)), key=natural_key)


def is_image_name(name):
    """Whether a file of this name counts as an image."""
    return name.lower().endswith(image_files.ENDINGS) and not name.startswith(".")


def natural_key(path):
    """Key of the natural order: 2.jpg before 10.jpg; 1.jpg and 01.jpg have an order too."""
    parts = re.split(r"([0-9]+)", path)  # every other part is a number
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)], path


def partners(folder):
    """Returns [(path of A, path of B)] of the files with the same stem in the two folders of a split, in order."""
    places, sides = sides_of(folder), []
    if not places:
        raise DataError("%s: it has no folders A/ and B/%s" % (folder, advice(folder)))
    for place in places:
        stems = collections.OrderedDict()
        for path in image_paths(place):
            other = stems.setdefault(stem(path), path)
            if other != path:
                raise DataError("%s and %s have the same name without the ending; rename one of them" % (other, path))
        sides.append(stems)
    unpaired = [(path, place) for ours, theirs, place in ((*sides, places[1]), (*sides[::-1], places[0]))
                for name, path in ours.items() if name not in theirs]
    if unpaired:
        more = [path for path, _ in unpaired[1:]]
        raise DataError("%s: no file of this name in %s%s; add that file, or remove this one" % (
            *unpaired[0], " (and for %d more: %s)" % (len(more), ", ".join(more[:3])) if more else ""))
    return [(path, sides[1][name]) for name, path in sides[0].items()]


def stem(path):
    """The name of a file without folder and ending."""
    return os.path.splitext(os.path.basename(path))[0]


def short_names(names):
    """The names without their endings, if these are still all different; else the names."""
    stems = [stem(name) for name in names]
    return stems if len(set(stems)) == len(stems) else names


def check_pair(paths, layout):
    """Returns the Images of a pair's files; raises DataError where they can't be a pair."""
    if layout == "arrays":
        if not arrays.is_pair(paths[0]):
            raise DataError("%s: not an .npz file with arrays named A and B, which --layout=arrays reads" % paths[0])
        images = tuple(image_files.check_image(paths[0], member) for member in arrays.MEMBERS)
    else:
        images = tuple(image_files.check_image(path) for path in paths)
    first, last = images[0], images[-1]
    if layout == "side_by_side" and first.width % 2:
        raise DataError("%s: %d pixels wide; a pair is two halves side by side and needs an even width"
                        % (first.path, first.width))
    if layout in ("colorize", "lab") and first.kind in image_files.MEMBERS:
        raise DataError("%s: --layout=%s takes pictures, not arrays" % (first.path, layout))
    if (first.height, first.width) != (last.height, last.width):
        raise DataError("%s is %dx%d pixels and %s is %dx%d; partners must have the same size" % (
            first.path, first.width, first.height, last.path, last.width, last.height))
    return images


def check_alike(images):
    """Raises DataError where Images that are read as one side can't be: of other bands, or types without one scale."""
    first = images[0]
    for image in images:
        if image.bands != first.bands:
            raise DataError("%s has %s and %s has %s; all must have the same number" % (
                first.path, counted(first.bands, "band"), image.path, counted(image.bands, "band")))
        if arrays.has_range(image.dtype) != arrays.has_range(first.dtype):
            raise DataError("%s holds %s and %s holds %s, which have no common scale; convert one" % (
                first.path, first.dtype, image.path, image.dtype))


def check_sizes(pairs, least, advice):
    """Raises DataError where a picture of a pair has a side of fewer pixels than `least`."""
    for image in (files[-1] for files in pairs.files):
        height, width = size_of_one(pairs, image)
        if min(height, width) < least:
            raise DataError("%s: an image of %dx%d pixels, fewer than the %dx%d %s"
                            % (image.path, width, height, least, least, advice))


def largest(pairs):
    """Returns (path, (height, width)) of the picture of a pair that has the most pixels."""
    image = max(all_images(pairs), key=lambda image: image.height * image.width)
    return image.path, size_of_one(pairs, image)


def count_pairs(folder):
    """The number of image names in a folder, or in the first of its `sides_of`; 0 where there is none."""
    folder = (sides_of(folder) or [folder])[0]
    return len(image_names(folder)) if os.path.isdir(folder) else 0


def in_direction(pair, direction):
    """(A, B) -> (input, target)."""
    return pair if direction == "AtoB" else pair[::-1]


def images_of(pairs, direction):
    """Returns {"input": Images, "output": Images}, the latter only if there are targets; a file may be in both."""
    sides = in_direction([[files[0] for files in pairs.files], [files[-1] for files in pairs.files]], direction)
    return collections.OrderedDict(list(zip(("input", "output"), sides))[:1 if pairs.layout == "inputs" else 2])


def all_images(pairs):
    """All Images of the pairs, in order."""
    return [image for files in pairs.files for image in files]


# ---------------------------------------------------------------------------------------------
# What a reader of the terminal should know


def summary(pairs, direction, channels=(3, 3)):
    """Returns the line that says which pairs are read, from where, and as what.

    Args:
      pairs: Pairs.
      direction: AtoB or BtoA.
      channels: of the input and the target; the line says them if they are not those of colour pictures.
    """
    names = {"colorize": {"A": "luminance", "B": "colour"}, "lab": {"A": "L", "B": "a and b"}}.get(
        pairs.layout, {"A": "A", "B": "B"})
    source, target = (names[side] for side in direction.split("to"))
    how = {"side_by_side": "side by side, halves of ", "folders": "two folders, pictures of ", "arrays": "arrays of ",
           "colorize": "colorize, pictures of ", "lab": "lab, pictures of ",
           "inputs": "inputs without targets, pictures of "}[pairs.layout]
    words, noun = [how + sizes(pairs)], "pair"
    if pairs.layout == "inputs":
        noun, channels = "picture", channels[:1]
    else:
        words.append("%s to %s" % (source, target))
    if set(channels) != {3}:
        words.append(" to ".join([counted(channels[0], "channel"), *map(str, channels[1:])]))
    return "reading %s from %s: %s" % (counted(len(pairs.files), noun), " and ".join(places(pairs)), ", ".join(words))


def counted(count, noun):
    """A number and its noun: 1 pair, 2 pairs."""
    return "%d %s%s" % (count, noun, "" if count == 1 else "s")


def places(pairs):
    """The folders in which the files of the pairs are, one or two."""
    return list(collections.OrderedDict.fromkeys(os.path.dirname(image.path) for image in pairs.files[0]))


def size_of_one(pairs, image):
    """Returns (height, width) of A or B in an Image of the pairs."""
    return image.height, image.width // (2 if pairs.layout == "side_by_side" else 1)


def sizes(pairs):
    """The size of the pairs' pictures as WIDTHxHEIGHT, or the range of them."""
    heights, widths = zip(*(size_of_one(pairs, image) for image, *_ in pairs.files))
    ends = ["%dx%d" % (end(widths), end(heights)) for end in (min, max)]
    return ends[0] if ends[0] == ends[1] else "%s to %s" % tuple(ends)


def doubts(pairs, way_out):
    """Returns a sentence for each thing that suggests that other pairs are meant than those that are read.

    Args:
      pairs: Pairs.
      way_out: what to do if the images are single pictures, as a clause.
    """
    found = []
    square = [image.path for image, in pairs.files if image.width == image.height] if (
        pairs.layout == "side_by_side") else []
    if square:
        found.append("%d of %d images are square, such as %s, and are cut into a left and a right half; if they are "
                     "single pictures, %s" % (len(square), len(pairs.files), square[0], way_out))
    endings = collections.Counter(sorted(ending for place in places(pairs) for ending in other_endings(place)))
    if endings:
        kinds = ", ".join("%d %s" % (count, ending or "without an ending") for ending, count in endings.most_common())
        found.append("left out %s: %s; the program reads %s files" % (
            counted(sum(endings.values()), "file"), kinds, " ".join(image_files.ENDINGS)))
    return found


def other_endings(folder):
    """Returns the endings of the files in a folder that are left out for them; hidden files do not count."""
    return [os.path.splitext(name)[1].lower() for name in os.listdir(folder)
            if not is_image_name(name) and not name.startswith(".") and name.lower() not in NO_DATA
            and os.path.isfile(os.path.join(folder, name))]


# ---------------------------------------------------------------------------------------------
# Are they the same pairs?


def marks(image, folder):
    """What an image file is known by: its path below a folder, its size in bytes and its checksum in hex."""
    return os.path.relpath(image.path, folder), os.path.getsize(image.path), "%08x" % image.checksum


def pairs_checksum(pairs):
    """Returns the sha256, in hex, of the `marks` of all files."""
    digest = hashlib.sha256()
    for image in all_images(pairs):
        path, size, checksum = marks(image, pairs.folder)
        digest.update(b"%s %d %s\n" % (os.fsencode(path), size, checksum.encode()))
    return digest.hexdigest()


def listing(pairs):
    """Returns a list for each pair, in order: the `marks` of its one or two files."""
    return [[mark for image in files for mark in marks(image, pairs.folder)] for files in pairs.files]


def first_change(now, before):
    """Says which pair is the first that came, went or changed between two `listing`s; "" where one is not known."""
    now, before = ({pair[0]: pair for pair in pairs} for pairs in (now, before))
    if not before:
        return ""
    changed = sorted((name for name in {**now, **before} if now.get(name) != before.get(name)), key=natural_key)
    if not changed:
        return ""
    what = "was added" if changed[0] not in before else "is gone" if changed[0] not in now else "has changed"
    return "%s %s%s" % (changed[0], what, ", and %d more differ" % (len(changed) - 1) if changed[1:] else "")
