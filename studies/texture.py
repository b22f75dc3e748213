"""How much of a woven texture do pictures have? Transposed convolutions leave one, with periods of 2 and 4 pixels.

    python studies/texture.py runs/quick/test/val-2000/images/output runs/quick/test/val-2000/images/target

prints for each folder of PNGs the peak at a period of 2 and of 4 pixels: the power of the frequency with this period,
in one direction and any in the other, over the power of the frequencies around it; the mean of both directions, of grey
pictures. 1 is no peak.
"""

import os
import sys

import imageio.v3 as imageio
import numpy as np

PERIODS = 2, 4


def peak(picture, period):
    """Returns the peak of a picture, [H, W] with sides that are multiples of 4 and at least 32, at a period in pixels.
    """
    peaks = []
    for rows in (picture, picture.T):
        power = (np.abs(np.fft.rfft(rows - rows.mean(), axis=1)) ** 2).mean(axis=0)
        place = rows.shape[1] // period
        around = [power[place + step] for step in (-4, -3, -2, 2, 3, 4) if place + step < len(power)]
        peaks.append(power[place] / np.mean(around))
    return np.mean(peaks)


def main(folders):
    for folder in folders:
        pictures = [imageio.imread(os.path.join(folder, name)).mean(axis=-1) for name in sorted(os.listdir(folder))]
        print("%s: %s" % (folder, ", ".join(
            "period %d: %.2f" % (period, np.mean([peak(picture, period) for picture in pictures]))
            for period in PERIODS)))


if __name__ == "__main__":
    main(sys.argv[1:])
