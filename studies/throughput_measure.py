"""One contender's measurement for throughput.py, in a process of its own; prints it as JSON.

    python studies/throughput_measure.py training '{"peer": "peer_torch", "folder": "data/train", "batch": 4, ...}'
"""

import collections
import importlib
import json
import math
import os
import re
import statistics
import sys
import time

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


def inference(peer, batch, steps, **options):
    """Seconds of each call of a generator for a batch of 256x256 images, numpy in and out."""
    import numpy as np
    images = np.random.RandomState(0).uniform(-1, 1, (batch, 256, 256, 3)).astype(np.float32)
    translate = importlib.import_module(peer).translator(**options)
    return timed(lambda: translate(images), steps)


def reading(peer, folder, batch, cores):
    """Pairs per second that a reader makes on so many cores in two epochs after the first."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    data, epoch = iter(importlib.import_module(peer).pairs(folder, batch)), len(os.listdir(folder)) // batch
    return batch / statistics.mean(timed(lambda: next(data), 2 * epoch, epoch))


def loop(flags, steps):
    """Of this project's steps: seconds waiting for the reader, of the step, and of one whose scalars are fetched."""
    found = {"wait": [], "plain": [], "logged": []}
    with tf.Graph().as_default():
        made, model, config = study.training_graph(*flags)
        with tf.train.MonitoredSession(tf.train.ChiefSessionCreator(config=config)) as session:
            for number in range(2 * (WARM_UP + steps)):
                begin = time.perf_counter()
                fed = dict(zip(made, session.run(made)))
                read = time.perf_counter()
                session.run([model.train_op, model.nan_probe, model.watched if number % 2 else {}], fed)
                if number >= 2 * WARM_UP:
                    found["wait"].append(read - begin)
                    found["logged" if number % 2 else "plain"].append(time.perf_counter() - read)
    return found


def profile(flags, precision, steps):
    """Where a step's time goes, one op at a time, and its share of a large matmul's rate: [[layer, measure, value]]."""
    flops, every, rows = collections.Counter(), [], []
    with tf.Graph().as_default():
        made, model, config = study.training_graph(*flags, "--precision=" + precision)
        for op, count in operations(model.train_op):
            flops[place(op.name, op.type)] += count
        # An op has both cores for itself, so its time is its own. Else the thread pools are the process's, made before.
        config.inter_op_parallelism_threads, config.use_per_session_threads = 1, True
        with tf.train.MonitoredSession(tf.train.ChiefSessionCreator(config=config)) as session:
            fed = dict(zip(made, session.run(made)))
            for _ in range(WARM_UP + steps):
                metadata = tf.RunMetadata()
                session.run(model.train_op, fed, tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), metadata)
                every.append(collections.Counter())
                for node in (node for device in metadata.step_stats.dev_stats for node in device.node_stats):
                    op = node.timeline_label.split(" = ")[-1].split("(")[0]
                    if "Dequeue" in op:  # waits for the next batch beside the step
                        continue
                    every[-1][place(node.node_name, op)] += (node.op_end_rel_micros - node.op_start_rel_micros) / 1e6
    rate, together = matmul_rate(precision, steps), collections.Counter()
    for layer, kind in sorted(every[-1]):
        seconds = statistics.median(found[layer, kind] for found in every[WARM_UP:])
        together[kind] += 1e3 * seconds
        if layer:
            share = flops[layer, kind] / seconds / rate
            rows += [[layer, kind + ", ms", 1e3 * seconds], [layer, kind + ", share", share]]
    return rows + [["all", kind + ", ms", value] for kind, value in together.items()]


def place(name, op):
    """Returns (layer, kind) of an op of the training graph."""
    for part, kind in (("ApplyAdam", "Adam"), ("BatchNorm", "batch norm"), ("Cast", "casts")):
        if part in op:
            return "", kind
    layer = re.search(r"(generator|discriminator)(_1)?/([a-z]+_[0-9]+)", name)
    if layer and any(part in op for part in ("Conv2D", "MatMul", "GatherV2", "UnsortedSegmentSum")):
        if "MatMul_grad" in name:  # of (unfolded, kernel) in a convolution, of (kernel, pixels) in a transposed one
            of_kernel = "MatMul" in op and name.endswith("MatMul_1") == ("decoder" not in name)
        else:
            of_kernel = "BackpropFilter" in op or ("onv2" in name and "Conv2D" not in op)
        gradient = "kernel gradient" if of_kernel else "image gradient"
        return "/".join(layer.group(1, 3)), gradient if name.startswith("gradients") else "forward"
    return "", "everything else"


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
