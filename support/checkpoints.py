"""Checkpoints: which there are, whether they can be read and fit a model, and what they hold.

A checkpoint is named by its path without the endings of its files, such as runs/pix2pix/checkpoints/model.ckpt-500.
Those of the widely used one-file TF1 program (affinelayer/pix2pix-tensorflow) are known by their variables' names.
"""

import contextlib
import hashlib
import os
import re

import tensorflow.compat.v1 as tf

from support import precisions, run_folder
from support.errors import CheckpointError


def find(folder):
    """Returns (paths of a folder's whole checkpoints, names of those that lack a file), each by step.

    The files count, not TensorFlow's list of them, which may be lost or name one that is.
    """
    names = set(os.listdir(folder)) if os.path.isdir(folder) else set()
    found = {match.group(1) for match in (re.fullmatch(r"(.+-[0-9]+)\.(index|data-00000-of-00001)", name)
                                          for name in names) if match}
    whole = {name for name in found if {name + ".index", name + ".data-00000-of-00001"} <= names}
    ordered = (sorted(part, key=step_of) for part in (whole, found - whole))
    return [[os.path.join(folder, name) for name in part] for part in ordered]


def step_of(checkpoint):
    """The step in a checkpoint's name, which ends in -STEP; 0 where it does not."""
    end = checkpoint.rsplit("-", 1)[-1]
    return int(end) if end.isdigit() else 0


def newest(folder):
    """Returns the newest checkpoint of a folder that can be read, or None; says which ones can't.

    One file without its other is what a kill leaves of the first save: that does not count.

    Raises:
      CheckpointError: there are checkpoints and none can be read.
    """
    whole, incomplete = find(folder)
    for path in incomplete:
        print("warning: %s: incomplete, not used (its .index or .data file is missing)" % path)
    for path in reversed(whole):
        try:
            check_readable(path)
            return path
        except CheckpointError as error:
            print("warning: %s; looking for the one before" % error)
    if whole or len(incomplete) > 1:
        raise CheckpointError("%s: no checkpoint in it can be read; move the folder away, or name a new --output_dir"
                              % folder)
    return None


def full_name(checkpoint):
    """Makes PATH/NAME-STEP of what people give: a file of it, its folder, or the run's folder.

    Raises:
      CheckpointError: it is not there, or can't be read.
    """
    path = named(checkpoint)
    found = (newest(path) or newest(run_folder.checkpoints_of(path))) if os.path.isdir(path) else None
    if not found:  # what newest finds, it has read
        check_readable(path)
    return found or path


def named(checkpoint):
    """The absolute path of a checkpoint, or of the folder where one is to be found."""
    path = os.path.abspath(checkpoint)
    if os.path.basename(path) == "checkpoint" and os.path.isfile(path):  # TensorFlow's list
        return os.path.dirname(path)
    return re.sub(r"\.(index|meta|data-[0-9]+-of-[0-9]+)$", "", path)


def is_named(checkpoint, asked):
    """Whether `asked` names a checkpoint, PATH/NAME-STEP or None, or a folder in which it lies."""
    return bool(checkpoint) and (checkpoint + os.sep).startswith(named(asked) + os.sep)


def tidy(folder, newest, keep):
    """Removes what a kill left of a checkpoint, and all but the `keep` newest up to `newest`.

    The others are listed for TensorFlow's tools. With None for `newest` there is no list.
    """
    for name in os.listdir(folder):
        if ".tempstate" in name or name.startswith("checkpoint.tmp") or (not newest and name == "checkpoint"):
            os.remove(os.path.join(folder, name))
    if newest:
        paths = [path for path in find(folder)[0] if step_of(path) <= step_of(newest)]
        for path in paths[:-keep]:
            tf.train.remove_checkpoint(path)
        tf.train.update_checkpoint_state(folder, newest, paths[-keep:])


# ---------------------------------------------------------------------------------------------
# What is in a checkpoint

# The networks' weights; the middle part is how the widely used one-file TF1 program names its layers' parts
# (affinelayer/pix2pix-tensorflow, 2017).
WEIGHT = re.compile(r"((?:generator|discriminator)/\w+)/((?:conv2d|conv2d_transpose|batch_normalization)/)?"
                    r"(kernel|bias|gamma|beta)")


@contextlib.contextmanager
def naming_bad_checkpoints(checkpoint):
    """Turns an error of reading a checkpoint into a CheckpointError that names it."""
    try:
        yield
    except (tf.errors.OpError, ValueError, IndexError) as error:
        if not os.path.exists(checkpoint + ".index"):
            raise CheckpointError("%s: no checkpoint of this name; its files would be called %s.index and .data-..."
                                  % (checkpoint, os.path.basename(checkpoint)))
        raise CheckpointError("%s: not a checkpoint that can be read (%s)"
                              % (checkpoint, (str(error).strip().splitlines() or [type(error).__name__])[0]))


