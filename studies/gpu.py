"""How does this program do on a GPU: its bits, its speed beside its peers, its memory?

    pip install -r requirements-gpu.txt
    python studies/gpu.py --data_dir=datasets/facades --torch_python=PYTHON

measures for six minutes on one GPU, in order of importance. Each measurement runs in a process of its own with a time
limit, prints a line when it ends, and is kept in gpu.json, so that the same command goes on with what is missing. The
table at the end says for each contender how long a step takes, also in multiples of this program's default. PyTorch may
be in another Python (--torch_python). --small tries the command with tiny networks, on a CPU too.
"""

import argparse
import functools
import os
import shutil
import statistics
import sys
import time

import study

OURS = "this program"
MODES = {  # of this program; the first one is its default on a GPU of Ampere or later
    "compiled, tf32": ["--jit_compile=true", "--precision=tf32"],
    "plain, tf32": ["--jit_compile=false", "--precision=tf32"],
    "compiled, bfloat16": ["--jit_compile=true", "--precision=bfloat16"],
    "compiled, tf32, not deterministic": ["--jit_compile=true", "--precision=tf32", "--nodeterministic"],
    "plain, tf32, not deterministic": ["--jit_compile=false", "--precision=tf32", "--nodeterministic"],
    "plain, bfloat16": ["--jit_compile=false", "--precision=bfloat16"],
    "compiled, float32": ["--jit_compile=true", "--precision=float32"],
    "plain, float32": ["--jit_compile=false", "--precision=float32"]}
KERAS = {"tutorial, tf32": {"precision": "tf32"}, "tutorial, mixed_bfloat16": {"precision": "bfloat16"},
         "tutorial, tf32, jit_compile": {"precision": "tf32", "jit_compile": True}}
TORCH = {"PyTorch, eager, tf32": {"precision": "tf32"},
         "PyTorch, eager, bfloat16": {"precision": "bfloat16"},
         "PyTorch, one CUDA graph, tf32": {"precision": "tf32", "graph": True},
         "PyTorch, one CUDA graph, bfloat16": {"precision": "bfloat16", "graph": True},
         "PyTorch, torch.compile, bfloat16": {"precision": "bfloat16", "compiled": True}}

FIRST = 8  # of `contenders`, which are measured before train.py whole


def contenders(options):
    """Returns [(name, function from a batch size to what `steps` returns)], the FIRST of which matter most."""
    ours = [("%s, %s" % (OURS, name), functools.partial(our_steps, options, flags=flags))
            for name, flags in options.modes.items()]
    keras, torch = ([(name, functools.partial(peer_steps, options, peer, how=how)) for name, how in hows.items()]
                    for peer, hows in options.peers.items())
    found = [*ours[:3], *torch[:4], *keras[:1]]
    return found + [contender for contender in ours + keras + torch if contender not in found]


def measurements(options):
    """Yields (part, name, function that measures it and returns {what: value}), the most important first."""
    for name in ("repeated", "stopped and continued"):
        yield "bits", name, functools.partial(bits, options, name)
    places = [("step, batch %d" % batch, name, functools.partial(function, batch))
              for some in (contenders(options)[:FIRST], contenders(options)[FIRST:])
              for batch in (4, 1) for name, function in some]
    yield from places[:2 * FIRST]
    for batch in (4, 1):
        for name, flags in list(options.modes.items())[:3]:
            yield "train.py, batch %d" % batch, name, functools.partial(whole, options, batch, flags)
    yield "after training", "test", functools.partial(after, options, "test")
    yield "after training", "export", functools.partial(after, options, "export")
    yield from places[2 * FIRST:]


def train(options, folder, *flags):
    """Trains in a folder of the study; returns the study.Run."""
    return study.train(folder, "--data_dir=" + options.data_dir, "--epochs=100000", *options.size, *flags,
                       limit=options.limit)


def bits(options, name):
    """Whether a run of 60 steps, repeated, or stopped at 40 and continued, ends with the same fingerprint."""
    folder, flags = os.path.join(options.output_dir, "bits"), next(iter(options.modes.values()))
    ends = []
    for steps in [(60,), (60,)] if name == "repeated" else [(60,), (40, 60)]:
        shutil.rmtree(folder, ignore_errors=True)
        for count in steps:
            run = train(options, folder, *flags, "--max_steps=%d" % count)
        ends.append(run.fingerprint)
    return {"equal": len(set(ends)) == 1}


