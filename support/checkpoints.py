"""Checkpoints: finding them, checking that they can be read and fit a model, and their contents.

A checkpoint is named by its path without the endings of its files, such as runs/pix2pix/checkpoints/model.ckpt-500.
Checkpoints of the widely used one-file TF1 program (affinelayer/pix2pix-tensorflow) are recognised by the names of
their variables.
"""

import contextlib
import hashlib
import os
import re
import shutil

import tensorflow.compat.v1 as tf

from support import flag_texts, precisions, run_folder, storage
from support.errors import CheckpointError


def find(folder):
    """Returns (paths of complete checkpoints, paths of checkpoints that lack a file) of a folder, sorted by step.

    This looks at the files, since TensorFlow's list of checkpoints may be lost or may name a lost checkpoint.
    """
    names = set(os.listdir(folder)) if os.path.isdir(folder) else set()
    found = {match.group(1) for match in (re.fullmatch(r"(.+-[0-9]+)\.(index|data-00000-of-00001)", name)
                                          for name in names) if match}
    whole = {name for name in found if {name + ".index", name + ".data-00000-of-00001"} <= names}
    ordered = (sorted(part, key=step_of) for part in (whole, found - whole))
    return [[os.path.join(folder, name) for name in part] for part in ordered]


def step_of(checkpoint):
    """Returns the step in a checkpoint's name PATH-STEP; 0 if the name has no step."""
    end = checkpoint.rsplit("-", 1)[-1]
    return int(end) if end.isdigit() else 0


def newest(folder):
    """Returns the newest readable checkpoint of a folder, or None; prints a warning for each unreadable one.

    This ignores an interrupted first save, which leaves one file.

    Raises:
      CheckpointError: there are checkpoints, but none can be read.
    """
    whole, incomplete = find(folder)
    for path in incomplete:
        print("warning: %s: incomplete, not used (its .index or .data file is missing)" % path)
    for path in reversed(whole):
        try:
            check_readable(path)
            return path
        except CheckpointError as error:
            print("warning: %s; looking for the checkpoint before it" % error)
    if whole or len(incomplete) > 1:
        raise CheckpointError("%s: no checkpoint in it can be read; move the folder away, or name a new --output_dir"
                              % folder)
    return None


def full_name(checkpoint):
    """Returns PATH/NAME-STEP for a checkpoint, one of its files, its folder, or the run's folder.

    Raises:
      CheckpointError: there is no such checkpoint, or it can't be read.
    """
    path = named(checkpoint)
    found = (newest(path) or newest(run_folder.checkpoints_of(path))) if os.path.isdir(path) else None
    if not found:  # `newest` has already checked what it finds
        check_readable(path)
    return found or path


def named(checkpoint):
    """The path of a checkpoint, or of the folder where one is to be found.

    It is absolute, unless only so it would be a pattern to TensorFlow.
    """
    path = os.path.abspath(checkpoint)
    if flag_texts.is_pattern(path) and not flag_texts.is_pattern(checkpoint):
        path = os.path.relpath(path)
    if os.path.basename(path) == "checkpoint" and os.path.isfile(path):  # TensorFlow's list
        return os.path.dirname(path)
    return re.sub(r"\.(index|meta|data-[0-9]+-of-[0-9]+)$", "", path)


def best_step(folder):
    """Returns the step of the best checkpoint of the run in a folder; None where there is none."""
    whole, _ = find(run_folder.best_of(folder))
    return step_of(whole[-1]) if whole else None


def best(folder):
    """Returns the best checkpoint that validation found in the run in a folder.

    Raises:
      CheckpointError: there is none, or it can't be read.
    """
    whole, _ = find(run_folder.best_of(folder))
    if not whole:
        raise CheckpointError("%s: no checkpoint there; validation keeps the best one while a run trains, where "
                              "--data_dir has val/. Leave --checkpoint out to take the newest"
                              % run_folder.best_of(folder))
    check_readable(whole[-1])
    return whole[-1]


def is_named(checkpoint, asked):
    """Returns whether `asked` names a checkpoint (PATH/NAME-STEP or None) or a folder that contains it."""
    return bool(checkpoint) and (checkpoint + os.sep).startswith(named(asked) + os.sep)


def tidy(folder, newest, keep):
    """Removes interrupted saves, and all but the `keep` newest of the checkpoints up to `newest`.

    It lists the remaining checkpoints for TensorFlow's tools, unless `newest` is None.
    """
    for name in os.listdir(folder):
        if ".tempstate" in name or name.startswith("checkpoint.tmp") or (not newest and name == "checkpoint"):
            os.remove(os.path.join(folder, name))
        elif name.startswith("best.") and storage.is_left_over(os.path.join(folder, name)):
            shutil.rmtree(os.path.join(folder, name))
    if newest:
        paths = [path for path in find(folder)[0] if step_of(path) <= step_of(newest)
                 and os.path.basename(path) == "model.ckpt-%d" % step_of(path)]  # others are copies of the user's
        for path in paths[:-keep]:
            tf.train.remove_checkpoint(path)
        tf.train.update_checkpoint_state(folder, newest, paths[-keep:])


