"""Several processes that train one model with TensorFlow's collective ops, each on its share of every batch.

TensorFlow's environment variable TF_CONFIG names them:

    {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}

Every process runs the same command and builds the same graph with its own variables. The first process is the chief.
The others receive its variables before the first step, and then all apply the same updates. Without TF_CONFIG, or with
one worker, this module adds no op, opens no port and starts no thread.
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

from support import cluster, faults, precisions
from support.devices import never_compiled
from support.errors import WorkerError
from support.precisions import fence

PACKED = 65536  # gradients of fewer values travel together in one tensor
FACTS = 128  # largest number of values that are compared before the first step
CONNECTION_ERRORS = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError,
    tf.errors.DeadlineExceededError, tf.errors.FailedPreconditionError)


class Workers:
    """All workers of a run, as this worker sees them.

    Attributes:
      names: "JOB INDEX at HOST:PORT" of each worker, the chief first.
      rank: the index of this worker in `names`; 0 is the chief.
      config: the ConfigProto for every session on `target`; see `start`.
      target: the master for sessions; "" for sessions without a server.
      watchdog: a cluster.Watchdog over the other workers.
    """

    def __init__(self, text=None):
        """Takes the text of TF_CONFIG or None; raises WorkerError if the text is not valid."""
        self.jobs, self.task = cluster.cluster_of(text)
        tasks = [(job, index) for job in ("chief", "worker") for index in range(len(self.jobs.get(job, [])))]
        self.leader = "/job:%s/replica:0/task:0" % tasks[0][0] if tasks else ""
        self.addresses = [self.jobs[job][index] for job, index in tasks]
        self.names = ["%s %d at %s" % (*task, address) for task, address in zip(tasks, self.addresses)] or ["worker"]
        self.rank = tasks.index(self.task) if tasks else 0
        self.others = [i for i in range(len(self)) if i != self.rank]
        self.config, self.target = tf.ConfigProto(), ""
        self.keys = itertools.count(1)  # all workers build their collectives in the same order
        self.watchdog = cluster.Watchdog(self.names, self.addresses, self.rank)

    def __len__(self):
        return len(self.names)

    @property
    def is_chief(self):
        """Whether this process has the run folder and writes everything."""
        return self.rank == 0

    @property
    def name(self):
        """This worker's own name."""
        return self.names[self.rank]

    @property
    def share(self):
        """(i, n): this worker reads the i-th of n equal parts of each batch."""
        return self.rank, len(self)

    def masks_of(self, step):
        """Returns the number of the dropout masks of a step, int64: each share of a batch has its own."""
        return step * len(self) + self.rank if self.others else step

    def start(self, patience):
        """Starts the server of this worker and waits for the servers of the others.

        Args:
          patience: seconds to wait for the others, and the longest time of a step in seconds.

        Raises:
          WorkerError: the port is not available, or another worker does not answer.
        """
        if not self.others:
            return
        self.config.gpu_options.allow_growth = True
        self.config.device_filters.append("/job:%s/task:%d" % self.task)
        self.config.experimental.collective_group_leader = self.leader
        # The remapper fuses convolutions; a server refuses fused ops in bfloat16 before oneDNN can replace them.
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

    # Collectives. All workers must build them in the same order, and run the same collectives in each step.

    def mean(self, tensors):
        """Returns the means of float32 tensors over all workers, with equal bits on all workers."""
        if not self.others:
            return tensors
        sizes = [tensor.shape.num_elements() for tensor in tensors]
        small = [tensor for tensor, size in zip(tensors, sizes) if size < PACKED]
        if small:  # with a fence, so that bfloat16 in one tensor does not spread to the others
            packed = self.reduce(tf.concat([tf.reshape(fence(tensor), [-1]) for tensor in small], 0))
            parts = iter(tf.split(packed, [size for size in sizes if size < PACKED]))
        return [tf.reshape(next(parts), tensor.shape) if size < PACKED else self.reduce(tensor)
                for tensor, size in zip(tensors, sizes)]

    def reduce(self, tensor):
        with never_compiled():
            return tf.raw_ops.CollectiveReduce(input=tensor, merge_op="Add", final_op="Div", subdiv_offsets=[0],
                                               **self.collective())

    def gather(self, values):
        """Returns the int64 [N] of every worker as int64 [workers, N]."""
        return tf.raw_ops.CollectiveGather(input=values[tf.newaxis], shape=[len(self), *values.shape.as_list()],
                                           **self.collective())

    def broadcast(self, variables):
        """Returns an op that assigns the chief's values to the variables of all workers."""
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
        """Returns a Scaffold's ready_for_local_init_op: it broadcasts variables before the reader's place is set."""
        if not self.others:
            return None
        with tf.control_dependencies([self.broadcast(tf.global_variables())]):
            return tf.report_uninitialized_variables(tf.global_variables())

    def averaged(self, model, losses):
        """Returns the `pix2pix.Training` of a share with scalars that are means over the workers.

        The train op computes these means too, so that a step runs the same collectives whatever the hooks of a worker
        fetch. `model.finite` is still about the share.

        Args:
          model: the Training.
          losses: names of the fields with which its `scalars` begin.
        """
        if not self.others:
            return model
        means, = self.mean([model.scalars])
        values = tf.unstack(means)
        watched = type(model.watched)(zip(model.watched, values[len(losses):]))
        with tf.control_dependencies([means]):
            return model._replace(train_op=tf.identity(model.train_op), scalars=means, watched=watched,
                                  **dict(zip(losses, values)))

    def agree_on_run(self, facts, record, start):
        """Returns the chief's (start, precision) once all workers have equal flags, pairs and versions.

        Args:
          facts: {flag: value} of the flags that decide the bits of the run.
          record: what run.json holds, see `run_folder.describe`.
          start: the step from which this worker would go on.

        Raises:
          WorkerError: another worker's facts are not the chief's.
        """
        facts = dict(facts, **{
            "--epochs or --max_steps": record["steps"], "the pairs in --data_dir": record["pairs_sha256"],
            "TensorFlow's version": tf.version.VERSION})
        start, number = self.agree(facts, [start, precisions.PRECISIONS.index(record["precision"])],
                                   is_over=lambda news: news[0] >= record["steps"])
        precision = precisions.PRECISIONS[number]
        return start, record["precision"] if record["precision"] == precision else precisions.resolve(precision)

    def agree(self, facts, news, is_over):
        """Checks that facts are equal on all workers, and sends the chief's news to the others.

        Args:
          facts: {name: value}, at most FACTS - 2 - len(news).
          news: a list of integers that begins with the step from which the run continues.
          is_over: function that takes the chief's news and returns whether the run is already finished.

        Returns:
          The news of the chief.

        Raises:
          WorkerError: the facts of a worker differ from the chief's; all workers raise this error.
        """
        if not self.others:
            return news
        names = sorted(facts)
        mine = [self.rank, *news, checksum(names), *(checksum(facts[name]) for name in names)]
        with tf.Graph().as_default():
            table, barrier = self.gather(tf.constant(mine + [0] * (FACTS - len(mine)), tf.int64)), self.barrier()
            with self.naming_lost(), tf.Session(self.target, config=self.config) as session:
                rows = session.run(table)
                rows = rows[rows[:, 0].argsort(), 1:]  # TensorFlow sorts tasks by name, 10 before 2
                told, rows = [int(value) for value in rows[0][:len(news)]], rows[:, len(news):]
                self.watchdog.step_ended(saved=told[0])  # the patience for the first step begins
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
        """Turns a session's error into a WorkerError if the loss of another worker is its cause.

        Args:
          is_own: function that takes a tf.errors.OpError and returns whether its cause is in this process.
        """
        try:
            yield
        except BaseException as error:
            is_connection = isinstance(error, CONNECTION_ERRORS)
            may_be_theirs = self.others and isinstance(error, tf.errors.OpError) and not (
                faults.is_of_memory(error) or is_own(error))
            seconds = 30 if is_connection else 5  # in which the watchdog may find out which worker is lost
            is_theirs = may_be_theirs and (self.watchdog.names_lost(seconds) or is_connection)
            self.watchdog.over = True
            if not is_theirs:
                raise
            raise WorkerError(self.watchdog.message or "TensorFlow failed, and no worker is known to be lost (%s)"
                              % reason_of(error))

    @contextlib.contextmanager
    def session(self, config, is_own, **options):
        """A tf.train.SingularMonitoredSession with some options, in which all workers step together.

        Args:
          config: ConfigProto of a session of one process.
          is_own: see `naming_lost`.
        """
        config.MergeFrom(self.config)
        with self.naming_lost(is_own), tf.train.SingularMonitoredSession(
                master=self.target, config=config, **options) as session:
            yield session

    def barrier(self):
        return self.gather(tf.zeros([1], tf.int64))

    def leave(self, session, barrier):
        """Waits until all workers leave, at most LINGER seconds, since another may still receive data from this one."""
        def run():
            with contextlib.suppress(tf.errors.OpError):
                session.run(barrier)

        self.watchdog.over = True
        last = threading.Thread(target=run, daemon=True)
        last.start()
        last.join(cluster.LINGER)


