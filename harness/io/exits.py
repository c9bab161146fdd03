"""Exit codes: turn the errors that a person can mend, and the signals that end the program, into one line on stderr."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable

from harness.io.interrupts import received
from wstal.errors import RunError, UserError

LONGEST = 3000  # characters of an error message
SIGNAL_CODE = 128  # plus the signal's number, as shells count


def exit_code(work: Callable[[], int]) -> int:
    """Do some work and return the process's exit code.

    Args:
        work: returns the exit code where it ends without an error.
    """
    try:
        return work()
    except (Exception, KeyboardInterrupt) as error:
        if (end := _end(error)) is None:
            raise
        code, message = end
        print(message, file=sys.stderr)
        return code


def _end(error: BaseException) -> tuple[int, str] | None:
    """Return the exit code and the message for an error, None for one that is the program's own."""
    # a library may have turned the interruption into another error, as modules do while they are imported
    if (number := received()) is not None or isinstance(error, KeyboardInterrupt):
        number = signal.SIGINT if number is None else number
        what = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        return SIGNAL_CODE + number, f"{what}; finished epochs are kept, the same command goes on from there"
    if isinstance(error, UserError):
        return error.exit_code, f"error: {_shortened(str(error))}"
    # PyTorch raises RuntimeError where Python and NumPy raise MemoryError
    out = isinstance(error, RuntimeError) and re.search(r"(allocate|out of) memory", str(error))
    if isinstance(error, MemoryError) or out:
        advice = "Lower train.batch_size, train.temporal_length or what --set made large."
        return RunError.exit_code, f"error: out of memory. {advice}"
    return None


def _shortened(message: str) -> str:
    """Return a message whose middle is cut out where it is long: it may repeat what was given."""
    return message if len(message) <= LONGEST else f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