# ---------------------------------------------------------------------------------------------
# Contents of a checkpoint

# Names of the networks' weights. The middle part occurs in the widely used one-file TF1 program
# (affinelayer/pix2pix-tensorflow, 2017).
WEIGHT = re.compile(r"((?:generator|discriminator)/\w+)/((?:conv2d|conv2d_transpose|batch_normalization)/)?"
                    r"(kernel|bias|gamma|beta)")
AVERAGE = "/average"  # ends the name of a weight's moving average


@contextlib.contextmanager
def naming_bad_checkpoints(checkpoint):
    """Turns an error while reading a checkpoint into a CheckpointError that names the checkpoint."""
    try:
        yield
    except (tf.errors.OpError, ValueError, IndexError) as error:
        if not os.path.exists(checkpoint + ".index"):
            raise CheckpointError("%s: no checkpoint of this name; its files would be called %s.index and .data-..."
                                  % (checkpoint, os.path.basename(checkpoint)))
        raise CheckpointError("%s: not a checkpoint that can be read (%s)"
                              % (checkpoint, (str(error).strip().splitlines() or [type(error).__name__])[0]))


def check_readable(checkpoint):
    """Reads a whole checkpoint; raises CheckpointError if a file is missing or damaged."""
    with naming_bad_checkpoints(checkpoint):
        values = tf.train.load_checkpoint(checkpoint)
        for name in values.get_variable_to_shape_map():
            values.get_tensor(name)


def variables_in(checkpoint):
    """Returns {variable name in this program: (name in the checkpoint, shape, type)}.

    The result has no bias of a convolution before a normalisation, which old programs save and which has no effect.
    """
    with naming_bad_checkpoints(checkpoint):
        values = tf.train.load_checkpoint(checkpoint)
    types = values.get_variable_to_dtype_map()
    found = {}
    for name, shape in values.get_variable_to_shape_map().items():
        weight = WEIGHT.fullmatch(name)
        found[weight.expand(r"\1/\3") if weight else name] = (name, shape, types[name])
    idle = [name for name in found if name.endswith("/bias") and name[:-len("bias")] + "gamma" in found]
    return {name: value for name, value in found.items() if name not in idle}


def has_averages(checkpoint):
    """Returns whether a checkpoint holds a moving average of the weights of a network."""
    return any(name.endswith(AVERAGE) for name in variables_in(checkpoint))


def with_averages(found):
    """Returns a result of `variables_in` in which a network's averages, if it has any, take its weights' names."""
    networks = {name.split("/")[0] for name in found if name.endswith(AVERAGE)}
    kept = {name: value for name, value in found.items()
            if not (name.split("/")[0] in networks and WEIGHT.fullmatch(name))}
    return {(name[:-len(AVERAGE)] if name.endswith(AVERAGE) else name): value for name, value in kept.items()}


def shapes_of(found):
    """Returns {variable name in this program: shape} for a result of `variables_in`."""
    return {here: shape for here, (_, shape, _) in found.items()}


def is_foreign(found):
    """Returns whether a result of `variables_in` has the names of the one-file TF1 program."""
    return any(name != here for here, (name, _, _) in found.items())


def options_of(shapes):
    """Returns {flag: value} for the flags that follow from the shapes of the networks' weights, {name: shape}.

    The value of image_size is the smallest for a generator of this depth.
    """
    shapes = {name: shape for name, shape in shapes.items() if len(shape) == 4 or not name.endswith("/kernel")}
    options = {}
    levels = [re.fullmatch(r"generator/encoder_([0-9]+)/kernel", name) for name in shapes]
    depth = max([int(level.group(1)) for level in levels if level], default=0)
    if depth and "generator/decoder_1/kernel" in shapes and "generator/encoder_1/kernel" in shapes:
        _, _, options["input_channels"], options["ngf"] = shapes["generator/encoder_1/kernel"]
        size, _, options["output_channels"], _ = shapes["generator/decoder_1/kernel"]
        options["upsample"] = "transposed" if size == 4 else "resize"
        options["image_size"] = 2 ** depth
        options["bottleneck_norm"] = "generator/encoder_%d/gamma" % depth in shapes
        options["norm"] = "batch" if "generator/encoder_2/gamma" in shapes else "none"
    if "discriminator/layer_1/kernel" in shapes:
        options["ndf"] = shapes["discriminator/layer_1/kernel"][3]
    return options


def flags_of_old(checkpoint, names):
    """Returns and prints {flag: text} for the flags in `names` that a checkpoint of the one-file TF1 program sets."""
    found = variables_in(checkpoint)
    if not is_foreign(found):
        return {}
    options = dict(options_of(shapes_of(found)), skip="pre")
    texts = {name: str(options[name]) for name in sorted(names) if name in options}
    print("%s is of the one-file TF1 program: %s" % (checkpoint, " ".join("--%s=%s" % item for item in texts.items())))
    return texts


