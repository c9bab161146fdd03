"""Exit codes: turn the errors that a person can mend into one line on stderr."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

from wstal.errors import RunError, UserError

LONGEST = 3000  # characters of an error message


def exit_code(work: Callable[[], int]) -> int:
    """Do some work and return the process's exit code.

    Args:
        work: returns the exit code where it ends without an error.
    """
    try:
        return work()
    except UserError as error:
        print(f"error: {_shortened(str(error))}", file=sys.stderr)
        return error.exit_code
    except (MemoryError, RuntimeError) as error:
        # PyTorch raises RuntimeError where Python and NumPy raise MemoryError
        if isinstance(error, RuntimeError) and not re.search(r"(allocate|out of) memory", str(error)):
            raise
        remedy = "Lower train.batch_size, train.temporal_length or what --set made large."
        print(f"error: out of memory. {remedy}", file=sys.stderr)
        return RunError.exit_code
    except KeyboardInterrupt:
        print("interrupted; finished epochs are kept, the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader (head, less) has what it wanted; keep the interpreter's flush at exit quiet too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _shortened(message: str) -> str:
    """Return a message whose middle is cut out where it is long: it may repeat what was given."""
    return message if len(message) <= LONGEST else f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
