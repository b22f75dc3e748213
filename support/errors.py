"""What can be wrong that a user can mend. The program prints the message of such an error as its last line.

A message names the file, the folder or the flag, and says what to do. Nothing here imports TensorFlow.
"""


class UserError(Exception):
    """The base of them all."""


class FlagError(UserError):
    """A flag has a value that it can't have."""


class RunError(UserError):
    """The run can't start or go on."""


class DataError(UserError):
    """The data can't be used."""


class CheckpointError(UserError):
    """A checkpoint can't be used."""


class WorkerError(UserError):
    """The workers of a run can't go on together; the message names what is wrong, lost or different."""
