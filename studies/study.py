"""What the studies share: the one way to run this project's programs, the one report, and how numbers are shown.

It imports no package at the top and runs on Python 3.7, because parts of studies run in other environments.
"""

import argparse
import base64
import collections
import csv
import datetime
import functools
import html
import importlib.util
import json
import os
import platform
import re
import shlex
import statistics
import string
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
TRAIN = os.path.join(ROOT, "train.py")
SAMPLE_SET = "data/sample"
sys.path.insert(0, ROOT)  # for the imports of the program's modules, wherever the study was started

# ---------------------------------------------------------------------------------------------
# Running programs

Run = collections.namedtuple("Run", "rows seconds parameters fingerprint peak")
Run.__doc__ = """A training run: metrics.csv's rows as dicts, the seconds of a step in each, how many parameters both
networks have, the fingerprint of the weights, and the peak resident memory in bytes."""


def run(python, *command, limit=None):
    """Runs a program; returns (what it printed, its peak resident memory in bytes), or ends with its error's line.

    A program that runs longer than `limit` seconds, if given, is ended, which is an error.
    """
    whole = [*(["timeout", str(limit)] if limit else []), python, *command]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(whole, stdout=output, stderr=errors)
        except OSError as error:
            sys.exit("error: %s: %s; it must be the path of a Python" % (python, error.strerror))
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:  # which the program got too: it saves first
            process.wait()
            sys.exit("stopped; the same command continues")
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    if status:
        lines = (texts[1] or texts[0]).strip().splitlines()
        sys.exit("error: %s %s: %s" % (python, " ".join(command), lines[-1] if lines else status))
    return texts[0], usage.ru_maxrss * 1024


def train(folder, *flags, python=sys.executable, limit=None):
    """Runs train.py in a folder, where it goes on or finds itself finished; returns the Run."""
    text, peak = run(python, TRAIN, "--output_dir=" + folder, *flags, limit=limit)
    rows = read_csv(os.path.join(folder, "metrics.csv"))
    with open(os.path.join(folder, "flags.txt")) as file:
        batch = int(re.search(r"^--batch_size=(\d+)$", file.read(), re.MULTILINE).group(1))
    return Run(rows, [batch / float(row["images_per_second"]) for row in rows],
               sum(read_json(os.path.join(folder, "run.json"))["parameters"].values()),
               re.search(r"^fingerprint: (\w+)$", text, re.MULTILINE).group(1), peak)


def test(folder, *flags):
    """Tests the finished run in a folder on val; returns the folder of the result."""
    text, _ = run(sys.executable, TRAIN, "--mode=test", "--split=val", "--output_dir=" + folder, *flags)
    return os.path.dirname(re.search(r"; open (.*) in a browser$", text, re.MULTILINE).group(1))


def export(folder):
    """Exports the finished run in a folder; returns where the export is."""
    run(sys.executable, TRAIN, "--mode=export", "--output_dir=" + folder)
    return os.path.join(folder, "export", str(read_json(os.path.join(folder, "run.json"))["steps"]))


def measure(python, what, limit=None, **options):
    """Runs a function of contender.py in a process of its own; returns (what it found, its peak bytes)."""
    text, peak = run(python, os.path.join(HERE, "contender.py"), what, json.dumps(options), limit=limit)
    return json.loads(text.splitlines()[-1]), peak


def training_graph(*flags):
    """Builds train.py's training graph in this process; returns (batch, Training, a session's config).

    No other study looks into train.py.
    """
    import train as program
    from support import data_flags, devices, precisions
    program.FLAGS(["train.py", *flags])
    options = program.options_in_force()
    precision = precisions.resolve(options.precision)
    devices.allow_tf32(precision == "tf32")
    if options.deterministic:
        devices.make_deterministic()
    pairs = data_flags.pairs_of(options, "train")
    batch, model = program.training_graph(options, pairs, precision)
    return batch, model, precisions.session_config(precision)


