"""The line that shows how far training is: a progress bar on a terminal, else a line of output now and then.

Every field has a fixed width, so that nothing moves from step to step, and the fields stand in the order of their
importance: in a narrow terminal the last ones are left out.
"""

import os
import time

import tqdm

LEAST_BAR = 4  # columns
FIRST_LINE, NEXT_LINE = 10, 30  # seconds without a terminal until the first line is printed, and between two lines


def fixed(value, width):
    """Returns a positive number in `width` characters: with as many decimals as fit, or else with an exponent."""
    texts = ["%.*f" % (decimals, value) for decimals in range(width - 2, -1, -1)] + ["%.0e" % value]
    return next((text for text in texts if len(text) <= width), texts[-1]).rjust(width)


def duration(seconds):
    """Returns seconds in five characters: 42:10 is minutes and seconds, 3h05 is hours and minutes, 12d is days."""
    minutes, hours = seconds // 60, seconds // 3600
    if hours < 1:
        text = "%d:%02d" % (minutes, seconds % 60)
    else:
        text = "%dh%02d" % (hours, minutes % 60) if hours < 100 else "%dd" % (hours // 24)
    return text.rjust(5)


def fields(step, steps, losses, rate, seconds_left, validation=None):
    """Returns the texts of the line, the most important first.

    Args:
      step, steps: the step that ended, and the run's last step.
      losses: (d_loss, g_loss_gan, g_loss_l1).
      rate: images per second.
      seconds_left: until the run ends.
      validation: L1 of the last validation; NaN before the first one, None in a run that has none.
    """
    d_loss, gan, l1 = losses
    val = [] if validation is None else ["val %s" % (fixed(validation, 6) if validation == validation else "     -")]
    return ["step %*d/%d" % (len(str(steps)), step, steps), "L1 %s" % fixed(l1, 6), *val,
            "%s left" % duration(seconds_left), "%s images/s" % fixed(rate, 4), "GAN %s" % fixed(gan, 5),
            "D %s" % fixed(d_loss, 5)]


def bar_format(texts, columns):
    """Returns tqdm's bar_format of a line: the percentage, a bar that takes the room that is left, and some fields.

    Args:
      texts: see `fields`.
      columns: that the line may take; only as many fields are shown as leave the bar LEAST_BAR columns.
    """
    shown = texts[0]
    for text in texts[1:]:
        if len("100% || ") + LEAST_BAR + len(shown + "  " + text) > columns:
            break
        shown += "  " + text
    return "{percentage:3.0f}% |{bar}| " + shown


class ProgressLine:
    """Shows a run's progress on the terminal of the standard error, or in lines on the standard output without one.

    Attributes:
      validation: see `fields`; to be set whenever there is a new value.
    """

    def __init__(self, start, steps):
        """Takes the steps that were done before, and those of the whole run."""
        self.start, self.steps, self.begun, self.validation = start, steps, time.monotonic(), None
        self.seen, self.line_due = self.begun, self.begun + FIRST_LINE
        self.bar = tqdm.tqdm(total=steps, initial=start, disable=None, ncols=79, nrows=24,
                             bar_format="{percentage:3.0f}% |{bar}|")  # tqdm is silent on a terminal without a size

    def update(self, step, losses, rate):
        """Shows a step that has just ended; see `fields`. The time left counts all that was done since the start."""
        now = time.monotonic()
        left = (self.steps - step) * (now - self.begun) / (step - self.start)
        texts = fields(step, self.steps, losses, rate, left, self.validation)
        if not self.bar.disable:
            self.fit(texts)
            self.bar.update()
        elif now + (now - self.seen) >= self.line_due:  # the next step would end too late
            print("%3d%%  %s" % (100 * step // self.steps, "  ".join(texts)), flush=True)
            self.line_due = now + NEXT_LINE
        self.seen = now

    def fit(self, texts):
        """Makes the line as wide as the terminal is now, but for the last column, where some terminals wrap."""
        try:
            columns = os.get_terminal_size(self.bar.fp.fileno()).columns
        except OSError:  # the terminal was closed
            columns = 0
        columns = (columns or 80) - 1
        if self.bar.ncols != columns:
            self.bar.ncols = columns
            self.bar.sp = self.bar.status_printer(self.bar.fp)  # the old one pads a line to the width of the one before
        self.bar.bar_format = bar_format(texts, columns)

    def write(self, message):
        """Prints a message above the bar."""
        self.bar.write(message)

    def close(self):
        self.bar.close()
