"""Grouping of records: systems whose seeds are averaged, and records that may stand in one table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from harness.io.encoding import canonical_json, sha256
from harness.io.text import grouped
from harness.records.schema import Data, Record, data_identity
from harness.records.words import changes, option_words, widest_average
from wstal.types import Supervision

# order of tables: references above, and those that are given counts after the weak methods, which are ranked alone
SUPERVISIONS: tuple[Supervision, ...] = ("full", "weak", "weak+count")


class SystemKey(NamedTuple):
    """The one rule for which records average over seeds: those with equal keys.

    Args:
        data: digest of the data's description without its descriptive fields.
        method: registered name.
        recipe: digest of the resolved options.
        version: of wstal-bench.
    """

    data: str
    method: str
    recipe: str
    version: str

    @classmethod
    def of(cls, record: Record) -> SystemKey:
        """Return the key of a record."""
        recipe = sha256(canonical_json(record.recipe.to_json()))
        return cls(data_digest(record.data), record.method, recipe, record.version)


def data_digest(data: Data) -> str:
    """Return the SHA-256 of a data description without the fields that decide no number."""
    return sha256(canonical_json(data_identity(data.to_json())))


def systems(records: Iterable[Record]) -> dict[SystemKey, list[Record]]:
    """Group records by their system, in order of appearance."""
    return grouped(records, SystemKey.of)


def by_data(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Group records by eight digits of their data's digest, in order of appearance."""
    return grouped(records, lambda record: data_digest(record.data)[:8])


def has_ablations(records: Sequence[Record]) -> bool:
    """Return whether any of these records is of an ablation, not just of a method."""
    return any(record.ablation for record in records)


def comparable_groups(records: Sequence[Record]) -> dict[tuple[str, str, str], list[Record]]:
    """Group records that may stand in one table by the user's options, version and eight digits of the data's digest.

    Groups of the newest version come first. Where a method's ablations have a schedule of their own, runs of the method
    itself are other experiments.
    """
    newest_first = sorted(records, key=lambda record: version_number(record.version), reverse=True)
    groups = grouped(newest_first, lambda one: (changes(one.overrides), one.version, data_digest(one.data)[:8]))
    for key, members in groups.items():
        apart = {record.method for record in members if record.ablation and record.ablation.schedule}
        groups[key] = [record for record in members if record.ablation or record.method not in apart]
    return groups


def version_number(version: str) -> tuple[int, ...]:
    """Return a version of wstal-bench as numbers that order it, 0 for a part that is none."""
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))


def average(record: Record) -> float:
    """Return the headline: mean mAP over the widest range under the data set's headline protocol, in percent."""
    averages = record.scored.averages
    return averages[widest_average(averages)]


def by_method(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Group the records of one data set by their system, each under a label that tells it from the others, best first.

    Fully supervised methods stand above all others as references, and those that are given counts after them: weak
    methods are ranked by themselves. A label is the method's title with the options of an ablation's row and the
    user's, and the version where there are several.
    """
    versions = {record.version for record in records}
    labelled: dict[str, list[Record]] = {}
    for group in systems(records).values():
        first = group[0]
        options = first.row_options | first.overrides
        marks = option_words(options)
        marks += [first.version] if len(versions) > 1 else []
        label = f"{first.title} ({', '.join(marks)})" if marks else first.title
        # two recipes with one label: a default changed within a version
        labelled[f"{label} ({first.digest[:8]})" if label in labelled else label] = group
    return dict(sorted(labelled.items(), key=_rank))


def _rank(item: tuple[str, list[Record]]) -> tuple[int, float]:
    """Return the sort key of a system: by supervision, then the best first."""
    records = item[1]
    return SUPERVISIONS.index(records[0].supervision), -fmean(map(average, records))


def system_names(records: Sequence[Record]) -> dict[SystemKey, str]:
    """Name the systems of runs: title, the options that were set, and the version where there are several.

    A name that an earlier system has is followed by the id of the first run.
    """
    versions = {record.version for record in records}
    names: dict[SystemKey, str] = {}
    for key, (first, *_) in systems(records).items():
        options = first.row_options | first.overrides
        name = f"{first.title}, {changes(options)}" if options else first.title
        if len(versions) > 1:
            name = f"{name} ({first.version})"
        names[key] = f"{name} ({first.id})" if name in names.values() else name
    return names
