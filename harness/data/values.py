"""Numbers, times and names in the JSON files of data sets: the one place that decides what is one."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from harness.io.text import check_text, printable
from wstal.errors import UserError

LONGEST = 1e7  # seconds (116 days) of a video, so that row counts fit an integer
FARTHEST = 1e12  # largest time in any unit, so that lengths and their sums stay finite
_DECIMAL = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")


def number(value: Any) -> float | None:
    """Return the finite number that a JSON value is, or that its text states as a decimal, else None.

    The released evaluator applies `float` to times and scores, and circulating files have them in quotes.

    >>> number(3), number("10.5"), number("nan"), number(True)
    (3.0, 10.5, None, None)
    """
    if type(value) is str and _DECIMAL.fullmatch(value):
        value = float(value)
    return float(value) if type(value) in (int, float) and abs(value) <= sys.float_info.max else None


def remark_on_text(path: Path) -> str:
    """Return the remark on a file with numbers in quotes."""
    return f"{path}: times or scores are text, not numbers; they were read as the numbers that they state."


def seconds(value: Any, expected: str) -> float | None:
    """Return a video's duration from a JSON value, None where it is not stated.

    Args:
        value: the number or its text, or None.
        expected: start of the error message, as `expected ``duration`` `.

    Raises:
        UserError: it is no number above 0 and below `LONGEST`.
    """
    found = number(value)
    if value is not None and not (found is not None and 0 < found < LONGEST):
        raise UserError(f"{expected} to be seconds, above 0 and below {LONGEST:.0e}, got {shown(value)}. Correct it.")
    return found


def name_text(value: Any, what: str) -> str:
    """Return a JSON value that is a name, text that is not empty and fits one line.

    Args:
        value: the JSON value.
        what: start of the error message.

    Raises:
        UserError: it is no such text.
    """
    expect(isinstance(value, str) and value != "", f"{what}: expected a name", value)
    check_text(value, what)
    return str(value)


def label_text(value: Any, what: str) -> str:
    """Return a JSON value that is a class name, or a whole number as the name of a class.

    Args:
        value: the JSON value.
        what: start of the error message.

    Raises:
        UserError: it is neither.
    """
    return name_text(str(value) if type(value) is int else value, what)


def expect(holds: bool, expected: str, value: Any) -> None:
    """Refuse a value unless the expectation holds.

    Args:
        holds: whether it does.
        expected: start of the error message.
        value: the JSON value, for the message.

    Raises:
        UserError: it does not hold.
    """
    if not holds:
        raise UserError(f"{expected}, got {shown(value)}.")


def shown(value: Any, longest: int = 60) -> str:
    """Shorten a JSON value for messages. An absent field reads as None and is shown as nothing.

    Args:
        value: the value, in which objects that JSON does not have are shown as dots.
        longest: most characters.
    """
    as_json = json.dumps(value, ensure_ascii=False, default=lambda value: "...")
    return "nothing" if value is None else printable(as_json, longest)