class StopTogether(tf.train.SessionRunHook):
    """Ends the run on all workers after the same step if one of them received a signal. The last hook of a session.

    Attributes:
      number: the signal that ended the run, preferably this worker's own; 0 for none.
    """

    def __init__(self, team, signals, saving):
        """Takes the Workers, a stops.Signals, and the hooks.Checkpoints, which is None on all workers but the chief."""
        self.team, self.signals, self.saving, self.number = team, signals, saving, 0
        if team.others:
            self.told = tf.placeholder(tf.int64, [2])
            self.table, self.barriers = team.gather(self.told), [team.barrier(), team.barrier()]

    def before_run(self, run_context):
        del run_context
        if not self.team.others:
            return None
        saved = self.saving.saved if self.saving else 0
        if self.saving:
            self.team.watchdog.saved = saved
        return tf.train.SessionRunArgs(self.table, {self.told: [self.signals.number, saved]})

    def after_run(self, run_context, run_values):
        ended = self.signals.number
        if self.team.others:
            ended = int(run_values.results[:, 0].max())
            self.team.watchdog.step_ended(saved=int(run_values.results[0, 1]))
        if ended:
            self.number = self.signals.number or ended
            run_context.request_stop()

    def end(self, session):
        if self.team.others:
            session.run(self.barriers[0])  # the chief has saved
            self.team.leave(session, self.barriers[1])


ALONE = Workers()


def start(text, batch_size, patience):
    """Returns the Workers of TF_CONFIG's text, started; without a text, this process alone.

    Raises:
      WorkerError: see `Workers` and `Workers.start`; or batch_size can't be shared equally.
    """
    team = Workers(text)
    if batch_size % len(team):
        raise WorkerError("--batch_size=%d is the batch of all %d workers together; use a multiple of %d"
                          % (batch_size, len(team), len(team)))
    team.start(patience)
    return team


def reason_of(error):
    """Returns the message of a TensorFlow error, without gRPC's wrapping."""
    of_grpc = re.search(r'grpc_message"?:"(.+?)"', error.message)
    return of_grpc.group(1) if of_grpc else faults.reason_of(error)


def checksum(value):
    return zlib.crc32(str(value).encode("utf-8", "backslashreplace"))


def own_name():
    """Returns the name of this worker and a colon, as a prefix for errors; empty if it is the only worker."""
    try:
        team = Workers(os.environ.get("TF_CONFIG"))
    except WorkerError:
        return ""
    return "%s: " % team.names[team.rank] if team.others else ""
