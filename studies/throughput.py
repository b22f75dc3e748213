"""How fast this project is beside its peers, and beside what the machine can do.

    pip install matplotlib
    python studies/throughput.py --output_dir=runs/throughput --data_dir=datasets/facades

measures training, reading, inference, the start, growth and the machine's own bound, each contender in a process of
its own, in interleaved rounds, and writes measurements.csv, throughput.png, growth.png and report.html
(self-contained). Run it on a machine that does nothing else. Peers that are not installed are named and skipped:
--tf1_python and --torch_python say where they are.
"""

import csv
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from absl import app, flags

import reader
import report
import throughput_report

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "runs/throughput", "Where report, plots and figures go.")
flags.DEFINE_string("data_dir", "data/sample", "Folder with train/, pairs side by side, 256 pixels or more.")
flags.DEFINE_string("tf1_python", ".venv-tf1/bin/python", "A Python 3.7 with TensorFlow 1.15.")
flags.DEFINE_string("torch_python", sys.executable, "A Python with PyTorch, numpy and Pillow.")
flags.DEFINE_integer("rounds", 3, "How often everything is measured.", lower_bound=1)
flags.DEFINE_integer("steps", 4, "Training steps timed in each process, after two that are not.", lower_bound=1)
flags.DEFINE_list("parts", "bound,training,reading,inference,start,loop,profile,growth,length",
                  "What is measured; the rest is taken from the measurements.csv that is there.")

MEASURE = os.path.join(report.HERE, "throughput_measure.py")
OURS = throughput_report.OURS
HEADER = ["part", "contender", "setting", "measure", "round", "value"]
SIZES, BATCHES = (64, 128, 256, 512), (1, 2, 4, 8)


def path_of(*parts):
    return os.path.join(FLAGS.output_dir, *parts)


def training_folder():
    return os.path.join(FLAGS.data_dir, "train")


def measure(python, what, peer, **options):
    """Runs throughput_measure.py; returns (what it found, peak bytes of its process)."""
    text, peak = report.run_with_peak(python, MEASURE, what, peer, json.dumps(options))
    return json.loads(text.splitlines()[-1]), peak


def train(python, *argv):
    """Runs train.py in a new folder, with a row for every step; returns (seconds a step, parameters, peak bytes)."""
    folder = path_of("run")
    shutil.rmtree(folder, ignore_errors=True)
    _, peak = report.run_with_peak(python, report.TRAIN, "--data_dir=" + FLAGS.data_dir, "--output_dir=" + folder,
                                   "--log_every=1", *argv)
    return report.step_seconds(folder), report.parameters(folder), peak


# ---------------------------------------------------------------------------------------------
# The parts. Each yields (contender, setting, measure, value) of one round.


def bound():
    found, _ = measure(sys.executable, "bound", OURS, folder=training_folder(), batches=[1, 4], steps=5)
    for name in ("float32", "bfloat16", "bandwidth", "parameters"):
        yield "machine" if name != "parameters" else OURS, "", name, found[name]
    for batch, flops in found["flops"].items():
        yield OURS, "batch %s" % batch, "flops", flops


def training():
    for batch in (1, 4):
        setting = "batch %d" % batch
        for name, python, precision in ((OURS + ", bfloat16", sys.executable, "bfloat16"),
                                        (OURS + ", float32", sys.executable, "float32"),
                                        (OURS + " on TensorFlow 1.15, float32", FLAGS.tf1_python, "float32")):
            if is_there(python, "tensorflow"):
                seconds, parameters, peak = train(python, "--batch_size=%d" % batch, "--precision=" + precision,
                                                  "--max_steps=%d" % (3 + FLAGS.steps), "--epochs=100000")
                yield from of_training(name, setting, seconds[2:-1], parameters, peak)  # the last makes summaries
        for name, python, peer, options in peers():
            found, peak = measure(python, "training", peer, folder=training_folder(), batch=batch, steps=FLAGS.steps,
                                  **options)
            yield from of_training(name, setting, found["seconds"], sum(found["parameters"].values()), peak)


def of_training(name, setting, seconds, parameters, peak):
    yield name, setting, "peak_bytes", peak
    yield name, setting, "parameters", parameters
    for value in seconds:
        yield name, setting, "seconds", value


def peers():
    """Yields (name, Python, module, precision and layout as its options) of the peers that are installed."""
    for precision in ("float32", "bfloat16"):
        yield "TensorFlow 2 tutorial (Keras), " + precision, sys.executable, "peer_keras", {"precision": precision}
        for layout in ("channels_last", "channels_first"):
            if is_there(FLAGS.torch_python, "torch"):
                yield ("PyTorch, %s, %s" % (precision, layout), FLAGS.torch_python, "peer_torch",
                       {"precision": precision, "channels_last": layout == "channels_last"})


@functools.lru_cache(maxsize=None)
def is_there(python, module):
    """Whether a Python has a module; says, once, where it has not."""
    try:
        found = not subprocess.run([python, "-c", "import %s" % module], capture_output=True, check=False).returncode
    except OSError:
        found = False
    if not found:
        print("skipped: there is no %s in %s" % (module, python), flush=True)
    return found


def reading():
    for cores in (1, 2):
        for name, python, peer in ((OURS, sys.executable, OURS),
                                   ("tf.data as in the tutorial", sys.executable, "peer_keras"),
                                   ("DataLoader with Pillow", FLAGS.torch_python, "peer_torch")):
            if is_there(python, "torch" if peer == "peer_torch" else "tensorflow"):
                found, _ = measure(python, "reading", peer, folder=training_folder(), batch=4, cores=cores, seconds=4)
                yield name, "%d core%s" % (cores, "s" * (cores > 1)), "pairs_per_second", found["rate"]


