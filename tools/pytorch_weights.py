"""From the PyTorch program's parameters (junyanz/pytorch-CycleGAN-and-pix2pix) to this program's flags and variables.

Pure functions of {name: numpy array}; from_pytorch.py reads and writes the files. What `parameters` returns goes to
`generator` or `discriminator`.
"""

import re

import numpy as np

import pix2pix

STATISTICS = re.compile(r".*\.(running_mean|running_var|num_batches_tracked)")
PATCHES = {3: 16, 4: 34, 5: 70, 6: 142, 7: 286}  # D's receptive field in pixels by the number of its convolutions


def parameters(state):
    """Returns {name: array} of a state_dict without the prefixes of wrappers and without running statistics.

    Here and in that program's test script the statistics are those of the picture at hand. Old files have running ones
    even for instance norm.
    """
    named = {re.sub(r"^(module\.|_orig_mod\.)+", "", name): value for name, value in state.items()}
    return {name: value for name, value in named.items() if not STATISTICS.fullmatch(name)}


def generator(state):
    """Takes a U-Net's parameters out of `state` and returns (flags, {name of a variable here: array}).

    A level is a sequence that holds the next inner level in its middle. Its leaky ReLU works in place, so that what it
    joins to its output is already activated; the ReLU behind makes that equal to `--skip=pre`.

    Raises:
      KeyError: a parameter is missing.
      ValueError: the network is too deep or too shallow, or a kernel does not have four dimensions.
    """
    depth = max([name.count("model.") for name in state], default=0) - 1
    if not 5 <= depth <= pix2pix.MAX_DEPTH:
        raise ValueError("it is no U-Net of 5 to %d levels" % pix2pix.MAX_DEPTH)
    norm, weights = norm_of(state, "model.model.1.model.1", "model.model.1.model.2"), {}
    for level in range(1, depth + 1):
        place = "model.model.1." + "model.3." * (level - 2) + "model." if level > 1 else "model.model."
        parts = "1256" if 1 < level < depth else "0-3-" if level == 1 else "1-34"  # - stands for no norm
        down, down_norm, up, up_norm = (place + part if part != "-" else None for part in parts)
        weights.update(layer(state, "generator/encoder_%d/" % level, down, down_norm, norm))
        decoder = layer(state, "generator/decoder_%d/" % level, up, up_norm, norm, outputs=2)
        if level < depth:  # the encoder's channels come first there, and last here
            kernel = "generator/decoder_%d/kernel" % level
            decoder[kernel] = np.roll(decoder[kernel], decoder[kernel].shape[3] // 2, axis=3)
        weights.update(decoder)
    _, _, inputs, ngf = weights["generator/encoder_1/kernel"].shape
    return {"input_channels": inputs, "output_channels": weights["generator/decoder_1/kernel"].shape[2],
            "image_size": 2 ** depth, "generator": "unet", "ngf": ngf, "skip": "pre",
            "upsample": "transposed", "norm": norm, "norm_epsilon": 1e-5, "bottleneck_norm": False, "leaky_slope": 0.2,
            "dropout_blocks": depth - 5}, weights


def discriminator(state):
    """Takes a PatchGAN's parameters out of `state`; returns and raises as `generator` does."""
    count = sum(value.ndim == 4 for value in state.values())
    if count not in PATCHES:
        raise ValueError("it is no PatchGAN of 3 to 7 convolutions")
    norm, weights = norm_of(state, "model.2", "model.3"), {}
    for number in range(1, count + 1):
        place = max(3 * number - 4, 0)  # 0, 2, 5, 8, ...: a convolution, its norm and its activation
        followed = None if number in (1, count) else "model.%d" % (place + 1)
        weights.update(layer(state, "discriminator/layer_%d/" % number, "model.%d" % place, followed, norm))
    ndf = weights["discriminator/layer_1/kernel"].shape[3]
    return {"ndf": ndf, "patch": PATCHES[count], "conditional": True, "norm": norm}, weights


def norm_of(state, convolution, followed):
    """The norm of a network, by one of its layers: there, convolutions have a bias under instance norm alone."""
    return "batch" if followed + ".weight" in state else "instance" if convolution + ".bias" in state else "none"


def layer(state, scope, convolution, followed, norm, outputs=3):
    """Takes a convolution, and the norm that follows it, out of `state`; returns {scope + name: array}.

    Args:
      state: {name: array}.
      scope: of the layer's variables here, with a slash at the end.
      convolution, followed: names of the two modules there; None for the second where no norm follows.
      norm: one of `pix2pix.NORMS`. A bias under a norm has no effect and is left out.
      outputs: the axis of the output channels in the kernel here; 2 in that of a transposed convolution.
    """
    kernel = state.pop(convolution + ".weight").transpose(2, 3, 1, 0)
    bias = state.pop(convolution + ".bias", np.zeros(kernel.shape[outputs], np.float32))
    if norm == "none" or not followed:
        return {scope + "kernel": kernel, scope + "bias": bias}
    gamma, beta = np.ones_like(bias), np.zeros_like(bias)
    if norm == "batch":
        gamma, beta = state.pop(followed + ".weight"), state.pop(followed + ".bias")
    return {scope + "kernel": kernel, scope + "gamma": gamma, scope + "beta": beta}
