"""Differences between two runs that should agree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.io.text import did_you_mean
from harness.records.files import DETECTIONS, LINES, RECORD
from harness.records.query import flatten
from harness.records.reading import list_records, parse_record, read_record, record_contents
from harness.records.schema import Record, data_identity
from harness.records.store import Store
from wstal.errors import UserError

ABSENT = "absent"
Pairs = dict[str, tuple[Any, Any]]

# what of the environment may explain other bits; the first that differs is named
CAUSES = {
    "threads": "different thread count: bits depend on it",
    "device": "different device: its kernels sum in another order",
    "cpu": "different processor: kernels are chosen by it",
    "packages": "different package versions",
    "python": "different Python",
    "method": "the method's class comes from elsewhere",
    "commit": "different code: compare the two commits",
    "system": "different system",
}


@dataclass(frozen=True)
class MetricDifference:
    """The numbers of two runs under one protocol, where they differ; second less first, in mAP points.

    Args:
        protocol: its name.
        mean_ap: the difference of mAP that is largest in size, None where the two share no tIoU.
        tiou: where that is.
        ap: the largest of a class under the headline protocol, None where the two share none.
        label: that class.
        label_tiou: where that is.
        note: what else differs: counts, tIoUs or classes of one run only, the whole protocol.
    """

    protocol: str
    mean_ap: float | None = None
    tiou: str | None = None
    ap: float | None = None
    label: str | None = None
    label_tiou: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Diff:
    """Two runs side by side. Every part holds only what differs, as (first, second) by dotted field.

    Args:
        identity: what decides the numbers: method, seed, data, recipe, headline, tIoUs, version.
        environment: what decides their bits.
        metrics: protocols whose numbers differ.
        training: last losses and diagnostics, number of parameters.
        artefacts: digests of the runs' files, in the order in which a run writes them.
    """

    identity: Pairs
    environment: Pairs
    metrics: list[MetricDifference]
    training: Pairs
    artefacts: Pairs

    @property
    def agree(self) -> bool:
        """True where all that decides the numbers, and every number and file of both runs, are equal.

        A loss term or file that one run never had is no disagreement.
        """
        apart = any(ABSENT not in pair for pair in (self.training | self.artefacts).values())
        return not (self.identity or self.metrics or apart)

    @property
    def cause(self) -> str:
        """Likely reason in one line; empty where the runs agree."""
        if self.agree:
            return ""
        if self.identity:
            return f"these are two runs, not one run twice: they differ in {_named(self.identity)}"
        if self.metrics and DETECTIONS not in self.artefacts:
            return "the detections are equal and the numbers are not: another evaluator, or other annotations"
        first = next((name for name, pair in self.artefacts.items() if ABSENT not in pair), None)
        place = f"; {first} differs first" if first else ""
        for name, words in CAUSES.items():
            if members := {key: pair for key, pair in self.environment.items() if key.split(".")[0] == name}:
                return f"{words} ({_named(members)}){place}"
        return (
            "nothing on record explains it: look for uncommitted changes (`code` in manifest.json) or an operation "
            f"that is not deterministic{place}"
        )

    @property
    def verdict(self) -> str:
        """One line for a reader: agreement with what one run alone has, or the cause of a difference."""
        if not self.agree:
            return f"differ: {self.cause}"
        alone = self.training | self.artefacts
        sides = {"A": [name for name in alone if alone[name][1] == ABSENT],
                 "B": [name for name in alone if alone[name][0] == ABSENT]}  # fmt: skip
        only = [f"only {side} has {', '.join(names)}" for side, names in sides.items() if names]
        if not only:
            return "agree: all numbers and files are equal"
        return f"agree: every number and file that both have is equal; {'; '.join(only)}"

    def to_json(self) -> dict[str, Any]:
        """Return the differences as JSON values."""
        return asdict(self) | {"agree": self.agree, "cause": self.cause, "verdict": self.verdict}


def diff(first: Record, second: Record) -> Diff:
    """Return the differences of two records.

    Args:
        first: side A.
        second: side B.
    """
    return Diff(
        identity=_pairs(_identity(first), _identity(second)),
        environment=_pairs(_environment(first), _environment(second)),
        metrics=list(_metric_differences(_numbers(first), _numbers(second))),
        training=_pairs(_training(first), _training(second)),
        artefacts=_pairs(first.artefacts, second.artefacts),
    )


def find_records(names: tuple[str, str], results: Path, store: Store) -> list[tuple[Path, Record]]:
    """Find two records by name: a file, a run's folder, or an id in `results/records`, else in the store.

    In a file of several records it is the one whose id the other name has, or gives.

    Args:
        names: of the two records.
        results: results folder, for ids.
        store: for ids.

    Returns:
        Place and record of each.

    Raises:
        UserError: a name is none of these, or its record is damaged.
    """
    found = [None if name.endswith(LINES) else _find(name, results, store) for name in names]
    for number, name in enumerate(names):
        if found[number] is None:
            other = found[1 - number]
            found[number] = _line(Path(name), other[1].id if other else None)
    return [one for one in found if one]


def _line(file: Path, run: str | None) -> tuple[Path, Record]:
    """Return the only record of a JSON-lines file, or the one with an id."""
    lines = list(record_contents(file))
    records = [(place, parse_record(content, place)) for place, content in lines]
    chosen = [one for one in records if one[1].id == run] or records
    if len(chosen) != 1:
        without = f", none of them {run}" if run else ""
        raise UserError(
            f"{file} holds {len(records)} records{without}. Give the id of one: `wstal-bench records query` lists them."
        )
    return chosen[0]


def _find(name: str, results: Path, store: Store) -> tuple[Path, Record]:
    path = Path(name)
    for file in (path, path / RECORD):
        if os.path.isfile(file):
            return file, read_record(file)
    collection = results / "records"
    for file in collection.glob(f"*/*{LINES}"):
        if name.startswith(f"{file.parent.name}-{file.stem}-s"):  # how ids begin: other files need no reading
            for place, content in record_contents(file):
                if name.encode() in content and (record := parse_record(content, place)).id == name:
                    return place, record
    if os.path.isfile(file := store.record_file(name)):
        return file, read_record(file)
    known = [record.id for record in list_records(collection)[0]] + [run.name for run in store.finished()]
    raise UserError(
        f"{name!r} is no record file, no folder with {RECORD}, and no run in {collection} or "
        f"{store.runs}{did_you_mean(name, known)} `wstal-bench records query` lists them."
    )


def _identity(record: Record) -> dict[str, Any]:
    return {
        "method": record.method,
        "seed": record.seed,
        "data": data_identity(record.data.to_json()),
        "recipe": record.recipe.to_json(),
        "headline": record.headline,
        "tious": list(record.scored.mean_ap),
        "wstal-bench": record.version,
    }


def _environment(record: Record) -> dict[str, Any]:
    return {name: value for name, value in record.environment.to_json().items() if name != "wstal-bench"}


def _training(record: Record) -> dict[str, Any]:
    return {name: value for name, value in record.training.to_json().items() if name != "weights_of"}


def _pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> Pairs:
    one, other = flatten(first), flatten(second)
    both = {name: (one.get(name, ABSENT), other.get(name, ABSENT)) for name in one | other}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def _numbers(record: Record) -> dict[str, dict[str, Any]]:
    """Return the numbers of each protocol, with AP by class under the headline."""
    numbers = {name: one.to_json() for name, one in record.metrics.items()}
    numbers[record.headline]["per_class"] = record.ap_by_class()
    return numbers


def _metric_differences(
    first: dict[str, dict[str, Any]], second: dict[str, dict[str, Any]]
) -> Iterator[MetricDifference]:
    for protocol in first | second:
        if protocol not in first or protocol not in second:
            yield MetricDifference(protocol, note=f"only in the {'first' if protocol in first else 'second'} run")
        elif differing := _pairs(first[protocol], second[protocol]):
            one, other = first[protocol], second[protocol]
            move, tiou = _largest({t: other["mAP"][t] - v for t, v in one["mAP"].items() if t in other["mAP"]})
            other_classes = other.get("per_class", {})
            moves = {
                (label, t): other_classes[label][t] - value
                for label, values in one.get("per_class", {}).items()
                for t, value in values.items()
                if t in other_classes.get(label, {})
            }
            ap, worst = _largest(moves)
            label, label_tiou = worst or (None, None)
            notes = [
                f"{name} {before} | {after}"
                for name, (before, after) in differing.items()
                if ABSENT in (before, after) or "." not in name
            ]
            yield MetricDifference(protocol, move, tiou, ap, label, label_tiou, ", ".join(notes))


def _largest(moves: dict[Any, float]) -> tuple[float | None, Any]:
    if not moves:
        return None, None
    key = max(moves, key=lambda key: abs(moves[key]))
    return moves[key], key


def _named(pairs: Pairs) -> str:
    names = list(pairs)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