def check_readable(checkpoint):
    """Reads all of a checkpoint; raises CheckpointError where a checksum or a file is not as it was written."""
    with naming_bad_checkpoints(checkpoint):
        values = tf.train.load_checkpoint(checkpoint)
        for name in values.get_variable_to_shape_map():
            values.get_tensor(name)


def variables_in(checkpoint):
    """Returns {name of a variable here: (its name in the checkpoint, its shape, its type)}.

    A convolution's bias under a normalisation, which old programs keep, has no effect and is left out.
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


def shapes_of(found):
    """Returns {name of a variable here: its shape} of what `variables_in` found."""
    return {here: shape for here, (_, shape, _) in found.items()}


def is_foreign(found):
    """Whether what `variables_in` found is the one-file TF1 program's, going by the names."""
    return any(name != here for here, (name, _, _) in found.items())


def options_of(shapes):
    """Returns {flag: value} as far as the shapes of the networks' weights, {name: shape}, tell.

    The value of image_size is the smallest that makes a generator so deep.
    """
    shapes = {name: shape for name, shape in shapes.items() if len(shape) == 4 or not name.endswith("/kernel")}
    options = {}
    levels = [re.fullmatch(r"generator/encoder_([0-9]+)/kernel", name) for name in shapes]
    depth = max([int(level.group(1)) for level in levels if level], default=0)
    if depth and "generator/decoder_1/kernel" in shapes and "generator/encoder_1/kernel" in shapes:
        _, _, options["input_channels"], options["ngf"] = shapes["generator/encoder_1/kernel"]
        options["output_channels"] = shapes["generator/decoder_1/kernel"][2]
        options["image_size"] = 2 ** depth
        options["bottleneck_norm"] = "generator/encoder_%d/gamma" % depth in shapes
        options["norm"] = "batch" if "generator/encoder_2/gamma" in shapes else "none"
    if "discriminator/layer_1/kernel" in shapes:
        options["ndf"] = shapes["discriminator/layer_1/kernel"][3]
    return options


def flags_of_old(checkpoint, names):
    """Returns, and prints, {flag: text} of those `names` that a checkpoint of the one-file TF1 program decides."""
    found = variables_in(checkpoint)
    if not is_foreign(found):
        return {}
    options = dict(options_of(shapes_of(found)), skip="pre")
    texts = {name: str(options[name]) for name in sorted(names) if name in options}
    print("%s is of the one-file TF1 program: %s" % (checkpoint, " ".join("--%s=%s" % item for item in texts.items())))
    return texts


def check_checkpoint(checkpoint, variables):
    """Raises CheckpointError unless a checkpoint holds these variables, in their shapes, and no other weights.

    Weights of a network of which there is no variable are not looked at: an export has no discriminator.

    Returns:
      {name in the checkpoint: variable}, as a Saver takes it.
    """
    found = variables_in(checkpoint)
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
            "If it is not damaged, --generator, --patch or --conditional may be other ones"))
    return {found[variable.op.name][0]: variable for variable in variables}


def check_own(checkpoint, variables):
    """Raises CheckpointError unless a checkpoint of the run at hand holds its variables, and the step of its name."""
    advice = "it is not as this run wrote it: move it out of %s, and the one before is used" % (
        os.path.dirname(checkpoint))
    try:
        check_checkpoint(checkpoint, variables)
    except CheckpointError as error:
        raise CheckpointError("%s; %s" % (error, advice))
    step = tf.train.load_checkpoint(checkpoint).get_tensor("global_step")
    if step != step_of(checkpoint):
        raise CheckpointError("%s is of step %d; %s" % (checkpoint, step, advice))


def restored_session(checkpoint, precision="float32"):
    """Returns a session with the default graph's variables from a checkpoint; raises as `check_checkpoint`."""
    saver = tf.train.Saver(check_checkpoint(checkpoint, tf.global_variables()))
    session = tf.Session(config=precisions.session_config(precision))
    saver.restore(session, checkpoint)
    return session


def fingerprint(checkpoint):
    """Returns the sha256 over a checkpoint's trainable variables, their bytes in name order."""
    digest = hashlib.sha256()
    weights = {here: name for here, (name, _, _) in variables_in(checkpoint).items() if WEIGHT.fullmatch(here)}
    with naming_bad_checkpoints(checkpoint):
        values = tf.train.load_checkpoint(checkpoint)
        for _, name in sorted(weights.items()):
            digest.update(values.get_tensor(name))
    return digest.hexdigest()
