"""Which records belong together: data identity, systems, averages over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from harness.io.encoding import canonical_json, sha256
from harness.records.schema import DESCRIPTIVE_FIELDS
from harness.records.words import changes, widest_average

Record = dict[str, Any]


def has_ablations(records: Sequence[Record]) -> bool:
    """Whether any of these records is of an ablation, not just of a method."""
    return any(record["ablation"] for record in records)


def comparable_groups(records: Sequence[Record]) -> dict[tuple[str, str, str], list[Record]]:
    """Records that may stand in one table, by the user's options, version and data.

    Where ablations have a schedule of their own, runs of the methods themselves are other experiments.
    """
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        data = sha256(canonical_json(record["data"]))[:8]
        key = (changes(record["overrides"]), record["environment"]["wstal-bench"], data)
        groups.setdefault(key, []).append(record)
    kept = {}
    for key, members in groups.items():
        ablations = [record for record in members if record["ablation"]]
        own_schedule = any(record["ablation"]["schedule"] for record in ablations)
        kept[key] = ablations if own_schedule else members
    return kept


def field_of(recipe: dict[str, Any], name: str) -> Any:
    """Return the value of a dotted option name, or None."""
    value: Any = recipe
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def average(record: Record) -> float:
    """The headline: mean mAP over the widest range under the data set's headline protocol, in percent."""
    averages = record["metrics"][record["headline"]]["averages"]
    return float(averages[widest_average(averages)])


def by_method(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The runs of one method, recipe and version together, by what tells them from the others, the best first."""
    groups: dict[bytes, list[Record]] = {}
    for record in records:
        version = record["environment"]["wstal-bench"]
        groups.setdefault(canonical_json([record["method"], record["recipe"], version]), []).append(record)
    versions = {record["environment"]["wstal-bench"] for record in records}
    labelled: dict[str, list[Record]] = {}
    for group in groups.values():
        first = group[0]
        said = [changes(first["overrides"])] if first["overrides"] else []
        said += [first["environment"]["wstal-bench"]] if len(versions) > 1 else []
        label = f"{first['title']} ({', '.join(said)})" if said else str(first["title"])
        # two recipes that say the same of themselves: a default changed within a version
        labelled[f"{label} ({first['digest'][:8]})" if label in labelled else label] = group
    return dict(sorted(labelled.items(), key=lambda item: -fmean(map(average, item[1]))))


def by_recipe(records: Sequence[Record], method: str) -> Iterator[list[Record]]:
    """The runs of a method by its own recipe, those of one data set, version and recipe together."""
    groups: dict[bytes, list[Record]] = {}
    for record in records:
        if record["method"] == method and record["ablation"] is None:
            version = record["environment"]["wstal-bench"]
            groups.setdefault(canonical_json([record["data"], record["recipe"], version]), []).append(record)
    yield from groups.values()


def system_names(records: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each record's method and recipe, the same for equal ones: its title and the options that were set."""
    keys = [canonical_json([record["method"], record["recipe"]]) for record in records]
    names: dict[bytes, str] = {}
    for key, record in zip(keys, records, strict=True):
        options = (record["ablation"] or {"row": {}})["row"] | record["overrides"]
        name = f"{record['title']}, {changes(options)}" if options else str(record["title"])
        if name in (name for other, name in names.items() if other != key):
            name = f"{name} ({record['id']})"
        names.setdefault(key, name)
    return [names[key] for key in keys]


def group_key(record: dict[str, Any]) -> bytes:
    """Return the key that records of one system share."""
    data = {name: value for name, value in record["data"].items() if name not in DESCRIPTIVE_FIELDS}
    return canonical_json([record["method"], record["recipe"], data, record["environment"]["wstal-bench"]])
