"""Records as a flat table: one row a record, one column a field."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.io.text import did_you_mean
from harness.records.words import changes, widest_average
from wstal.errors import UserError

COLUMNS = ("id", "data", "method", "row", "overrides", "seed", "mean", "commit")


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted name (`recipe.train.epochs`); a list, or an object without members, is a value."""
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            flat |= flatten(inner, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = inner
    return flat


def view(record: dict[str, Any]) -> dict[str, Any]:
    """A record's fields by dotted name, and the short ones of `COLUMNS`.

    `row` is the options of an ablation's row, empty for the method itself; `mean` the headline's widest average in
    percent, None where no usual average applies.
    """
    ablation, averages = record["ablation"], record["metrics"][record["headline"]]["averages"]
    commit = record["environment"]["commit"]
    return flatten(record) | {
        "data": record["data"]["name"],
        "row": "" if ablation is None else changes(ablation["row"]),
        "overrides": changes(record["overrides"]) if record["overrides"] else "",
        "mean": averages[widest_average(averages)] if averages else None,
        "commit": commit and commit[:10],
    }


def select(
    records: Sequence[dict[str, Any]], where: Sequence[str] = (), fields: Sequence[str] = COLUMNS
) -> list[dict[str, Any]]:
    """The named fields of the records that pass every test, in the order given; None where a record lacks one.

    Args:
        records: as `list_records` gives them.
        where: tests, `FIELD=VALUE`.
        fields: of `view`.

    Raises:
        UserError: a test without `=`, or a field that no record has.
    """
    views = [view(record) for record in records]
    known = {name for one in views for name in one}
    tests: list[tuple[str, str]] = []
    for text in where:
        field, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--where takes FIELD=VALUE, got {text!r}.")
        tests.append((field, value))
    for name in (*fields, *(field for field, _ in tests)):
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
