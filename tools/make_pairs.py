"""Makes training pairs, A in the left half and B in the right, from a folder of pictures or from two folders.

    python tools/make_pairs.py edges PHOTOS --output_dir=datasets/mine
    python tools/make_pairs.py join A B --output_dir=datasets/mine

With edges, grey, blur and hole, B is a picture and A is made from it; join takes A and B from files with matching
names. The pairs are PNG files in OUTPUT_DIR/train and OUTPUT_DIR/val. If the folder has train/, val/ or test/, its
pictures stay in them. docs/making_pairs.md shows each kind.
"""

import argparse
import os
import sys
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import imageio.v3 as imageio
import numpy as np
import PIL.Image
import PIL.ImageOps

from support import faults, image_files, pair_files, storage
from support.errors import DataError, RunError, UserError
from tools.pair_kinds import KINDS


def read(path, size):
    """Returns a picture as uint8 [H, W, 3], as people see it; size: of its shorter side then, in pixels, 0 as it is.

    Raises:
      DataError: it is none, is damaged, or has more than 8 bits a channel.
    """
    if image_files.check_image(path).kind not in (image_files.PLAIN, image_files.OTHER):
        raise DataError("%s: more than 8 bits per channel, or bands; a pair has 8 bits and three colours. Train from "
                        "A/ and B/ folders instead" % path)
    try:
        with PIL.Image.open(path) as image:
            image = PIL.ImageOps.exif_transpose(image).convert("RGB")
            if size:
                sides = [max(1, round(side * size / min(image.size))) for side in image.size]
                image = image.resize(sides, PIL.Image.LANCZOS)
            return np.asarray(image)
    except Exception as error:  # whatever Pillow makes of damaged pixels
        raise DataError("%s: can't be decoded (%s); replace or remove it" % (path, error))


def find(folders, share):
    """Returns {(split, name): paths, one in each folder} of the pictures in folders with equal splits.

    Raises:
      DataError: there is no picture, two have one name, or one lacks its partner.
    """
    splits = [split for split in pair_files.SPLITS if os.path.isdir(os.path.join(folders[0], split))]
    found = {}
    for split in splits or [""]:
        sides = [by_name(os.path.join(folder, split) if split else folder) for folder in folders]
        alone = [path for mine, other in zip(sides, reversed(sides))
                 for name, path in mine.items() if name not in other]
        if alone:
            raise DataError("%s: no picture of this name in the other folder (%d such files); add it, or remove this "
                            "one" % (alone[0], len(alone)))
        names = list(sides[0])
        val = sorted(names, key=lambda name: (zlib.crc32(os.fsencode(name)), name))[:int(share * len(names) + 0.5)]
        found.update({(split or ("val" if name in val else "train"), name): [side[name] for side in sides]
                      for name in names})
    return found


def by_name(folder):
    """Returns {name without ending: path} of a folder's pictures in natural order."""
    names = pair_files.image_names(folder) if os.path.isdir(folder) else []
    if not names:
        raise DataError("%s: no folder with pictures (%s)" % (folder, " ".join(image_files.ENDINGS)))
    found = {}
    for path in (os.path.join(folder, name) for name in names):
        other = found.setdefault(pair_files.stem(path), path)
        if other != path:
            raise DataError("%s and %s have the same name, and so would their pairs; rename one" % (other, path))
    return found


def pair(kind, paths, size):
    """Returns a pair, uint8 [H, 2 W, 3]; raises DataError where there can be none."""
    pictures = [read(path, size) for path in paths]
    if kind != "join":
        pictures.insert(0, KINDS[kind](pictures[0], zlib.crc32(os.fsencode(pair_files.stem(paths[0])))))
    (height, width), other = pictures[0].shape[:2], pictures[1].shape[:2]
    if (height, width) != other:
        raise DataError("%s is %dx%d pixels and %s is %dx%d; A and B must have the same size"
                        % (paths[0], width, height, paths[-1], other[1], other[0]))
    return np.concatenate(pictures, axis=1)


def make(kind, folders, output_dir, share=0.1, size=0):
    """Writes the pairs; returns their number. Nothing is left where something is wrong; raises UserError then."""
    if os.path.exists(output_dir) and (not os.path.isdir(output_dir) or os.listdir(output_dir)):
        raise RunError("%s: there is something already; name a new folder with --output_dir" % output_dir)
    found = find(folders, share)
    for path in (path for paths in found.values() for path in paths):
        image_files.check_image(path)  # all headers, before anything is decoded
    with storage.replacing(os.path.abspath(output_dir)) as new:
        for (split, name), paths in found.items():
            os.makedirs(os.path.join(new, split), exist_ok=True)
            imageio.imwrite(os.path.join(new, split, name + ".png"), pair(kind, paths, size))
    return len(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*KINDS, "join"])
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="of the pictures; for join, A and B")
    parser.add_argument("--output_dir", required=True, help="a new folder")
    parser.add_argument("--val", type=float, default=0.1, help="share of the pairs for val, 0 to below 1 (default 0.1)")
    parser.add_argument("--size", type=int, default=0,
                        help="resize pictures so that the shorter side has this many pixels (default 0: leave them)")
    options = parser.parse_args()
    if len(options.folders) != (2 if options.kind == "join" else 1):
        parser.error("join takes two folders, A and B; the other kinds take one")
    if not 0 <= options.val < 1 or options.size < 0:
        parser.error("--val must be from 0 to below 1, and --size at least 0")
    try:
        with faults.naming_failures(options.output_dir, "smaller pictures take less"):
            count = make(options.kind, options.folders, options.output_dir, options.val, options.size)
    except UserError as error:
        sys.exit("error: %s" % error)
    print("%d pairs in %s; train with: python train.py --data_dir=%s" % (
        count, options.output_dir, options.output_dir))


if __name__ == "__main__":
    main()