def precisions():
    """Returns (the precisions in which convolutions run here, what bfloat16 lacks, empty where it is one)."""
    from support import precisions
    lacks = precisions.lacks("bfloat16")
    return ["float32"] + ["bfloat16"] * (not lacks), lacks


def printed_by(*command):
    """Returns what a program prints, stripped; empty where it prints nothing or can't be started."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              check=False).stdout.decode().strip()
    except OSError:
        return ""


@functools.lru_cache(maxsize=None)
def version_of(python, package):
    """Returns the version of a package in a Python, empty where there is none, which is said once."""
    found = printed_by(python, "-c", "import %s; print(%s.__version__)" % (package, package))
    if not found:
        print("skipped: there is no %s in %s" % (package, python), flush=True)
    return found


def kept(path, of, make):
    """Returns what make() returns, or what an earlier start left of it as JSON in the file `path`.

    `of` is what it depends on: a file that is of something else ends the program.
    """
    if os.path.exists(path):
        found = read_json(path)
        if found["of"] != of:
            sys.exit("error: %s is of %s, not of %s; name a new --output_dir" % (path, found["of"], of))
        return found["result"]
    result = make()
    write_json(path, {"of": of, "result": result})
    return result


def pairs_of(data_dir, splits, peers=False):
    """Returns {split: pair_files.Pairs}; draws the sample set where it is named and not there.

    Ends the program where there are none, or none side by side, as the `peers` read them.
    """
    from support import pair_files, sample_set
    from support.errors import DataError
    if data_dir == SAMPLE_SET and not os.path.exists(data_dir):
        sample_set.draw(data_dir)
    try:
        found = {split: pair_files.find_pairs(os.path.join(data_dir, split)) for split in splits}
    except DataError as error:
        sys.exit("error: %s" % error)
    for pairs in found.values() if peers else ():
        if pairs.layout != "side_by_side":
            sys.exit("error: --data_dir=%s: the peers need pairs side by side" % data_dir)
        others = set(os.listdir(pairs.folder)) - {os.path.basename(image.path) for (image,) in pairs.files}
        if others:
            sys.exit("error: %s: no pair; the peers read every file of the folder" % os.path.join(
                pairs.folder, min(others)))
    return found


# ---------------------------------------------------------------------------------------------
# What is read and written


OPTIONS = {
    "data_dir": {"default": SAMPLE_SET, "help": "the pairs, side by side, in train/ and val/ (default: %(default)s)"},
    "direction": {"default": "AtoB", "choices": ["AtoB", "BtoA"], "help": "default: %(default)s"},
    "tf1_python": {"default": ".venv-tf1/bin/python", "help": "a Python 3.7 with TensorFlow 1.15 (%(default)s)"},
    "torch_python": {"default": sys.executable, "help": "a Python with PyTorch, numpy and Pillow"},
    "rounds": {"type": int, "default": 3, "help": "how often everything is measured (default: %(default)s)"}}


def parser(doc, output_dir, *options):
    """Returns a parser with --output_dir and some of OPTIONS; ends where there is no matplotlib to draw with."""
    if not importlib.util.find_spec("matplotlib"):
        sys.exit("error: this study draws; pip install matplotlib")
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--output_dir", default=output_dir, help="where all of it goes (default: %(default)s)")
    for name in options:
        made.add_argument("--" + name, **OPTIONS[name])
    return made


def read_json(path):
    with open(path) as file:
        return json.load(file)


def write_json(path, value):
    with open(path + ".tmp", "w") as file:
        json.dump(value, file, indent=2)
    os.replace(path + ".tmp", path)  # so that a stop leaves no file that is cut off


def read_csv(path):
    """Returns the rows of a CSV file as dicts."""
    with open(path) as file:
        return list(csv.DictReader(file))


def write_csv(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def spread(values, number="%.3g"):
    """Median (lowest to highest); a dash where there is none, one number where all are one."""
    if not values:
        return "-"
    low, median, high = (number % value for value in (min(values), statistics.median(values), max(values)))
    return median if low == high else "%s (%s to %s)" % (median, low, high)


def figure(rows, columns, size):
    """Returns a figure of matplotlib, which only drawing needs, and its panels [rows, columns]."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    made, panels = plt.subplots(rows, columns, figsize=size, squeeze=False, dpi=110, layout="constrained")
    for panel in panels.flat:
        panel.spines[["top", "right"]].set_visible(False)
    return made, panels


