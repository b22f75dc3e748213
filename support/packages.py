"""The packages that the program needs; one that is missing or too old is one line."""

import contextlib
import os
import re
import sys

NEEDED = ("tensorflow", "scipy", "numpy", "imageio", "PIL", "absl", "tqdm", "filelock", "tifffile")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@contextlib.contextmanager
def needed():
    """Ends the program with a line if an import in the block finds a package missing, or TensorFlow too old."""
    install = "%s -m pip install -r %s" % (sys.executable, os.path.join(
        ROOT, "requirements.txt" if sys.version_info >= (3, 8) else "requirements-tf1.txt"))
    try:
        yield
    except ModuleNotFoundError as error:
        name, _, part = (error.name or "").partition(".")
        if name not in NEEDED:
            raise
        sys.exit("error: the package %s is %s; %s" % (name, "too old" if part else "missing", install))
    version = getattr(sys.modules.get("tensorflow"), "__version__", "1.15")
    if not is_supported(version):
        sys.exit("error: this is TensorFlow %s, and train.py needs 2.16 or later, or 1.15; %s" % (version, install))


def is_supported(version):
    """Whether the three modules run on a version of TensorFlow, such as 2.21.0."""
    numbers = tuple(map(int, re.match(r"(\d+)\.(\d+)", version).groups()))
    return numbers == (1, 15) or numbers >= (2, 16)
