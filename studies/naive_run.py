"""Would a real run have died of the loss as people write it? Trains as train.py does, with that text.

    python studies/naive_run.py --flagfile=flags/facades.flags --output_dir=runs/naive --log_every=1

The losses are -log(D + eps) and -log(1 - D + eps) of D = sigmoid(logits), in float32. All else is train.py's: its
flags, its run folder, and its end at the first number that is not finite, with the step. To go on with such a run,
start this program again: train.py would go on with the default loss.
"""

import os
import sys
import unittest.mock

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from absl import app

import log_stability_measure as measuring
import pix2pix
import train

if __name__ == "__main__":
    with unittest.mock.patch.object(pix2pix, "patch_loss", measuring.naive_in_training):
        app.run(train.main)
