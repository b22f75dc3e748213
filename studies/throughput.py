"""How fast is this project beside its peers, and beside what the machine can do?

    pip install matplotlib
    python studies/throughput.py --output_dir=runs/throughput --data_dir=datasets/facades

takes 20 minutes a round on two cores that do nothing else. It measures training, reading, inference, the start, growth
and the machine's own bound, each contender in a process of its own, in interleaved rounds, and writes
measurements.csv, throughput.png and report.html (which holds all it shows). Peers that are not installed are named and
skipped (--tf1_python and --torch_python say where they are); so is bfloat16 on a CPU that lacks it.
"""

import collections
import itertools
import os
import shutil
import statistics
import sys
import time

import study

OURS = "this project"
CONSTANTS = ", constants"  # the weights of an export
COMPILED = ["channels_last"] * bool(shutil.which("g++"))  # the faster layout, where torch.compile finds its compiler
BOUND = "the machine's bound, "
HEADER = ["part", "contender", "setting", "measure", "round", "value"]
REPORT = """
Every contender in a process of its own, each part in interleaved rounds; medians (lowest to highest). Where nothing
else is said: 256x256 pixels, 64 filters. The peers are written fresh from what their authors published and run as
their users run them. Other environments: $others. $lacks

In short; each number is of the medians of a round.

$summary

$picture"""

# The parts. Each yields (contender, setting, measure, value) of one round; its docstring is its text in the report.


def bound(options):
    """Floating point operations, divided by the rate of a large matrix product, plus one pass of Adam over the
    parameters at the rate of a large addition in place. A yardstick: a convolution may do with fewer operations."""
    return study.measure(sys.executable, "bound", flags=[options.data], batches=[1, 4], steps=5,
                         dtypes=options.precisions)[0]


def training(options):
    """Reading included. The parameters differ by less than 0.002 % (biases, the bottleneck's norm); a DataLoader's
    workers are not in the memory. torch.compile needs a g++."""
    for batch in (1, 4):
        for precision in options.precisions:
            yield from steps_of(options, "%s, %s" % (OURS, precision), batch, "--precision=" + precision)
        if study.version_of(options.tf1_python, "tensorflow"):
            yield from steps_of(options, OURS + " on TensorFlow 1.15, float32", batch, python=options.tf1_python)
        for name, python, what in peers(options.torch_python, options.precisions, COMPILED):
            yield from steps_of(options, name, batch, python=python, **what)


def steps_of(options, name, batch, *flags, setting="batch %d", python=sys.executable, **peer):
    """Yields what is measured of the training of a peer or, without one, of this project with flags."""
    if peer:
        found, peak = study.measure(python, "training", folder=options.folder, batch=batch,
                                    steps=options.steps, **peer)
        seconds, parameters = found["seconds"], sum(found["parameters"].values())
    else:
        run = train(options, "--batch_size=%d" % batch, "--max_steps=%d" % (3 + options.steps), *flags, python=python)
        seconds, parameters, peak = run.seconds[2:-1], run.parameters, run.peak  # the last step makes summaries
    yield name, setting % batch, "parameters, million", parameters / 1e6
    yield name, setting % batch, "peak GB", peak / 1e9
    yield from ((name, setting % batch, "images/s", batch / value) for value in seconds)


def train(options, *flags, python=sys.executable):
    """Trains in a new folder, with a row for every step; returns the study.Run."""
    shutil.rmtree(options.run, ignore_errors=True)
    return study.train(options.run, options.data, "--log_every=1", "--epochs=100000", *flags, python=python)


def peers(torch_python, precisions, compiled=()):
    """Yields (name, Python, {module, precision and layout}) of the installed peers; `compiled` layouts twice."""
    for precision in precisions:
        keras = {"peer": "peer_keras", "precision": precision}
        yield "TensorFlow 2 tutorial (Keras), " + precision, sys.executable, keras
        for layout in ("channels_last", "channels_first") if study.version_of(torch_python, "torch") else ():
            what = {"peer": "peer_torch", "precision": precision, "channels_last": layout == "channels_last"}
            yield "PyTorch, %s, %s" % (precision, layout), torch_python, what
            if layout in compiled:
                yield "PyTorch, %s, %s, compiled" % (precision, layout), torch_python, dict(what, compiled=True)


def reading(options):
    """Batches of 4 in two epochs after the first."""
    for cores in (1, 2):
        for name, python, package, peer in (
                (OURS, sys.executable, "tensorflow", "peer_ours"),
                ("tf.data as in the tutorial", sys.executable, "tensorflow", "peer_keras"),
                ("DataLoader with Pillow", options.torch_python, "torch", "peer_torch")):
            if study.version_of(python, package):
                yield name, "cores: %d" % cores, "pairs/s", study.measure(
                    python, "reading", folder=options.folder, batch=4, cores=cores, peer=peer)[0]


