"""Errors that are the user's to mend: one message each (what, where, remedy) and an exit code."""


class UserError(Exception):
    """A mistake in input or usage. The command line prints the message alone, without traceback."""

    exit_code = 2


class MissingDataError(UserError):
    """Files that a data set lists are not there."""

    exit_code = 3


class StoreError(UserError):
    """The store cannot be read or written."""

    exit_code = 4


class RunError(UserError):
    """A run could not be brought to its end."""

    exit_code = 4
