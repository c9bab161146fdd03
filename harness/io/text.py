"""Text for people: names that can be printed, complaints, near misses."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from wstal.errors import UserError

if TYPE_CHECKING:
    from pydantic import ValidationError


LONGEST_NAME = 1_000  # characters


# what would break a message's line, or the terminal; half of a surrogate pair, which UTF-8 cannot encode
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str, longest: int = 200) -> str:
    """Text from a file as a line of a message can hold it: control characters escaped, cut."""
    text = text if len(text) <= longest else text[: longest - 3] + "..."
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def check_text(text: str, what: str) -> None:
    r"""Refuse a name that no line or terminal can hold: control characters, half of a surrogate pair (`"\ud800"`).

    Raises:
        UserError: it has one, or is very long; the message starts with `what`.
    """
    if len(text) > LONGEST_NAME:
        raise UserError(f"{what}: {printable(text, 60)!r} is longer than {LONGEST_NAME:,} characters. Correct it.")
    if match := UNPRINTABLE.search(text):
        fault = "is not text that UTF-8 can encode" if "\ud800" <= match[0] <= "\udfff" else "has control characters"
        raise UserError(f"{what}: '{printable(text)}' {fault}. Correct it.")


def problems(error: ValidationError) -> str:
    """Fields of a file and what is wrong with each; the first three say enough."""
    return "; ".join(
        f"`{field(item['loc'])}`: {problem(item['msg'])}"
        for item in error.errors(include_url=False, include_input=False)[:3]
    )


def problem(message: str) -> str:
    """What pydantic says of a value, in the words of TOML and JSON, which have lists where the models have tuples."""
    return printable(message.removeprefix("Value error, ").replace("a valid tuple", "a list"))


def field(location: Sequence[int | str]) -> str:
    """A field's dotted name."""
    return printable(".".join(map(str, location))) or "file"


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Named = TypeVar("Named", bound=_HasId)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word nearest to `word`, else a full stop."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def by_id(rows: Sequence[Named], name: str, table: str) -> Named:
    """The row with this id.

    Raises:
        UserError: no such row.
    """
    for row in rows:
        if row.id == name:
            return row
    ids = [row.id for row in rows]
    raise UserError(f"Unknown row {name!r} of {table}{did_you_mean(name, ids)} Rows: {', '.join(ids)}.")
