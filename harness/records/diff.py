"""Differences between two runs that should agree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.io.text import did_you_mean
from harness.records.files import DETECTIONS, LINES, RECORD
from harness.records.query import flatten
from harness.records.reading import read_all, read_record, record_files
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
    one, other = _parts(first), _parts(second)
    pairs = {name: _pairs(one[name], other[name]) for name in one}
    return Diff(metrics=list(_metric_differences(_numbers(first), _numbers(second))), **pairs)


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
    found = {name: _find(name, results, store) for name in names if not name.endswith(LINES)}
    for name in names:
        if name not in found:
            found[name] = _line(Path(name), [record.id for _, record in found.values()])
    return [found[name] for name in names]


def _line(file: Path, ids: Sequence[str]) -> tuple[Path, Record]:
    """Return the only record of a JSON-lines file, or the one with one of these ids."""
    records: list[tuple[Path, Record]] = []
    for place, _, record in read_all([file]):
        if isinstance(record, UserError):
            raise record
        records.append((place, record))
    chosen = [one for one in records if one[1].id in ids] or records
    if len(chosen) != 1:
        without = f", none of them {ids[0]}" if ids else ""
        raise UserError(
            f"{file} holds {len(records)} records{without}. Give the id of one: `wstal-bench records query` lists them."
        )
    return chosen[0]


def _find(name: str, results: Path, store: Store) -> tuple[Path, Record]:
    for file in (Path(name), Path(name, RECORD)):
        if os.path.isfile(file):
            return file, read_record(file)
    collection = results / "records"
    known = [run.name for run in store.finished()]
    for place, content, record in read_all(record_files(collection)):
        if isinstance(record, Record):
            if record.id == name:
                return place, record
            known.append(record.id)
        elif name.encode() in content:
            raise record
    if os.path.isfile(file := store.record_file(name)):
        return file, read_record(file)
    raise UserError(
        f"{name!r} is no record file, no folder with {RECORD}, and no run in {collection} or "
        f"{store.runs}{did_you_mean(name, known)} `wstal-bench records query` lists them."
    )


def _parts(record: Record) -> dict[str, dict[str, Any]]:
    """Return what `Diff` compares of a record besides its metrics."""
    stated = record.to_json()
    del stated["training"]["weights_of"]
    identity = {name: stated[name] for name in ("method", "seed", "data", "recipe", "headline")}
    identity["data"] = data_identity(stated["data"])
    identity["tious"] = list(record.scored.mean_ap)
    identity["wstal-bench"] = stated["environment"].pop("wstal-bench")
    return {"identity": identity} | {name: stated[name] for name in ("environment", "training", "artefacts")}


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
            both = first[protocol], second[protocol]
            move, tiou = _largest_move(*(one["mAP"] for one in both))
            ap, worst = _largest_move(*map(_class_cells, both))
            label, label_tiou = worst or (None, None)
            notes = [
                f"{name} {before} | {after}"
                for name, (before, after) in differing.items()
                if ABSENT in (before, after) or "." not in name
            ]
            yield MetricDifference(protocol, move, tiou, ap, label, label_tiou, ", ".join(notes))


def _class_cells(numbers: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Return AP by class and tIoU; none under protocols that are not the headline."""
    by_class = numbers.get("per_class", {})
    return {(label, tiou): value for label, row in by_class.items() for tiou, value in row.items()}


def _largest_move(first: Mapping[Any, float], second: Mapping[Any, float]) -> tuple[float | None, Any]:
    """Return the difference that is largest in size, with its key; None where the two share no key."""
    moves = {key: second[key] - value for key, value in first.items() if key in second}
    key = max(moves, key=lambda key: abs(moves[key]), default=None)
    return moves.get(key), key


def _named(pairs: Pairs) -> str:
    names = list(pairs)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
