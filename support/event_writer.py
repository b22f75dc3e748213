"""TensorBoard's events of a run.

TensorFlow's FileWriter writes them in a thread, which on a full disk prints a trace, or lets its caller wait for ever.
"""

import contextlib
import os
import platform
import time

import tensorflow.compat.v1 as tf

from support import faults


class EventWriter:
    """Writes a file of events, each of which is in it when its method returns.

    All methods raise OSError, with the file's name, where that is not so.
    """

    def __init__(self, folder, graph, start):
        """Takes the run folder, the graph to show, and the step behind which the run goes on."""
        self.path = os.path.join(folder, "events.out.tfevents.%010d.%s.%d" % (
            time.time(), platform.node(), os.getpid()))
        with self.naming():
            self.file = tf.io.TFRecordWriter(self.path)
        self.add(file_version="brain.Event:2")
        self.add(graph_def=graph.as_graph_def(add_shapes=True).SerializeToString())
        self.add(step=start + 1, session_log=tf.SessionLog(status=tf.SessionLog.START))

    def add(self, **content):
        """Adds an event with these fields of tf.Event."""
        with self.naming():
            self.file.write(tf.Event(wall_time=time.time(), **content).SerializeToString())
            self.file.flush()

    def add_summary(self, summary, step):
        """Adds the values of a step, a tf.Summary or its bytes."""
        self.add(step=step, summary=tf.Summary.FromString(summary) if isinstance(summary, bytes) else summary)

    @contextlib.contextmanager
    def naming(self):
        try:
            yield
        except tf.errors.OpError as error:
            raise OSError(0, faults.reason_of(error).replace(self.path, "").lstrip("; "), self.path)

    def close(self):
        with contextlib.suppress(tf.errors.OpError):  # all was written before, or its error was raised
            self.file.close()
