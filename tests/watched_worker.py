"""train.py as one of several workers, watched, and made to fail at a chosen moment; runs on TensorFlow 1.15 too.

    WATCH=FILE     appends "STEP SHA256" of all global variables after every step
    GRADIENTS=FILE keeps the gradients of the first step, own and mean, as an npz
    FAIL=WHEN:HOW  HOW is KILL or TERM, a signal, or HANG; WHEN is a step's number, `broadcast` (half of the
                   variables have come) or `save-STEP` (that checkpoint is half written)
"""

import hashlib
import os
import signal
import sys
import threading
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import train
from support import hooks, storage, workers

tf = train.tf
kept = []  # gradients of D, their means, those of G, their means; and the scalars
WHEN, _, HOW = os.environ.get("FAIL", "").partition(":")


def fail():
    if HOW == "HANG":
        time.sleep(1000)
    os.kill(os.getpid(), getattr(signal, "SIG" + HOW))


def broadcast(team, variables, whole=workers.Workers.broadcast):
    first = whole(team, variables[:len(variables) // 2])
    with tf.control_dependencies([first]), tf.control_dependencies([tf.py_func(fail, [], [])]):
        return whole(team, variables[len(variables) // 2:])


def mean(team, tensors, whole=workers.Workers.mean):
    means = whole(team, tensors)
    kept.extend([tensors, means])
    return means


def before_step(hook, context, whole=workers.StopTogether.before_run):
    arguments = whole(hook, context)
    if "GRADIENTS" in os.environ and kept:
        return arguments._replace(fetches=[arguments.fetches, kept])
    return arguments


def after_step(hook, context, values, whole=workers.StopTogether.after_run):
    if "GRADIENTS" in os.environ and kept:
        table, gradients = values.results
        values = values._replace(results=table)
        with open(os.environ["GRADIENTS"], "wb") as file:
            np.savez(file, *[np.concatenate([each.ravel() for each in part]) for part in gradients[:4]])
        del kept[:]
    whole(hook, context, values)
    step = context.session.run(tf.train.get_global_step())
    if "WATCH" in os.environ:
        variables = tf.global_variables()
        weights = dict(zip((v.op.name for v in variables), context.session.run(variables)))
        digest = hashlib.sha256(b"".join(weights[name].tobytes() for name in sorted(weights))).hexdigest()
        with open(os.environ["WATCH"], "a") as file:
            file.write("%d %s\n" % (step, digest))
    if str(step) == WHEN:
        fail()


def fail_in_checkpoint(folder):
    while not any(".tempstate" in name for name in os.listdir(folder)):
        pass
    fail()


def save(hook, session, step, whole=hooks.Checkpoints.save):
    if "save-%d" % step == WHEN:
        threading.Thread(target=fail_in_checkpoint, args=[hook.folder], daemon=True).start()
        storage.sync = lambda *paths: fail()  # if it was too fast to be seen
    whole(hook, session, step)


workers.StopTogether.before_run, workers.StopTogether.after_run, hooks.Checkpoints.save = before_step, after_step, save
workers.Workers.mean = mean
if WHEN == "broadcast":
    workers.Workers.broadcast = broadcast

if __name__ == "__main__":
    sys.exit(train.main(train.parse(sys.argv)))
