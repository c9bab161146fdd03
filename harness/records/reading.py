"""Read stored records and check them."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.io.reading import read_json
from harness.io.text import did_you_mean, printable, problem
from harness.records.grouping import group_key
from harness.records.schema import RECORD, SCHEMA, Record, migrate
from harness.registry import method_entries
from wstal.errors import UserError
from wstal.evaluation.result import AVERAGES

REMEDY = "Restore the file, or remove it and run again."


def read_record(path: Path, methods: Collection[str] | None = None) -> dict[str, Any]:
    """A run's record, as it was stored, brought to today's schema.

    Args:
        path: the file.
        methods: names of the installed methods (default: looked up, which takes longer than to read the record).

    Raises:
        UserError: no record, one of a newer schema, of a method that is not installed, or with an impossible value.
    """
    stored = read_json(path)
    schema = stored.get("schema") if isinstance(stored, dict) else None
    if type(schema) is not int or schema < 1:
        raise UserError(f"{path} is not a run's record: it has no schema number. {REMEDY}")
    if schema > SCHEMA:
        raise UserError(
            f"{path} is of schema {schema}, written by a newer wstal-bench: update it. This one reads up to {SCHEMA}."
        )
    method, known = stored.get("method"), method_entries() if methods is None else methods
    if isinstance(method, str) and method not in known:
        raise UserError(
            f"{path}: method: '{printable(method)}' is not registered{did_you_mean(method, known)} "
            "Install the package that registers it, or remove the file."
        )
    record = migrate(stored)
    try:
        Record.model_validate(record)
    except ValidationError as error:
        raise UserError(f"{path}: {_first(error)}. {REMEDY}") from error
    return record


def _first(error: ValidationError) -> str:
    """Field, value and complaint of the first error, and how many more there are."""
    first = error.errors(include_url=False)[0]
    place = printable(".".join(map(str, first["loc"]))) or "the whole"
    value = first["input"]
    shown = "" if isinstance(value, (dict, list)) else f" is {printable(repr(value))}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}{shown}: {problem(first['msg'])}{more}"


def record_files(path: Path) -> list[Path]:
    """The file itself; of a folder, its `record.json` files (a run, a store), else all JSON files (`records/`)."""
    if os.path.isdir(path):
        return sorted(path.glob(f"**/{RECORD}")) or sorted(path.glob("**/*.json"))
    return [path]


def list_records(folder: Path) -> tuple[list[dict[str, Any]], list[tuple[Path, str]]]:
    """All records below a folder, by data set, method and id, and the files that are refused.

    Returns:
        The good records, and (path, message) of each file that is no record, is of a newer schema or an unknown
        method, holds an impossible value, or holds a run that another file holds.
    """
    found, refused = _read_all(folder)
    return _sorted(found), refused


def load_records(folder: Path) -> tuple[list[dict[str, Any]], list[tuple[Path, str]]]:
    """As `list_records`, for pages: what cannot be ranked, or not beside the first file of its group, is refused too.

    A group is the runs of one method and recipe on one data set by one version, which a page averages over seeds.

    Returns:
        The good records, and (path, message) of each file that `list_records` refuses, that has no usual average, that
        holds a seed of its group again, or whose protocols or tIoUs are others than those of its group's first file.
    """
    found, refused = _read_all(folder)
    kept: dict[Path, dict[str, Any]] = {}
    groups: dict[bytes, dict[int, Path]] = {}
    for path, record in found.items():
        seeds = groups.setdefault(group_key(record), {})
        first = next(iter(seeds.values()), None)
        if not record["metrics"][record["headline"]]["averages"]:
            why = f"{without_average(record)}, by which methods are ranked. Leave it out of the results."
        elif record["seed"] in seeds:
            other = seeds[record["seed"]]
            why = f"seed {record['seed']} of the same method, recipe, data and version is in {other}. Remove one."
        elif first and _scored(record) != _scored(kept[first]):
            why = f"its protocols or tIoUs are not those of {first}, another seed of the same system. Run one again."
        else:
            kept[path] = record
            seeds[record["seed"]] = path
            continue
        refused.append((path, f"{path}: {why}"))
    return _sorted(kept), sorted(refused)


def without_average(record: dict[str, Any]) -> str:
    """What a record lacks whose headline has no usual average, for a message."""
    tious = ", ".join(record["metrics"][record["headline"]]["mAP"])
    return f"it has none of the usual averages {', '.join(AVERAGES)} over its tIoUs {tious}"


def _read_all(folder: Path) -> tuple[dict[Path, dict[str, Any]], list[tuple[Path, str]]]:
    """Each run's record by path, in the order of paths, and (path, message) of each file that is refused."""
    paths: dict[str, Path] = {}
    found: dict[Path, dict[str, Any]] = {}
    refused: list[tuple[Path, str]] = []
    methods = method_entries()
    for path in record_files(folder) if os.path.exists(folder) else []:
        try:
            record = read_record(path, methods)
            if (other := paths.setdefault(record["id"], path)) != path:
                raise UserError(f"{path}: run {record['id']} is stored twice, also in {other}. Remove one.")
            found[path] = record
        except UserError as error:
            refused.append((path, str(error)))
    return found, refused


def _sorted(found: dict[Path, dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found.values(), key=lambda record: (record["data"]["name"], record["method"], record["id"]))


def _scored(record: dict[str, Any]) -> tuple[str, dict[str, tuple[set[str], set[str]]]]:
    """The headline, and the tIoUs and averages of each protocol."""
    scored = {name: (set(one["mAP"]), set(one["averages"])) for name, one in record["metrics"].items()}
    return record["headline"], scored
