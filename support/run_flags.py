"""Flags and what a run says of them: the text of --help, values taken from a run, and what differs from a run.

absl's FlagValues are an argument everywhere. Nothing here imports TensorFlow, so that --help is fast.
"""

import collections
import os
import re
import textwrap

from absl import flags

from support.errors import FlagError


def size_of(text):
    """Returns (height, width) of N or HEIGHT,WIDTH; raises ValueError for any other text."""
    sides = [int(side) for side in text.split(",")]
    if len(sides) > 2:
        raise ValueError(text)
    return sides[0], sides[-1]


def is_size(text, multiple):
    """Whether a text is N or HEIGHT,WIDTH, with sides that are multiples of a number."""
    try:
        return all(side > 0 and side % multiple == 0 for side in size_of(text))
    except ValueError:
        return False


def is_pattern(path):
    """Whether TensorFlow takes a path for a pattern when it finds or removes checkpoints; there is no escape for that.

    It is not one where a bracket has no partner, and where Windows separates folders with backslashes.
    """
    return bool(re.search(r"[*?]|\[.*\]", path, re.DOTALL)) or ("\\" in path and os.sep != "\\")


def is_url(path):
    """Whether TensorFlow takes a path for a URL, such as gs://bucket, where Python sees a folder called gs:."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path))


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
    for name in filter(texts.get, flag_values):  # the order of definition, in which each value fits those before it
        value = parsed(flag_values, name, texts[name], source)
        flag = flag_values[name]
        if name in fixed and not flag.using_default_value and flag.value != value:
            raise FlagError("--%s is %s here and %s in %s; leave the flag out" % (name, flag.value, value, source))
        try:
            flag_values.set_default(name, texts[name])
        except flags.IllegalFlagValueError as error:
            raise FlagError("%s; --%s=%s comes from %s" % (error, name, value, source))


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
