"""The cluster that TF_CONFIG describes, and whether its servers answer."""

import json
import socket

PROBE = 2  # seconds that a connection or an answer may take


class WorkerError(Exception):
    """The workers can't go on together; the message names what is wrong, lost or different, and the way out."""


def cluster_of(text):
    """Returns ({job: [address]}, (own job, own index)) of TF_CONFIG's text, or ({}, None) where it names no cluster.

    Raises:
      WorkerError: it makes no sense.
    """
    try:
        return checked_cluster(json.loads(text or "{}"))
    except KeyError as error:
        reason = "%s is missing" % error
    except json.JSONDecodeError as error:
        reason = "not JSON (%s)" % error
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error)
    raise WorkerError("TF_CONFIG: %s; docs/several_machines.md has an example" % reason)


def checked_cluster(found):
    """As `cluster_of`, from what the text holds; raises ValueError, KeyError, TypeError or AttributeError."""
    jobs = {job: list(listed) for job, listed in found.get("cluster", {}).items() if listed}
    if not jobs:
        return {}, None
    task = found["task"]["type"], int(found["task"]["index"])
    for job in [*jobs, task[0]]:
        if job not in ("chief", "worker"):
            raise ValueError("the job %s is not known here; there are worker and, with one task, chief" % job)
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
    """Whether a TensorFlow server answers on HOST:PORT; None where no process has the port.

    What such a server sends first is HTTP/2's frame of settings. A process that was stopped still takes connections,
    and sends nothing.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PROBE) as connection:
            return connection.recv(4)[3:] == b"\4"
    except ConnectionRefusedError:
        return None
    except OSError:
        return False
