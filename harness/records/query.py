"""Records as a flat table: one row a record, one column a field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.io.text import did_you_mean
from harness.records.grouping import average
from harness.records.schema import Record
from harness.records.words import changes
from wstal.errors import UserError


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return values by dotted name (`recipe.train.epochs`); a list, or an object without members, is a value."""
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            flat |= flatten(inner, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = inner
    return flat


SHORT: dict[str, Callable[[Record], Any]] = {
    "id": lambda record: record.id,
    "data": lambda record: record.data.name,
    "method": lambda record: record.method,
    "row": lambda record: changes(record.row_options) if record.ablation else "",
    "overrides": lambda record: changes(record.overrides) if record.overrides else "",
    "seed": lambda record: record.seed,
    "mean": lambda record: average(record) if record.evaluated and record.scored.averages else None,
    "commit": lambda record: record.environment.commit and record.environment.commit[:10],
}
COLUMNS = tuple(SHORT)


def _short(record: Record) -> dict[str, Any]:
    return {name: value(record) for name, value in SHORT.items()}


def select(
    records: Sequence[Record], where: Sequence[str] = (), fields: Sequence[str] = COLUMNS
) -> list[dict[str, Any]]:
    """Return the named fields of the records that pass every test, in the order given; None where a record lacks one.

    Args:
        records: as `list_records` gives them.
        where: tests, `FIELD=VALUE`.
        fields: by dotted name, or of `COLUMNS`: there `row` is the options of an ablation's row, empty for the method
            itself, and `mean` the headline's widest average in percent, None where no usual average applies
            or the run was not evaluated.

    Raises:
        UserError: a test without `=`, or a field that no record has.
    """
    if wrong := [text for text in where if "=" not in text]:
        raise UserError(f"--where takes FIELD=VALUE, got {wrong[0]!r}.")
    tests = [text.split("=", 1) for text in where]
    named = dict.fromkeys([*fields, *(field for field, _ in tests)])
    short_only = SHORT.keys() >= named.keys()  # for speed
    views = [({} if short_only else flatten(record.to_json())) | _short(record) for record in records]
    known = {name for one in views for name in one}
    for name in named:
        if records and name not in known:
            raise UserError(
                f"No record has the field {name!r}{did_you_mean(name, sorted(known))} Fields are those of a record, "
                f"dotted (recipe.train.epochs), and {', '.join(COLUMNS)}."
            )
    return [
        {name: one.get(name) for name in fields}
        for one in views
        if all(field in one and _is(one[field], value) for field, value in tests)
    ]


def _is(value: Any, text: str) -> bool:
    if value == text:
        return True
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return False
    # 1 == True for Python, not for a person
    return bool(value == parsed) and isinstance(value, bool) == isinstance(parsed, bool)
