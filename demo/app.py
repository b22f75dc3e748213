"""A page to draw on: the exported generator's picture appears beside the drawing, anew after each stroke.

    pip install -r requirements-demo.txt
    python demo/app.py --export=runs/pix2pix

Without --export and without an export in runs/pix2pix, it shows the small model of the sample set in demo/quick/. It
needs the folder demo/, the exported folder, TensorFlow 2 and Gradio, nothing else of this project. Gradio's ImageEditor
has no filled rectangle, softens the edges of its strokes (which makes colours that are no labels) and keeps pictures in
files; so the drawing is done by canvas.js in a gr.HTML. The browser crops and scales an upload to the canvas: only the
drawing on it comes here, as a PNG of the canvas's size, and nothing is written to the disk.
"""

import argparse
import base64
import functools
import io
import json
import os
import struct
import sys
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's chatter; its exceptions still come
os.environ.update(no_proxy="*", NO_PROXY="*")  # Gradio calls this page when it starts, and nothing else is called

try:
    import gradio
    import numpy as np
    import tensorflow as tf
    from PIL import Image, ImageOps
    from starlette.middleware import Middleware
    from starlette.responses import PlainTextResponse
except ImportError as error:
    sys.exit("error: %s; the page has an environment of its own: python3 -m venv .venv-demo && .venv-demo/bin/pip "
             "install -q -r requirements-demo.txt, then .venv-demo/bin/python demo/app.py" % error)

HERE = os.path.dirname(os.path.abspath(__file__))
RUN = "runs/pix2pix"  # the default of train.py
QUICK = os.path.join(HERE, "quick")  # a model for a first look, made by tools/to_litert.py
LITERT = "model.tflite"
PAGE = ("", "config", "theme.css", "favicon.ico", "manifest.json", "gradio_api/startup-events")  # all else is refused,
PARTS = ("assets/", "static/")  # since Gradio would also fetch any URL for others, and keep files
MOST_PICTURES = 24


def exports_in(folder):
    """Returns the exports of a run or of its export folder, highest step first; or the folder if it is an export."""
    found = []
    for parent in (folder, os.path.join(folder, "export")):
        steps = sorted(filter(str.isdecimal, os.listdir(parent) if os.path.isdir(parent) else ()), key=int)
        found += [path for path in [parent, *(os.path.join(parent, step) for step in steps)][::-1]
                  if any(os.path.isfile(os.path.join(path, name)) for name in ("saved_model.pb", LITERT))]
    return found


def export_of(folder):
    """Returns the newest export of what --export names, or where it names nothing, of RUN or of the quick model."""
    found = exports_in(folder or RUN)
    if not found and folder:
        sys.exit("error: --export=%s: no export there; make one with python train.py --mode=export" % folder)
    if not found:
        print("no export in %s yet, so the page shows a small model of the sample set; --export=RUN shows yours" % RUN)
    return (found or [QUICK])[0]


def load(export):
    """Returns the function of an export that takes the PNG of a drawing and returns the PNG of a picture."""
    before = os.getcwd()
    os.chdir(export)  # in a longer path TensorFlow would take [ and \ for parts of a pattern
    try:
        if os.path.isfile(LITERT):
            warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated")  # its successor is a package more
            return functools.partial(by_litert, tf.lite.Interpreter(LITERT).get_signature_runner("serving_default"))
        signatures = tf.saved_model.load(".").signatures
        if "serving_bytes" not in signatures:
            sys.exit("error: --export=%s: people draw pictures of 8 bits, and this export takes or gives other data"
                     % export)
        signature = signatures["serving_bytes"]
        return lambda png: signature(image_bytes=tf.constant([png]))["png_bytes"][0].numpy()
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        sys.exit("error: --export=%s: not a whole export (%s)" % (export, str(error).splitlines()[0]))
    finally:
        os.chdir(before)


def by_litert(signature, png):
    """Translates the PNG of a drawing with a LiteRT file's signature, which takes and gives images in [-1, 1]."""
    channels = int(signature.get_input_details()["images"]["shape"][-1])  # 1 takes grey; another number gives nonsense
    images = np.float32(tf.io.decode_png(png, channels=channels))[np.newaxis] / 127.5 - 1
    outputs = signature(images=images)["outputs"][0]
    return tf.io.encode_png(np.uint8(np.round((outputs + 1) * 127.5))).numpy()


def canvas_of(export):
    """Returns an export's canvas, {"size": [width, height], "palette": {name: colour}}, and the PNGs to start from."""
    extra = os.path.join(export, "assets.extra")  # see support/palette.py
    kept = {name: read(os.path.join(extra, name)) for name in sorted(os.listdir(extra) if os.path.isdir(extra) else ())}
    pngs = {name[:-len(".png")]: png for name, png in kept.items() if name.endswith(".png")}
    older = {"size": size_of(next(iter(pngs.values()))) if pngs else (256, 256),  # than canvas.json
             "palette": json.loads(kept.get("palette.json", "{}"))}
    return json.loads(kept["canvas.json"]) if "canvas.json" in kept else older, pngs


