"""What throughput.py measured, as tables, plots and a report."""

import os
import re
import statistics

import matplotlib
import matplotlib.pyplot as plt

import report

matplotlib.use("Agg")

OURS = "this project"
ADAM = 4 * 7  # bytes of memory traffic a parameter: reads weight, gradient and two moments, writes all but the gradient
EVERY = {"log": 20, "sample": 100, "checkpoint": 500}  # train.py's default intervals, in steps


class Measured:
    """The rows of measurements.csv."""

    def __init__(self, rows):
        self.rows = rows

    def values(self, part, contender, setting, measure):
        """Returns the numbers of all rounds."""
        wanted = part, contender, setting, measure
        return [float(row["value"]) for row in self.rows
                if (row["part"], row["contender"], row["setting"], row["measure"]) == wanted]

    def median(self, *wanted):
        """Returns the median over all rounds, or None where that was not measured."""
        values = self.values(*wanted)
        return statistics.median(values) if values else None

    def contenders(self, part):
        return list(dict.fromkeys(row["contender"] for row in self.rows if row["part"] == part))

    def bound(self, batch, precision):
        """Seconds of a training step at the machine's rates: its products as matmuls, then one pass of Adam."""
        rate = self.median("bound", "machine", "", precision)
        flops = self.median("bound", OURS, "batch %d" % batch, "flops")
        parameters = self.median("bound", OURS, "", "parameters")
        return flops / rate + ADAM * parameters / self.median("bound", "machine", "", "bandwidth")


def spread(values, unit="%.3g"):
    """Median (lowest to highest); a dash where there is none."""
    if not values:
        return "-"
    return ("%s (%s to %s)" % (unit, unit, unit)) % (statistics.median(values), min(values), max(values))


def precision_of(contender):
    return "bfloat16" if "bfloat16" in contender else "float32"


def per_second(seconds, batch):
    return [batch / value for value in seconds]


def training_rows(measured):
    """Yields a row a contender: images per second, share of the bound and memory at batch 1 and 4, parameters."""
    for name in measured.contenders("training"):
        row = [name]
        for batch in (1, 4):
            setting = "batch %d" % batch
            seconds = measured.values("training", name, setting, "seconds")
            row += [spread(per_second(seconds, batch)),
                    "%.2f" % (measured.bound(batch, precision_of(name)) / statistics.median(seconds)),
                    "%.2f" % (measured.median("training", name, setting, "peak_bytes") / 1e9)]
        yield row + ["{:,.0f}".format(measured.median("training", name, "batch 4", "parameters"))]


TRAINING = ["contender", "batch 1: images/s", "share of bound", "peak GB",
            "batch 4: images/s", "share of bound", "peak GB", "parameters"]


def fastest(measured, batch, precisions):
    """Returns (images per second, name) of the fastest peer; this project on TensorFlow 1.15 is none."""
    found = [(batch / measured.median("training", name, "batch %d" % batch, "seconds"), name)
             for name in measured.contenders("training")
             if not name.startswith(OURS) and precision_of(name) in precisions]
    return max(found, default=None)


def targets(measured):
    """Yields rows: what was aimed at, the aim, what was measured, and whether it is met."""
    def row(what, aim, value, text, higher=True):
        return [what, ("at least %g" if higher else "under %g") % aim, text % value,
                "yes" if (value >= aim if higher else value < aim) else "NO"]

    for precision, aims in (("bfloat16", {4: 2, 1: 1.5}), ("float32", {4: 1.2, 1: 1.2})):
        for batch, aim in aims.items():
            peer = fastest(measured, batch, [precision, "float32"])
            ours = measured.median("training", "%s, %s" % (OURS, precision), "batch %d" % batch, "seconds")
            if peer:
                yield row("training, %s, batch %d, over the fastest peer (%s)" % (precision, batch, peer[1]), aim,
                          batch / ours / peer[0], "%.2f")
    for precision, aim in (("float32", 0.75), ("bfloat16", 0.6)):
        ours = measured.median("training", "%s, %s" % (OURS, precision), "batch 4", "seconds")
        yield row("training, %s, batch 4, share of the bound" % precision, aim,
                  measured.bound(4, precision) / ours, "%.2f")
    others = [measured.median("reading", name, "1 core", "pairs_per_second")
              for name in measured.contenders("reading") if not name.startswith(OURS)]
    yield row("reading on one core, over the faster of the others", 1.2,
              measured.median("reading", OURS, "1 core", "pairs_per_second") / max(others), "%.2f")
    loop = {name: measured.median("loop", OURS, "batch 4", name)
            for name in ("wait", "plain", "logged", "sample", "checkpoint")}
    yield row("training time spent waiting for the reader, %", 1,
              100 * loop["wait"] / (loop["wait"] + loop["plain"]), "%.2f", higher=False)
    loop["log"] = loop["logged"] - loop["plain"]
    yield row("log, samples and checkpoints at their default intervals, % of training time", 5,
              100 * sum(loop[name] / steps for name, steps in EVERY.items()) / loop["plain"], "%.2f", higher=False)
    start = measured.median("start", OURS, "", "first_step") - measured.median("start", "TensorFlow", "", "import")
    yield row("from the command to the first step beyond TensorFlow's import, seconds", 5, start, "%.1f", higher=False)
    keras = min(measured.median("training", name, "batch 4", "peak_bytes") / 1e9
                 for name in measured.contenders("training") if "Keras" in name)
    for precision in ("float32", "bfloat16"):
        ours = measured.median("training", "%s, %s" % (OURS, precision), "batch 4", "peak_bytes") / 1e9
        yield row("peak memory, %s, batch 4, GB (the leanest TensorFlow peer's is the aim)" % precision,
                  round(keras, 2), ours, "%.2f", higher=False)


