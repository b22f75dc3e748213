"""The cluster in TF_CONFIG, and a watchdog over its processes.

TensorFlow 1.15 waits forever for a lost worker, and no TensorFlow detects a worker that hangs. The watchdog therefore
connects to the ports of the other workers.
"""

import json
import os
import socket
import sys
import threading
import time

from support.errors import WorkerError

PROBE = 2  # seconds to wait for a connection or an answer
SILENCE = 30  # seconds without an answer until a worker is lost
LINGER = 3  # seconds that a failing worker keeps its port open, so that the others report the first failure
# What TF_CONFIG may hold: the two keys that are read here, and those of TensorFlow and the cloud trainers.
KEYS = {"cluster", "task", "environment", "rpc_layer", "service", "model_dir", "session_master",
        "eval_session_master", "job"}


def cluster_of(text):
    """Returns ({job: [address]}, (own job, own index)) from TF_CONFIG's text, or ({}, None) if it names no cluster.

    Raises:
      WorkerError: the text is not valid.
    """
    try:
        return checked_cluster(json.loads((text or "").strip() or "{}"))
    except KeyError as error:
        reason = "%s is missing" % error
    except json.JSONDecodeError as error:
        reason = "not JSON (%s)" % error
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error)
    raise WorkerError("TF_CONFIG: %s; docs/several_machines.md has an example" % reason)


def checked_cluster(found):
    """Does `cluster_of` for the parsed text; raises ValueError, KeyError, TypeError or AttributeError."""
    if not isinstance(found, dict):
        raise ValueError("it is %s, not an object with a cluster and a task" % json.dumps(found))
    jobs = {job: list(listed) for job, listed in (found.get("cluster") or {}).items() if listed}
    beside = sorted(set(found) - KEYS)
    if beside and sum(map(len, jobs.values())) < 2:
        raise ValueError("%s: not read here, so this process would train alone; list the address of every worker in "
                         "cluster, or remove TF_CONFIG" % ", ".join(beside))
    if not jobs and (found.get("cluster") or found.get("task")):
        raise ValueError("it names no address in cluster, so this process would train alone; list the address of "
                         "every worker there, or remove TF_CONFIG")
    if not jobs:
        return {}, None
    task = found["task"]["type"], int(found["task"]["index"])
    for job in [*jobs, task[0]]:
        if job not in ("chief", "worker"):
            raise ValueError("the job %s is not known here; the known jobs are worker and, with one task, chief" % job)
    addresses = [address for listed in jobs.values() for address in listed]
    for address in addresses:
        if not is_address(address):
            raise ValueError("the address %s is not HOST:PORT" % json.dumps(address))
        if addresses.count(address) > 1:
            raise ValueError("the address %s is there twice" % address)
    if len(jobs.get("chief", [])) > 1:
        raise ValueError("there can be one chief, not %d" % len(jobs["chief"]))
    if not 0 <= task[1] < len(jobs.get(task[0], [])):
        raise ValueError("the task is %s %d, which the cluster does not have" % task)
    return jobs, task


def is_address(text):
    host, _, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536


def listens(address):
    """Returns whether a TensorFlow server answers on HOST:PORT; None if no process listens on the port.

    A TensorFlow server first sends the settings frame of HTTP/2. A stopped process still accepts connections, but sends
    nothing.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PROBE) as connection:
            return connection.recv(4)[3:] == b"\4"
    except ConnectionRefusedError:
        return None
    except (OSError, UnicodeError):  # UnicodeError if the host is not a valid name
        return False


def wait_for(names, patience):
    """Waits until servers answer at all addresses of {address: name}.

    Raises:
      WorkerError: a server does not answer within `patience` seconds.
    """
    deadline, told = time.time() + patience, False
    while names:
        names = {address: name for address, name in names.items() if not listens(address)}
        if names and not told:
            print("waiting for %s, up to %d seconds" % (" and ".join(names.values()), patience), flush=True)
            told = True
        if names and time.time() > deadline:
            raise WorkerError("no answer within --patience=%d seconds from %s; start it there, or remove it from "
                              "TF_CONFIG" % (patience, " and ".join(names.values())))
        time.sleep(0.2 if names else 0)


class Watchdog:
    """Ends this process when another worker is lost, unless an error in TensorFlow ends it first.

    Attributes:
      saved: the newest step that the chief has saved, as far as this worker knows.
      over: set this to True to end the watch, before workers leave regularly.
      message: which worker is lost and what to do; empty until a worker is lost.
    """

    def __init__(self, names, addresses, rank):
        self.names, self.addresses, self.rank = names, addresses, rank
        self.saved, self.waited, self.over, self.message = 0, 0, False, ""
        self.lost, self.first, self.found = [], threading.Lock(), threading.Event()

    def start(self, patience):
        """Starts to watch the other workers; a step may take at most `patience` seconds."""
        self.patience = patience
        for i in range(len(self.names)):
            target = self.count_seconds if i == self.rank else self.ask
            threading.Thread(target=target, args=[i], daemon=True).start()

    def ask(self, i):
        answered = time.monotonic()
        while not self.over and time.monotonic() - answered < SILENCE:
            time.sleep(1)
            answer = listens(self.addresses[i])
            if answer is None:
                break
            if answer:
                answered = time.monotonic()
        self.lose(i)

    def count_seconds(self, i):
        """Counts the seconds since the last step ended, except those in which this process was stopped."""
        while not self.over and self.waited < self.patience:
            time.sleep(1)
            self.waited += 1
        self.lose(i)

    def step_ended(self, saved):
        self.waited, self.saved = 0, saved

    def lose(self, i):
        """Reports that worker i is lost, or for i == rank that no step ends, and ends this process."""
        self.lost.append(i)
        if self.over or not self.first.acquire(blocking=False):
            return
        time.sleep(1)  # other workers may be lost at the same time
        lost = [self.names[i] for i in sorted(self.lost) if i != self.rank]
        what = "lost %s" % " and ".join(lost) if lost else (
            "no step ended within --patience=%d seconds: a worker hangs, or reading the pairs, a step, saving or "
            "validation takes longer" % self.patience)
        self.message = "%s; start all workers again, and the run continues from step %d%s" % (
            what, self.saved, " or a later one" if self.rank else "")
        self.found.set()
        time.sleep(LINGER)
        if not self.over:
            try:  # printing fails if the terminal was lost with the network
                print("\nerror: %s: %s" % (self.names[self.rank], self.message), file=sys.stderr, flush=True)
                sys.stdout.flush()
            finally:
                os._exit(1)

    def names_lost(self, seconds):
        """Waits up to some seconds for a worker to be lost, and then LINGER seconds; returns whether one is lost."""
        if self.over or not self.found.wait(seconds):
            return False
        self.over = True
        time.sleep(LINGER)
        return True
