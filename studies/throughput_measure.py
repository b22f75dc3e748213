"""One contender's measurement for throughput.py, in a process of its own; prints it as JSON.

    python studies/throughput_measure.py training '{"peer": "peer_torch", "folder": "data/train", "batch": 4, ...}'
"""

import collections
import importlib
import json
import os
import re
import statistics
import sys
import time

import study

WARM_UP = 2  # steps that are not counted
PRODUCTS = "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter", "MatMul"


def timed(function, count):
    """Returns the seconds of each of so many calls, after the first WARM_UP ones."""
    seconds = []
    for _ in range(WARM_UP + count):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return seconds[WARM_UP:]


def training(peer, folder, batch, steps, **options):
    """Seconds of each of a peer's training steps, reading included, and its parameters."""
    module = importlib.import_module(peer)
    data = iter(module.pairs(folder, batch))
    step, _, parameters = module.trainer(**options)
    return {"seconds": timed(lambda: step(*next(data)), steps), "parameters": parameters}


def inference(batch, steps, precision, peer=None, export=None, session=False, **options):
    """Seconds of each call of a generator for a batch of 256x256 images, numpy in and out."""
    import numpy as np
    images = np.random.RandomState(0).uniform(-1, 1, (batch, 256, 256, 3)).astype(np.float32)
    if peer:
        generate = importlib.import_module(peer).translator(precision, **options)
        return timed(lambda: generate(images), steps)
    import tensorflow as tf
    if session:
        from support import precisions
        with tf.Graph().as_default(), tf.compat.v1.Session(config=precisions.session_config(precision)) as opened:
            signature = tf.compat.v1.saved_model.load(opened, ["serve"], export).signature_def["serving_default"]
            fed, fetched = signature.inputs["images"].name, signature.outputs["outputs"].name
            return timed(lambda: opened.run(fetched, {fed: images}), steps)
    if precision == "bfloat16":
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    generate = tf.saved_model.load(export).signatures["serving_default"]
    return timed(lambda: generate(images=tf.constant(images))["outputs"].numpy(), steps)


def reading(folder, batch, cores, seconds, peer=None):
    """Pairs per second that a reader makes on so many cores, over some seconds after a first epoch."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    count = len(os.listdir(folder))
    if peer:
        data = iter(importlib.import_module(peer).pairs(folder, batch))
        return rate(lambda: next(data), batch, count, seconds)
    import tensorflow.compat.v1 as tf

    import reader
    tf.enable_resource_variables()
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        made = tf.group(*reader.training_batches(reader.find_pairs(folder), step, batch_size=batch, threads=cores))
        with tf.train.MonitoredSession() as session:
            return rate(lambda: session.run(made), batch, count, seconds)


def rate(function, batch, count, seconds):
    """Images per second of a function that makes a batch, over some seconds after it made `count` images."""
    for _ in range(count // batch):
        function()
    begin, made = time.perf_counter(), 0
    while time.perf_counter() < begin + seconds:
        function()
        made += batch
    return made / (time.perf_counter() - begin)


def loop(flags, steps):
    """Of this project's steps: seconds waiting for the reader, of the step, and of one whose scalars are fetched."""
    import tensorflow.compat.v1 as tf
    found = {"wait": [], "plain": [], "logged": []}
    with tf.Graph().as_default():
        made, model, config = study.training_graph(*flags)
        with tf.train.MonitoredSession(tf.train.ChiefSessionCreator(config=config)) as session:
            for number in range(2 * (WARM_UP + steps)):
                begin = time.perf_counter()
                arrays = session.run(made)
                read = time.perf_counter()
                session.run([model.train_op, model.total, model.watch if number % 2 else {}],
                            dict(zip(made, arrays)))
                if number >= 2 * WARM_UP:
                    found["wait"].append(read - begin)
                    found["logged" if number % 2 else "plain"].append(time.perf_counter() - read)
    return found


