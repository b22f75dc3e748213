"""From the flags that were given, and what a run or a checkpoint says of them, to the values in force.

Nothing here imports TensorFlow, so that --help is fast; absl's FlagValues are an argument.
"""

import collections
import textwrap
import types

from absl import flags

from support.errors import FlagError

# May a continued run change the flag? WITH_DECAY: not where the learning rate decays.
FREE, SAME, WITH_DECAY = "free", "same", "with decay"
# What do test and export take where the flag is not given? Its OWN default; what the RUN had; or FIXED: what the run
# had, and a given value has to be equal, because the flag makes the network what it is.
OWN, RUN, FIXED = "own", "run", "fixed"

Rule = collections.namedtuple("Rule", "on_continue on_restore from_old")
Rule.__new__.__defaults__ = (False,)
Rule.__doc__ = """What becomes of a flag in a run that is there: see the constants above.

from_old says whether a checkpoint of the one-file TF1 program decides the flag, by its variables' names and shapes.
"""


def size_of(text):
    """Returns (height, width) of N or H,W; raises ValueError where it is neither."""
    sides = [int(side) for side in text.split(",")]
    if len(sides) > 2:
        raise ValueError(text)
    return sides[0], sides[-1]


def is_size(text, multiple):
    """Whether a text is N or H,W, in multiples of a number."""
    try:
        return all(side > 0 and side % multiple == 0 for side in size_of(text))
    except ValueError:
        return False


def grouped_help(text, groups, flag_values):
    """Returns the text of --help: every flag under its group, of {title: names}."""
    lines = [text]
    for title, names in groups.items():
        lines.append("%s\n" % title)
        for name in names:
            flag = flag_values[name]
            kinds = "|".join(getattr(flag.parser, "enum_values", ())) or flag.flag_type()
            default = "" if flag.default is None else ", default %s" % flag.default_unparsed
            lines.append("  --%s (%s%s)" % (name, kinds, default))
            about = flag.help.split(">: ", 1)[-1]  # absl puts an enum's values before its help
            lines.append(textwrap.fill(about, 94, initial_indent=" " * 6, subsequent_indent=" " * 6))
        lines.append("")
    return "\n".join(lines)


def in_force(rules, flag_values, given, *sources):
    """Returns {name: value}: of each flag what was given, else what the first source says, else its default.

    Args:
      rules: {name: Rule} of all flags.
      flag_values: absl's FlagValues, for their parsers, defaults and validators.
      given: {name: value}.
      sources: pairs (name of the source, {name: text of the flag's value}), the strongest first.

    Raises:
      FlagError: a given flag whose rule is FIXED differs from a source; a source's text is not a value of the flag; or
        the values do not go together.
    """
    values = {}
    for name, rule in rules.items():
        found = [(source, parsed(flag_values, name, texts[name], source)) for source, texts in sources if name in texts]
        for source, value in found:
            if name in given and rule.on_restore == FIXED and given[name] != value:
                raise FlagError("--%s is %s here and %s in %s; leave the flag out" % (name, given[name], value, source))
        values[name] = given.get(name, found[0][1] if found else flag_values[name].default)
    holders = {name: types.SimpleNamespace(value=value) for name, value in values.items()}
    validators = {validator for name in rules for validator in flag_values[name].validators}
    for validator in sorted(validators, key=lambda each: len(each.get_flags_names())):  # those of one flag first
        try:
            validator.verify(holders)
        except flags.ValidationError as error:
            those = " ".join("--%s=%s" % (name, values[name]) for name in validator.get_flags_names())
            raise FlagError("%s: %s%s" % (those, error, "".join(", as %s has it" % name for name, _ in sources[-1:])))
    return values


def parsed(flag_values, name, text, source):
    """Returns the value of a flag's text; raises FlagError, which names the source, where it is not one."""
    try:
        return flag_values[name].parser.parse(text)
    except ValueError as error:
        raise FlagError("%s: its --%s would be %s, which this program does not have (%s)" % (source, name, text, error))


def of_the_run(rules, values):
    """Returns those of {name: value} that decide the bits of a run, and that all its parts must have in common."""
    return {name: values[name] for name, rule in rules.items()
            if rule.on_continue == SAME or (rule.on_continue == WITH_DECAY and values["decay_epochs"])}


def differences(rules, flag_values, values, before, source):
    """Returns a sentence for each flag whose value decides the bits of a run and is another than before.

    Args:
      rules, flag_values: as in `in_force`.
      values: {name: value} now.
      before: {name: text} of the run; a flag that is younger than the run had its default.
      source: the file that `before` is from.
    """
    found = []
    for name, here in of_the_run(rules, values).items():
        there = flag_values[name].default
        if name in before:
            there = parsed(flag_values, name, before[name], source)
        if here != there:
            found.append("--%s is %s here and %s in the run" % (
                name, *("not set" if value is None else value for value in (here, there))))
    return found
