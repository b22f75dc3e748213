"""The results of test mode in a run's test/: how their folders and pictures are named, and which ones are there.

A result's folder is named by everything that decides the result, so that no result takes the place of another.
"""

import collections
import hashlib
import json
import os

from support import checkpoints, pair_files
from support.flag_texts import size_of

MOST_BYTES = 240  # of a name; file systems take 255, and storage.py adds up to 9 for what is not whole yet
PARTS = ("index.html", "metrics.csv", "metrics.json", "images")  # of a result; images/ is the last to be moved


def results_of(folder):
    """The folder of a run's results."""
    return os.path.join(folder, "test")


def facts_of(options, pairs, checkpoint):
    """Returns what metrics.json says of a result beside its measures, {name: value}.

    Args:
      options: the flags in force.
      pairs: the Pairs that are tested.
      checkpoint: the checkpoint that is tested.
    """
    return collections.OrderedDict([
        ("checkpoint", os.path.basename(checkpoint)), ("step", checkpoints.step_of(checkpoint)),
        ("folder", pairs.folder), ("layout", pairs.layout), ("direction", options.direction),
        ("image_size", "%dx%d" % size_of(options.image_size) if options.test_resize else None),
        ("test_dropout", options.test_dropout), ("weights", "averaged" if options.test_ema else "plain"),
        ("precision", options.precision), ("pairs_sha256", pair_files.pairs_checksum(pairs))])


def path_of(folder, facts, choices):
    """Returns the folder for a result of a run.

    It is test/NAME, or test/NAME-LETTERS if test/NAME holds the result of other pairs that lay in the same place.

    Args:
      folder: the run folder.
      facts: see `facts_of`; eight letters stand for the checksum of the pairs.
      choices: see `folder_name`, which gives the NAME.
    """
    name, pairs_sha256 = folder_name(facts["folder"], facts["step"], choices), facts["pairs_sha256"]
    path = os.path.join(results_of(folder), name)
    try:
        with open(os.path.join(path, "metrics.json"), encoding="utf-8") as file:
            there = json.load(file).get("pairs_sha256", pairs_sha256)
    except (OSError, ValueError, AttributeError):
        return path
    other = fitting("%s-%s" % (name, checksum(pairs_sha256)))
    return path if there == pairs_sha256 else os.path.join(results_of(folder), other)


def checksum(text):
    """Returns eight letters from a to p that stand for a path or another text."""
    digits = hashlib.sha256(os.fsencode(text)).hexdigest()[:8]
    return "".join("abcdefghijklmnop"[int(digit, 16)] for digit in digits)


def fitting(name):
    """Returns the name if file systems take it, else its beginning and its checksum."""
    if len(os.fsencode(name)) <= MOST_BYTES:
        return name
    end = "~" + checksum(name)
    while len(os.fsencode(name + end)) > MOST_BYTES:
        name = name[:-1]
    return name + end


def folder_name(folder, step, choices):
    """Returns the name of a result's folder: SPLIT-STEP, and a word for each choice that is not the usual one.

    Examples are val-3200, val-3200-nodropout-bfloat16 and, of another data_dir, val-3200-facades-kdhgbcaf. Different
    arguments give different names.

    Args:
      folder: where the pairs are; SPLIT is its own name.
      step: of the checkpoint.
      choices: {name of a flag: value} in a fixed order. data_dir, which is there if `folder` is not of the run's data,
        and checkpoint, which is there if it is not the run's own, stand for themselves as paths.
    """
    folder = os.path.abspath(folder)
    words = [word(name, folder if name == "data_dir" else value) for name, value in choices.items()]
    return fitting("-".join([os.path.basename(folder), "%d" % step] + words))


def word(name, value):
    """Returns a flag's value as a part of a name. None is a number, which alone the step is."""
    if name == "data_dir":
        return "%s-%s" % (os.path.basename(os.path.dirname(value)), checksum(value))
    if name == "checkpoint":
        return "checkpoint_" + checksum(os.path.abspath(value))
    if isinstance(value, bool):
        return ("" if value else "no") + name.replace("test_", "")
    if name == "image_size":
        return "%dx%d" % size_of(value)
    if name in ("layout", "direction", "resize_method", "precision"):  # whose values say enough
        return value
    return name + str(value).replace("-", "_")


def found(folder):
    """Returns [(name, what its metrics.json holds)] of the results in a folder, in natural order."""
    there = []
    for name in sorted(os.listdir(folder), key=pair_files.natural_key):
        if os.path.isfile(os.path.join(folder, name, "index.html")):
            try:
                with open(os.path.join(folder, name, "metrics.json")) as file:
                    there.append((name, json.load(file)))
            except (OSError, ValueError):  # an earlier version wrote none where there was no target
                there.append((name, {}))
    return there


def set_older_aside(folder):
    """Moves the result of an earlier version, which lies in test/ itself, to test/older (or older-2, and so on)."""
    if not os.path.isdir(os.path.join(folder, "images")):
        return
    aside, number = os.path.join(folder, "older"), 1
    while os.path.exists(aside):
        number += 1
        aside = os.path.join(folder, "older-%d" % number)
    os.mkdir(aside)
    for part in PARTS:
        if os.path.exists(os.path.join(folder, part)):
            os.rename(os.path.join(folder, part), os.path.join(aside, part))
