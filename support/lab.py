"""Colours as CIE L*a*b*, in which L is how light a colour is and a and b are its hue, for --layout=lab.

The networks see L and make a and b. The output keeps the L of the input, so that a blurred output is as sharp in
lightness as its input. Outside of the networks, pictures are sRGB in [-1, 1]. The white is D65 for the observer of 2
degrees, and all constants are those of scikit-image, with which a and b of a grey are at most 0.005.

Scaled, L of 0..100 is [-1, 1], and a and b of -110..110 are [-1, 1], as in the best-known pix2pix programs. No colour
of sRGB lies outside: its a is from -86.2 to 98.3, and its b from -107.9 to 94.5.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from support.precisions import fence

CHANNELS = (1, 2)  # of the networks' input and output: L; a and b
OF_PICTURES = (1, 3)  # of what people see of them: grey; RGB
MOST = 110.0  # the a or b that becomes 1

TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
FROM_XYZ = np.linalg.inv(TO_XYZ).tolist()
WHITE = (0.95047, 1.0, 1.08883)  # X, Y and Z


def is_on(flags):
    """Whether the networks see L and make a and b, from {name of a flag: value}."""
    return flags["lab"] or flags["layout"] == "lab"


def takes(name, values):
    """Returns the rule that a flag has one of some values with --lab, see RULES."""
    return "layout lab " + name, lambda flags: not is_on(flags) or flags[name] in values, (
        "--layout=lab and --lab predict a and b (2 channels) from L (1 channel); leave --%s out" % name)


def layout_takes(name, value):
    """Returns the rule that a flag has a value with --layout=lab, see RULES."""
    return "layout " + name, lambda flags: flags["layout"] != "lab" or flags[name] == value, (
        "--layout=lab takes the L of pictures as the input; leave --%s out" % name)


# (names of flags, function from {name: value} to whether the values fit together, message where they don't)
RULES = [
    takes("input_channels", [None, 1]), takes("output_channels", [None, 2]), takes("output_range", [None]),
    takes("one_hot", [False]), layout_takes("direction", "AtoB"), layout_takes("input_range", None),
    ("layout input_resize output_resize",
     lambda flags: flags["layout"] != "lab" or flags["input_resize"] == flags["output_resize"],
     "--layout=lab takes input and target from one picture; set both or leave --input_resize and --output_resize out")]


def to_lab(pictures):
    """sRGB [..., 3] in [-1, 1] -> scaled L, a and b, float32 [..., 3] in [-1, 1]."""
    x, y, z = (cube_root(part / white) for part, white in zip(mixed(linear(fence(pictures)), TO_XYZ), WHITE))
    return tf.concat([scaled_lightness(y), 500 / MOST * (x - y), 200 / MOST * (y - z)], -1)


def to_rgb(lab):
    """Scaled L, a and b [..., 3] -> sRGB, float32 [..., 3] in [-1, 1]; what lies outside of sRGB is clipped."""
    lightness, a, b = tf.split(fence(lab), 3, -1)
    y = (50 * (lightness + 1) + 16) / 116
    x, z = y + MOST / 500 * a, tf.maximum(y - MOST / 200 * b, 0.0)
    return encoded(tf.concat(mixed([cube(part) * white for part, white in zip((x, y, z), WHITE)], FROM_XYZ), -1))


def with_lightness_of(source, pictures):
    """sRGB pictures [..., 3] in [-1, 1] -> the same colours with the L of other pictures of that shape."""
    return to_rgb(tf.concat([to_lab(source)[..., :1], to_lab(pictures)[..., 1:]], -1))


def lightness(grey):
    """Grey pictures [..., 1] in [-1, 1] -> their scaled L, float32 [..., 1]."""
    return scaled_lightness(cube_root(linear(fence(grey))[0]))


def grey(pictures):
    """sRGB [..., 3] in [-1, 1] -> the grey of the same L, float32 [..., 1] in [-1, 1]."""
    return encoded(mixed(linear(pictures), TO_XYZ[1:2])[0])


# ---------------------------------------------------------------------------------------------
# The steps between, for [..., 1]. A matrix product would be computed in bfloat16 or TF32.


def mixed(parts, matrix):
    """Returns the sums of parts [..., 1], weighted by each row of a matrix."""
    return [tf.add_n([weight * part for weight, part in zip(row, parts)]) for row in matrix]


def linear(pictures):
    """sRGB [..., C] in [-1, 1] -> the amounts of light in [0, 1], C times [..., 1]."""
    values = tf.clip_by_value((pictures + 1) / 2, 0.0, 1.0)
    light = tf.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    return tf.split(light, int(pictures.shape[-1]), -1)


def encoded(light):
    """Amounts of light, clipped to [0, 1] -> sRGB in [-1, 1], of the same shape."""
    light = tf.clip_by_value(light, 0.0, 1.0)
    return 2 * tf.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light) - 1


def cube_root(share):
    """The function f of CIE 1976: the cube root of a share of white, but a line near black."""
    return tf.where(share > 0.008856, share ** (1 / 3), 7.787 * share + 16 / 116)


def cube(root):
    """Undoes `cube_root`."""
    return tf.where(root > 0.2068966, root ** 3, (root - 16 / 116) / 7.787)


def scaled_lightness(root):
    """The `cube_root` of Y -> scaled L."""
    return (116 * root - 16) / 50 - 1
