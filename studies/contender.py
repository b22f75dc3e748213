"""One contender's part of throughput.py or quality.py, in a process of its own; prints what it found as JSON.

    python studies/contender.py training '{"peer": "peer_torch", "folder": "data/train", "batch": 4, ...}'

The first argument is one of the functions below, the second its arguments.
"""

import importlib
import json
import math
import os
import statistics
import sys
import time

import numpy as np
from PIL import Image

import study
from throughput import BOUND, OURS

if "peer_torch" not in str(sys.argv):  # its memory is measured, and its Python may have no TensorFlow
    import tensorflow.compat.v1 as tf

WARM_UP = 2  # steps that are not counted
ADAM = 4 * 7  # bytes of memory traffic a parameter: reads weight, gradient and two moments, writes all but the gradient


def timed(function, count, warm_up=WARM_UP):
    """Returns the seconds of each of so many calls, after some that are not counted."""
    times = [time.perf_counter()]
    for _ in range(warm_up + count):
        function()
        times.append(time.perf_counter())
    return [after - before for before, after in zip(times[warm_up:], times[warm_up + 1:])]


def training(peer, folder, batch, steps, **options):
    """Seconds of each of a peer's training steps, reading included, and its parameters."""
    module = importlib.import_module(peer)
    data = iter(module.pairs(folder, batch))
    step, _, parameters = module.trainer(**options)
    return {"seconds": timed(lambda: step(*next(data)), steps), "parameters": parameters}


def fixed(peer, batch, count, **options):
    """Seconds of each of a peer's steps without its reader, its losses fetched, and its peak bytes on the GPU."""
    module = importlib.import_module(peer)
    step = module.fixed_step(batch, **options)
    return {"seconds": timed(step, count, warm_up=10), "peak": module.peak_bytes()}


def inference(peer, batch, steps, **options):
    """Seconds of each call of a generator for a batch of 256x256 images, numpy in and out."""
    images = np.random.RandomState(0).uniform(-1, 1, (batch, 256, 256, 3)).astype(np.float32)
    translate = importlib.import_module(peer).translator(**options)
    return timed(lambda: translate(images), steps)


def reading(peer, folder, batch, cores):
    """Pairs per second that a reader makes on so many cores in two epochs after the first."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    data, epoch = iter(importlib.import_module(peer).pairs(folder, batch)), len(os.listdir(folder)) // batch
    return batch / statistics.mean(timed(lambda: next(data), 2 * epoch, epoch))


def translation(peer, data_dir, direction, images, seed, batch, steps, **options):
    """Trains a peer and writes its outputs on val as PNGs images/output/NAME.

    It translates one image at a time, with dropout and the statistics of that image, as the peer's own test script or
    notebook does.
    """
    module = importlib.import_module(peer)
    module.seed(seed)
    step, generate, _ = module.trainer(**options)
    data = iter(module.pairs(os.path.join(data_dir, "train"), batch, direction=direction, resize="bilinear"))
    for _ in range(steps):
        step(*next(data))
    os.makedirs(os.path.join(images, "output"), exist_ok=True)
    val = os.path.join(data_dir, "val")
    for name in sorted(os.listdir(val)):
        pair = np.float32(Image.open(os.path.join(val, name)).convert("RGB")) / 127.5 - 1
        half = np.split(pair, 2, axis=1)[0 if direction == "AtoB" else 1]
        output = generate(np.ascontiguousarray(half[np.newaxis]))[0]
        if not np.isfinite(output).all():
            sys.exit("error: %s: the output for %s is not finite" % (peer, name))
        Image.fromarray(np.uint8(np.round((output + 1) * 127.5))).save(
            os.path.join(images, "output", os.path.splitext(name)[0] + ".png"))


def loop(flags, steps):
    """Of this project's steps: seconds waiting for the reader, and of the step."""
    found = {"wait": [], "plain": []}
    with tf.Graph().as_default():
        made, model, config = study.training_graph(*flags)
        with tf.train.MonitoredSession(tf.train.ChiefSessionCreator(config=config)) as session:
            for number in range(WARM_UP + steps):
                begin = time.perf_counter()
                fed = dict(zip(made, session.run(made)))
                read = time.perf_counter()
                session.run([model.train_op, model.scalars], fed)
                if number >= WARM_UP:
                    found["wait"].append(read - begin)
                    found["plain"].append(time.perf_counter() - read)
    return found


def bound(flags, batches, dtypes, steps):
    """What the machine can do, and with it a training step: [[contender's name, setting, measure, value]]."""
    bandwidth = 3 * 4 * 8192 ** 2 / assignment_seconds("float32", 8192, None, steps)
    rates = {dtype: matmul_rate(dtype, steps) for dtype in dtypes}
    rows = [["memory", "", "GB/s", bandwidth / 1e9]]
    rows += [["matmul, " + dtype, "", "GFLOP/s", rate / 1e9] for dtype, rate in rates.items()]
    for batch in batches:
        with tf.Graph().as_default():
            _, model, _ = study.training_graph(*flags, "--batch_size=%d" % batch)
            adam = ADAM * sum(v.shape.num_elements() for v in tf.trainable_variables()) / bandwidth
            flops, setting = sum(flops for _, flops in operations(model.train_op)), "batch %d" % batch
        rows.append([OURS, setting, "GFLOP a step", flops / 1e9])
        rows += [[BOUND + dtype, setting, "images/s", batch / (flops / rate + adam)] for dtype, rate in rates.items()]
    return rows


def operations(fetch):
    """Yields (op, its floating point operations) of the convolutions and matrix products that a fetch needs."""
    for node in tf.graph_util.extract_sub_graph(fetch.graph.as_graph_def(), [fetch.op.name]).node:
        if node.op == "MatMul" or node.op.startswith("Conv2D"):
            op = fetch.graph.get_operation_by_name(node.name)
            shapes = [tensor.shape.as_list() for tensor in (*op.inputs, *op.outputs)]
            if op.type == "MatMul":  # of m*k, k*n and m*n numbers
                yield op, 2 * math.isqrt(math.prod(map(math.prod, shapes)))
            else:  # the smaller of the two images comes after the kernel, or after the larger image and its shape
                kernel = shapes[3 if "Filter" in op.type else 1]
                yield op, 2 * math.prod(shapes[2]) * math.prod(kernel[:-1])


def matmul_rate(dtype, steps):
    """Operations per second of a large matrix product."""
    return max(2 * n ** 3 / assignment_seconds(dtype, n, lambda x: tf.matmul(x, x), steps) for n in (2048, 4096))


def assignment_seconds(dtype, size, function, steps):
    """Median seconds of result = function(square matrix), or without a function of result += matrix, in place."""
    with tf.Graph().as_default():
        matrix, result = (tf.Variable(tf.cast(tf.random.normal([size, size]), dtype), use_resource=True)
                          for _ in range(2))
        assign = tf.group(result.assign(function(matrix)) if function else result.assign_add(matrix))
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            return statistics.median(timed(lambda: session.run(assign), steps))


if __name__ == "__main__":
    what, options = sys.argv[1:]
    print(json.dumps(globals()[what](**json.loads(options))))
