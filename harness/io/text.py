"""Text for people: printable names, wording of validation errors, suggestions of similar names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from wstal.errors import UserError

if TYPE_CHECKING:
    from pydantic import ValidationError

LONGEST_NAME = 1_000  # characters
# characters that would break a line or the terminal, and halves of surrogate pairs, which UTF-8 cannot encode
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str, longest: int = 200) -> str:
    """Make text from a file fit into one line of a message: control characters escaped, the end cut off.

    Args:
        text: the text.
        longest: most characters, those of the escapes not counted.
    """
    text = text if len(text) <= longest else text[: longest - 3] + "..."
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def check_text(text: str, what: str) -> None:
    r"""Refuse a name with control characters, half of a surrogate pair (`"\ud800"`) or too many characters.

    Args:
        text: the name.
        what: start of the error message, as `FILE: label`.

    Raises:
        UserError: it is such a name.
    """
    if len(text) > LONGEST_NAME:
        raise UserError(f"{what}: {printable(text, 60)!r} is longer than {LONGEST_NAME:,} characters. Correct it.")
    if match := UNPRINTABLE.search(text):
        fault = "is not text that UTF-8 can encode" if "\ud800" <= match[0] <= "\udfff" else "has control characters"
        raise UserError(f"{what}: '{printable(text)}' {fault}. Correct it.")


def problems(error: ValidationError) -> str:
    """Describe the first three errors of a validation, each with its field."""
    return "; ".join(
        f"`{field(item['loc'])}`: {problem(item['msg'])}"
        for item in error.errors(include_url=False, include_input=False)[:3]
    )


def problem(message: str) -> str:
    """Word a message of pydantic for readers of TOML and JSON, which have lists where the models have tuples."""
    return printable(message.removeprefix("Value error, ").replace("a valid tuple", "a list"))


def field(location: Sequence[int | str]) -> str:
    """Return a field's dotted name."""
    return printable(".".join(map(str, location))) or "file"


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Named = TypeVar("Named", bound=_HasId)
Item = TypeVar("Item")
Key = TypeVar("Key")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the most similar known word, or a full stop if none is similar.

    Args:
        word: what was given.
        known: the valid words.
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Group items by their key, both in order of appearance.

    Args:
        items: the items.
        key: returns the key of an item.
    """
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def by_id(rows: Sequence[Named], name: str, table: str) -> Named:
    """Return the row with this id.

    Args:
        rows: objects with ids.
        name: the wanted id.
        table: name of the table that the rows belong to, for the message.

    Raises:
        UserError: no row has this id.
    """
    for row in rows:
        if row.id == name:
            return row
    ids = [row.id for row in rows]
    raise UserError(f"Unknown row {name!r} of {table}{did_you_mean(name, ids)} Rows: {', '.join(ids)}.")