def check_checkpoint(checkpoint, variables, averaged=False):
    """Raises CheckpointError unless a checkpoint has these variables, with equal shapes, and no other weights.

    Weights of a network without a variable in `variables` may be missing or extra: an export has no discriminator.

    Args:
      checkpoint: the checkpoint.
      variables: the variables of the graph that are to be restored.
      averaged: whether the weights are to be the checkpoint's averages, of a network that has any.

    Returns:
      {name in the checkpoint: variable}, the argument of a Saver.
    """
    found = with_averages(variables_in(checkpoint)) if averaged else variables_in(checkpoint)
    shapes = shapes_of(found)
    wanted = {variable.op.name: variable.shape.as_list() for variable in variables}
    types = {variable.op.name: variable.dtype.base_dtype for variable in variables}
    networks = {name.split("/")[0] for name in wanted if WEIGHT.fullmatch(name)}
    wrong = ["%s is %s, the flags make it %s" % (found[name][0], shapes[name], shape)
             for name, shape in wanted.items() if name in shapes and shapes[name] != shape]
    wrong += ["%s is %s, not %s" % (found[name][0], found[name][2].name, types[name].name)
              for name in wanted if name in found and found[name][2] != types[name]]
    wrong += ["%s is missing" % name for name in wanted if name not in shapes]
    wrong += ["%s is not in the model" % found[name][0] for name in sorted(shapes)
              if WEIGHT.fullmatch(name) and name.split("/")[0] in networks and name not in wanted]
    if wrong:
        made = options_of(wanted)
        fitting = ["--%s=%s" % (name, value) for name, value in sorted(options_of(shapes).items())
                   if value != made.get(name, value)]
        raise CheckpointError("%s does not fit the model: %s%s. %s" % (
            checkpoint, "; ".join(wrong[:3]), "; and %d more" % (len(wrong) - 3) if wrong[3:] else "",
            "Its shapes are those of %s" % " ".join(fitting) if fitting else
            "If it is not damaged, --generator, --patch or --conditional may differ from those of its training"))
    return {found[variable.op.name][0]: variable for variable in variables}


def check_own(checkpoint, variables):
    """Raises CheckpointError unless a checkpoint of this run has the run's variables and the step in its name."""
    advice = "this run did not write it like this: move it out of %s, and the checkpoint before it is used" % (
        os.path.dirname(checkpoint))
    try:
        check_checkpoint(checkpoint, variables)
    except CheckpointError as error:
        raise CheckpointError("%s; %s" % (error, advice))
    step = tf.train.load_checkpoint(checkpoint).get_tensor("global_step")
    if step != step_of(checkpoint):
        raise CheckpointError("%s is of step %d; %s" % (checkpoint, step, advice))


def scaffold(checkpoint, weights, average, ready_for_local_init_op):
    """Returns the tf.train.Scaffold of a training session: its saver, and what gives a new run its first weights.

    This function checks the checkpoint of a run that goes on; the session restores it.

    Args:
      checkpoint: of the run, or None in a new run.
      weights: the checkpoint with whose weights a new run begins, or None for the initial values.
      average: tf.train.ExponentialMovingAverage of the generator's variables, which begins at these weights too; or
        None.
      ready_for_local_init_op: see tf.train.Scaffold; None is TensorFlow's own.

    Raises:
      CheckpointError: a checkpoint does not fit the networks.
    """
    saver = tf.train.Saver(max_to_keep=0, save_relative_paths=True)  # `tidy` removes old checkpoints
    init_fn = None
    if checkpoint:
        check_own(checkpoint, tf.global_variables())
    elif weights:
        restorer = tf.train.Saver(check_checkpoint(weights, tf.trainable_variables()))
        with tf.name_scope("generator_average/"):
            start = [average.average(v).assign(v) for v in tf.trainable_variables("generator/") if average]

        def init_fn(scaffold, session):
            restorer.restore(session, weights)
            session.run(start)

    return tf.train.Scaffold(saver=saver, init_fn=init_fn, ready_for_local_init_op=ready_for_local_init_op)


def restored_session(checkpoint, precision="float32", averaged=False):
    """Returns a session of the default graph with its variables restored; see `check_checkpoint`."""
    saver = tf.train.Saver(check_checkpoint(checkpoint, tf.global_variables(), averaged))
    session = tf.Session(config=precisions.session_config(precision))
    saver.restore(session, checkpoint)
    return session


def fingerprint(checkpoint):
    """Returns the sha256, in hex, of the bytes of all weights and their averages in the order of their names."""
    digest = hashlib.sha256()
    weights = {here: name for here, (name, _, _) in variables_in(checkpoint).items()
               if WEIGHT.fullmatch(here) or here.endswith(AVERAGE)}
    with naming_bad_checkpoints(checkpoint):
        values = tf.train.load_checkpoint(checkpoint)
        for _, name in sorted(weights.items()):
            digest.update(values.get_tensor(name))
    return digest.hexdigest()
