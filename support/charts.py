"""Line charts of a run through time, as SVG inside a page; a page's script may move their line `now` to a step."""

import contextlib
import html
import math
import typing

WIDTH, HEIGHT = 240, 130  # in the units of the drawing
LEFT, RIGHT, TOP, BOTTOM = 34, 6, 6, 18  # margins around the lines
MOST_POINTS = 150  # of a line; more are averaged
MOST_DOTS = 60


class Line(typing.NamedTuple):
    """A line of a chart."""

    name: str
    kind: str  # the class that gives it its colour: train, val, d or g
    points: list  # (step, value) in order of the steps
    ringed: typing.Optional[int] = None  # the step of a dot with a ring


def ticks(low, high):
    """Returns three to five round numbers, evenly spaced, from at most `low` to at least `high`."""
    spacing = ((high - low) or abs(high) or 1) / 3
    zeros = 10.0 ** math.floor(math.log10(spacing))
    spacing = next(digit * zeros for digit in (1, 2, 5, 10) if digit * zeros >= spacing * 0.999)
    first, last = math.floor(low / spacing + 1e-6), math.ceil(high / spacing - 1e-6)
    return [number * spacing for number in range(first, last + 1)]


def thinned(points):
    """Returns points (step, value) whose value is finite; where they are many, means of as many neighbours each."""
    points = [point for point in points if math.isfinite(point[1])]
    share = math.ceil(len(points) / MOST_POINTS)
    parts = (points[i:i + share] for i in range(0, len(points), share or 1))
    return [tuple(sum(column) / len(part) for column in zip(*part)) for part in parts]


def chart(title, lines, last):
    """Returns a figure of Lines over the steps 0 to `last`; an empty text where no line has a point."""
    lines = [line._replace(points=thinned(line.points)) for line in lines]
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    values = [value for line in lines for _, value in line.points]
    marks = ticks(min(values), max(values))

    def place(step, value):
        return (LEFT + step / last * (WIDTH - LEFT - RIGHT),
                TOP + (marks[-1] - value) / ((marks[-1] - marks[0]) or 1) * (HEIGHT - TOP - BOTTOM))

    drawn = [mark_of(mark, place(0, mark)[1]) for mark in marks] + [
        '<text x="%d" y="%d">0</text><text class="end" x="%d" y="%d">%s</text>' % (
            LEFT, HEIGHT - 4, WIDTH - RIGHT, HEIGHT - 4, "{:,}".format(last)),
        '<line class="now" x1="%d" x2="%d" y1="%d" y2="%d"/>' % (LEFT, LEFT, TOP, HEIGHT - BOTTOM)]
    drawn += [drawn_line(line, place) for line in lines]
    names = " ".join('<span class="%s">%s</span>' % (line.kind, html.escape(line.name)) for line in lines)
    names += " &nbsp;\u25cb best" if any(line.ringed for line in lines) else ""
    return ('<figure class="chart"><figcaption>%s %s</figcaption><svg viewBox="0 0 %d %d" role="img" aria-label="%s" '
            'data-last="%d" data-left="%d" data-width="%d">%s</svg></figure>\n' % (
                html.escape(title), names, WIDTH, HEIGHT, html.escape(title), last, LEFT, WIDTH - LEFT - RIGHT,
                "".join(drawn)))


def mark_of(mark, y):
    """Returns a line across the chart with its number."""
    return '<line class="mark" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="end" x="%d" y="%.1f">%.4g</text>' % (
        LEFT, WIDTH - RIGHT, y, y, LEFT - 3, y + 4, mark)


def drawn_line(line, place):
    """Returns a Line as SVG, with dots where they have room; `place` gives a point's place in the drawing."""
    path = " ".join("%.1f,%.1f" % place(*point) for point in line.points)
    dots = ""
    if line.kind == "val" and len(line.points) <= MOST_DOTS:
        dots = "".join('<circle class="%s" cx="%.1f" cy="%.1f" r="%s"><title>step %d: %.4g</title></circle>' % (
            "best" if step == line.ringed else "dot", *place(step, value), 4 if step == line.ringed else 1.8, step,
            value) for step, value in line.points)
    return '<g class="%s"><polyline points="%s"/>%s</g>' % (line.kind, path, dots)


def of_run(metrics, validation, best):
    """Returns the charts of a run as HTML; empty where nothing was logged.

    Args:
      metrics, validation: rows of metrics.csv and val_metrics.csv, lists of texts.
      best: the step of the best checkpoint, or None.
    """
    steps = [int(row[0]) for row in [*metrics, *validation]]

    def of_training(name, kind, column):
        return Line(name, kind, series(metrics, column))

    def of_validation(column):
        return Line("validation", "val", series(validation, column), best)

    charts = [("L1", [of_training("training", "train", 4), of_validation(2)]),
              ("GAN losses", [of_training("D", "d", 2), of_training("G", "g", 3)]),
              ("SSIM", [of_validation(4)]), ("PSNR in dB", [of_validation(3)])]
    return "".join(chart(title, lines, max(steps)) for title, lines in charts) if steps else ""


def series(rows, column):
    """Returns the points (step, value) of a column; a row without a number there has none."""
    points = []
    for row in rows:
        with contextlib.suppress(ValueError, IndexError):
            points.append((int(row[0]), float(row[column])))
    return points
