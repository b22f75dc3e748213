"""What several workers cost and gain: the collectives and the step on this machine, and a model for up to 64.

    pip install matplotlib
    python studies/scaling.py --output_dir=runs/scaling

measures, in interleaved rounds, each configuration in processes of its own, and keeps what it measured in
measurements.csv: started again it continues from there. The links need root (see links.py); without it their parts are
named and skipped. Then it checks the model against the measurements and draws scaling.png. Run it on a machine that
does nothing else; all workers share its cores, so their steps can only show the cost, never the gain.
"""

import argparse
import csv
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import links
import study

FLAGS = argparse.Namespace()  # filled by main

HEADER = ["part", "setting", "workers", "round", "measure", "value"]
MEASURE = os.path.join(study.HERE, "scaling_measure.py")
PACKINGS = {"one each": 0, "small ones packed": 65536, "one flat tensor": 2 ** 62}
RATES, DELAYS = (1, 10), (0.2, 5)  # Gbit/s, milliseconds of a round trip
BATCH = 4


def path_of(*parts):
    return os.path.join(FLAGS.output_dir, *parts)


class Loopback:
    """As links.Links, with all machines on this one's loopback address."""

    def __init__(self, count):
        self.count = count

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def popen(self, i, command, **options):
        return subprocess.Popen(command, **options)

    def address(self, i):
        return "localhost:%d" % (29300 + i)


def environment(addresses, i):
    return dict(os.environ, TF_CONFIG=json.dumps({"cluster": {"worker": addresses}, "task": {
        "type": "worker", "index": i}}))


def addresses_of(net):
    return [net.address(i) if isinstance(net, Loopback) else links.address(i) + ":2222" for i in range(net.count)]


def run_together(net, commands, with_config=True):
    """Runs a command on each of net's machines; returns what they printed, or ends with the first's error."""
    addresses = addresses_of(net)
    processes = [net.popen(i, command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=environment(addresses, i) if with_config else None)
                 for i, command in enumerate(commands)]
    ended = [process.communicate() for process in processes]
    for process, (output, error) in zip(processes, ended):
        if process.returncode:
            sys.exit("error: %s: %s" % (" ".join(process.args), ((error or output).strip().splitlines() or ["?"])[-1]))
    return [output for output, _ in ended]


# ---------------------------------------------------------------------------------------------
# The parts. Each yields (setting, workers, function); the function returns {measure: value}.


def collectives(net, pack):
    """Times the gradients of the default model going round, and counts what a worker sends, where links do."""
    options = json.dumps({"pack": pack, "rounds": FLAGS.steps, "filters": FLAGS.filters})
    before = net.sent() if isinstance(net, links.Links) else None
    outputs = run_together(net, [[sys.executable, MEASURE, options]] * net.count)
    found = json.loads(outputs[0].splitlines()[-1])
    values = {"seconds": statistics.median(found["seconds"]), "gradient_bytes": found["bytes"]}
    if before:
        sent = [after - then for after, then in zip(net.sent(), before)]
        values["sent_bytes"] = statistics.mean(sent) / (FLAGS.steps + 2)
    return values


def packing():
    for count in (2, 4):
        for name, pack in PACKINGS.items():
            yield name, count, lambda pack=pack, count=count: with_net(Loopback(count), collectives, pack)


def with_net(net, function, *arguments):
    with net as up:
        return function(up, *arguments)


def train_commands(count, batch):
    for i in range(count):
        shutil.rmtree(path_of("run-%d" % i), ignore_errors=True)
    return [[sys.executable, study.TRAIN, "--output_dir=" + path_of("run-%d" % i), "--log_every=1",
             "--sample_every=1000000", "--save_every=1000000", "--epochs=100000", "--max_steps=%d" % (3 + FLAGS.steps),
             "--ngf=%d" % FLAGS.filters, "--ndf=%d" % FLAGS.filters, "--image_size=%d" % FLAGS.image_size,
             "--batch_size=%d" % batch] for i in range(count)]


