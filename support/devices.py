"""The GPU that TensorFlow sees, if there is one, the settings of the process that decide its bits, and the cores."""

import contextlib
import functools
import os

import tensorflow.compat.v1 as tf

from support.errors import FlagError

AMPERE = (8, 0)  # compute capability of NVIDIA's Ampere, the first with TF32 and bfloat16


@functools.lru_cache()
def gpu():
    """Returns {"device_name": text, "compute_capability": (major, minor)} of the first GPU; None without a GPU.

    TensorFlow 1.15 does not tell either.
    """
    found = tf.config.experimental.list_physical_devices("GPU")
    if not found:
        return None
    details_of = getattr(tf.config.experimental, "get_device_details", lambda device: {})
    return dict({"device_name": "GPU", "compute_capability": (0, 0)}, **details_of(found[0]))


def has_gpu():
    """Returns whether TensorFlow computes on a GPU."""
    return gpu() is not None


def has_ampere():
    """Returns whether the GPU computes convolutions in TF32 and in bfloat16 if it is asked to."""
    return has_gpu() and gpu()["compute_capability"] >= AMPERE


def cores():
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_deterministic():
    """Makes TensorFlow take kernels whose results repeat, on a GPU; a CPU's repeat anyway.

    TensorFlow reads the variable before the first op runs. XLA follows it.
    """
    if has_gpu():
        os.environ["TF_DETERMINISTIC_OPS"] = "1"


def allow_tf32(is_allowed):
    """Sets for the whole process whether float32 convolutions may run in TF32, as TensorFlow's default is."""
    if has_ampere():
        tf.config.experimental.enable_tensor_float_32_execution(is_allowed)


def decide_compilation(jit_compile, workers=1):
    """Returns "true" or "false": the text of --jit_compile itself or, for auto, whether one worker has a GPU.

    Raises:
      FlagError: XLA is to compile the step of several workers, which TensorFlow 2.21 ends with "Multiple CPU devices".
    """
    if jit_compile == "true" and workers > 1:
        raise FlagError("--jit_compile=true is for one worker, because TensorFlow can't compile the step of several; "
                        "leave the flag out")
    return ("true" if has_gpu() and workers == 1 else "false") if jit_compile == "auto" else jit_compile


def compiled(jit_compile):
    """Returns a context whose ops XLA compiles, where it can, if `decide_compilation` says so."""
    is_compiled = decide_compilation(jit_compile) == "true"
    return tf.xla.experimental.jit_scope() if is_compiled else contextlib.nullcontext()


def never_compiled():
    """Returns a context whose ops XLA leaves alone inside of `compiled`."""
    return tf.xla.experimental.jit_scope(compile_ops=False)
