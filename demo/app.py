"""A page to draw on: the exported generator's picture appears beside the drawing, anew after each stroke.

    pip install -r requirements-demo.txt
    python demo/app.py --export=runs/pix2pix/export

It needs the exported folder, TensorFlow 2 and Gradio, nothing else of this project. Gradio's ImageEditor has no filled
rectangle, softens the edges of its strokes (which makes colours that are no labels) and keeps pictures in files; so the
drawing is done by canvas.js in a gr.HTML. Uploads stay in the browser: only the drawing comes here, as a PNG of the
canvas's size, and nothing is written to the disk.
"""

import argparse
import base64
import glob
import json
import os
import struct
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's chatter; its exceptions still come

import gradio
import tensorflow as tf
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

HERE = os.path.dirname(os.path.abspath(__file__))
MAX_BYTES = 4 * 2 ** 20  # of a drawing, as it is sent


def newest(folder):
    """Returns the export of the highest step in a folder; the folder itself where it is an export."""
    steps = glob.glob(os.path.join(glob.escape(folder), "[0-9]*", "saved_model.pb"))
    steps.sort(key=lambda path: int(os.path.basename(os.path.dirname(path))))
    for path in [os.path.join(folder, "saved_model.pb"), *steps][::-1]:
        if os.path.isfile(path):
            return os.path.dirname(path)
    sys.exit("error: --export=%s: no export there; make one with python train.py --mode=export" % folder)


def data_url(png):
    return "data:image/png;base64," + base64.b64encode(png).decode()


def page_of(export):
    """Returns the page of an export (gradio.Blocks), and the function that it calls with each drawing."""
    signature = tf.saved_model.load(export).signatures["serving_bytes"]
    extra = os.path.join(export, "assets.extra")  # see support/palette.py; an export without its data has none
    starts = [open(path, "rb").read() for path in sorted(glob.glob(os.path.join(extra, "*.png")))]
    palette = json.load(open(os.path.join(extra, "palette.json"))) if starts else {}
    size = size_of(starts[0]) if starts else (256, 256)

    def translate(drawing):
        """From a data URL to {picture: a data URL, milliseconds}, or {error: a sentence}."""
        try:
            png = base64.b64decode(str(drawing).partition(",")[2])
            if size_of(png) != size:
                return {"error": "This is not a drawing of %d x %d pixels as PNG." % size}
            begin = time.perf_counter()
            picture = signature(image_bytes=tf.constant([png]))["png_bytes"][0].numpy()
            return {"picture": data_url(picture), "milliseconds": round(1000 * (time.perf_counter() - begin))}
        except (ValueError, tf.errors.InvalidArgumentError):
            return {"error": "This drawing can't be read."}

    html, css, js = (open(os.path.join(HERE, "canvas." + kind)).read() for kind in ("html", "css", "js"))
    with gradio.Blocks(title="Draw", analytics_enabled=False, fill_width=True) as page:
        gradio.HTML(html_template=html, css_template=css, js_on_load=js, apply_default_css=False, size=size,
                    server_functions=[translate], starts=[data_url(png) for png in starts],
                    is_labels=bool(palette), palette=palette or {"black": (0, 0, 0), "white": (255, 255, 255)})
    translate(data_url(tf.io.encode_png(tf.zeros((*size[::-1], 3), tf.uint8)).numpy()))  # it prepares the others
    return page, translate


def size_of(png):
    """Returns (width, height) from a PNG's header, or None where it has none."""
    return struct.unpack(">II", png[16:24]) if png[:16] == b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" and png[23:] else None


def only_drawings(app):
    """An ASGI app that passes on what the page sends; nothing larger, and no files, which Gradio would keep on disk."""
    async def check(scope, receive, send):
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            headers = dict(scope["headers"])
            length, kind = (headers.get(name, b"") for name in (b"content-length", b"content-type"))
            if not (scope["path"].strip("/").endswith("component_server") and kind == b"application/json"
                    and length.isdigit() and int(length) < MAX_BYTES):
                return await PlainTextResponse("not taken here", 413)(scope, receive, send)
        return await app(scope, receive, send)
    return check


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", default="runs/pix2pix/export", help="the folder of exports, or one of them")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines draw too")
    parser.add_argument("--port", type=int, default=7860)
    flags = parser.parse_args()
    page, _ = page_of(newest(flags.export))
    print("draw at http://%s:%d" % (flags.host, flags.port), flush=True)
    page.launch(server_name=flags.host, server_port=flags.port, quiet=True, ssr_mode=False, footer_links=[],
                css=".main.fillable, .html-container { padding: .3rem !important; }",
                app_kwargs={"middleware": [Middleware(only_drawings)]})


if __name__ == "__main__":
    main()
