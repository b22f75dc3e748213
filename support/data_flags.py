"""What the flags of the data mean: which pairs are read, and how their inputs and targets are seen.

`options` are always the flags in force, a NamedTuple such as train.Options. Whoever needs the pixels of pairs passes
the function of reader.py that reads them.
"""

import contextlib
import math
import os

from support import bands, flag_texts, lab, label_maps, pair_files, palette, rendering, reports, sample_set
from support.errors import DataError, FlagError
from support.flag_texts import size_of

SAMPLE_ROWS = 4  # pairs in a sample grid
WAYS_OUT = {"train": "put the partners into A/ and B/, or use --layout=colorize",  # if the data are single pictures
            "test": "use --layout=inputs"}
PALETTE_PAIRS, PALETTE_PIXELS = 64, 64 * 512 ** 2  # most pairs and pixels in which label colours are looked for


def folder_of(options, split):
    """Returns the folder to read (see `pair_files.split_folder`); draws the sample set on its first use."""
    if options.data_dir == sample_set.FOLDER and not os.path.exists(options.data_dir):
        print("drawing the sample set in %s" % options.data_dir)
        sample_set.draw(options.data_dir)
    return pair_files.split_folder(options.data_dir, split, is_named=bool(options.split))


def pairs_of(options, split):
    """Returns the Pairs of a split, or where it is None of the first split; prints what was left out."""
    return pairs_in(options, folder_of(options, split), options.skip_bad_images)


def pairs_in(options, folder, skip_bad):
    """Returns the Pairs of a folder and prints what was left out; see `pair_files.find_pairs`."""
    pairs = pair_files.find_pairs(folder, options.layout, skip_bad)
    reports.left_out(pairs)
    return pairs


def find(options, split, originals):
    """Finds the pairs of a split; returns the Pairs, and the options with the channels and the ranges in their files.

    Prints what is read and each doubt, each range that training finds, and which values lie outside of a range.

    Args:
      options: see above.
      split: name of the split, or None; see `pair_files.split_folder`.
      originals: reader.originals.
    """
    pairs = pairs_of(options, split)
    sides = pair_files.images_of(pairs, options.direction)
    channels = {}
    for (name, images), of_lab in zip(sides.items(), lab.CHANNELS):
        flag = name + "_channels"
        channels[flag] = of_lab if options.lab else bands.channels(images, getattr(options, flag), "--" + flag)
    options = options._replace(**channels)
    reports.reading(pairs, options.direction, (options.input_channels, options.output_channels), WAYS_OUT[options.mode])
    as_they_are = [bands.Side(channels=images[0].bands) for images in sides.values()]
    ranges, lines = bands.ranges(
        sides, {name: getattr(options, name + "_range") for name in sides},
        originals(pairs, bands.View(options.direction, as_they_are[0], as_they_are[-1])),
        finds=options.mode == "train")
    for line in lines:
        reports.say(line)
    return pairs, options._replace(**{name + "_range": text for name, text in ranges.items()})


def values_of(options, pairs=None):
    """Returns {"input": what `bands.described` returns, "output": the same} of some pairs, or of unknown ones."""
    sides = pair_files.images_of(pairs, options.direction) if pairs else {"input": [None], "output": [None]}
    return {name: bands.described(images[0], channels, getattr(options, name + "_range"))
            for (name, images), channels in zip(sides.items(), channels_of(options))}


def view_of(options, pairs):
    """Returns the bands.View that training and testing have of some pairs."""
    sides = []
    for (name, images), method, picture in zip(
            pair_files.images_of(pairs, options.direction).items(), resize_methods(options), lab.OF_PICTURES):
        channels, given = (getattr(options, name + what) for what in ("_channels", "_range"))
        channels = bands.channels(images, picture if options.lab else channels, "--%s_channels" % name)
        sides.append(bands.Side(method, channels, *bands.limits(images, given, "--%s_range" % name),
                                is_lightness=options.lab and name == "input"))
    return bands.View(options.direction, sides[0], sides[-1])


def resize_methods(options):
    """Returns how inputs and targets are resized, two of bands.RESIZE_METHODS."""
    usual = ["nearest" if options.one_hot else options.resize_method, options.resize_method]
    return [auto if method == "auto" else method
            for method, auto in zip((options.input_resize, options.output_resize), usual)]


def load_size_of(options):
    """Returns (height, width) before the random crop, in pixels."""
    if options.load_size != "0":
        return size_of(options.load_size)
    return tuple(round(side * 286 / 256) for side in size_of(options.image_size))


