"""What a picture or a batch needs in memory, compared with what the machine has, before any work begins."""

import os
import re
import typing

from support import devices
from support.errors import RunError


class Cost(typing.NamedTuple):
    """Bytes that a pixel takes while it is computed, beside the weights."""

    per_g_filter: float  # of the first layer
    per_d_filter: float
    per_band: float  # of input and output together
    constant: float


# Below what was measured on CPUs with 4 to 64 filters, so that nothing is refused that fits. With 64 filters, a pixel
# took 441 to 511 bytes in test mode, 283 without skips, and in training 1,400 in bfloat16 and 2,080 in float32. A band
# more than three took 14 bytes in the input and 65 in the output in test mode, and 73 and 94 in training.
TEST = {"unet": Cost(5, 0, 12, 28), "encoder_decoder": Cost(2.8, 0, 12, 28)}
TRAINING = Cost(8, 6, 15, 10)

LESS = {"train": "a smaller --batch_size, --image_size, --ngf or --ndf takes less",  # what takes less memory in a mode
        "test": "--test_resize with a smaller --image_size takes less",
        "export": "end other programs"}


def check(options, what, images, size):
    """Raises RunError if images need more memory than is free. With a GPU, TensorFlow alone can tell.

    Args:
      options: the flags in force, of --mode=train or test.
      what: needs the memory, such as a file name.
      images: number of images that are computed at once.
      size: (height, width) of each.
    """
    cost = TRAINING if options.mode == "train" else TEST[options.generator]
    bands = (options.input_channels or 3) + (options.output_channels or 3)
    needed = images * size[0] * size[1] * (cost.constant + cost.per_band * bands + cost.per_g_filter * options.ngf
                                           + cost.per_d_filter * options.ndf)
    there = free()
    if there is not None and needed > there and not devices.has_gpu():
        raise RunError("not enough memory for %s at %dx%d pixels: it takes at least %.2g GB, and %.2g GB are free; %s"
                       % (what, *size[::-1], needed / 1e9, there / 1e9, LESS[options.mode]))


def free(root="/"):
    """Returns the bytes that this process can still get, or None where the system does not say.

    They are what Linux has, swap included, or what the limits of the process's control groups leave, if that is less.

    Args:
      root: the folder with proc/ and sys/.
    """
    found = dict(re.findall(r"^(MemAvailable|SwapFree): +(\d+) kB", read(root, "proc/meminfo"), re.MULTILINE))
    if "MemAvailable" not in found:
        return None
    groups = re.findall(r"^\d+:(memory)?:/(.*)$", read(root, "proc/self/cgroup"), re.MULTILINE)
    left = [left_in(root, *group) for group in groups]
    return min([1024 * sum(map(int, found.values()))] + [number for number in left if number is not None])


def left_in(root, version_1, group):
    """Returns the bytes that a control group and those around it leave, or None without a limit.

    Args:
      root: see `free`.
      version_1: "memory" for cgroup version 1; version 2 has "".
      group: path of the group, without a leading slash. In a container it may be known under the root alone.
    """
    limit, usage, cache = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file") if version_1 else (
        "max", "current", "inactive_file")
    left = []
    while True:
        folder = os.path.join("sys/fs/cgroup", version_1, group)
        most, used = (read(root, os.path.join(folder, "memory." + name)).strip() for name in (limit, usage))
        if most.isdigit() and used.isdigit():  # else "max", or no such file
            cached = re.search(r"^%s (\d+)$" % cache, read(root, os.path.join(folder, "memory.stat")), re.MULTILINE)
            left.append(int(most) - int(used) + (int(cached.group(1)) if cached else 0))
        if not group:
            return min(left) if left else None
        group = os.path.dirname(group)


def read(root, path):
    """Returns the text of a file of the system's below `root`, empty if there is none."""
    try:
        with open(os.path.join(root, path)) as file:
            return file.read()
    except OSError:
        return ""