def inference(options):
    """This project's export, loaded as docs/deploy.md says, with weights as variables or as constants, has no dropout;
    the peers keep it, as their programs do. In bfloat16 Keras has the policy mixed_bfloat16 and PyTorch weights in
    bfloat16, which is faster than autocast."""
    train(options, "--max_steps=1")
    export = study.export(options.run)
    contenders = [("%s, %s%s" % (OURS, precision, name), sys.executable,
                   {"peer": "peer_ours", "export": export, "precision": precision, "constants": bool(name)})
                  for precision in options.precisions for name in ("", CONSTANTS)]
    contenders += peers(options.torch_python, options.precisions, COMPILED)
    for batch in (1, 4, 8):
        for name, python, what in contenders:
            found, _ = study.measure(python, "inference", batch=batch, steps=2 * options.steps, **what)
            yield from ((name, "batch %d" % batch, "images/s", batch / seconds) for seconds in found)


def start(options):
    """Seconds from the command to what a run writes with its plan and after its first step."""
    begin = time.time()
    study.run(sys.executable, "-c", "import tensorflow.compat.v1")
    yield "TensorFlow", "", "import", time.time() - begin
    begin = time.time()
    train(options, "--max_steps=1")
    for name, file in (("plan", "flags.txt"), ("first step", "metrics.csv")):
        yield OURS, "", name, os.path.getmtime(os.path.join(options.run, file)) - begin


def loop(options):
    """At batch 4, seconds of what a step waits for the reader, of a step, of a sample grid and of a checkpoint; and of
    a small step early and late in a run of 3,000."""
    found, _ = study.measure(sys.executable, "loop", flags=[options.data], steps=2 * options.steps)
    # What is written after a step is in the time of the next one's row.
    steps = [None, *train(options, "--max_steps=13", "--sample_every=4", "--save_every=6").seconds]
    plain = statistics.median(steps[step] for step in (3, 6, 10, 11))
    small = train(options, "--image_size=32", "--ngf=8", "--ndf=8", "--max_steps=3000", "--precision=float32").seconds
    found.update({"sample": [steps[step] + steps[step + 1] - 2 * plain for step in (4, 8)],
                  "checkpoint": [steps[7] - plain], "small, early": small[500:1500], "small, late": small[2000:]})
    yield from ((OURS, "", name, value) for name, values in found.items() for value in values)


def growth(options):
    """Training over image size and batch."""
    for size, batch in ((64, 4), (128, 4), (256, 4), (512, 4), (256, 1), (256, 2), (256, 8)):
        yield from steps_of(options, OURS, batch, "--image_size=%d" % size, setting="%d pixels, batch %%d" % size)


PARTS = {part.__name__: part for part in (bound, training, reading, inference, start, loop, growth)}


def grouped(rows):
    """Returns ({(part, contender, setting, measure): all values}, {...: each round's median}) of measurements.csv."""
    rounds = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in rows:
        rounds[tuple(row[name] for name in HEADER[:4])][row["round"]].append(float(row["value"]))
    return ({key: [value for values in found.values() for value in values] for key, found in rounds.items()},
            {key: [statistics.median(values) for values in found.values()] for key, found in rounds.items()})


def table(every, part):
    """Returns an HTML table of a part's medians (ranges): a row for a contender and setting, a column for a measure."""
    lines, names = (dict.fromkeys(key[place] for key in every if key[0] == part) for place in (slice(1, 3), 3))
    return study.table(["", "", *names], [[*line, *(study.spread(every.get((part, *line, name), []), "%.4g")
                                                    for name in names)] for line in lines])


def over_fastest(rounds, ours, words=("",)):
    """Returns (name, ratios by round) of a key of ours over the fastest peer with one of the words in its name."""
    peer = max((key for key in rounds if key[0] == ours[0] and key[2:] == ours[2:] and OURS not in key[1]
                and any(word in key[1] for word in words)), key=lambda key: statistics.median(rounds[key]))
    return peer[1], [a / b for a, b in zip(rounds[ours], rounds[peer])]


def summary(rounds, precisions):
    """Yields (what, its values by round); peers are taken in float32 too where that is faster."""
    for precision in precisions:
        words = ("float32", precision)
        for part, batch in itertools.product(("training", "inference"), ("batch 1", "batch 4")):
            name = "%s, %s%s" % (OURS, precision, CONSTANTS * (part == "inference"))
            peer, ratios = over_fastest(rounds, (part, name, batch, "images/s"), words)
            yield "%s, %s, %s, over the fastest peer (%s)" % (part, precision, batch, peer), ratios
        ours = rounds["training", "%s, %s" % (OURS, precision), "batch 4", "images/s"]
        reach = rounds["bound", BOUND + precision, "batch 4", "images/s"]
        yield "training, %s, batch 4, share of the bound" % precision, [a / b for a, b in zip(ours, reach)]
    peer, ratios = over_fastest(rounds, ("reading", OURS, "cores: 1", "pairs/s"))
    yield "reading on one core, over the faster of the others (%s)" % peer, ratios
    names, columns = zip(*((key[3], values) for key, values in rounds.items() if key[0] == "loop"))
    loop = [dict(zip(names, values)) for values in zip(*columns)]
    yield ("training time spent waiting for the reader, %",
           [100 * found["wait"] / (found["wait"] + found["plain"]) for found in loop])
    yield ("samples and checkpoints at their default intervals, % of training time",
           [100 * (found["sample"] / 100 + found["checkpoint"] / 500) / found["plain"] for found in loop])
    both = zip(rounds["start", OURS, "", "first step"], rounds["start", "TensorFlow", "", "import"])
    yield "from the command to the first step beyond TensorFlow's import, seconds", [a - b for a, b in both]