def channels_of(options):
    """Returns the channels of inputs and outputs outside of the networks, which have other ones with --lab.

    They are 3 where neither a flag nor data says it, as with older checkpoints.
    """
    return lab.OF_PICTURES if options.lab else (options.input_channels or 3, options.output_channels or 3)


def shown_bands(options):
    """Returns the bands that --show_bands names, if it does."""
    return flag_texts.bands_of(options.show_bands) if options.show_bands else ()


def fixed_pairs(options, pairs, read_in_order):
    """Reads the fixed pairs of a run, (of the sample grids, of validation); each is (name, input, target) in numpy.

    Both are the first of val, [1, H, W, C] in [-1, 1]. Where none of val can be used, the sample grids show training
    pairs and validation has none.

    Args:
      options: see above.
      pairs: the Pairs to train on.
      read_in_order: reader.read_in_order.
    """
    def first(some, count):
        some = some._replace(files=some.files[:count])
        read = read_in_order(some, size_of(options.image_size), view_of(options, some))
        return [(os.path.basename(files[0].path), *pair) for pair, files in zip(read, some.files)]

    val, measured = os.path.join(options.data_dir, "val"), options.val_pairs if options.val_every else 0
    attempts = [True] if options.skip_bad_images else [False, True]  # the second one leaves bad files out
    for skip_bad in attempts if pair_files.count_pairs(val) else []:
        try:
            read = first(pairs_in(options, val, skip_bad), max(SAMPLE_ROWS, measured))
            return read[:SAMPLE_ROWS], read[:measured]
        except DataError as error:  # which must not end a run
            print("warning: %s; sample grids and validation leave it out" % error)
    return first(pairs, SAMPLE_ROWS), []


# ---------------------------------------------------------------------------------------------
# Label colours


def label_pictures(options, pairs, read_in_order):
    """Returns (inputs, targets) in which `palette.find` looks for label colours, uint8 [*image_size, 3] each."""
    height, width = size_of(options.image_size)
    count = min(PALETTE_PAIRS, max(PALETTE_PIXELS // (height * width), 1))
    some = pairs._replace(files=pairs.files[::math.ceil(len(pairs.files) / count)])
    view = view_of(options, some)
    nearest = [side._replace(resize_method="nearest") for side in view.sides]  # which makes no new colours
    view = bands.View(view.direction, *nearest)
    with contextlib.closing(read_in_order(some, (height, width), view)) as pairs_read:
        return list(zip(*([rendering.pixels(rendering.to_rgb(image[0])) for image in pair] for pair in pairs_read)))


def with_labels(options, pairs, read_in_order):
    """Returns the options with the label colours that --one_hot needs, those of the inputs if --labels is not given."""
    if options.one_hot and options.input_channels != 3:
        raise FlagError("--one_hot takes the classes from the colours of pictures, and the inputs in %s have %d "
                        "channels" % (pairs.folder, options.input_channels))
    if not options.one_hot or options.labels:
        return options
    colours = list(palette.find(label_pictures(options, pairs, read_in_order)[0], label_maps.MOST).values())
    if len(colours) < 2:
        raise FlagError("--one_hot: the inputs in %s are not label maps, which have few colours; name the colours with "
                        "--labels=RRGGBB,RRGGBB,..., or leave --one_hot out" % pairs.folder)
    reports.say("%d classes in the inputs: --labels=%s" % (len(colours), flag_texts.text_of(colours)))
    return options._replace(labels=flag_texts.text_of(colours))


def target_colours(options, pairs, read_in_order):
    """Returns the label colours of the targets, [(red, green, blue)]; empty if they are not label maps, or missing."""
    targets = pair_files.images_of(pairs, options.direction).get("output")
    if not targets or not targets[0].is_plain:
        return []
    return list(palette.find(label_pictures(options, pairs, read_in_order)[1], label_maps.MOST).values())


def inputs_for_palette(options, split, read_in_order):
    """Returns the first inputs of a split at image_size, uint8 [H, W, 3], in which an export looks for label colours.

    The list is empty if data_dir is missing; the export then holds no label colours.
    """
    if not os.path.isdir(options.data_dir):
        return []
    try:
        return label_pictures(options, pairs_of(options, split), read_in_order)[0]
    except DataError as error:
        print("warning: %s; the export has no label colours for demo/" % error)
        return []
