"""Prints the fingerprint of a short run of the defaults and of every flagfile, to compare before and after a change.

    python tests/fingerprints.py > before; ...; python tests/fingerprints.py | diff before -
"""

import os
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))


def fingerprint(*argv):
    """Trains on the sample set with these flags in a folder of its own; returns the last line of what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, os.path.join(ROOT, "train.py"), *argv, "--data_dir=data/sample",
                   "--output_dir=" + folder, "--sample_every=1000", "--save_every=1000"]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT,
                              text=True).stdout.splitlines()[-1]


if __name__ == "__main__":
    print("defaults, 20 steps", fingerprint("--max_steps=20"), flush=True)
    for name in sorted(os.listdir(os.path.join(ROOT, "flags"))):
        print(name, fingerprint("--flagfile=" + os.path.join("flags", name), "--max_steps=2"), flush=True)