TARGETS = ["what", "aim", "measured", "met"]


def bars(panel, names, values, title):
    """Horizontal bars of medians with their ranges, this project's in colour."""
    medians = [statistics.median(part) for part in values]
    ranges = [[median - min(part) for median, part in zip(medians, values)],
              [max(part) - median for median, part in zip(medians, values)]]
    colors = ["tab:blue" if name.startswith(OURS) else "0.7" for name in names]
    panel.barh(names, medians, xerr=ranges, color=colors, error_kw={"elinewidth": 1, "ecolor": "0.3"})
    for place, median in enumerate(medians):
        panel.text(0.02 * max(medians), place, ("%.0f" if median >= 100 else "%.3g") % median, va="center", fontsize=8)
    panel.invert_yaxis()
    panel.set_title(title, fontsize=10)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def draw(measured, path):
    """Training, reading and inference, each contender a bar; dotted lines are the machine's bound."""
    figure, panels = plt.subplots(3, 2, figsize=(12.4, 10), dpi=110, layout="constrained")
    for line, part, measure, settings, title in (
            (panels[0], "training", "seconds", ("batch 1", "batch 4"), "training, %s: images per second"),
            (panels[1], "inference", "seconds", ("batch 1", "batch 8"), "inference, %s: images per second"),
            (panels[2], "reading", "pairs_per_second", ("1 core", "2 cores"), "reading, %s: pairs per second")):
        for panel, setting in zip(line, settings):
            names = [name for name in measured.contenders(part) if measured.values(part, name, setting, measure)]
            values = [measured.values(part, name, setting, measure) for name in names]
            if part != "reading":
                values = [per_second(seconds, int(setting.split()[1])) for seconds in values]
            bars(panel, names, values, title % setting)
    for panel, batch in zip(panels[0], (1, 4)):
        for precision, color in (("float32", "tab:orange"), ("bfloat16", "tab:red")):
            panel.axvline(batch / measured.bound(batch, precision), color=color, linestyle=":",
                          label="bound, " + precision)
        panel.legend(fontsize=8, loc="lower right", framealpha=1)
    figure.savefig(path)


def growth_rows(measured):
    """Yields [setting, seconds an image, peak GB] in the order measured."""
    for setting in dict.fromkeys(row["setting"] for row in measured.rows if row["part"] == "growth"):
        batch = int(setting.split()[-1])
        seconds = [value / batch for value in measured.values("growth", OURS, setting, "seconds")]
        yield [setting, statistics.median(seconds), measured.median("growth", OURS, setting, "peak_bytes") / 1e9]


