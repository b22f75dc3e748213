"""Several processes train one model, each on its share of every batch, by TensorFlow's collective ops.

TF_CONFIG, TensorFlow's own variable, says who they are:

    {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}

Every process runs the same command and builds the same graph, with variables of its own. The first one is the chief:
the others get its variables before the first step, and from then on all make the same updates. Without TF_CONFIG, or
with one worker, nothing here adds an op, opens a port or starts a thread.
"""

import contextlib
import itertools
import os
import re
import socket
import threading
import zlib

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from support import cluster, faults
from support.errors import WorkerError
from support.precisions import fence

PACKED = 65536  # gradients of fewer values travel together in one tensor
FACTS = 128  # how many things can be compared before the first step
CONNECTION_ERRORS = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError,
    tf.errors.DeadlineExceededError, tf.errors.FailedPreconditionError)


class Workers:
    """All processes of a run, seen from this one.

    Attributes:
      names: "JOB INDEX at HOST:PORT" of each, the chief first.
      rank: this one's place among them; 0 is the chief.
      config: a ConfigProto with what every session on `target` needs; see `start`.
      target: the master of such sessions; "" for a session without a server.
      watchdog: a cluster.Watchdog over the others.
    """

    def __init__(self, text=None):
        """Takes TF_CONFIG's text, or none; raises WorkerError where it makes no sense."""
        self.jobs, self.task = cluster.cluster_of(text)
        tasks = [(job, index) for job in ("chief", "worker") for index in range(len(self.jobs.get(job, [])))]
        self.leader = "/job:%s/replica:0/task:0" % tasks[0][0] if tasks else ""
        self.addresses = [self.jobs[job][index] for job, index in tasks]
        self.names = ["%s %d at %s" % (*task, address) for task, address in zip(tasks, self.addresses)] or ["worker"]
        self.rank = tasks.index(self.task) if tasks else 0
        self.others = [i for i in range(len(self)) if i != self.rank]
        self.config, self.target = tf.ConfigProto(), ""
        self.keys = itertools.count(1)  # all build their collectives in one order
        self.watchdog = cluster.Watchdog(self.names, self.addresses, self.rank)

    def __len__(self):
        return len(self.names)

    def start(self, patience):
        """Starts this one's server and waits for the others'.

        Args:
          patience: for how many seconds, and also for how many a step may take.

        Raises:
          WorkerError: the port can't be had, or another does not answer.
        """
        if not self.others:
            return
        self.config.gpu_options.allow_growth = True
        self.config.device_filters.append("/job:%s/task:%d" % self.task)
        self.config.experimental.collective_group_leader = self.leader
        # The remapper makes fused convolutions, which in bfloat16 a server refuses before oneDNN can take them.
        self.config.graph_options.rewrite_options.remapping = rewriter_config_pb2.RewriterConfig.OFF
        port = int(self.addresses[self.rank].rpartition(":")[2])
        advice = "end what holds port %d, or give this worker another one in TF_CONFIG" % port
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), cluster.PROBE):
            raise WorkerError("another process listens on its port; %s" % advice)
        try:
            self.server = tf.train.Server(tf.train.ClusterSpec(self.jobs), *self.task, config=self.config)
        except tf.errors.OpError as error:
            raise WorkerError("%s; %s" % (error.message, advice))
        self.target = self.server.target
        cluster.wait_for({self.addresses[i]: self.names[i] for i in self.others}, patience)
        self.watchdog.start(patience)

    # What travels. All workers must build the same collectives in the same order, and run the same ones in a step.

    def mean(self, tensors):
        """Returns the means over all workers of float32 tensors, of the same bits on each of them."""
        if not self.others:
            return tensors
        sizes = [tensor.shape.num_elements() for tensor in tensors]
        small = [tensor for tensor, size in zip(tensors, sizes) if size < PACKED]
        if small:  # fenced, so that bfloat16 in one does not spread to all that are put together with it
            packed = self.reduce(tf.concat([tf.reshape(fence(tensor), [-1]) for tensor in small], 0))
            parts = iter(tf.split(packed, [size for size in sizes if size < PACKED]))
        return [tf.reshape(next(parts), tensor.shape) if size < PACKED else self.reduce(tensor)
                for tensor, size in zip(tensors, sizes)]

    def reduce(self, tensor):
        return tf.raw_ops.CollectiveReduce(input=tensor, merge_op="Add", final_op="Div", subdiv_offsets=[0],
                                           **self.collective())

    def gather(self, values):
        """Returns int64 [workers, N] of each one's int64 [N]."""
        return tf.raw_ops.CollectiveGather(input=values[tf.newaxis], shape=[len(self), *values.shape.as_list()],
                                           **self.collective())

    def broadcast(self, variables):
        """Returns the op that gives the variables of all workers the chief's values."""
        def sent(variable):
            options = dict(self.collective(), shape=variable.shape)
            if self.rank == 0:
                return tf.raw_ops.CollectiveBcastSend(input=variable.read_value(), **options).op
            value = tf.raw_ops.CollectiveBcastRecv(T=variable.dtype.base_dtype, **options)
            return variable.assign(value, read_value=False)

        return tf.group([sent(variable) for variable in variables])

    def collective(self):
        return {"group_size": len(self), "group_key": 1, "instance_key": next(self.keys)}

    def ready_for_local_init(self):
        """Returns a Scaffold's ready_for_local_init_op: the reader's place is set after the chief's variables came."""
        if not self.others:
            return None
        with tf.control_dependencies([self.broadcast(tf.global_variables())]):
            return tf.report_uninitialized_variables(tf.global_variables())

    def averaged(self, model, scalars):
        """Returns a share's `pix2pix.Training` as that of the whole batch: its scalars are means over the workers.

        The train op computes them too, so that a step runs the same collectives whatever a worker's hooks fetch.

        What `model.finite` says stays that of the share.

        Args:
          model: the Training.
          scalars: names of its fields that are float32 scalars.
        """
        if not self.others:
            return model
        shares = [getattr(model, name) for name in scalars] + list(model.watched.values())
        means, = self.mean([tf.stack([fence(scalar) for scalar in shares])])
        values = iter(tf.unstack(means))
        fields = {name: next(values) for name in scalars}
        fields["watched"] = type(model.watched)((name, next(values)) for name in model.watched)
        with tf.control_dependencies([means]):
            return model._replace(train_op=tf.identity(model.train_op), **fields)

    def agree(self, facts, news, is_over):
        """Compares what must be the same on all workers, and tells them what the chief knows.

        Args:
          facts: {what it is called: its value}, at most FACTS - 2 - len(news).
          news: a list of integers, of which the chief's count: first the step from which the run continues.
          is_over: function from the chief's news to whether the run is finished, so that nothing follows.

        Returns:
          The chief's news.

        Raises:
          WorkerError: another's facts are not the chief's; all workers raise it.
        """
        if not self.others:
            return news
        names = sorted(facts)
        mine = [self.rank, *news, checksum(names), *(checksum(facts[name]) for name in names)]
        with tf.Graph().as_default():
            table, barrier = self.gather(tf.constant(mine + [0] * (FACTS - len(mine)), tf.int64)), self.barrier()
            with self.naming_lost(), tf.Session(self.target, config=self.config) as session:
                rows = session.run(table)
                rows = rows[rows[:, 0].argsort(), 1:]  # TensorFlow's order is that of the tasks' names, 10 before 2
                told, rows = [int(value) for value in rows[0][:len(news)]], rows[:, len(news):]
                self.watchdog.step_ended(saved=told[0])  # the time for the first step begins
                called = ["the flags that there are", *names]
                wrong = ["%s differs from %s in %s" % (self.names[i], self.names[0], ", ".join(
                    name for name, here, there in zip(called, rows[0], rows[i]) if here != there))
                    for i in range(len(self)) if (rows[i] != rows[0]).any()]
                if wrong or is_over(told):
                    self.leave(session, barrier)
        if wrong:
            raise WorkerError("%s; give all workers the same values, pairs and versions" % "; ".join(wrong))
        return told

    @contextlib.contextmanager
    def naming_lost(self, is_own=lambda error: False):
        """Turns a session's error into a WorkerError where the loss of another worker is the cause.

        Args:
          is_own: function from a tf.errors.OpError to whether it came from this process alone.
        """
        try:
            yield
        except BaseException as error:
            is_connection = isinstance(error, CONNECTION_ERRORS)
            is_theirs = self.others and isinstance(error, tf.errors.OpError) and not is_own(error) and (
                self.watchdog.names_lost(30 if is_connection else 5) or is_connection)
            self.watchdog.over = True
            if not is_theirs:
                raise
            raise WorkerError(self.watchdog.message or "TensorFlow failed, and no worker is known to be lost (%s)"
                              % reason_of(error))

    def barrier(self):
        return self.gather(tf.zeros([1], tf.int64))

    def leave(self, session, barrier):
        """Leaves when all others do, or after some seconds: another may still be receiving data from this one."""
        def run():
            with contextlib.suppress(tf.errors.OpError):
                session.run(barrier)

        self.watchdog.over = True
        last = threading.Thread(target=run, daemon=True)
        last.start()
        last.join(cluster.LINGER)


