"""A peer's part of quality.py, in a process of its own: trains it and writes its outputs on val as PNGs.

    python studies/quality_peer.py '{"peer": "peer_torch", "data_dir": "data/sample", "steps": 192, ...}'

One image at a time, with dropout and the statistics of that image, as the peer's own test script or notebook does.
"""

import importlib
import json
import os
import sys

import numpy as np
from PIL import Image


def main(peer, data_dir, direction, images, seed, batch, steps, **options):
    module = importlib.import_module(peer)
    module.seed(seed)
    step, generate, _ = module.trainer(**options)
    data = iter(module.pairs(os.path.join(data_dir, "train"), batch, direction=direction, resize="bilinear"))
    for _ in range(steps):
        step(*next(data))
    os.makedirs(images, exist_ok=True)
    val = os.path.join(data_dir, "val")
    for name in sorted(os.listdir(val)):
        pair = np.float32(Image.open(os.path.join(val, name)).convert("RGB")) / 127.5 - 1
        half = np.split(pair, 2, axis=1)[0 if direction == "AtoB" else 1]
        output = generate(np.ascontiguousarray(half[np.newaxis]))[0]
        if not np.isfinite(output).all():
            sys.exit("error: %s: the output for %s is not finite" % (peer, name))
        Image.fromarray(np.uint8(np.round((output + 1) * 127.5))).save(
            os.path.join(images, os.path.splitext(name)[0] + "-output.png"))
    print(json.dumps({"images": images}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
