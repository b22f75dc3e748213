"""Does bfloat16 cost quality? The same training run in float32 and bfloat16, paired by seed.

    pip install matplotlib
    python studies/precision.py --output_dir=runs/precision -- --data_dir=datasets/facades --direction=BtoA --epochs=8

takes two and a half hours on two cores; when it is stopped, the same command goes on. What follows `--` are flags of
train.py, for all runs. It tests each run on val and writes report.html (which holds all it shows), precision.png and
precision.csv, beside the runs.
"""

import os
import statistics

import study

PRECISIONS = ("float32", "bfloat16")
MEASURES = {"l1": "L1", "psnr": "PSNR in dB", "ssim": "SSIM"}
REPORT = """
The same training run in float32 and bfloat16, seed by seed, each tested on val in float32. Flags: $flags.

$verdict

$picture

## The runs

Means over the validation pairs.

$runs
"""


def measured(folder, seed, precision, flags):
    """Trains a run to its end, or goes on with it, and tests it; returns {measure: mean over val}."""
    flags = [*flags, "--seed=%d" % seed, "--precision=" + precision]
    run = os.path.join(folder, "seed%d-%s" % (seed, precision))

    def make():
        study.train(run, *flags)
        values = study.test(run)
        return {measure: values[measure]["mean"] for measure in MEASURES}

    return study.kept(run + ".json", flags, make)


def verdict(values):
    """Returns rows: measure, spread of the seeds in float32, differences by seed, their median, whether it lies within.

    Args:
      values: {(seed, precision): {measure: mean}}.
    """
    seeds = sorted({seed for seed, _ in values})
    rows = []
    for measure in MEASURES:
        whole = [values[seed, "float32"][measure] for seed in seeds]
        differences = [values[seed, "bfloat16"][measure] - one for seed, one in zip(seeds, whole)]
        between, median = max(whole) - min(whole), statistics.median(differences)
        rows.append([MEASURES[measure], "%.4f" % between, ", ".join("%+.4f" % value for value in differences),
                     "%+.4f" % median, "yes" if abs(median) <= between else "NO"])
    return rows


def draw(values, path):
    """A panel a measure: a line from float32 to bfloat16 for each seed."""
    figure, panels = study.figure(1, 3, (10, 3.2))
    for panel, measure in zip(panels[0], MEASURES):
        for seed in sorted({seed for seed, _ in values}):
            panel.plot(PRECISIONS, [values[seed, precision][measure] for precision in PRECISIONS], "o-",
                       label="seed %d" % seed)
        panel.set_title(MEASURES[measure])
        panel.margins(x=0.3)
    panels[0, 0].legend(frameon=False)
    figure.savefig(path)


def main():
    parser = study.parser(__doc__, "runs/precision")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 up (default: %(default)s)")
    parser.add_argument("flags", nargs="*", help="flags of train.py")
    options = parser.parse_args()
    os.makedirs(options.output_dir, exist_ok=True)
    values = {}
    for seed in range(options.seeds):
        for precision in PRECISIONS:
            values[seed, precision] = measured(options.output_dir, seed, precision, options.flags)
            print("seed %d, %s: %s" % (seed, precision, values[seed, precision]), flush=True)
    header = ["seed", "precision", *MEASURES]
    rows = [[*run, *("%.9g" % means[measure] for measure in MEASURES)] for run, means in values.items()]
    study.write_csv(os.path.join(options.output_dir, "precision.csv"), header, rows)
    plot = os.path.join(options.output_dir, "precision.png")
    draw(values, plot)
    judged = verdict(values)
    for row in judged:
        print("%s: median difference %s, spread between seeds %s, within: %s" % (row[0], row[3], row[1], row[4]))
    study.write_report(
        os.path.join(options.output_dir, "report.html"), "Does bfloat16 cost quality?", REPORT,
        flags=" ".join(options.flags) or "the defaults", runs=study.table(header, rows), picture=study.picture(plot),
        verdict=study.table(["measure", "spread between seeds (float32, highest - lowest)",
                             "bfloat16 - float32, seed by seed", "median difference", "within the spread"], judged))


if __name__ == "__main__":
    main()