def draw_growth(rows, path):
    """Seconds an image and peak memory over image size (batch 4) and over batch (256 pixels)."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), dpi=110, layout="constrained")
    for panel, place, kept, label in ((panels[0], 0, "batch 4", "image size in pixels (batch 4)"),
                                      (panels[1], 3, "256 pixels", "batch (256 pixels)")):
        shown = sorted((int(setting.split()[place]), seconds, memory) for setting, seconds, memory in rows
                       if kept in setting)
        numbers, seconds, memory = zip(*shown)
        panel.plot(numbers, seconds, "o-", color="tab:blue")
        panel.set(xlabel=label, xscale="log", xticks=numbers, ylim=(0, None))
        panel.set_ylabel("seconds an image", color="tab:blue")
        panel.set_xticklabels(numbers)
        panel.minorticks_off()
        other = panel.twinx()
        other.plot(numbers, memory, "s--", color="tab:orange")
        other.set_ylabel("peak memory, GB", color="tab:orange")
        other.set_ylim(0, None)
    figure.savefig(path)


KINDS = ("forward", "kernel gradient", "image gradient")


def profile_rows(measured):
    """Yields a row a layer: milliseconds of each kind and, in brackets, its share of the matmul rate."""
    layers = dict.fromkeys(row["setting"] for row in measured.rows if row["part"] == "profile" and row["setting"])
    order = "encoder", "decoder", "layer"
    for layer in sorted(layers, key=lambda name: (order.index(re.split("[/_]", name)[1]), name)):
        row = [layer]
        for precision in ("float32", "bfloat16"):
            rate = measured.median("bound", "machine", "", precision)
            for kind in KINDS:
                seconds = measured.median("profile", precision, layer, kind)
                flops = measured.median("profile", precision, layer, kind + ", flops")
                row.append("%.0f (%.2f)" % (1e3 * seconds, flops / seconds / rate) if seconds and flops else "-")
        yield row


def remainder_rows(measured):
    """Yields a row a kind of work, summed over the layers: milliseconds in float32 and in bfloat16."""
    for kind in dict.fromkeys(row["measure"] for row in measured.rows if row["part"] == "profile"):
        if not kind.endswith("flops"):
            yield [kind] + ["%.0f" % sum(
                1e3 * (measured.median("profile", precision, layer, kind) or 0)
                for layer in {row["setting"] for row in measured.rows if row["part"] == "profile"})
                for precision in ("float32", "bfloat16")]


def write(rows, folder):
    """Writes the plots and report.html from measurements.csv's rows; all parts must have been measured."""
    measured = Measured(rows)
    grown = list(growth_rows(measured))
    draw(measured, os.path.join(folder, "throughput.png"))
    draw_growth(grown, os.path.join(folder, "growth.png"))
    machine = [["matmul, float32", "%.0f GFLOP/s" % (measured.median("bound", "machine", "", "float32") / 1e9)],
               ["matmul, bfloat16", "%.0f GFLOP/s" % (measured.median("bound", "machine", "", "bfloat16") / 1e9)],
               ["read and write", "%.1f GB/s" % (measured.median("bound", "machine", "", "bandwidth") / 1e9)]]
    machine += [["a step at batch %d" % batch, "%.0f GFLOP; %.2f s in float32, %.2f s in bfloat16 at these rates" % (
        measured.median("bound", OURS, "batch %d" % batch, "flops") / 1e9,
        measured.bound(batch, "float32"), measured.bound(batch, "bfloat16"))] for batch in (1, 4)]
    seconds = [["TensorFlow's import", spread(measured.values("start", "TensorFlow", "", "import"))],
               ["to the printed plan: imports, files, graph", spread(measured.values("start", OURS, "", "plan"))],
               ["to the first step: initial values, first samples, step",
                spread(measured.values("start", OURS, "", "first_step"))]]
    loop = [[name, spread(measured.values("loop", OURS, "batch 4", name))]
            for name in ("plain", "logged", "wait", "sample", "checkpoint")]
    loop += [["3,000 small steps, %s" % name, spread(measured.values("length", OURS, "3000 small steps", name))]
             for name in ("early", "late")]
    report.write_report(
        os.path.join(folder, "report.html"), "Throughput", "throughput.html",
        targets=report.table(TARGETS, targets(measured)), machine=report.table(["machine", ""], machine),
        training=report.table(TRAINING, training_rows(measured)),
        picture=report.picture(os.path.join(folder, "throughput.png")),
        layers=report.table(["layer", *("%s, %s" % (precision, kind) for precision in ("float32", "bfloat16")
                                        for kind in KINDS)], profile_rows(measured)),
        kinds=report.table(["kind", "float32, ms", "bfloat16, ms"], remainder_rows(measured)),
        growth=report.picture(os.path.join(folder, "growth.png")),
        grown=report.table(["setting", "seconds an image", "peak GB"],
                           [[setting, "%.3g" % second, "%.2f" % memory] for setting, second, memory in grown]),
        start=report.table(["from the command", "seconds: median (range)"], seconds),
        loop=report.table(["what", "seconds: median (range)"], loop))
