"""Differences between two runs that should agree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.io.text import did_you_mean
from harness.records.files import DETECTIONS, RECORD
from harness.records.query import flatten
from harness.records.reading import read_all, record_files
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
        only = [
            f"; only {side} has {', '.join(names)}"
            for side, other in (("A", 1), ("B", 0))
            if (names := [name for name, pair in alone.items() if pair[other] == ABSENT])
        ]
        if not only:
            return "agree: all numbers and files are equal"
        return f"agree: every number and file that both have is equal{''.join(only)}"

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
    pairs = {name: differing_fields(one[name], other[name]) for name in one}
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
    found = [_candidates(name, results, store) for name in names]
    ids = [members[0][1].id for members in found if len(members) == 1]
    chosen = [[one for one in members if one[1].id in ids] or members for members in found]
    for name, members in zip(names, chosen, strict=True):
        if len(members) != 1:
            without = f", none of them {ids[0]}" if ids else ""
            raise UserError(
                f"{name} holds {len(members)} records{without}. Give the id of one: `wstal-bench records query` lists "
                "them."
            )
    return [one for (one,) in chosen]


def _candidates(name: str, results: Path, store: Store) -> list[tuple[Path, Record]]:
    """Return the records that a name may stand for: all of a file, or the first with an id."""
    path, collection, in_store = Path(name), results / "records", store.record_file(name)
    named = [file for file in (path, path / RECORD) if os.path.isfile(file)][:1]
    found: list[tuple[Path, Record]] = []
    for place, content, record in read_all(named or [*record_files(collection), in_store]):
        if isinstance(record, Record):
            found.append((place, record))
        elif named or name.encode() in content:
            raise record
    if not named:
        known = [record.id for _, record in found] + [run.name for run in store.finished()]
        found = [one for one in found if one[1].id == name or one[0] == in_store][:1]
        if not found:
            raise UserError(
                f"{name!r} is no record file, no folder with {RECORD}, and no run in {collection} or "
                f"{store.runs}{did_you_mean(name, known)} `wstal-bench records query` lists them."
            )
    return found


def _parts(record: Record) -> dict[str, dict[str, Any]]:
    """Return what `Diff` compares of a record besides its metrics."""
    stated = record.to_json()
    del stated["training"]["weights_of"]
    identity = {name: stated[name] for name in ("method", "seed", "data", "recipe", "headline")}
    identity["data"] = data_identity(stated["data"])
    identity["tious"] = list(record.scored.mean_ap) if record.evaluated else []
    identity["wstal-bench"] = stated["environment"].pop("wstal-bench")
    return {"identity": identity} | {name: stated[name] for name in ("environment", "training", "artefacts")}


def differing_fields(first: Mapping[str, Any], second: Mapping[str, Any]) -> Pairs:
    """Return what differs between two nested objects, as (first, second) by dotted field.

    Args:
        first: one object.
        second: the other; `ABSENT` stands for a field that only one has.
    """
    one, other = flatten(first), flatten(second)
    both = {name: (one.get(name, ABSENT), other.get(name, ABSENT)) for name in one | other}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def _numbers(record: Record) -> dict[str, dict[str, Any]]:
    """Return the numbers of each protocol, with AP by class under the headline."""
    numbers = {name: one.to_json() for name, one in record.metrics.items()}
    if record.evaluated:
        numbers[record.headline]["per_class"] = record.ap_by_class()
    return numbers


def _metric_differences(
    first: dict[str, dict[str, Any]], second: dict[str, dict[str, Any]]
) -> Iterator[MetricDifference]:
    for protocol in first | second:
        if protocol not in first or protocol not in second:
            yield MetricDifference(protocol, note=f"only in the {'first' if protocol in first else 'second'} run")
        elif differing := differing_fields(first[protocol], second[protocol]):
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
