"""The page to draw on: the colours it is given, what it takes and refuses, and drawing in a real browser.

The page runs in an environment of its own, made from requirements-demo.txt in .venv-demo or wherever DEMO_PYTHON says;
the browser is the system's Chromium or Chrome.
"""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import flagsaver

import train
from conftest import LIMIT, ROOT, SMALL, free_addresses, write_pairs
from support import gallery, palette, sample_set
from tools import to_litert

PYTHON = os.environ.get("DEMO_PYTHON", os.path.join(ROOT, ".venv-demo", "bin", "python"))
SKY, WALL, WINDOW = (np.array(sample_set.LABELS[name], np.uint8) for name in ("sky", "wall", "window"))


def fronts(count, size=64):
    """Label maps of the sample set's colours: sky, a wall, and windows at random places."""
    for number in range(count):
        front = np.full((size, size, 3), SKY)
        front[size // 4:, 4:-4] = WALL
        for top, left in np.random.RandomState(number).randint(size // 4, size - 12, (3, 2)):
            front[top:top + 8, left:left + 6] = WINDOW
        yield front


def as_jpeg(picture):
    return imageio.imread(imageio.imwrite("<bytes>", picture, extension=".jpg", quality=75))


# Colours


def test_the_palette_of_label_maps_has_their_sets_names():
    assert palette.find(list(fronts(4))) == sample_set.LABELS
    cmp = palette.KNOWN[1]
    blocks = np.array(list(cmp.values()), np.uint8).reshape(3, 4, 3).repeat(32, 0).repeat(32, 1)
    assert palette.find([as_jpeg(blocks)]) == cmp
    edges = np.full((64, 64, 3), 255, np.uint8)
    edges[20:22], edges[:, 40:42] = 0, 0
    assert list(palette.find([as_jpeg(edges)])) == ["black", "white"]


def test_unknown_label_colours_are_found_and_a_photo_has_none():
    blocks = np.array([[(10, 200, 10), (200, 10, 200)]], np.uint8).repeat(32, 0).repeat(32, 1)
    blocks[:8] = (250, 120, 0)
    assert palette.find([blocks]) == {"#0ac80a": (10, 200, 10), "#c80ac8": (200, 10, 200), "#fa7800": (250, 120, 0)}
    y, x = np.mgrid[:64, :64]
    photo = np.stack([4 * x, 4 * y, 2 * (x + y)], axis=-1) + np.random.RandomState(0).randint(0, 4, (64, 64, 3))
    grey = np.uint8(photo[..., 2:].clip(0, 255).repeat(3, axis=2))
    for picture in (photo, grey, 0.15 * photo, 0.25 * grey, 100 + 0.2 * photo):  # colourful, grey, dark or pale
        assert palette.find([picture.clip(0, 255).astype(np.uint8)]) == {}


def test_an_empty_front_is_a_wall_with_straight_edges_and_no_window():
    inputs = list(fronts(9))
    for number, front in enumerate(inputs):  # walls that differ, one of them with a notch
        front[16:22 + number] = SKY
        front[40:60, 4:4 + 2 * number] = SKY
    empty = palette.empty(inputs, palette.find(inputs))
    rows, columns = np.nonzero((empty == WALL).all(axis=-1))
    assert (empty[rows.min():, columns.min():columns.max() + 1] == WALL).all() and rows.max() == 63
    assert 22 <= rows.min() <= 31 and 4 <= columns.min() <= 20 and columns.max() == 59
    assert (empty == SKY).all(axis=-1).sum() == 64 * 64 - len(rows)


@pytest.mark.parametrize("box", [np.s_[10:, 25:40], np.s_[:20], np.s_[30:50, 30:50], np.s_[:, :8], np.s_[0:0]])
@pytest.mark.parametrize("colours", [(SKY, WALL), (WALL, SKY)])
def test_an_empty_picture_of_one_rectangle_is_that_rectangle(box, colours):
    picture = np.full((64, 48, 3), colours[0])
    picture[box] = colours[1]
    assert (palette.empty([picture] * 2, sample_set.LABELS) == picture).all()
    assert (palette.empty([picture] * 2, palette.find([picture])) == picture).all()


# Exports for the page


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """A folder with the exports of a run of two steps on fronts; step 2 is the newest. TensorFlow reads its name as a
    pattern.
    """
    data, run = tmp_path_factory.mktemp("fronts"), str(tmp_path_factory.mktemp("run"))
    for number, front in enumerate(fronts(4)):
        imageio.imwrite(data / ("%d.png" % number), np.concatenate([front, 255 - front], axis=1))
    training = ["--data_dir=%s" % data, "--output_dir=" + run, *SMALL, "--image_size=64"]
    for argv in (["--max_steps=2", "--save_every=1"], ["--mode=export"],
                 ["--mode=export", "--checkpoint=%s/checkpoints/model.ckpt-1" % run]):
        with flagsaver.flagsaver():
            train.FLAGS(["train.py", *training, *argv])
            assert train.main(["train.py"]) == 0
    named = tmp_path_factory.mktemp("named") / "my run [1] \\ \u00fc*"
    return shutil.copytree(os.path.join(run, "export"), str(named / "export"))


def canvas_in(export):
    with open(os.path.join(export, "assets.extra", "canvas.json")) as file:
        canvas = json.load(file)
    return canvas["size"], {name: tuple(colour) for name, colour in canvas["palette"].items()}


def test_an_export_holds_the_size_and_the_colours_of_its_run_and_no_input(exports):
    assert sorted(os.listdir(exports)) == ["1", "2"]
    export = os.path.join(exports, "2")
    assert canvas_in(export) == ([64, 64], sample_set.LABELS)
    assert sorted(os.listdir(os.path.join(export, "assets.extra"))) == ["canvas.json", "empty.png", "values.json"]


def test_an_export_without_data_or_of_photos_holds_the_size_alone(run, data, trained, tmp_path):
    copy = shutil.copytree(trained, str(tmp_path / "run"))
    write_pairs(str(tmp_path / "photos"), 3)
    for folder, size in (("gone", "32,64"), ("photos", "32")):
        assert run("--mode=export", "--output_dir=" + copy, "--data_dir=%s" % (tmp_path / folder),
                   "--image_size=" + size)[0] == 0
        export = os.path.join(copy, "export", "6")
        assert canvas_in(export) == ([64, 32] if size == "32,64" else [32, 32], {})
        assert sorted(os.listdir(os.path.join(export, "assets.extra"))) == ["canvas.json", "values.json"]


# The page


def start(arguments, **environment):
    """Starts the page's program; skips the test if there is none."""
    if "DEMO_PYTHON" not in os.environ and not os.path.exists(PYTHON):
        pytest.skip("no Gradio in .venv-demo (see docs/deploy.md), and DEMO_PYTHON names none")
    return subprocess.Popen([PYTHON, os.path.join(ROOT, "demo", "app.py"), *arguments], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, cwd=environment.get("HOME"),
                            env=dict(os.environ, **environment))


@contextlib.contextmanager
def served(folder, *arguments):
    """Gives the address of a running page behind a proxy that does not answer; the folder is its home, its working and
    its temporary folder, and is checked to stay empty.
    """
    port = int(free_addresses(1)[0].rpartition(":")[2])
    app = start([*arguments, "--port=%d" % port], HOME=str(folder), TMPDIR=str(folder), PYTHONDONTWRITEBYTECODE="1",
                KERAS_HOME=str(folder) + "-keras",  # where Keras keeps its settings
                GRADIO_SHARE="true",  # must not open a tunnel
                **{name: "http://127.0.0.1:9" for name in ("http_proxy", "HTTPS_PROXY", "all_proxy")})
    address, end = "http://127.0.0.1:%d/" % port, time.time() + LIMIT
    try:
        while True:
            assert app.poll() is None and time.time() < end, app.communicate()[0]
            try:
                urllib.request.urlopen(address).read()
                break
            except OSError:
                time.sleep(0.3)
        yield address
    finally:
        app.terminate()
        app.communicate()
    assert [name for _, _, files in os.walk(folder) for name in files] == []


@pytest.fixture(scope="module")
def page(exports, tmp_path_factory):
    """The address of the page of a run, with pictures to start from."""
    pictures = tmp_path_factory.mktemp("pictures")
    first, second, third = fronts(3)
    imageio.imwrite(pictures / "1.png", first)
    imageio.imwrite(pictures / "2.png", second)
    imageio.imwrite(pictures / "3.png", np.pad(third, ((0, 0), (20, 20), (0, 0))).repeat(3, 0).repeat(3, 1))
    (pictures / "4.txt").write_text("not a picture")
    with served(tmp_path_factory.mktemp("page"), "--export=" + os.path.dirname(exports),
                "--pictures=%s" % pictures) as address:
        yield address


@pytest.fixture(scope="module")
def lines(exports, tmp_path_factory):
    """An export of line drawings, which was made when exports still held inputs."""
    export = shutil.copytree(os.path.join(exports, "2"), str(tmp_path_factory.mktemp("lines") / "export"))
    extra = os.path.join(export, "assets.extra")
    shutil.rmtree(extra)
    os.makedirs(extra)
    with open(os.path.join(extra, "palette.json"), "w") as file:
        json.dump({"black": (0, 0, 0), "white": (255, 255, 255)}, file)
    picture = np.full((64, 64, 3), 255, np.uint8)
    for name in ("empty", "input-1"):
        imageio.imwrite(os.path.join(extra, name + ".png"), picture)
        picture[20:22] = 0
    return export


def post(page, path, content, kind="application/json", length=None):
    """Sends bytes, of which there are to be `length`; returns (status, answer)."""
    request = urllib.request.Request(page + "gradio_api/" + path, content, {
        "Content-Type": kind, "Content-Length": str(length or len(content))})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def translate(page, contents):
    """What the page's function answers to the bytes of a drawing."""
    config = json.loads(urllib.request.urlopen(page + "config").read())
    number = next(part["id"] for part in config["components"] if part["type"] == "html")
    sent = "data:image/png;base64," + base64.b64encode(contents).decode()
    return post(page, "component_server/", json.dumps({
        "data": sent, "component_id": number, "fn_name": "translate", "session_hash": "test"}).encode())


def png(picture):
    return imageio.imwrite("<bytes>", picture, extension=".png")


def test_the_page_translates_a_drawing(page):
    status, answer = translate(page, png(next(fronts(1))))
    picture = imageio.imread(base64.b64decode(answer["picture"].split(",")[1]))
    assert status == 200 and picture.shape == (64, 64, 3) and answer["milliseconds"] >= 0


def test_without_an_export_the_page_shows_the_small_model_that_comes_with_it(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    with served(folder) as address:
        status, answer = translate(address, png(next(fronts(1, size=128))))
    assert status == 200 and imageio.imread(base64.b64decode(answer["picture"].split(",")[1])).shape == (128, 128, 3)


def test_the_small_model_is_below_6_mb_and_has_learned_the_sample_set():
    quick, rng, errors = os.path.join(ROOT, "demo", "quick"), np.random.RandomState(1), []
    path = os.path.join(quick, "model.tflite")
    assert os.path.getsize(path) < 6e6 and canvas_in(quick) == ([128, 128], sample_set.LABELS)
    translate = tf.lite.Interpreter(path).get_signature_runner("serving_default")
    for _ in range(4):  # fronts that are not in the set
        classes, floors = sample_set.draw_labels(rng)
        labels, photo = np.array(list(sample_set.LABELS.values()))[classes], sample_set.draw_photo(classes, floors, rng)
        image, target = (np.float32(side[::2, ::2]) / 127.5 - 1 for side in (labels, photo))
        errors.append(np.abs(translate(images=image[np.newaxis])["outputs"][0] - target).mean())
    assert np.mean(errors) < 0.3


def test_an_export_becomes_a_file_for_the_page(exports, tmp_path):
    to_litert.main(os.path.join(exports, "2"), str(tmp_path))
    assert canvas_in(tmp_path) == canvas_in(os.path.join(exports, "2"))
    model = tf.lite.Interpreter(str(tmp_path / "model.tflite")).get_signature_runner("serving_default")
    assert model(images=np.zeros([1, 64, 64, 3], np.float32))["outputs"].shape == (1, 64, 64, 3)
    with pytest.raises(SystemExit, match="it is there; name a new folder"):
        to_litert.main(os.path.join(exports, "2"), str(tmp_path))
    with pytest.raises(SystemExit, match=r"not an export of pictures, since it has no saved_model\.pb"):
        to_litert.main(exports, str(tmp_path / "new"))
    assert not os.path.exists(str(tmp_path / "new"))


def test_the_page_without_its_packages_or_at_a_port_that_is_none_is_one_line():
    app = os.path.join(ROOT, "demo", "app.py")
    missing = "import runpy, sys; sys.modules['gradio'] = None; runpy.run_path(%r, run_name='__main__')" % app
    found = subprocess.run([sys.executable, "-c", missing], capture_output=True, text=True)
    assert found.returncode == 1 and len(found.stderr.splitlines()) == 1
    assert "gradio" in found.stderr and "pip install -q -r requirements-demo.txt" in found.stderr
    with_port = start(["--port=99999"])
    assert "ports are from 1 to 65535" in with_port.communicate()[0] and with_port.returncode == 2


def test_what_is_no_drawing_gets_one_sentence(page):
    black = png(np.zeros((64, 64, 3), np.uint8))
    for contents in (b"", b"not a picture", png(np.zeros((1, 1, 3), np.uint8)), huge_png()):
        assert translate(page, contents) == (200, {"error": "This is not a drawing of 64 x 64 pixels as PNG."})
    assert translate(page, black[:60]) == (200, {"error": "This drawing can't be read."})


def test_nothing_but_drawings_is_taken(page):
    assert post(page, "component_server/", b"{}", length=6 * 64 * 64 + 2 ** 16 + 1)[0] == 413
    for path in ("gradio_api/file=https://example.com/x", "gradio_api/file=app.py", "gradio_api/proxy=http://x.hf.space/",
                 "gradio_api/deep_link?session_hash=test", "gradio_api/info"):
        with pytest.raises(urllib.error.HTTPError, match="413"):
            urllib.request.urlopen(page + path)
    with socket.create_connection(page[7:-1].split(":")) as connection:  # a length beside chunks does not count
        connection.sendall(b"POST /gradio_api/component_server/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
                           b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert b" 413 " in connection.recv(99)
    assert post(page, "upload", b"--x\r\n", "multipart/form-data; boundary=x")[0] == 413
    assert post(page, "component_server/", b"--x\r\n", "multipart/form-data; boundary=x")[0] == 413
    assert post(page, "queue/join", b"{}")[0] == 413


def test_the_page_answers_on_the_address_it_is_given_alone(page):
    port = int(page[:-1].rpartition(":")[2])
    with open("/proc/net/tcp") as file:  # hexadecimal, with the bytes of the address from last to first
        listening = [line.split()[1] for line in file if line.split()[3] == "0A"]
    assert [address for address in listening if address.endswith(":%04X" % port)] == ["0100007F:%04X" % port]


IN_ONE_PROCESS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import app
part, = (part for part in app.page_of(sys.argv[2], None)[0].get_config_file()["components"] if part["type"] == "html")
print(json.dumps(part["props"]["props"]))
for argv in json.loads(sys.argv[3]):
    sys.argv[1:] = argv
    try:
        app.main()
    except SystemExit as error:
        print(error.code)
"""


def test_line_drawings_are_known_and_mistakes_are_one_line_each(page, exports, lines, tmp_path):
    port = page[:-1].rpartition(":")[2]
    (tmp_path / "3200-old").mkdir()
    (tmp_path / "3200-old" / "saved_model.pb").touch()
    (tmp_path / "damaged" / "export" / "1").mkdir(parents=True)
    (tmp_path / "damaged" / "export" / "1" / "saved_model.pb").write_bytes(b"damaged")
    mistakes = [
        (["--export=" + exports, "--port=" + port],
         "error: can't listen on --host=127.0.0.1 --port=%s; name another port" % port),
        (["--export=%s" % tmp_path], "error: --export=%s: no export there" % tmp_path),
        (["--export=%s" % (tmp_path / "damaged")], "error: --export=%s: not a whole export" % (
            tmp_path / "damaged" / "export" / "1")),
        (["--export=" + exports, "--pictures=%s" % (tmp_path / "gone")],
         "error: --pictures=%s: no such folder" % (tmp_path / "gone"))]
    argv = [PYTHON, "-c", IN_ONE_PROCESS, os.path.join(ROOT, "demo"), lines, json.dumps(next(zip(*mistakes)))]
    drawn_on, *said = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    assert json.loads(drawn_on)["is_labels"] is False and sorted(json.loads(drawn_on)["starts"]) == ["empty", "input-1"]
    assert len(said) == len(mistakes), said
    assert all(line.startswith(says) for line, (_, says) in zip(said, mistakes)), said


def huge_png():
    """13,000 x 13,000 black pixels of one bit, in 20 KB."""
    def chunk(name, content):
        return (len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big"))
    header = 2 * (13000).to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(
        b"IDAT", zlib.compress(bytes(13000 * 1626))) + chunk(b"IEND", b"")


# In a browser


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not path and "DEMO_PYTHON" not in os.environ:
        pytest.skip("no Chromium on the path")
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=1000 * LIMIT)
        yield browser
        browser.close()


READY = "(document.querySelector('.status, output') || {textContent: ''}).textContent.match(/ms|step/)"


def opened(browser, address, width=1280):
    """A tab that fails the test on errors of scripts, and on loading anything from elsewhere."""
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.set_default_timeout(1000 * LIMIT)
    tab.problems = []
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    own = (address.rpartition("/")[0], "data:", "blob:")
    tab.on("request", lambda sent: sent.url.startswith(own) or tab.problems.append(sent.url))
    tab.goto(address)
    tab.wait_for_function(READY)
    return tab


def picture_after(tab, act):
    """The output's address after an act, when it is no longer the one before."""
    before = tab.locator(".output").get_attribute("src")
    act()
    tab.wait_for_function("before => document.querySelector('.output').src != (before || '')", arg=before)
    return tab.locator(".output").get_attribute("src")


def drag(tab, start, end):
    """Draws from one place of the canvas to another, as shares of its width and height."""
    box = tab.locator(".drawing").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    tab.mouse.move(*places[1], steps=5)
    tab.mouse.up()


def colours_on(tab):
    """The canvas's pixels, [H, W, 3]."""
    url = tab.evaluate("document.querySelector('.drawing').toDataURL()")
    return imageio.imread(base64.b64decode(url.split(",")[1]))[..., :3]


@pytest.mark.parametrize("width", [1280, 390])
def test_drawing_a_window_changes_the_picture_and_undo_takes_it_back(page, browser, width):
    tab = opened(browser, page, width)
    assert pressed(tab) == ["Rectangle", "window"]
    empty, first = colours_on(tab), tab.locator(".output").get_attribute("src")
    tab.locator(".palette button", has_text="window").click()
    drawn = picture_after(tab, lambda: drag(tab, (0.3, 0.5), (0.6, 0.7)))
    after = colours_on(tab)
    changed = (after != empty).any(axis=-1)
    assert (after[changed] == WINDOW).all() and changed[33:44, 20:38].all() and 200 < changed.sum() < 400
    tab.locator(".tool", has_text="Brush").click()
    picture_after(tab, lambda: drag(tab, (0.1, 0.1), (0.9, 0.2)))
    used = {tuple(colour) for colour in colours_on(tab).reshape(-1, 3)}
    assert used == {tuple(SKY), tuple(WALL), tuple(WINDOW)}  # no softened edges
    assert picture_after(tab, tab.locator(".undo").click) == drawn
    assert picture_after(tab, lambda: tab.keyboard.press("Control+z")) == first
    assert (colours_on(tab) == empty).all() and tab.locator(".undo").is_disabled()
    assert tab.locator(".starts button").count() == 4
    for number, front in ((2, list(fronts(2))[1]), (3, list(fronts(3))[2])):  # 3 was cropped and scaled
        picture_after(tab, tab.locator(".starts button").nth(number).click)
        assert (colours_on(tab) == front).all()
    with tab.expect_download() as download:
        tab.locator(".save").last.click()
    assert imageio.imread(download.value.path()).shape == (64, 64, 3)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth") and not tab.problems


def pressed(tab):
    return [button.text_content() for button in tab.locator("button[aria-pressed=true]").all()]


@pytest.mark.slow
def test_line_drawings_are_drawn_with_a_brush(lines, browser, tmp_path):
    with served(tmp_path, "--export=" + lines) as address:
        check_the_page_of_lines(opened(browser, address))


def check_the_page_of_lines(tab):
    assert pressed(tab) == ["Brush", "black"] and tab.locator("h1").is_visible()
    assert tab.locator(".starts button").count() == 2
    assert (colours_on(tab)[20:22] == 0).all()  # the first of the pictures
    picture_after(tab, tab.locator(".starts button").nth(1).click)
    assert (colours_on(tab) == 255).all()  # the empty canvas
    picture_after(tab, lambda: drag(tab, (0.2, 0.5), (0.8, 0.5)))
    rows = np.unique(np.nonzero((colours_on(tab) == 0).all(axis=-1))[0])
    assert 1 <= len(rows) <= 3 and 31 <= rows.min() <= rows.max() <= 33
    assert not tab.problems


def test_upload_has_no_outline_once_a_file_is_chosen(page, browser):
    tab = opened(browser, page)
    tab.keyboard.press("Tab")  # from then on the browser shows which part has the focus
    style = "getComputedStyle(document.querySelector('.file')).outlineStyle"
    with tab.expect_file_chooser() as chooser:
        tab.locator(".upload").press("Enter")
    assert tab.evaluate(style) == "solid"
    front = next(fronts(1))
    picture_after(tab, lambda: chooser.value.set_files({"name": "x", "mimeType": "image/png", "buffer": png(front)}))
    assert tab.evaluate(style) == "none" and (colours_on(tab) == front).all()


def test_uploads_work_or_get_one_sentence(page, browser):
    tab = opened(browser, page)
    front = list(fronts(3))[2]
    alpha = np.dstack([front, np.where(np.arange(64) < 32, 0, 255)[None].repeat(64, 0)]).astype(np.uint8)
    files = {"text": b"hello", "huge": huge_png(), "heavy": bytes(20 * 2 ** 20 + 1), "front": png(front),
             "large": png(front.repeat(4, 0).repeat(4, 1)), "one": png(np.full((1, 1, 3), 77, np.uint8)),
             "alpha": png(alpha), "grey": png(front[..., 0]), "deep": png(front[..., 0].astype(np.uint16) * 257)}
    grey = front[..., :1].repeat(3, axis=2)
    expected = {
        "text": "This is not a picture that the browser can read.", "heavy": "The file has more than 20 MB.",
        "huge": "The picture has 13000 x 13000 pixels; 4096 x 4096 is the most.", "front": front, "large": front,
        "one": np.full((64, 64, 3), 77), "alpha": np.where(alpha[..., 3:] == 255, front, 255), "grey": grey,
        "deep": grey}
    for name, says in expected.items():
        before = colours_on(tab)
        tab.evaluate("document.querySelector('.status').textContent = ''")
        tab.locator(".upload").set_input_files({"name": name, "mimeType": "image/png", "buffer": files[name]})
        tab.wait_for_function("document.querySelector('.status').textContent")
        status = tab.locator(".status").text_content()
        if isinstance(says, str):
            assert status == says and (colours_on(tab) == before).all()
        else:
            assert status.endswith(" ms") and np.abs(colours_on(tab).astype(int) - says).max() <= 1, name
    assert not tab.problems


def test_the_page_of_the_samples_shows_each_grid_from_files_alone(browser, tmp_path):
    folder = tmp_path / "my <run>" / "samples"
    folder.mkdir(parents=True)
    for step in (0, 100, 250):
        imageio.imwrite(folder / ("step-%08d.png" % step), np.full((8, 24, 3), step, np.uint8))
    gallery.write_samples(str(folder))
    tab = opened(browser, (folder / "index.html").as_uri())
    shown = "document.querySelector('img').src.slice(-12) + ' ' + document.querySelector('output').textContent"
    assert tab.evaluate(shown) == "00000250.png step 250" and tab.locator("h1").text_content() == "my <run>"
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate(shown) == "00000100.png step 100"
    tab.keyboard.press("Home")
    tab.wait_for_function("document.querySelector('img').naturalWidth == 24")
    assert tab.evaluate(shown) == "00000000.png step 0" and not tab.problems
    tab.locator("#play").click()
    tab.wait_for_function("document.querySelector('output').textContent == 'step 250'")


def test_the_page_of_thousands_of_samples_is_small(tmp_path):
    for step in range(0, 500000, 100):
        (tmp_path / ("step-%08d.png" % step)).touch()
    begin = time.process_time()
    gallery.write_samples(str(tmp_path))
    assert os.path.getsize(tmp_path / "index.html") < 50000 and time.process_time() - begin < 2
