"""Errors that the user can fix. Each has one message (what is wrong, where, how to fix it) and an exit code."""


class UserError(Exception):
    """Error in input or usage. The command line prints the message without a traceback."""

    exit_code = 2


class MissingDataError(UserError):
    """Error for files that a data set lists but that do not exist."""

    exit_code = 3


class StoreError(UserError):
    """Error for a store that cannot be read or written."""

    exit_code = 4


class RunError(UserError):
    """Error for a run that could not finish."""

    exit_code = 4
