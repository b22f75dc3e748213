"""What the studies share: running this project's programs, self-contained HTML reports, and CSV."""

import base64
import csv
import html
import json
import os
import string
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TRAIN = os.path.join(HERE, "..", "train.py")


def run(python, *command):
    """Runs a program of this project; returns what it printed, or ends with its error in one line."""
    return run_with_peak(python, *command)[0]


def run_with_peak(python, *command):
    """As `run`; returns what the program printed and its peak resident memory in bytes."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen([python, *command], stdout=output, stderr=errors)
        except OSError as error:
            sys.exit("error: %s: %s; it must be the path of a Python" % (python, error.strerror))
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:  # which the program got too: it saves first
            process.wait()
            sys.exit("stopped")
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    if status:
        lines = (texts[1] or texts[0]).strip().splitlines()
        sys.exit("error: %s %s: %s" % (python, " ".join(command), lines[-1] if lines else status))
    return texts[0], usage.ru_maxrss * 1024


def step_seconds(folder):
    """Returns the seconds of each step of a run that logged every step."""
    with open(os.path.join(folder, "flags.txt")) as file:
        batch = int(next(line for line in file if line.startswith("--batch_size=")).split("=")[1])
    return [batch / float(row["images_per_second"]) for row in read_csv(os.path.join(folder, "metrics.csv"))]


def parameters(folder):
    """Returns how many parameters a run's networks have together."""
    with open(os.path.join(folder, "run.json")) as file:
        return sum(json.load(file)["parameters"].values())


def table(header, rows):
    """Returns an HTML table."""
    cells = ["<tr>%s</tr>" % "".join("<th>%s</th>" % html.escape(str(cell)) for cell in header)]
    cells += ["<tr>%s</tr>" % "".join("<td>%s</td>" % html.escape(str(cell)) for cell in row) for row in rows]
    return "<div class=wide><table>%s</table></div>" % "".join(cells)


def picture(path):
    """Returns a PNG file as an HTML image that holds its data."""
    with open(path, "rb") as file:
        return '<img src="data:image/png;base64,%s">' % base64.b64encode(file.read()).decode()


def write_csv(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def read_csv(path):
    """Returns the rows of a CSV file as dicts."""
    with open(path) as file:
        return list(csv.DictReader(file))


def write_report(path, title, template, **parts):
    """Fills studies/TEMPLATE with its parts and writes it as a page."""
    with open(os.path.join(HERE, template)) as body, open(os.path.join(HERE, "report.html")) as page:
        text = string.Template(page.read()).substitute(
            title=html.escape(title), body=string.Template(body.read()).substitute(parts))
    with open(path, "w") as file:
        file.write(text)
