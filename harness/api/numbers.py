"""Evaluation, diagnosis and stored results, from Python."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd

from harness.api.runs import Name, Run, path_of
from harness.data.annotations import Annotations, read_annotations
from harness.data.detections import read_detections
from harness.data.tables import annotation_json, detection_json
from harness.records.ground_truth import annotation_bytes, scored_truth
from harness.records.query import COLUMNS, select
from harness.records.reading import list_records
from harness.studies.detection_score import ScoredFile, score, score_run
from harness.studies.diagnosis import DiagnosisOptions, diagnose_detections, diagnose_run, frames
from wstal.errors import UserError
from wstal.evaluation import to_json
from wstal.types import Detections, GroundTruth

Found: TypeAlias = Run | Name | Mapping[str, Any] | pd.DataFrame
Truth: TypeAlias = Name | Mapping[str, Any] | pd.DataFrame | GroundTruth


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Numbers of detections under one protocol, in percent.

    Args:
        protocol: its name.
        mean_ap: mAP by tIoU, `0.5`.
        averages: mean mAP by range of tIoUs, `0.1:0.7`.
        per_class: AP of each class that has an instance, a column each tIoU.
        counts: number of `videos`, `instances` and `detections`.
        remarks: what a reader of the numbers should know.
    """

    protocol: str
    mean_ap: pd.Series[float]
    averages: pd.Series[float]
    per_class: pd.DataFrame
    counts: dict[str, int]
    remarks: tuple[str, ...]

    def __repr__(self) -> str:
        numbers = {f"mAP@{tiou}": value for tiou, value in self.mean_ap.items()} | self.averages.to_dict()
        shown = ", ".join(f"{name} {value:.1f}" for name, value in numbers.items())
        return f"Evaluation({self.protocol}: {shown})"


def evaluate(
    detections: Found,
    ground_truth: Truth | None = None,
    protocol: str | None = None,
    *,
    subset: str | None = None,
    tious: str | Sequence[float] | None = None,
) -> Evaluation:
    """Score detections, as `wstal-bench evaluate` does.

    Args:
        detections: a path, `{"results": {video: [...]}}` or its inner object, a table with the columns `video`,
            `label`, `start`, `end`, `score`, or a run.
        ground_truth: a path, `{"database": {video: {...}}}` or its inner object, or a table with the columns `video`,
            `label`, `start`, `end`, or what `ground_truth` of a data set gives. A run has its own.
        protocol: see `wstal-bench ls protocols` (default: `anet`, of a run its headline).
        subset: of the ground truth (default: its test subset).
        tious: thresholds (default: those of the data set, recognised by its classes).

    Raises:
        UserError: something cannot be used; the message names it.
    """
    thresholds = tious if isinstance(tious, str | None) else ",".join(map(str, tious))
    run = _run_of(detections)
    if run is not None:
        truth = _path(ground_truth, run.annotations)
        return _evaluation(score_run(run.folder, truth, subset, [protocol or "headline"], thresholds))
    found, known, notes = _read(detections, ground_truth)
    chosen = [protocol or "anet"]
    return _evaluation(score(found, known, subset, chosen, thresholds, name=_named(detections), notes=notes))


def diagnose(
    detections: Found,
    ground_truth: Truth | None = None,
    protocol: str = "anet",
    *,
    subset: str | None = None,
    tious: str | None = None,
    coverage: Literal["clip", "drop"] = "clip",
) -> dict[str, pd.DataFrame]:
    """Return where the errors of detections are, as `wstal-bench diagnose` does.

    Args:
        detections: as of `evaluate`.
        ground_truth: as of `evaluate`.
        protocol: its list of videos is used; a run has its own.
        subset: of the ground truth (default: its test subset).
        tious: thresholds, as `0.1:0.1:0.7` (default: those of the data set).
        coverage: what happens to an instance longer than its video.

    Returns:
        Tables by name: `ap`, `errors`, `slabs` and `buckets`, as of `harness.studies.diagnosis.frames`.

    Raises:
        UserError: something cannot be used; the message names it.
    """
    run = _run_of(detections)
    if run is not None:
        truth = _path(ground_truth, run.annotations)
        options = DiagnosisOptions(truth, subset, protocol, tious, coverage)
        return frames(diagnose_run(run.files, scored_truth(run.files, truth), options).seeds[0])
    options = DiagnosisOptions(None, subset, protocol, tious, coverage)
    found, known, notes = _read(detections, ground_truth)
    return frames(diagnose_detections(found, known, options, str(_named(detections)), notes).seeds[0])


def results(folder: Name = "results", where: Sequence[str] = (), fields: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """Return stored records as a table, a row each run, as `wstal-bench records query` does.

    Args:
        folder: of results, or a store of runs.
        where: tests that a record must pass, as `["data=synthetic", "seed=0"]`.
        fields: dotted fields of records, as `recipe.train.epochs`, or of the default ones.

    Raises:
        UserError: there is no such folder or field. A record that is refused is a warning.
    """
    folder = path_of(folder)
    inner = next((folder / name for name in ("records", "runs") if (folder / name).is_dir()), folder)
    if not inner.is_dir():
        raise UserError(f"{folder} is no folder of results or runs. Give the right one.")
    records, refused = list_records(inner)
    for _, message in refused:
        warnings.warn(message, stacklevel=2)
    return pd.DataFrame(select(records, where, fields), columns=list(fields))


def _run_of(detections: object) -> Run | None:
    """Return the run where detections are given by one, or by its folder."""
    if isinstance(detections, str | PathLike) and path_of(detections).is_dir():
        return Run(path_of(detections))
    return detections if isinstance(detections, Run) else None


def _path(ground_truth: object, default: Path | None) -> Path | None:
    """Return the path of a run's ground truth."""
    if ground_truth is None:
        return default
    if not isinstance(ground_truth, str | PathLike):
        raise UserError("The ground truth of a run is the one that it keeps, or a file or folder.")
    return path_of(ground_truth)


def _named(detections: Any) -> Path:
    """Return the path of detections, or their name in messages."""
    return path_of(detections if isinstance(detections, str | PathLike) else "detections")


def _read(detections: Any, ground_truth: Any) -> tuple[Detections, Annotations, list[str]]:
    """Read detections and ground truth, whatever they are in, and what the readers remark."""
    if ground_truth is None:
        raise UserError(f"Name the ground truth of {_named(detections)}: a file, an object or a table.")
    if isinstance(ground_truth, str | PathLike):
        known = read_annotations(path_of(ground_truth))
    elif isinstance(ground_truth, GroundTruth):
        known = read_annotations(Path("ground truth"), annotation_bytes(ground_truth, {}))
    else:
        known = read_annotations(Path("ground truth"), annotation_json(ground_truth))
    notes = list(known.notes)
    content = None if isinstance(detections, str | PathLike) else detection_json(detections)
    return read_detections(_named(detections), known.classes, notes=notes, content=content), known, notes


def _evaluation(scored: ScoredFile) -> Evaluation:
    ((name, result),) = scored.results.items()
    numbers = to_json(result)
    return Evaluation(
        protocol=name,
        mean_ap=pd.Series(numbers["mAP"], name="mAP", dtype=float).rename_axis("tIoU"),
        averages=pd.Series(numbers["averages"], name="mean mAP", dtype=float).rename_axis("tIoUs"),
        per_class=pd.DataFrame.from_dict(numbers["per_class"], orient="index").rename_axis("class"),
        counts={count: numbers[count] for count in ("videos", "instances", "detections")},
        remarks=tuple(scored.remarks),
    )