def our_steps(options, batch, flags):
    """Milliseconds of a step of the graph alone, losses fetched, and the peak memory on the GPU."""
    return steps(options, sys.executable, peer="peer_ours", batch=batch,
                 flags=["--data_dir=" + options.data_dir, *options.size, *flags])


def peer_steps(options, peer, batch, how):
    """The same of a peer, on random images that are already on the device."""
    return steps(options, options.torch_python if peer == "peer_torch" else sys.executable, peer=peer, batch=batch,
                 **how)


def steps(options, python, **what):
    found, _ = study.measure(python, "fixed", limit=options.limit, count=options.steps, **what)
    return {"ms": 1000 * statistics.median(found["seconds"]), "peak GB": found["peak"] / 1e9}


def whole(options, batch, flags):
    """Milliseconds of a step of train.py as a user runs it, saving and sample grids not counted."""
    folder = os.path.join(options.output_dir, "run")
    shutil.rmtree(folder, ignore_errors=True)
    run = train(options, folder, "--batch_size=%d" % batch, "--log_every=10", *flags,
                "--max_steps=%d" % (10 * (3 + options.steps // 10)))
    return {"ms": 1000 * statistics.median(run.seconds[2:-1])}


def after(options, mode):
    """Seconds of a whole test or export of the run that was trained last."""
    begin = os.times().elapsed
    study.run(sys.executable, study.TRAIN, "--mode=" + mode,
              "--output_dir=" + os.path.join(options.output_dir, "run"), limit=options.limit)
    return {"seconds": os.times().elapsed - begin}


def measure(options, path, found):
    """Measures what `found`, {part: {name: result}}, lacks; prints and keeps each result, an error's line too."""
    end = time.monotonic() + 60 * options.minutes
    for part, name, function in measurements(options):
        if name in found.get(part, {}):
            continue
        if time.monotonic() > end:
            print("%g minutes are over; the same command goes on with what is missing" % options.minutes)
            return
        try:
            result = function()
        except SystemExit as error:
            result = {"failed": str(error.code)[-300:]}
        found.setdefault(part, {})[name] = result
        print("%s | %s | %s" % (part, name, ", ".join(
            "%s %s" % (what, "%.4g" % value if isinstance(value, float) else value) for what, value in result.items())),
            flush=True)
        study.write_json(path, found)


def table(found):
    """Returns the lines of a table of the steps' milliseconds and peak memory, beside the first contender."""
    lines = []
    for part in (part for part in found if "batch" in part):
        rows = {name: result for name, result in found[part].items() if "ms" in result}
        for name, result in rows.items():
            lines.append("%-17s %-50s %8.2f ms %6.2f times%s" % (
                part, name, result["ms"], result["ms"] / next(iter(rows.values()))["ms"],
                "  %6.2f GB" % result["peak GB"] if "peak GB" in result else ""))
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="runs/gpu", help="where all of it goes (default: %(default)s)")
    for name in ("data_dir", "torch_python"):
        parser.add_argument("--" + name, **study.OPTIONS[name])
    parser.add_argument("--steps", type=int, default=60, help="steps timed in each process (%(default)s)")
    parser.add_argument("--limit", type=int, default=90, help="seconds for each process (%(default)s)")
    parser.add_argument("--minutes", type=float, default=6, help="after which nothing more begins (%(default)s)")
    parser.add_argument("--small", action="store_true", help="tiny networks in float32, without peers")
    options = parser.parse_args()
    study.pairs_of(options.data_dir, ["train"])
    options.size, options.modes = [], MODES
    has_torch = study.version_of(options.torch_python, "torch")
    options.peers = {"peer_keras": KERAS, "peer_torch": TORCH if has_torch else {}}
    if options.small:
        options.size = ["--image_size=32", "--ngf=2", "--ndf=2", "--sample_every=1000", "--save_every=1000"]
        options.modes, options.peers = {"plain, float32": MODES["plain, float32"]}, {"peer_keras": {}, "peer_torch": {}}
    os.makedirs(options.output_dir, exist_ok=True)
    path = os.path.join(options.output_dir, "gpu.json")
    from support import precisions
    found = study.read_json(path) if os.path.exists(path) else {
        "facts": dict(study.facts(), device=precisions.device_name())}
    measure(options, path, found)
    print(*table(found), "measurements: %s" % path, sep="\n")


if __name__ == "__main__":
    main()