def step_seconds(folder, batch):
    """Seconds of each step of a run but the first two, which warm up, and the last, which saves."""
    rows = study.read_csv(os.path.join(folder, "metrics.csv"))
    return [batch / float(row["images_per_second"]) for row in rows[2:-1]]


def team_step(net):
    run_together(net, train_commands(net.count, BATCH))
    return {"seconds": statistics.median(step_seconds(path_of("run-0"), BATCH))}


def lone_step(count):
    """As many processes as workers, each with a share's batch and nothing to say to the others."""
    run_together(Loopback(count), train_commands(count, BATCH // count), with_config=False)
    return {"seconds": statistics.mean(statistics.median(step_seconds(path_of("run-%d" % i), BATCH // count))
                                       for i in range(count))}


def step():
    for count in (1, 2, 4):
        yield "together", count, lambda count=count: with_net(Loopback(count), team_step)
        yield "each alone", count, lambda count=count: lone_step(count)


def link_settings():
    for rate in RATES:
        for delay in DELAYS:
            yield "%g Gbit/s, %g ms" % (rate, delay), rate, delay


def link_measures(rate, delay):
    trip, speed = links.measured(rate, delay)
    return {"round_trip": trip, "bytes_per_second": speed}


def links_part():
    for name, rate, delay in link_settings():
        yield name, 0, lambda rate=rate, delay=delay: link_measures(rate, delay)
        for count in (2, 4):
            yield name, count, lambda rate=rate, delay=delay, count=count: with_net(
                links.Links(count, rate, delay), collectives, PACKINGS["small ones packed"])


def linked_step():
    for name, rate, delay in link_settings():
        yield name, 2, lambda rate=rate, delay=delay: with_net(links.Links(2, rate, delay), team_step)


PARTS = {"packing": packing, "step": step, "links": links_part, "linked_step": linked_step}
NEEDS_ROOT = ("links", "linked_step")


def measure_all():
    """Measures what measurements.csv does not hold yet."""
    path, settings = path_of("measurements.csv"), [FLAGS.filters, FLAGS.image_size, FLAGS.steps]
    if not os.path.exists(path):
        study.write_csv(path, HEADER, [])
        with open(path_of("settings.json"), "w") as file:
            json.dump(settings, file)
    if study.read_json(path_of("settings.json")) != settings:
        sys.exit("error: %s: measured with other --filters, --image_size or --steps; name another --output_dir" % path)
    done = {tuple(row[name] for name in HEADER[:4]) for row in study.read_csv(path)}
    for number in range(FLAGS.rounds):
        for part in FLAGS.parts:
            if part in NEEDS_ROOT and os.getuid():
                print("skipped: %s; links need root" % part, flush=True)
                continue
            for setting, count, function in PARTS[part]():
                key = (part, setting, str(count), str(number))
                if key not in done:
                    began = time.time()
                    values = function()
                    with open(path, "a", newline="") as file:
                        csv.writer(file).writerows([*key, name, "%.6g" % value] for name, value in values.items())
                    print("%s (%.0f s)" % (", ".join(key), time.time() - began), values, flush=True)


# ---------------------------------------------------------------------------------------------
# The model


def ring_seconds(workers, size, rate, trip, handling):
    """Seconds of a ring all-reduce.

    Args:
      workers: how many.
      size: bytes of the gradients; each worker sends and takes 2 (workers - 1) / workers of them.
      rate: bytes per second of a link.
      trip: seconds of a round trip; a ring has 2 (workers - 1) of them one after another.
      handling: bytes per second that TensorFlow packs, adds up and unpacks.
    """
    moved = 2 * (workers - 1) / workers * size
    return moved / rate + moved / handling + 2 * (workers - 1) * trip


def medians():
    """Returns {(part, setting, workers, measure): median over the rounds}."""
    values = {}
    for row in study.read_csv(path_of("measurements.csv")):
        values.setdefault((row["part"], row["setting"], int(row["workers"]), row["measure"]), []).append(
            float(row["value"]))
    return {key: statistics.median(found) for key, found in values.items()}


def handling_of(found):
    """Bytes per second without a link: two workers on the loopback address."""
    size = found["packing", "small ones packed", 2, "gradient_bytes"]
    return size, size / found["packing", "small ones packed", 2, "seconds"]


def check(found):
    """Yields lines that hold the model against what was measured over links."""
    size, handling = handling_of(found)
    yield "%.4g MB of gradients; handled at %.3g GB/s" % (size / 1e6, handling / 1e9)
    yield "| link | it did | workers | sent by each, of the model's | measured s | model s | ratio |"
    for name, _, _ in link_settings():
        if ("links", name, 0, "round_trip") not in found:
            continue
        trip, speed = (found["links", name, 0, measure] for measure in ("round_trip", "bytes_per_second"))
        for count in (2, 4):
            seconds, sent = (found["links", name, count, measure] for measure in ("seconds", "sent_bytes"))
            # the machine's cores handle the bytes of all its workers
            model = ring_seconds(count, size, speed, trip, handling * 2 / count)
            yield "| %s | %.2g Gbit/s, %.2g ms | %d | %.3f | %.3g | %.3g | %.2f |" % (
                name, 8e-9 * speed, 1e3 * trip, count, sent / (2 * (count - 1) / count * size), seconds, model,
                seconds / model)


def tables(found):
    for part in ("packing", "step", "linked_step"):
        for (name, setting, count, measure), value in sorted(found.items()):
            if name == part and measure == "seconds":
                yield "%s, %s, %d workers: %.3g s" % (part, setting, count, value)


def speed_up(count, size, compute, gigabits, trip, handling):
    """Images per second over those of one worker, where every worker has a whole step's batch of its own."""
    return count * compute / (compute + ring_seconds(count, size, gigabits * 1e9 / 8, trip, handling))


def draw(found):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    size, handling = handling_of(found)
    counts = [2 ** power for power in range(7)]
    steps = [("a CPU step of %.2g s" % found["step", "together", 1, "seconds"],
              found["step", "together", 1, "seconds"]), ("a GPU step of %g s" % FLAGS.gpu_step, FLAGS.gpu_step)]
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for axis, (title, compute) in zip(axes, steps):
        axis.plot(counts, counts, "k:", label="ideal")
        for gigabits in (1, 10, 100):
            curve = [speed_up(n, size, compute, gigabits, 2e-4, handling) if n > 1 else 1 for n in counts]
            axis.plot(counts, curve, marker="o", label="%d Gbit/s" % gigabits)
        axis.set(xscale="log", yscale="log", xticks=counts, xticklabels=counts, xlabel="workers", title=title,
                 ylim=(2 ** math.floor(math.log2(0.05)), 64))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3)
        axis.legend()
    axes[0].set_ylabel("images per second over one worker's")
    figure.tight_layout()
    figure.savefig(path_of("scaling.png"), dpi=120)


def main():
    parser = study.parser(__doc__, "runs/scaling", "rounds")
    parser.add_argument("--steps", type=int, default=6,
                        help="training steps timed in each process, after two that are not (%(default)s)")
    parser.add_argument("--filters", type=int, default=64, help="--ngf and --ndf; fewer for a trial of this program")
    parser.add_argument("--image_size", type=int, default=256, help="as train.py's")
    parser.add_argument("--gpu_step", type=float, default=0.05, help="seconds of a step on a GPU, for the plot")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is measured")
    parser.parse_args(namespace=FLAGS)
    os.makedirs(FLAGS.output_dir, exist_ok=True)
    measure_all()
    found = medians()
    lines = [*tables(found), *check(found)]
    with open(path_of("scaling.txt"), "w") as file:
        file.write("\n".join(lines) + "\n")
    print("\n".join(lines))
    draw(found)


if __name__ == "__main__":
    main()
