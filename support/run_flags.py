"""Flags and runs: the text of --help, the values that are taken from a run, and what may differ from a run.

absl's FlagValues are an argument everywhere, since only train.py defines and reads flags.
"""

import collections
import os
import sys
import textwrap
import typing

from absl import flags

from support import checkpoints, pair_files, precisions, run_folder
from support.errors import FlagError, RunError


class Rules(typing.NamedTuple):
    """What each flag means for an existing run; the fields are sets of flag names.

    A continued run must repeat the value of a flag that is in no set; test and export then use the value on the
    command line. A changed --data_dir must hold the same pairs, and --precision=auto takes the run's precision.
    """

    flag_values: flags.FlagValues
    free: set  # a continued run may change them, and --epochs unless --decay_epochs is set; all others decide its bits
    restored: set  # test and export take them from the run unless they are given
    networks: set  # test and export take them from the run and refuse another value
    in_old_checkpoint: set  # the checkpoint of a one-file TF1 program decides them
    # A continued run takes them from its start unless they are given, because their "auto" was decided there or their
    # default has changed since.
    decided: set
    unkept: set  # flags.txt leaves them out, since they are not about the run
    older: dict  # {name: value in runs that are older than the flag}, if that is not the flag's default

    @property
    def with_weights(self):
        """The flags that --init_checkpoint takes from a run; the image size decides the generator's depth."""
        return self.networks | {"image_size"}