def draw_columns(columns, titles, path):
    """Writes pictures [H, W, 3] of one size beside each other, each under its title, at their own resolution."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    height, width = columns[0].shape[0], sum(column.shape[1] for column in columns)
    made = plt.figure(figsize=(width / 128, (height + 40) / 128), dpi=128)
    for number, (column, title) in enumerate(zip(columns, titles)):
        axes = made.add_axes([number / len(columns), 0, 1 / len(columns), height / (height + 40)])
        axes.imshow(column)
        axes.axis("off")
        axes.set_title(title, fontsize=12)
    made.savefig(path)


def commit():
    """Returns the commit of the code, marked where files of it are changed; "unknown" outside a git checkout."""
    return printed_by("git", "-C", ROOT, "describe", "--always", "--dirty") or "unknown"


def facts():
    """Returns [[what, value]] of where, when, on which commit and by which command a report is made."""
    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    packages = [name for name in ("tensorflow", "keras", "numpy") if importlib.util.find_spec(name)]
    versions = ["Python " + platform.python_version()]
    versions += ["%s %s" % (name, version_of(sys.executable, name)) for name in packages]
    return [["CPU", "%s, %d cores" % (cpu, len(os.sched_getaffinity(0)))], ["versions", ", ".join(versions)],
            ["date", datetime.date.today().isoformat()], ["commit", commit()],
            ["command", "python " + " ".join(map(shlex.quote, ["studies/" + os.path.basename(sys.argv[0]),
                                                               *sys.argv[1:]]))]]


def table(header, rows):
    """Returns an HTML table."""
    cells = ["<tr>%s</tr>" % "".join("<th>%s</th>" % html.escape(str(cell)) for cell in header)]
    cells += ["<tr>%s</tr>" % "".join("<td>%s</td>" % html.escape(str(cell)) for cell in row) for row in rows]
    return "<div class=wide><table>%s</table></div>" % "".join(cells)


def picture(path):
    """Returns a PNG file as an HTML image that holds its data."""
    with open(path, "rb") as file:
        return '<img src="data:image/png;base64,%s">' % base64.b64encode(file.read()).decode()


def folded(title, content):
    """Returns HTML that is shown on demand."""
    return "<details><summary>%s</summary>%s</details>" % (html.escape(title), content)


def write_report(path, title, text, **parts):
    """Writes a page that holds all it shows, and prints where it is.

    Args:
      path: of the page.
      title: its title and first heading; `facts` follow.
      text: paragraphs and, behind "## ", headings, with an empty line between them; `code`; $NAME in a paragraph
        stands for words, alone for HTML.
      parts: {NAME: text or HTML}.
    """
    blocks = [table(["made", ""], facts())]
    for block in text.strip().split("\n\n"):
        if re.fullmatch(r"\$\w+", block):
            blocks.append(parts[block[1:]])
            continue
        words = html.escape(string.Template(block).substitute(parts), quote=False)
        words = re.sub("`(.*?)`", r"<code>\1</code>", words)
        blocks.append("<h2>%s</h2>" % words[3:] if words.startswith("## ") else "<p>%s</p>" % words)
    with open(os.path.join(HERE, "report.html")) as file:
        page = string.Template(file.read()).substitute(title=html.escape(title), body="\n".join(blocks))
    with open(path, "w") as file:
        file.write(page)
    print("report: %s" % path)