class StopTogether(tf.train.SessionRunHook):
    """Ends the run of all workers after one step when one of them got a signal. The last hook of a session.

    Attributes:
      number: the signal that ended the run: this worker's own, else another's; 0 for none.
    """

    def __init__(self, team, received, saved):
        """Takes the Workers and two functions: the signal that came here, 0 for none, and the newest saved step."""
        self.team, self.received, self.saved, self.number = team, received, saved, 0
        if team.others:
            self.told = tf.placeholder(tf.int64, [2])
            self.table, self.barriers = team.gather(self.told), [team.barrier(), team.barrier()]

    def before_run(self, run_context):
        del run_context
        if not self.team.others:
            return None
        if self.team.rank == 0:
            self.team.watchdog.saved = self.saved()
        return tf.train.SessionRunArgs(self.table, {self.told: [self.received(), self.saved()]})

    def after_run(self, run_context, run_values):
        ended = self.received()
        if self.team.others:
            ended = int(run_values.results[:, 0].max())
            self.team.watchdog.step_ended(saved=int(run_values.results[0, 1]))
        if ended:
            self.number = self.received() or ended
            run_context.request_stop()

    def end(self, session):
        if self.team.others:
            session.run(self.barriers[0])  # the chief has saved
            self.team.leave(session, self.barriers[1])


ALONE = Workers()


def reason_of(error):
    """What a TensorFlow error says of another worker, without gRPC's wrapping."""
    of_grpc = re.search(r'grpc_message"?:"(.+?)"', error.message)
    return of_grpc.group(1) if of_grpc else faults.reason_of(error)


def checksum(value):
    return zlib.crc32(str(value).encode("utf-8", "backslashreplace"))


def own_name():
    """Returns this worker's name and a colon, to stand before an error; empty where it is the only one."""
    try:
        team = Workers(os.environ.get("TF_CONFIG"))
    except WorkerError:
        return ""
    return "%s: " % team.names[team.rank] if team.others else ""