def grouped_help(text, module_flags, titles):
    """Returns the text of --help.

    Args:
      text: stands at the top.
      module_flags: absl's Flags in the order of their definition.
      titles: {name of the first flag of a group: title of the group}.
    """
    lines = [text]
    for flag in module_flags:
        if flag.name in titles:
            lines.append("%s\n" % titles[flag.name])
        kinds = "|".join(getattr(flag.parser, "enum_values", ())) or flag.flag_type()
        default = "" if flag.default is None else ", default %s" % flag.default_unparsed
        lines.append("  --%s (%s%s)" % (flag.name, kinds, default))
        about = flag.help.split(">: ", 1)[-1]  # absl puts an enum's values before its help
        lines.append(textwrap.fill(about, 94, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(lines) + "\n"


def parse(flag_values, argv, help_text):
    """Sets the flags and returns what is left of argv; ends the program after --help and at a wrong flag.

    Args:
      flag_values: absl's FlagValues.
      argv: the command line.
      help_text: function that returns the text of --help.
    """
    if {"-h", "-help", "--help", "--helpshort", "--helpfull"} & set(argv[1:]):
        print(help_text())
        sys.exit()
    try:
        return flag_values(argv)
    except flags.Error as error:
        sys.exit("error: %s\npython train.py --help lists all flags" % str(error).replace("ERROR:: ", ""))


def take(flag_values, texts, source, fixed=()):
    """Makes the values that a run or a checkpoint holds the defaults of the flags; a given flag keeps its value.

    Args:
      flag_values: absl's FlagValues.
      texts: {name: text of the value}.
      source: the name of the run or the checkpoint, for error messages.
      fixed: names of flags that must not be given another value.

    Raises:
      FlagError: a fixed flag was given another value; or a text is no value of its flag, alone or beside the others.
    """
    unfit = []
    for name in filter(texts.get, flag_values):  # absl sets a value before it checks it
        value = parsed(flag_values, name, texts[name], source)
        flag = flag_values[name]
        if name in fixed and not flag.using_default_value and flag.value != value:
            raise FlagError("--%s is %s here and %s in %s; leave the flag out" % (name, flag.value, value, source))
        try:
            flag_values.set_default(name, texts[name])
        except flags.IllegalFlagValueError:  # until the values after it are there too, or for good
            unfit.append("--%s=%s" % (name, value))
    try:
        flag_values.validate_all_flags()
    except flags.IllegalFlagValueError as error:
        raise FlagError("%s; %s has %s" % (error, source, " ".join(unfit)))


def parsed(flag_values, name, text, source):
    """Returns the value of a flag's text; raises FlagError, which names the source, for any other text."""
    try:
        return flag_values[name].parser.parse(text)
    except ValueError as error:
        raise FlagError("%s: its --%s would be %s, which this program does not have (%s)" % (source, name, text, error))


def differences(flag_values, options, before, source):
    """Returns {name: sentence} of the options that have other values than the run.

    Args:
      flag_values: absl's FlagValues, for their parsers.
      options: {name: (value now, value in a run that is older than the flag)}.
      before: {name: text} of the run's flags.txt.
      source: the path of that file.
    """
    found = collections.OrderedDict()
    for name, (here, there) in options.items():
        if name in before:
            there = parsed(flag_values, name, before[name], source)
        if here != there:
            found[name] = "--%s is %s here and %s in the run" % (
                name, *("not set" if value is None else value for value in (here, there)))
    return found


# ---------------------------------------------------------------------------------------------
# The flags of a run that is there


def check_for_training(given):
    """Raises FlagError where one of the FlagValues is for another mode."""
    if given.checkpoint:
        raise FlagError("--checkpoint is for test and export; to train from the weights of a checkpoint, use "
                        "--init_checkpoint; to continue a run, name its folder with --output_dir")
    if given.layout == "inputs":
        raise FlagError("--layout=inputs is for test mode; training needs targets")


def to_train(rules):
    """Takes the flags that a run has from its --init_checkpoint, at its start or when it continues from a checkpoint.

    Returns:
      (the newest checkpoint of the run, the --init_checkpoint in force), as PATH/NAME-STEP each, or None.
    """
    given = rules.flag_values
    checkpoint = checkpoints.newest(run_folder.checkpoints_of(given.output_dir))
    if not checkpoint and checkpoints.best_step(given.output_dir) is not None:
        raise RunError("%s: only the best checkpoint of a run is there, and a new run would replace it; name a new "
                       "--output_dir, where --init_checkpoint=%s trains on from it" % (
                           run_folder.checkpoints_of(given.output_dir), run_folder.best_of(given.output_dir)))
    if checkpoint:
        before = run_folder.read_flags(given.output_dir)
        weights = before.get("init_checkpoint")
        decided = {name: before[name] for name in rules.with_weights if weights and name in before}
        decided.update((name, before.get(name, str(rules.older[name]))) for name in rules.decided)
        take(rules.flag_values, decided, "the run in %s" % given.output_dir, fixed=rules.networks)
        if given.init_checkpoint and not checkpoints.is_named(weights, given.init_checkpoint):
            weights = given.init_checkpoint  # `check_same_run` refuses it
    elif given.init_checkpoint:
        weights = checkpoints.full_name(given.init_checkpoint)
        take_networks(rules, run_folder.run_of(weights))
        take(given, checkpoints.flags_of_old(weights, rules.in_old_checkpoint), weights, fixed=rules.networks)
    else:
        weights = None
    return checkpoint, weights


def take_networks(rules, folder):
    """Takes the flags of the networks from the run in a folder, where there is one, and prints them."""
    before = run_folder.read_flags(folder)
    decided = collections.OrderedDict((name, before[name]) for name in rules.flag_values
                                      if name in rules.with_weights and name in before)
    taken = " ".join("--%s=%s" % item for item in decided.items() if rules.flag_values[item[0]].using_default_value)
    take(rules.flag_values, decided, "the run in %s" % folder, fixed=rules.networks)
    if decided:
        print("starting from weights of the run in %s, with the flags of its networks: %s" % (folder, taken))


def to_restore(rules):
    """Takes the flags of the run to test or export, and returns the checkpoint.

    The run is the one that holds --checkpoint, if it is named, else the one in --output_dir.
    """
    given = rules.flag_values
    checkpoint = None
    if given.checkpoint:
        is_best = given.checkpoint == "best"
        checkpoint = checkpoints.best(given.output_dir) if is_best else checkpoints.full_name(given.checkpoint)
    folder = run_folder.run_of(checkpoint) if checkpoint else given.output_dir
    before = run_folder.read_flags(folder)
    if given.init_checkpoint not in (None, before.get("init_checkpoint")):
        raise RunError("--init_checkpoint is for training; test and export take --checkpoint")
    checkpoint = checkpoint or checkpoints.newest(run_folder.checkpoints_of(folder))
    if not checkpoint:
        raise RunError("%s: no checkpoint in %s; train first, or name a run with --output_dir or a checkpoint with "
                       "--checkpoint" % (folder, run_folder.checkpoints_of(folder)))
    of_the_run = {name: before[name] for name in rules.restored | rules.networks if name in before}
    if given.mode == "export":  # takes dropout from the command line alone
        of_the_run["test_dropout"] = "false"
    if before:
        of_the_run["output_dir"] = folder
    learned = before.get("direction", given.direction)
    if given.mode == "test" and not rules.flag_values["direction"].using_default_value and given.direction != learned:
        print("warning: --direction=%s differs from the direction of the run in %s, which is %s" % (
            given.direction, folder, learned))
    take(rules.flag_values, of_the_run, "the run in %s" % folder, fixed=rules.networks)
    take(given, checkpoints.flags_of_old(checkpoint, rules.in_old_checkpoint), checkpoint, fixed=rules.networks)
    return checkpoint


def choices(rules, options, usual, folder, checkpoint):
    """Returns {flag: value}, for `results.folder_name`, of the options that change a result of test mode.

    Args:
      rules: the Rules.
      options: the options in force.
      usual: the options of a test of the run without any flag.
      folder: the folder of the pairs.
      checkpoint: the checkpoint that is tested.
    """
    found = collections.OrderedDict()
    if os.path.abspath(usual.data_dir) not in (os.path.abspath(folder), os.path.dirname(os.path.abspath(folder))):
        found["data_dir"] = folder
    name = "model.ckpt-%d" % checkpoints.step_of(checkpoint)
    own = [os.path.abspath(os.path.join(place(options.output_dir), name))
           for place in (run_folder.checkpoints_of, run_folder.best_of)]
    if os.path.abspath(checkpoint) not in own:
        found["checkpoint"] = checkpoint
    deciding = rules.restored | rules.networks | {"test_resize", "test_ema", "precision"}
    deciding -= {"data_dir", "load_size", "reader_threads", "show_bands"}
    found.update((name, value) for name, value in options._asdict().items()
                 if name in deciding and value != getattr(usual, name))
    return found


def that_must_agree(rules, options):
    """Returns {name: (value, value in runs older than the flag)} of the flags that decide the bits of a run."""
    free = rules.free if options.decay_epochs else rules.free | {"epochs"}
    return collections.OrderedDict((name, (value, rules.older.get(name, rules.flag_values[name].default)))
                                   for name, value in options._asdict().items() if name not in free)


def check_same_run(rules, options, pairs, record):
    """Raises RunError where the run in the folder was started with other flags, pairs, precision or workers.

    Args:
      rules: the Rules.
      options: the options in force now; their folder holds the run.
      pairs: the Pairs to train on.
      record: see `run_folder.describe`; of now.

    Returns:
      The precision that the run continues with.
    """
    folder = options.output_dir
    before, old = run_folder.read_flags(folder), run_folder.read_record(folder)
    if not before or not old:
        raise RunError("%s holds checkpoints, but its flags.txt or run.json is missing or damaged; put it back, or "
                       "name a new --output_dir" % folder)
    path = os.path.join(folder, "flags.txt")
    if options.precision == "auto":
        record = dict(record, precision=old["precision"])
    differing = differences(rules.flag_values, that_must_agree(rules, options), before, path)
    clash = [name for name in rules.with_weights & set(differing) if not rules.flag_values[name].using_default_value]
    now, kept = pair_files.listing(pairs), run_folder.read_pairs(folder)
    if run_folder.is_repaired(old, now, kept):
        record = dict(record, pairs_sha256=old["pairs_sha256"])
    differing.update(run_folder.differences(record, old, pair_files.first_change(now, kept)))
    if differing:
        raise RunError("%s holds another run: %s. %s" % (folder, "; ".join(differing.values()), run_folder.ways_out(
            folder, differing, fits=not clash)))
    lacks = precisions.lacks(old["precision"])
    if lacks:
        raise RunError("--precision of the run in %s is %s, which needs %s; continue it there, or start from its "
                       "weights with --init_checkpoint in a new --output_dir" % (folder, old["precision"], lacks))
    if old.get("device", record["device"]) != record["device"]:
        print("the run was last on another device (%s; this is %s), so the bits of the next steps may differ from "
              "those that it would have there" % (old["device"], record["device"]))
    return old["precision"]
