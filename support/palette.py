"""What an export says about drawing inputs for it: the size of the canvas and the label colours.

It lies in the SavedModel's assets.extra/, a folder that TensorFlow and its servers leave alone. No input is kept.
"""

import collections
import json
import os

import imageio.v3 as imageio
import numpy as np

from support import sample_set

MOST, LEAST = 16, 2e-4  # colours of a palette, and the share of all pixels that each of them has
NEAR = 60  # how far two colours may be apart to be one label: JPEG moves them
CLOSE = 12  # within this distance of a label colour lies at least half of all pixels, two thirds in facades' JPEGs
KNOWN = [
    sample_set.LABELS,
    collections.OrderedDict([  # CMP Facade Database, in the order of its labels
        ("background", (0, 0, 223)), ("facade", (0, 48, 255)), ("window", (0, 128, 255)), ("door", (0, 207, 255)),
        ("cornice", (32, 255, 223)), ("sill", (112, 255, 143)), ("balcony", (192, 255, 63)), ("blind", (255, 239, 0)),
        ("deco", (255, 159, 0)), ("molding", (255, 80, 0)), ("pillar", (255, 0, 0)), ("shop", (175, 0, 0))]),
    collections.OrderedDict([("black", (0, 0, 0)), ("white", (255, 255, 255))]),
]


def write(folder, size, inputs):
    """Writes canvas.json and, where the inputs are label maps, empty.png into a new folder.

    canvas.json is {"size": [width, height], "palette": {name: [red, green, blue]}}. empty.png is a picture to begin
    with; see `empty`.

    Args:
      size: (height, width) of the canvas in pixels.
      inputs: uint8 arrays [*size, 3], resized without making new colours; may be none.
    """
    palette = find(inputs) if inputs else {}
    os.makedirs(folder)
    with open(os.path.join(folder, "canvas.json"), "w") as file:
        json.dump({"size": list(size[::-1]), "palette": palette}, file, indent=2)
    if palette:
        imageio.imwrite(os.path.join(folder, "empty.png"), empty(inputs, palette))


def find(inputs):
    """Returns {name: (red, green, blue)} of the label colours in some inputs; empty where they are not label maps.

    Where nearly all pixels have the colours of a known set it is that set; else a colour's name is #rrggbb.
    """
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in inputs]).astype(np.int64)
    codes, counts = np.unique(pixels @ [65536, 256, 1], return_counts=True)
    colours, shares = np.stack([codes // 65536, codes // 256 % 256, codes % 256], axis=1), counts / len(pixels)

    def share_within(distance, palette):
        return shares[distances(colours, list(palette.values())).min(axis=1) <= distance].sum()

    found = max(KNOWN, key=lambda known: share_within(NEAR, known))
    if share_within(NEAR, found) < 0.8:  # JPEG makes other colours along the edges
        found = commonest(colours, shares)
    is_photo = share_within(NEAR, found) < 0.8 or share_within(CLOSE, found) < 0.5  # has many colours, or shades of few
    return collections.OrderedDict() if is_photo else collections.OrderedDict(found)


def commonest(colours, shares):
    """Returns {#rrggbb: (red, green, blue)} of the commonest colours that are no shades of each other."""
    found = []
    while len(shares) and shares.max() > LEAST and len(found) < MOST:
        found.append(tuple(int(value) for value in colours[shares.argmax()]))
        far = distances(colours, found[-1:])[:, 0] > NEAR
        colours, shares = colours[far], shares[far]
    return {"#%02x%02x%02x" % colour: colour for colour in found}


def empty(inputs, palette):
    """Returns a picture to begin with, uint8 [H, W, 3]: one colour with a rectangle of another, such as sky and wall.

    The colours are the two commonest ones, and the rectangle is where one of them is commoner than the other, as nearly
    as a rectangle can say it.
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

    No other rows with the same columns, and no other columns with the same rows, have a larger sum.
    """
    top = weights.sum(axis=1).argmax()
    rows = slice(top, top + 1)
    for _ in range(8):  # it settles in two or three rounds
        columns = heaviest_interval(weights[rows].sum(axis=0))
        rows = heaviest_interval(weights[:, columns].sum(axis=1))
    return rows, columns


def heaviest_interval(weights):
    """Returns the slice of a list of numbers that has the largest sum."""
    sums = np.concatenate([[0], np.cumsum(weights)])
    end = (sums - np.minimum.accumulate(sums)).argmax()
    return slice(sums[:end + 1].argmin(), end)


def distances(pixels, colours):
    """Returns the distance of each of [N, 3] pixels from each of K colours in 0..255, as [N, K]."""
    return np.linalg.norm(pixels[:, None].astype(np.float32) - np.float32(colours), axis=2)
