"""What an export keeps of the training inputs, so that people can draw such inputs: their colours and some examples.

It lies in the SavedModel's assets.extra/, a folder that TensorFlow and its servers leave alone.
"""

import collections
import json
import os

import imageio.v3 as imageio
import numpy as np
import scipy.ndimage

from support import sample_set

EXAMPLES = 6  # inputs that are kept as they are
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


def write(folder, inputs):
    """Writes palette.json ({name: [red, green, blue]}), empty.png and input-1.png, ... into a new folder.

    Args:
      inputs: uint8 arrays [H, W, 3] of one size, at least one, resized without making new colours.
    """
    palette = find(inputs)
    os.makedirs(folder)
    with open(os.path.join(folder, "palette.json"), "w") as file:
        json.dump(palette, file, indent=2)
    pictures = {"input-%d" % number: picture for number, picture in enumerate(inputs[:EXAMPLES], 1)}
    if palette:
        pictures["empty"] = empty(inputs, palette)
    for name, picture in pictures.items():
        imageio.imwrite(os.path.join(folder, name + ".png"), picture)


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
    """Returns an input to begin with, [H, W, 3]: at each place the one that is there more often of the two commonest
    colours, such as sky and wall.
    """
    colours = np.array(list(palette.values()))
    indices = np.stack([distances(picture.reshape(-1, 3), colours).argmin(axis=1).reshape(picture.shape[:2])
                        for picture in inputs])
    order = np.argsort(-np.bincount(indices.ravel(), minlength=len(colours)))
    first, second = order[0], order[:2][-1]
    is_second = (indices == second).sum(axis=0) > (indices == first).sum(axis=0)
    is_second = scipy.ndimage.median_filter(is_second, size=1 + min(is_second.shape) // 16)  # an even outline
    return np.uint8(np.where(is_second[..., None], colours[second], colours[first]))


def distances(pixels, colours):
    """Returns the distance of each of [N, 3] pixels from each of K colours in 0..255, as [N, K]."""
    return np.linalg.norm(pixels[:, None].astype(np.float32) - np.float32(colours), axis=2)
