"""One worker of the scaling study: times the collectives that carry the default model's gradients, and nothing else.

TF_CONFIG says which worker it is (docs/several_machines.md):

    python studies/scaling_measure.py '{"pack": 65536, "rounds": 5, "filters": 64}'
"""

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import tensorflow.compat.v1 as tf

import pix2pix
from support import workers


def gradients(filters):
    """Returns tensors of the shapes of both networks' gradients, held in variables, so that they cost nothing."""
    with tf.Graph().as_default():
        images = tf.zeros([1, 256, 256, 3])
        pix2pix.discriminator(images, pix2pix.generator(images, filters=filters), filters=filters)
        networks = [[v.shape.as_list() for v in tf.trainable_variables(name)] for name in ("disc", "gen")]
    return [[tf.Variable(tf.zeros(shape), use_resource=True).read_value() for shape in shapes] for shapes in networks]


def main(pack, rounds, filters):
    workers.PACKED = pack
    team = workers.Workers(os.environ["TF_CONFIG"])
    team.start(100000)
    with tf.Graph().as_default():
        tensors = gradients(filters)
        means = tf.group([tensor.op for network in tensors for tensor in team.mean(network)])
        start, end, initial = team.barrier(), team.barrier(), tf.global_variables_initializer()
        seconds = []
        with team.naming_lost(), tf.Session(team.target, config=team.config) as session:
            session.run(initial)
            for _ in range(rounds + 2):
                session.run(start)
                began = time.perf_counter()
                session.run(means)
                seconds.append(time.perf_counter() - began)
            session.run(start)
            team.leave(session, end)
    count = sum(tensor.shape.num_elements() for network in tensors for tensor in network)
    print(json.dumps({"seconds": seconds[2:], "bytes": 4 * count}), flush=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