def profile(flags, precision, steps):
    """Where a step's time goes, one op at a time: [[layer, kind, seconds, share of a large matmul's rate]]."""
    import tensorflow.compat.v1 as tf
    found = collections.defaultdict(lambda: [[], 0])
    with tf.Graph().as_default() as graph:
        made, model, config = study.training_graph(*flags, "--precision=" + precision)
        for name, flops in operations(graph, model.train_op):
            found[place(name, graph.get_operation_by_name(name).type)][1] += flops
        config.inter_op_parallelism_threads = 1  # an op has both cores for itself, so its time is its own
        with tf.train.MonitoredSession(tf.train.ChiefSessionCreator(config=config)) as session:
            fed = dict(zip(made, session.run(made)))
            for number in range(WARM_UP + steps):
                metadata, seconds = tf.RunMetadata(), collections.Counter()
                session.run(model.train_op, fed, tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), metadata)
                for node in (node for device in metadata.step_stats.dev_stats for node in device.node_stats):
                    op = node.timeline_label.split(" = ")[-1].split("(")[0]
                    seconds[place(node.node_name, op)] += (node.op_end_rel_micros - node.op_start_rel_micros) / 1e6
                for key, value in seconds.items():
                    found[key][0] += [value] * (number >= WARM_UP)
    rate = matmul_rate(precision, steps)
    return [[*key, statistics.median(seconds), flops / statistics.median(seconds) / rate]
            for key, (seconds, flops) in sorted(found.items()) if seconds]


def place(name, op):
    """Returns (layer, kind) of an op of the training graph."""
    for part, kind in (("ApplyAdam", "Adam"), ("BatchNorm", "batch norm"), ("Cast", "casts")):
        if part in op:
            return "", kind
    layer = re.search(r"(generator|discriminator)(_1)?/([a-z]+_[0-9]+)", name)
    backward = name.startswith("gradients")
    if layer and any(part in op for part in ("Conv2D", "MatMul", "GatherV2", "UnsortedSegmentSum")):
        if "MatMul_grad" in name:  # of (unfolded, kernel) in a convolution, of (kernel, pixels) in a transposed one
            of_kernel = "MatMul" in op and name.endswith("MatMul_1") == ("decoder" not in name)
        else:
            of_kernel = "BackpropFilter" in op or ("onv2" in name and "Conv2D" not in op)
        kind = "forward" if not backward else "kernel gradient" if of_kernel else "image gradient"
        return "/".join(layer.group(1, 3)), kind
    return "", "everything else"


def bound(flags, batches, dtypes, steps):
    """What the machine can do: matmul rates, memory bandwidth; and what a training step has to do."""
    import tensorflow.compat.v1 as tf
    found = {"bandwidth": 3 * 4 * 8192 ** 2 / assignment_seconds("float32", 8192, None, steps), "flops": {}}
    for dtype in dtypes:
        found[dtype] = matmul_rate(dtype, steps)
    for batch in batches:
        with tf.Graph().as_default() as graph:
            _, model, _ = study.training_graph(*flags, "--batch_size=%d" % batch)
            found["parameters"] = sum(v.shape.num_elements() for v in tf.trainable_variables())
            found["flops"][batch] = sum(flops for _, flops in operations(graph, model.train_op))
    return found


def operations(graph, fetch):
    """Yields (op's name, floating point operations as TensorFlow's profiler counts them) of what a fetch needs.

    That is of convolutions and matrix products. Their gradients count as they do themselves; the profiler takes those
    of unpadded ones for larger.
    """
    import tensorflow.compat.v1 as tf
    needed = {node.name for node in tf.graph_util.extract_sub_graph(graph.as_graph_def(), [fetch.op.name]).node}
    options = tf.profiler.ProfileOptionBuilder(tf.profiler.ProfileOptionBuilder.float_operation())
    scopes, found = [tf.profiler.profile(graph, cmd="scope", options=options.with_empty_output().build())], {}
    while scopes:
        scope = scopes.pop()
        scopes += scope.children
        found[scope.name] = scope.float_ops
    for name in (name for name in needed & set(found) if graph.get_operation_by_name(name).type in PRODUCTS):
        forward = re.match(r"gradients\w*/(.*)_grad/", name)
        yield name, found.get(forward.group(1), 0) if forward else found[name]


def matmul_rate(dtype, steps):
    """Operations per second of a large matrix product."""
    import tensorflow.compat.v1 as tf
    return max(2 * size ** 3 / assignment_seconds(dtype, size, lambda x: tf.matmul(x, x), steps)
               for size in (2048, 4096))


def assignment_seconds(dtype, size, function, steps):
    """Median seconds of result = function(square matrix), or without a function of result += matrix, in place."""
    import tensorflow.compat.v1 as tf
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
