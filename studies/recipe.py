"""Which flags make better pictures? Short trainings on label maps, compared by a rule that was set beforehand.

    pip install matplotlib
    python studies/recipe.py --data_dir=datasets/facades --direction=BtoA --features_python=PATH_OF_A_PYTHON

takes an hour on one core for each seed. Small networks (128 pixels, 32 filters, 16 epochs at batch 4) train with
today's defaults and with the other flags in SETTINGS, from each of --seeds, and are tested on val. The inputs must be
label maps, because one setting is --one_hot. --features_python is a Python with the packages that perceptual.py names.
The study writes recipe.json and report.html.

The rule: a setting wins on a seed if it lowers the deep distance (image by image, the 95 % interval of its difference
from the defaults is below zero), if its KID is not clearly worse (the interval of that difference is not above zero),
and if its L1 is at most 0.002 worse. It must win on every seed.

When the study is stopped, the same command goes on with the first training that is not done. Processes with different
--seeds can train at the same time; a last one with all seeds then writes the results. The number of cores changes the
bits: docs/recipe.md gave one core to each process (taskset -c CORE).
"""

import functools
import os
import sys

import quality
import study

DEFAULTS = "the defaults"
TESTING = ("--notest_ema",)  # flags of test mode: such settings share a training
SETTINGS = [DEFAULTS, "--notest_ema", "--norm=batch", "--norm=batch --notest_ema", "--upsample=resize",
            "--d_weight=0.5", "--skip=pre", "--update=alternating", "--decay_epochs=8", "--input_resize=nearest",
            "--one_hot"]
MOST_L1 = 0.002  # L1 may be worse by at most this
LEAST_EPOCHS = 8  # of --decay_epochs=8
REPORT = """
Means over the validation pairs with 95 % intervals, and what each setting adds to the defaults of the same seed, image
by image. A setting wins if it lowers the deep distance, KID is not clearly worse, and L1 is at most 0.002 worse.

$table
"""


def piece(options, setting, seed):
    """Trains and tests a setting; returns what is to be known of it."""
    flags = [] if setting == DEFAULTS else setting.split()
    training = [flag for flag in flags if flag not in TESTING]
    folder = quality.folder_of(options, " ".join(training) or DEFAULTS, seed)
    run = study.train(folder, "--data_dir=" + options.data_dir, "--direction=" + options.direction, "--image_size=128",
                      "--ngf=32", "--ndf=32", "--epochs=%d" % options.epochs, "--seed=%d" % seed, "--keep=1",
                      "--val_every=0", *training)
    images = os.path.join(study.test(folder, *(flag for flag in flags if flag in TESTING)), "images")
    return {"fingerprint": run.fingerprint, "commit": study.commit(), "images": images}


def measured(python, path, images):
    """Returns ({name: {measure: value}}, `perceptual.kid`) of a piece's PNGs; its features go to PATH-features.npz."""
    values = quality.measured(images, images)
    return values, quality.add_deep(python, path, values, images, images)


def compared(found, base):
    """Returns {measure: mean with interval} of what a setting adds to the defaults; both are results of `measured`."""
    return quality.with_kid(quality.intervals(quality.differences(found[0], base[0])), [found[1] - base[1]])


def wins(added):
    """Whether a setting wins by the rule at the top, from a result of `compared`."""
    return added["deep"]["high"] < 0 and added["kid"]["low"] <= 0 and added["l1"]["mean"] <= MOST_L1


def table(rows):
    """Returns rows of recipe.json as an HTML table."""
    titles = list(quality.MEASURES.values())
    return study.table(["setting", "seed", *titles, *(title + ", added" for title in titles), "wins"], [
        [row["setting"], row["seed"], *quality.cells(row["means"], quality.MEASURES),
         *(quality.cells(row["added"], quality.MEASURES) if row["added"] else [""] * len(titles)),
         "yes" if row["wins"] else ""] for row in rows])


def main():
    parser = study.parser(__doc__, "runs/recipe", "data_dir", "direction")
    parser.add_argument("--epochs", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--features_python", required=True, help="a Python with the packages of perceptual.py")
    parser.add_argument("--seeds", type=lambda text: list(map(int, text.split(","))), default=[0, 1],
                        help="such as 0,1, the default")
    options = parser.parse_args()
    if options.epochs < LEAST_EPOCHS:
        sys.exit("error: --epochs=%d: at least %d, because of --decay_epochs=8" % (options.epochs, LEAST_EPOCHS))
    quality.check_features(options.features_python)
    os.makedirs(options.output_dir, exist_ok=True)
    study.pairs_of(options.data_dir, ["train", "val"])
    of, rows = {name: getattr(options, name) for name in ("data_dir", "direction", "epochs")}, []
    for seed in options.seeds:
        for setting in SETTINGS:
            path = quality.folder_of(options, setting, seed)
            made = study.kept(path + ".json", of, functools.partial(piece, options, setting, seed))
            found = measured(options.features_python, path, made["images"])
            if setting == DEFAULTS:
                base = found
            added = compared(found, base) if setting != DEFAULTS else None
            rows.append(dict(made, setting=setting, seed=seed, added=added, wins=bool(added) and wins(added),
                             means=quality.with_kid(quality.intervals(found[0]), [found[1]])))
            print("%s, seed %d: deep distance %.3f" % (setting, seed, rows[-1]["means"]["deep"]["mean"]), flush=True)
            write(options, rows)


def write(options, rows):
    """Writes recipe.json and report.html with the settings that are done."""
    study.write_json(os.path.join(options.output_dir, "recipe.json"), {"made": study.facts(), "rows": rows})
    study.write_report(os.path.join(options.output_dir, "report.html"), "Flags compared", REPORT, table=table(rows))


if __name__ == "__main__":
    main()
