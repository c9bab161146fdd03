"""What differs between two runs that should agree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.io.text import did_you_mean
from harness.records.matches import DETECTIONS
from harness.records.query import flatten
from harness.records.reading import record_files
from harness.records.schema import DESCRIPTIVE_FIELDS, RECORD
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
class Gap:
    """The numbers of two runs under one protocol, where they differ; second less first, in mAP points.

    Args:
        protocol: its name.
        mean_ap: the difference of mAP that is largest in size, None where the two share no tIoU.
        tiou: where that is.
        ap: the largest of a class, None where the two share none.
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
    metrics: list[Gap]
    training: Pairs
    artefacts: Pairs

    @property
    def agree(self) -> bool:
        """Whether what decides the numbers, and every number and file that both have, are equal.

        A loss term or file that one run never had is no disagreement.
        """
        apart = any(ABSENT not in pair for pair in (self.training | self.artefacts).values())
        return not (self.identity or self.metrics or apart)

    @property
    def cause(self) -> str:
        """The likely reason in one line; empty where the runs agree."""
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
        """What a reader is told: agreement, and what one run alone has, or the cause of a difference."""
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
        """As JSON values."""
        return asdict(self) | {"agree": self.agree, "cause": self.cause, "verdict": self.verdict}


def diff(first: dict[str, Any], second: dict[str, Any]) -> Diff:
    """What differs between two records of today's schema."""
    return Diff(
        identity=_pairs(_identity(first), _identity(second)),
        environment=_pairs(_environment(first), _environment(second)),
        metrics=_gaps(first["metrics"], second["metrics"]),
        training=_pairs(_training(first), _training(second)),
        artefacts=_pairs(first["artefacts"], second["artefacts"]),
    )


def find_record(name: str, results: Path, store: Path) -> Path:
    """The record file that a name means: a file, a run's folder, or an id in `results/records`, else in the store.

    Raises:
        UserError: none of these.
    """
    path = Path(name)
    if os.path.isfile(path):
        return path
    if os.path.isfile(path / RECORD):
        return path / RECORD
    known = {file.parent.name: file for file in (store / "runs").glob(f"*/{RECORD}")}
    if os.path.isdir(results / "records"):
        known |= {file.stem: file for file in record_files(results / "records")}
    if name not in known:
        raise UserError(
            f"{name!r} is no record file, no folder with {RECORD}, and no run in {results / 'records'} or "
            f"{store / 'runs'}{did_you_mean(name, known)} `wstal-bench records query` lists them."
        )
    return known[name]


def _identity(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": record["method"],
        "seed": record["seed"],
        "data": {name: value for name, value in record["data"].items() if name not in DESCRIPTIVE_FIELDS},
        "recipe": record["recipe"],
        "headline": record["headline"],
        "tious": list(record["metrics"][record["headline"]]["mAP"]),
        "wstal-bench": record["environment"]["wstal-bench"],
    }


def _environment(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record["environment"].items() if name != "wstal-bench"}


def _training(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record["training"].items() if name != "weights_of"}


def _pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> Pairs:
    one, other = flatten(first), flatten(second)
    both = {name: (one.get(name, ABSENT), other.get(name, ABSENT)) for name in one | other}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def _gaps(first: dict[str, Any], second: dict[str, Any]) -> list[Gap]:
    gaps = []
    for protocol in first | second:
        if protocol not in first or protocol not in second:
            gaps.append(Gap(protocol, note=f"only in the {'first' if protocol in first else 'second'} run"))
        elif differing := _pairs(first[protocol], second[protocol]):
            one, other = first[protocol], second[protocol]
            move, tiou = _largest({t: other["mAP"][t] - v for t, v in one["mAP"].items() if t in other["mAP"]})
            moves = {
                (label, t): other["per_class"][label][t] - value
                for label, values in one["per_class"].items()
                for t, value in values.items()
                if t in other["per_class"].get(label, {})
            }
            ap, worst = _largest(moves)
            label, label_tiou = worst or (None, None)
            notes = [
                f"{name} {before} | {after}"
                for name, (before, after) in differing.items()
                if ABSENT in (before, after) or "." not in name
            ]
            gaps.append(Gap(protocol, move, tiou, ap, label, label_tiou, ", ".join(notes)))
    return gaps


def _largest(moves: dict[Any, float]) -> tuple[float | None, Any]:
    if not moves:
        return None, None
    key = max(moves, key=lambda key: abs(moves[key]))
    return moves[key], key


def _named(pairs: Pairs) -> str:
    names = list(pairs)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