def pictures_of(folder, size, resample):
    """Yields (name, PNG) of the first pictures in a folder, cropped and scaled, with white for what is transparent."""
    if not os.path.isdir(folder):
        sys.exit("error: --pictures=%s: no such folder" % folder)
    for name in sorted(os.listdir(folder))[:MOST_PICTURES]:
        png = io.BytesIO()
        try:
            picture = ImageOps.exif_transpose(Image.open(os.path.join(folder, name))).convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            ImageOps.fit(picture.convert("RGB"), size, resample).save(png, "PNG")
        except Exception as error:  # whatever the image library makes of a broken file
            print("left out: %s: %s" % (os.path.join(folder, name), error), file=sys.stderr)
        else:
            yield name, png.getvalue()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def data_url(png):
    return "data:image/png;base64," + base64.b64encode(png).decode()


def page_of(export, pictures):
    """Returns the page of an export, a gradio.Blocks, and the most bytes that one of its drawings can have.

    pictures: a folder of pictures to start from, or None.
    """
    picture_of, (canvas, pngs) = load(export), canvas_of(export)
    size, palette = tuple(canvas["size"]), canvas["palette"]
    is_labels = not set(palette) <= {"black", "white"}  # else line drawings or photos
    white = tf.io.encode_png(tf.fill((*size[::-1], 3), tf.constant(255, tf.uint8))).numpy()
    empty = pngs.pop("empty", white)
    starts = {**pngs, "empty": empty}  # the page begins with the first
    if pictures:
        starts.update(pictures_of(pictures, size, Image.NEAREST if is_labels else Image.LANCZOS))

    def translate(drawing):
        """From a data URL to {picture: a data URL, milliseconds}, or {error: a sentence}."""
        try:
            png = base64.b64decode(str(drawing).partition(",")[2])
            if size_of(png) != size:
                return {"error": "This is not a drawing of %d x %d pixels as PNG." % size}
            begin = time.perf_counter()
            picture = data_url(picture_of(png))
            return {"picture": picture, "milliseconds": round(1000 * (time.perf_counter() - begin))}
        except (ValueError, tf.errors.InvalidArgumentError):
            return {"error": "This drawing can't be read."}

    html, css, js = (read(os.path.join(HERE, "canvas." + kind)).decode() for kind in ("html", "css", "js"))
    with gradio.Blocks(title="Draw a picture", analytics_enabled=False, fill_width=True) as page:
        gradio.HTML(html_template=html, css_template=css, js_on_load=js, apply_default_css=False, size=size,
                    server_functions=[translate], is_labels=is_labels,
                    starts={name: data_url(png) for name, png in starts.items()},
                    palette=palette or {"black": (0, 0, 0), "white": (255, 255, 255)})
    translate(data_url(starts["empty"]))  # it prepares the others
    return page, 6 * size[0] * size[1] + 2 ** 16  # base64 of three bytes a pixel that could not be compressed


def size_of(png):
    """Returns (width, height) from a PNG's header, or None where it has none."""
    return struct.unpack(">II", png[16:24]) if png[:16] == b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" and png[23:] else None


def only_drawings(app, most):
    """An ASGI app that passes on what the page itself asks for, and drawings of at most so many bytes."""
    async def check(scope, receive, send):
        if scope["type"] == "http":
            path, headers = scope["path"].strip("/"), dict(scope["headers"])
            length, kind = (headers.get(name, b"") for name in (b"content-length", b"content-type"))
            is_drawing = path == "gradio_api/component_server" and kind == b"application/json" and length.isdigit()
            is_page = scope["method"] in ("GET", "HEAD") and (path in PAGE or path.startswith(PARTS))
            if b"transfer-encoding" in headers or not (is_page or (is_drawing and int(length) <= most)):
                return await PlainTextResponse("not taken here", 413)(scope, receive, send)
        return await app(scope, receive, send)
    return check


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", help="a run, its folder of exports, or one of them; default: %s, or without an "
                        "export there a small model that comes with this page" % RUN)
    parser.add_argument("--pictures", help="a folder of pictures to start from (its first %d)" % MOST_PICTURES)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines draw too")
    parser.add_argument("--port", type=int, default=7860)
    flags = parser.parse_args()
    if not 0 < flags.port < 65536:
        parser.error("--port=%d: ports are from 1 to 65535" % flags.port)
    page, most = page_of(export_of(flags.export), flags.pictures)
    try:
        page.launch(server_name=flags.host, server_port=flags.port, share=False, quiet=True, ssr_mode=False,
                    footer_links=[], css=".main.fillable, .html-container { padding: .3rem !important; }",
                    app_kwargs={"middleware": [Middleware(only_drawings, most=most)]}, prevent_thread_lock=True)
    except OSError:
        sys.exit("error: can't listen on --host=%s --port=%d; name another port" % (flags.host, flags.port))
    print("draw at http://%s:%d" % (flags.host, flags.port), flush=True)
    page.block_thread()


if __name__ == "__main__":
    main()
