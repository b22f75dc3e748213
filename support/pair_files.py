"""How the files of a folder become pairs: the layouts, partners by name, and every check before decoding."""

import collections
import hashlib
import os
import re

from support import image_files
from support.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
LAYOUTS = ("side_by_side", "folders", "colorize", "inputs")
SPLITS = ("train", "val", "test")

Pairs = collections.namedtuple("Pairs", "layout files skipped folder")
Pairs.__new__.__defaults__ = ((), "")
Pairs.__doc__ = """The pairs of a folder, in order.

* layout: one of LAYOUTS.
    side_by_side: a pair is one file, A in its left half and B in its right half.
    folders: a pair is a file in A/ and the file of the same stem in B/.
    colorize: a pair is one file, which is B; A is its luminance.
    inputs: a pair is one file, the input; there is no target.
* files: a list with a tuple of `image_files.Image` for each pair.
* skipped: the messages about files that were left out.
* folder: where they are.
"""

def split_folder(data_dir, split, is_named):
    """Returns the folder of a split's pairs: data_dir/SPLIT, or data_dir itself where it holds the images.

    Args:
      data_dir: where the splits, or the images, are.
      split: None stands for the first of test, val and train that there is.
      is_named: whether the split was asked for by name, and has to be there.
    """
    there = [name for name in ("test", "val", "train") if os.path.isdir(os.path.join(data_dir, name))]
    if split is None:
        return os.path.join(data_dir, there[0]) if there else data_dir
    folder = os.path.join(data_dir, split)
    return folder if there or is_named or os.path.isdir(folder) else data_dir


def find_pairs(folder, layout="auto", skip_bad=False):
    """Returns the Pairs of a folder in natural order, every file checked by its header.

    Args:
      folder: where the images, or A/ and B/, are.
      layout: one of LAYOUTS; auto is folders where there are A/ and B/, else side_by_side.
      skip_bad: whether files that can't be used are left out. All files are decoded then, which takes time.

    Raises:
      DataError: there is no such folder, no image in it, a file that can't be read, a file of A/ without its
        partner in B/ or the other way round, or partners of different size.
    """
    if layout == "auto":
        layout = "folders" if all(os.path.isdir(os.path.join(folder, side)) for side in "AB") else "side_by_side"
    names = partners(folder) if layout == "folders" else [(path,) for path in image_paths(folder)]
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
        raise DataError("%s: none of its images can be used; the first: %s" % (folder, skipped[0]))
    return Pairs(layout, files, tuple(skipped), folder)


def image_paths(folder):
    """Returns the paths of a folder's images in natural order; raises DataError where there is none."""
    if not os.path.isdir(folder):
        raise DataError("%s: not a folder; --data_dir and --split name where the pairs are" % folder)
    names = image_names(folder)
    if not names:
        raise DataError("%s: no image in this folder; pairs are %s files" % (folder, " ".join(SUFFIXES)))
    return [os.path.join(folder, name) for name in names]


def image_names(folder):
    """Returns the names of a folder's images, by their endings, in natural order; hidden files are left out."""
    names = (name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES) and not name.startswith("."))
    return sorted(names, key=natural_key)


def natural_key(path):
    """Key of the natural order: 2.jpg before 10.jpg; 1.jpg and 01.jpg have an order too."""
    parts = re.split(r"([0-9]+)", path)  # every other part is a number
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)], path


def partners(folder):
    """Returns [(path in A/, path in B/)] of the files with the same stem, in order."""
    sides = []
    for side in "AB":
        stems = collections.OrderedDict()
        for path in image_paths(os.path.join(folder, side)):
            other = stems.setdefault(stem(path), path)
            if other != path:
                raise DataError("%s and %s have the same name, by which partners are found; rename one" % (other, path))
        sides.append(stems)
    unpaired = [path for ours, theirs in (sides, sides[::-1]) for name, path in ours.items() if name not in theirs]
    if unpaired:
        raise DataError("%s: no file of this name in the other of A/ and B/%s; add it, or remove this one" % (
            unpaired[0], " (and for %d more: %s)" % (len(unpaired) - 1, ", ".join(unpaired[1:4]))
            if unpaired[1:] else ""))
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
    images = tuple(image_files.check_image(path) for path in paths)
    first, last = images[0], images[-1]
    if layout == "side_by_side" and first.width % 2:
        raise DataError("%s: %d pixels wide; a pair is two halves side by side and needs an even width"
                        % (first.path, first.width))
    if (first.height, first.width) != (last.height, last.width):
        raise DataError("%s is %dx%d pixels and %s is %dx%d; partners must have the same size" % (
            first.path, first.width, first.height, last.path, last.width, last.height))
    return images


def check_sizes(pairs, least, advice):
    """Raises DataError where a picture of a pair has a side of fewer pixels than `least`."""
    for image in (files[-1] for files in pairs.files):
        width = image.width // (2 if pairs.layout == "side_by_side" else 1)
        if min(image.height, width) < least:
            raise DataError("%s: an image of %dx%d pixels, fewer than the %dx%d %s"
                            % (image.path, width, image.height, least, least, advice))


def count_pairs(folder):
    """The number of image names in a folder, or in its A/; 0 where there is none."""
    return sum(len(image_names(path)) for path in (folder, os.path.join(folder, "A")) if os.path.isdir(path))


def all_images(pairs):
    """All Images of the pairs, in order."""
    return [image for files in pairs.files for image in files]


def pairs_checksum(pairs):
    """Returns the sha256, in hex, of the files' paths below the pairs' folder, their sizes in bytes and checksums."""
    digest = hashlib.sha256()
    for image in all_images(pairs):
        below = os.fsencode(os.path.relpath(image.path, pairs.folder))
        digest.update(b"%s %d %08x\n" % (below, os.path.getsize(image.path), image.checksum))
    return digest.hexdigest()
