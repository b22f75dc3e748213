"""How far an export's other forms are from it: LiteRT with float32 and float16 weights, and bfloat16; docs/deploy.md.

    python studies/deploy.py RUN/export [DATA_DIR]

Prints sizes, the largest and the mean difference in [-1, 1], and times; bfloat16 on the inputs in DATA_DIR/val (default
data/sample; A in the left half), LiteRT on random pixels of three sizes. In the end it says where it ran.
"""

import os
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import numpy as np
import tensorflow as tf

import reader
import study
from support import pair_files, run_folder

SIZES = [(128, 128), (64, 96), (300, 200)]


def differences(found, expected):
    return "largest difference %.2g, mean %.2g" % (np.abs(found - expected).max(), np.abs(found - expected).mean())


def litert(export):
    signature = tf.saved_model.load(export).signatures["serving_default"]
    images = [np.random.RandomState(0).uniform(-1, 1, (1, *size, 3)).astype(np.float32) for size in SIZES]
    expected = np.concatenate([signature(images=tf.constant(x))["outputs"].numpy().ravel() for x in images])
    for name in ("float32", "float16"):
        converter = tf.lite.TFLiteConverter.from_saved_model(export, signature_keys=["serving_default"])
        if name == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        content = converter.convert()
        run = tf.lite.Interpreter(model_content=content).get_signature_runner("serving_default")
        found = np.concatenate([run(images=x)["outputs"].ravel() for x in images])
        print("LiteRT, %s: %.1f MB, %s" % (name, len(content) / 1e6, differences(found, expected)))


def translate(export, inputs, outputs):
    """Writes what an export makes of the images in a .npy file, in this process; prints the seconds of a batch of 4."""
    signature, images = tf.saved_model.load(export).signatures["serving_default"], np.load(inputs)
    np.save(outputs, [signature(images=tf.constant(x[None]))["outputs"].numpy()[0] for x in images])
    seconds = []
    for _ in range(10):
        begin = time.perf_counter()
        signature(images=tf.constant(images[:4]))["outputs"].numpy()
        seconds.append(time.perf_counter() - begin)
    print("%.3f s a batch of 4 (median of 10)" % np.median(seconds))


def bfloat16(export, data_dir, folder):
    options = run_folder.read_flags(os.path.dirname(os.path.dirname(export)))
    size = [int(side) for side in options["image_size"].split(",")]
    pairs = pair_files.find_pairs(os.path.join(data_dir, "val"))
    view = reader.View(direction=options.get("direction", "AtoB"))
    images = [x[0] for x, _ in reader.read_in_order(pairs, (size[0], size[-1]), view)]
    np.save(os.path.join(folder, "inputs.npy"), images)
    found = []
    for name in ("float32", "bfloat16"):
        path = os.path.join(folder, name + ".npy")
        printed, _ = study.run(sys.executable, __file__, name, export, os.path.join(folder, "inputs.npy"), path)
        print("%s: %s" % (name, printed.strip()))
        found.append(np.load(path))
    print("bfloat16: %s" % differences(found[1], found[0]))


if __name__ == "__main__":
    if sys.argv[1] == "bfloat16":
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    if sys.argv[1] in ("float32", "bfloat16"):
        translate(*sys.argv[2:])
    else:
        export = run_folder.newest_export(sys.argv[1])
        litert(export)
        with tempfile.TemporaryDirectory() as folder:
            bfloat16(export, (sys.argv[2:] or [study.SAMPLE_SET])[0], folder)
        for fact in study.facts():
            print("%s: %s" % tuple(fact))
