"""Converts an export of pictures into a LiteRT file with float16 weights, and what the page to draw on needs beside it.

    python train.py --flagfile=flags/quick.flags
    python train.py --mode=export --output_dir=runs/quick
    python tools/to_litert.py runs/quick/export/2000 demo/quick

FOLDER then holds model.tflite, which has half the size of the export and takes images of any size, and assets.extra/.
python demo/app.py --export=FOLDER shows it. demo/quick was made by these three commands;
its front.png is every second pixel of the first label map in data/sample/val/.
"""

import os
import shutil
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's chatter; its exceptions still come

import tensorflow as tf


def converted(export):
    """Returns the bytes of a LiteRT file with the signature serving_default of an export."""
    before = os.getcwd()
    os.chdir(export)  # in a longer path TensorFlow would take [ and \ for parts of a pattern
    try:
        converter = tf.lite.TFLiteConverter.from_saved_model(".", signature_keys=["serving_default"])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
        return converter.convert()
    finally:
        os.chdir(before)


def main(export, folder):
    for name in ("saved_model.pb", os.path.join("assets.extra", "canvas.json")):
        if not os.path.isfile(os.path.join(export, name)):
            sys.exit("error: %s: not an export of pictures, since it has no %s; python train.py --mode=export makes "
                     "RUN/export/STEP" % (export, name))
    if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        sys.exit("error: %s: it is there; name a new folder" % folder)
    try:
        model = converted(export)
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        sys.exit("error: %s: not a whole export (%s)" % (export, str(error).splitlines()[0]))
    shutil.copytree(os.path.join(export, "assets.extra"), os.path.join(folder, "assets.extra"))
    with open(os.path.join(folder, "model.tflite"), "wb") as file:
        file.write(model)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("error: python tools/to_litert.py EXPORT FOLDER, where EXPORT is a run's export/STEP")
    main(*sys.argv[1:])