def inference():
    folder = path_of("run")
    train(sys.executable, "--max_steps=1")
    report.run(sys.executable, report.TRAIN, "--mode=export", "--output_dir=" + folder)
    for batch in (1, 8):
        ours = OURS + ", float32", sys.executable, OURS, {"export": os.path.join(folder, "export")}
        for name, python, peer, options in (ours, *peers()):
            found, _ = measure(python, "inference", peer, batch=batch, steps=2 * FLAGS.steps, **options)
            for value in found["seconds"]:
                yield name, "batch %d" % batch, "seconds", value


def start():
    """Seconds of TensorFlow's own import, and from the command to the printed plan and to the first step."""
    begin = time.perf_counter()
    report.run(sys.executable, "-c", "import tensorflow.compat.v1")
    yield "TensorFlow", "", "import", time.perf_counter() - begin
    folder = path_of("run")
    shutil.rmtree(folder, ignore_errors=True)
    rows = os.path.join(folder, "metrics.csv")
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, report.TRAIN, "--data_dir=" + FLAGS.data_dir, "--output_dir=" + folder,
                                "--log_every=1", "--max_steps=1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    for line in process.stdout:
        if line.startswith(b"starting "):
            yield OURS, "", "plan", time.perf_counter() - begin
            break
    while not os.path.exists(rows) or len(report.read_csv(rows)) < 1:
        time.sleep(0.02)
        if process.poll():
            sys.exit("error: train.py ended before its first step")
    yield OURS, "", "first_step", time.perf_counter() - begin
    process.communicate()


def loop():
    """What the reader, the log, the samples and the checkpoints take, in seconds each."""
    found, _ = measure(sys.executable, "loop", OURS, folder=training_folder(), batch=4, steps=2 * FLAGS.steps)
    for name, values in found.items():
        for value in values:
            yield OURS, "batch 4", name, value
    seconds, _, _ = train(sys.executable, "--max_steps=13", "--sample_every=4", "--save_every=6")
    steps = dict(enumerate(seconds, 1))  # what is written after a step is in the time of the next one's row
    plain = statistics.median(steps[step] for step in (3, 6, 10, 11))
    for step in (4, 8):  # its summaries are made in the step itself
        yield OURS, "batch 4", "sample", steps[step] + steps[step + 1] - 2 * plain
    yield OURS, "batch 4", "checkpoint", steps[7] - plain


def profile():
    """Where a step at batch 4 spends its time, by layer and kind, and the floating point operations there."""
    for precision in ("float32", "bfloat16"):
        found, _ = measure(sys.executable, "profile", OURS, folder=training_folder(), batch=4, precision=precision,
                           steps=2)
        for layer, kind, seconds, flops in found["rows"]:
            yield precision, layer, kind, seconds
            if flops:
                yield precision, layer, kind + ", flops", flops


def growth():
    settings = [(size, 4) for size in SIZES] + [(256, batch) for batch in BATCHES if batch != 4]
    for size, batch in settings:
        seconds, _, peak = train(sys.executable, "--image_size=%d" % size, "--batch_size=%d" % batch,
                                 "--max_steps=%d" % (3 + FLAGS.steps), "--epochs=100000")
        setting = "%d pixels, batch %d" % (size, batch)
        yield OURS, setting, "peak_bytes", peak
        for value in seconds[2:-1]:
            yield OURS, setting, "seconds", value


def length():
    """Seconds a step early and late in a long run of small steps."""
    seconds, _, _ = train(sys.executable, "--image_size=32", "--ngf=8", "--ndf=8", "--max_steps=3000",
                          "--epochs=1000000", "--precision=float32")
    for name, part in (("early", seconds[500:1500]), ("late", seconds[2000:])):
        yield OURS, "3000 small steps", name, statistics.median(part)


PARTS = {part.__name__: part for part in (bound, training, reading, inference, start, loop, profile, growth, length)}


def check_pairs():
    """Ends with a line where train/ is not what every contender can read."""
    try:
        pairs = reader.find_pairs(training_folder())
    except reader.DataError as error:
        sys.exit("error: %s (train.py draws the sample set)" % error)
    if pairs.layout != "side_by_side" or len(pairs.files) < max(BATCHES):
        sys.exit("error: %s: the contenders need %d pairs or more, side by side" % (training_folder(), max(BATCHES)))


def main(argv):
    del argv
    unknown = set(FLAGS.parts) - set(PARTS)
    if unknown:
        sys.exit("error: --parts=%s: there are %s" % (",".join(sorted(unknown)), ", ".join(PARTS)))
    check_pairs()
    os.makedirs(FLAGS.output_dir, exist_ok=True)
    path = path_of("measurements.csv")
    kept = [row for row in report.read_csv(path) if row["part"] not in FLAGS.parts] if os.path.exists(path) else []
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([HEADER, *([row[name] for name in HEADER] for row in kept)])
        file.flush()
        for number in range(FLAGS.rounds):
            for part in FLAGS.parts:
                for contender, setting, name, value in PARTS[part]():
                    writer.writerow([part, contender, setting, name, number, "%.9g" % value])
                    file.flush()
                print("round %d of %d: %s measured" % (number + 1, FLAGS.rounds, part), flush=True)
    shutil.rmtree(path_of("run"), ignore_errors=True)
    rows = report.read_csv(path)
    missing = set(PARTS) - {row["part"] for row in rows}
    if missing:
        sys.exit("no report yet: --parts=%s is still to be measured" % ",".join(sorted(missing)))
    throughput_report.write(rows, FLAGS.output_dir)
    print("report: %s" % path_of("report.html"))


if __name__ == "__main__":
    app.run(main)