def draw(every, precisions, path):
    """Training, inference and reading: bars of medians with their ranges; dotted lines are the machine's bound."""
    figure, panels = study.figure(3, 2, (12.4, 10))
    shown = [(part, "batch %d" % batch) for part in ("training", "inference") for batch in (1, 4)]
    for panel, place in zip(panels.flat, [*shown, ("reading", "cores: 1"), ("reading", "cores: 2")]):
        found = {key[1]: values for key, values in every.items() if key[:3:2] == place and "/s" in key[3]}
        medians = [statistics.median(values) for values in found.values()]
        reach = [[abs(end(values) - median) for median, values in zip(medians, found.values())] for end in (min, max)]
        bars = panel.barh(list(found), medians, xerr=reach, color=["tab:blue" if OURS in n else "0.7" for n in found])
        panel.bar_label(bars, ["%.3g" % median for median in medians], label_type="center", fontsize=8)
        panel.invert_yaxis()
        panel.set_title("%s, %s: %s" % (*place, "pairs/s" if place[0] == "reading" else "images/s"), fontsize=10)
        panel.tick_params(labelsize=8)
        if place[0] == "training":
            for precision, color in zip(precisions, ("tab:orange", "tab:red")):
                rate = statistics.median(every["bound", BOUND + precision, place[1], "images/s"])
                panel.axvline(rate, color=color, linestyle=":", label="bound, " + precision)
            panel.legend(fontsize=8, loc="lower right", framealpha=1)
    figure.savefig(path)


def write(options, rows):
    """Writes throughput.png and report.html; all parts must have been measured."""
    every, rounds = grouped(rows)
    plot = os.path.join(options.output_dir, "throughput.png")
    draw(every, options.precisions, plot)
    found = [(name, study.version_of(python, name)) for name, python in (
        ("tensorflow", options.tf1_python), ("torch", options.torch_python))]
    sections = ["## %s\n\n%s\n\n$%s" % (name.capitalize(), part.__doc__, name) for name, part in PARTS.items()]
    study.write_report(
        os.path.join(options.output_dir, "report.html"), "Throughput", "\n\n".join([REPORT, *sections]),
        others=", ".join("%s %s" % other for other in found if other[1]) or "none",
        lacks=options.lacks and "bfloat16 is left out: it needs %s." % options.lacks, picture=study.picture(plot),
        summary=study.table(["what", "measured"], [
            [what, study.spread(found)] for what, found in summary(rounds, options.precisions)]),
        **{part: table(every, part) for part in PARTS})


def main():
    parser = study.parser(__doc__, "runs/throughput", "data_dir", "tf1_python", "torch_python", "rounds")
    parser.add_argument("--steps", type=int, default=4, help="training steps timed in each process (%(default)s)")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS),
                        help="what is measured, such as bound,training; the rest is taken from measurements.csv")
    options = parser.parse_args()
    if set(options.parts) - set(PARTS):
        sys.exit("error: --parts=%s: there are %s" % (",".join(options.parts), ", ".join(PARTS)))
    os.makedirs(options.output_dir, exist_ok=True)
    study.pairs_of(options.data_dir, ["train"], peers=True)
    options.data, options.folder = "--data_dir=" + options.data_dir, os.path.join(options.data_dir, "train")
    options.run, path = (os.path.join(options.output_dir, name) for name in ("run", "measurements.csv"))
    options.precisions, options.lacks = study.precisions()
    kept = study.read_csv(path) if os.path.exists(path) else []
    rows = [list(row.values()) for row in kept if row["part"] not in options.parts]
    for number in range(options.rounds):
        for part in options.parts:
            rows += [[part, *names, number, "%.9g" % value] for *names, value in PARTS[part](options)]
            study.write_csv(path, HEADER, rows)
            print("round %d of %d: %s measured" % (number + 1, options.rounds, part), flush=True)
    shutil.rmtree(options.run, ignore_errors=True)
    missing = set(PARTS) - {row[0] for row in rows}
    if missing:
        sys.exit("no report yet: --parts=%s is still to be measured" % ",".join(sorted(missing)))
    write(options, study.read_csv(path))


if __name__ == "__main__":
    main()
