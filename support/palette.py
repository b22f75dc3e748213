"""The canvas of an export: its size and the label colours, with which people draw inputs.

They are stored in the SavedModel's assets.extra/, a folder that TensorFlow and its servers ignore. No input is stored.
"""

import collections
import json
import os

import imageio.v3 as imageio
import numpy as np

from support import sample_set

MOST, LEAST = 16, 2e-4  # largest number of colours on a canvas, smallest share of all pixels for a colour
NEAR = 60  # largest distance of two colours of one label, since JPEG changes colours
CLOSE = 12  # at least half of all pixels are this close to a label colour; in facades' JPEGs, two thirds are
KNOWN = [
    sample_set.LABELS,
    collections.OrderedDict([  # CMP Facade Database, in the order of its labels
        ("background", (0, 0, 223)), ("facade", (0, 48, 255)), ("window", (0, 128, 255)), ("door", (0, 207, 255)),
        ("cornice", (32, 255, 223)), ("sill", (112, 255, 143)), ("balcony", (192, 255, 63)), ("blind", (255, 239, 0)),
        ("deco", (255, 159, 0)), ("molding", (255, 80, 0)), ("pillar", (255, 0, 0)), ("shop", (175, 0, 0))]),
    collections.OrderedDict([("black", (0, 0, 0)), ("white", (255, 255, 255))]),
]


def write(folder, size, inputs):
    """Writes canvas.json and, if the inputs are label maps, empty.png into a folder.

    canvas.json is {"size": [width, height], "palette": {name: [red, green, blue]}}. empty.png is a picture to start
    from; see `empty`.

    Args:
      size: (height, width) of the canvas in pixels.
      inputs: uint8 arrays [*size, 3], resized without new colours; may be empty.
    """
    palette = find(inputs) if inputs else {}
    with open(os.path.join(folder, "canvas.json"), "w") as file:
        json.dump({"size": list(size[::-1]), "palette": palette}, file, indent=2)
    if palette:
        imageio.imwrite(os.path.join(folder, "empty.png"), empty(inputs, palette))


def find(inputs, most=MOST):
    """Returns the label colours of some inputs as {name: (red, green, blue)}; empty if they are not label maps.

    If nearly all pixels have the colours of a known dataset, the result is the palette of that dataset. Otherwise, the
    name of a colour is #rrggbb.

    Args:
      inputs: uint8 arrays [H, W, 3].
      most: the largest number of colours, unless those of a known dataset are found.
    """
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in inputs]).astype(np.int32)
    codes, counts = np.unique(pixels @ np.int32([65536, 256, 1]), return_counts=True)
    colours, shares = np.stack([codes // 65536, codes // 256 % 256, codes % 256], axis=1), counts / len(pixels)

    def share_within(distance, palette):
        return shares[distances(colours, list(palette.values())).min(axis=1) <= distance].sum()

    found = max(KNOWN, key=lambda known: share_within(NEAR, known))
    if share_within(NEAR, found) < 0.8:  # not all pixels: JPEG adds colours along the edges
        found = commonest(colours, shares, most)
    is_photo = share_within(NEAR, found) < 0.8 or share_within(CLOSE, found) < 0.5  # many colours, or many shades
    return collections.OrderedDict() if is_photo else collections.OrderedDict(found)


def commonest(colours, shares, most):
    """Returns {#rrggbb: (red, green, blue)} of at most `most` frequent colours that are not shades of each other."""
    found = []
    while len(shares) and shares.max() > LEAST and len(found) < most:
        found.append(tuple(int(value) for value in colours[shares.argmax()]))
        far = distances(colours, found[-1:])[:, 0] > NEAR
        colours, shares = colours[far], shares[far]
    return {"#%02x%02x%02x" % colour: colour for colour in found}


def empty(inputs, palette):
    """Returns a picture to start from, uint8 [H, W, 3]: one colour with a rectangle of another, such as sky and wall.

    The colours are the two most frequent ones. The rectangle approximates the region in which one of them is more
    frequent than the other.
    """
    colours = np.array(list(palette.values()))
    indices = np.stack([distances(picture.reshape(-1, 3), colours).argmin(axis=1).reshape(picture.shape[:2])
                        for picture in inputs])
    order = np.argsort(-np.bincount(indices.ravel(), minlength=len(colours)))
    first, second = order[0], order[:2][-1]
    first_counts, second_counts = (indices == first).sum(axis=0), (indices == second).sum(axis=0)
    gain = second_counts - first_counts  # inputs that agree more if the pixel has the second colour
    inner, outer = heaviest_rectangle(gain), heaviest_rectangle(-gain)
    inside, ground, rectangle = (second, first, inner)
    if first_counts.sum() + gain[inner].sum() < second_counts.sum() - gain[outer].sum():
        inside, ground, rectangle = (first, second, outer)
    picture = np.full(inputs[0].shape, colours[ground], np.uint8)
    picture[rectangle] = colours[inside]
    return picture


def heaviest_rectangle(weights):
    """Returns (rows, columns), two slices, of a rectangle in [H, W] with a large sum; empty if no weight is above 0.

    With the same columns, no other rows have a larger sum; with the same rows, no other columns have a larger sum.
    """
    top = weights.sum(axis=1).argmax()
    rows = slice(top, top + 1)
    for _ in range(8):  # two or three rounds are usually enough
        columns = heaviest_interval(weights[rows].sum(axis=0))
        rows = heaviest_interval(weights[:, columns].sum(axis=1))
    return rows, columns


def heaviest_interval(weights):
    """Returns the slice of a list of numbers that has the largest sum."""
    sums = np.concatenate([[0], np.cumsum(weights)])
    end = (sums - np.minimum.accumulate(sums)).argmax()
    return slice(sums[:end + 1].argmin(), end)


def distances(pixels, colours):
    """Returns the distances between pixels [N, 3] and K colours, both in 0..255, as [N, K]."""
    return np.linalg.norm(pixels[:, None].astype(np.float32) - np.float32(colours), axis=2)
