"""Diagnosis of detection files and of runs: where the errors are, as tables and JSON values in percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.data.annotations import Annotations, read_annotations, select_videos
from harness.data.descriptor import with_classes
from harness.data.detections import read_detections
from harness.records.files import DETECTIONS
from harness.records.ground_truth import ScoredTruth, scored_truth
from harness.records.grouping import SystemKey, system_names
from harness.records.matches import matches_of
from harness.records.run_folder import FinishedRun
from wstal.errors import UserError
from wstal.evaluation import default_tious, get_protocol, parse_tious
from wstal.evaluation.diagnosis import KINDS, SLABS, CoverageRule, Diagnosis, diagnose
from wstal.evaluation.tiou import tiou_key
from wstal.types import Detections

MEAN = "mean"


@dataclass(frozen=True)
class DiagnosisOptions:
    """Choices of a diagnosis.

    Args:
        annotations: file or folder of the ground truth; None: what the run stored.
        subset: of the annotations; their test subset if absent.
        protocol: its list of videos is used; matching is that of the ActivityNet evaluator.
        tious: as `parse_tious` reads them; those of the data set, recognised by its classes, if absent.
        coverage: what happens to an instance longer than its video.
        as_released: repeat the two faults of the released tool.
    """

    annotations: Path | None = None
    subset: str | None = None
    protocol: str = "anet"
    tious: str | None = None
    coverage: CoverageRule = "clip"
    as_released: bool = False


OWN = DiagnosisOptions()


@dataclass(frozen=True, eq=False)
class Diagnosed:
    """Diagnosis of one system: of a detection file, or of the runs of a method.

    Args:
        name: for people.
        seeds: one diagnosis each; a file has one.
        synthetic: whether the features were generated.
        notes: what a reader of the numbers should know.
    """

    name: str
    seeds: tuple[Diagnosis, ...]
    synthetic: bool = False
    notes: tuple[str, ...] = ()


def diagnose_all(paths: Sequence[Path], options: DiagnosisOptions) -> list[Diagnosed]:
    """Diagnose detection files and run folders; the runs of one system are its seeds.

    Args:
        paths: of detection files and of folders of finished runs.
        options: choices.

    Raises:
        UserError: a file cannot be used, or the ground truth is missing.
        StoreError: a run's file is damaged.
    """
    runs = [FinishedRun.open(path) for path in paths if path.is_dir()]
    names = system_names([run.record for run in runs])
    found: dict[str, Diagnosed] = {}
    for path in paths:
        if not path.is_dir():
            name = path.name.removesuffix(".gz").removesuffix(".json")
            found[str(path) if name in found else name] = _of_file(path, name, options)
            continue
        run = next(run for run in runs if run.folder == path)
        name = names[SystemKey.of(run.record)]
        one = diagnose_run(run, scored_truth(run, options.annotations), options)
        earlier = found[name].seeds if name in found else ()
        found[name] = replace(one, name=name, seeds=(*earlier, *one.seeds))
    return list(found.values())


def diagnose_run(run: FinishedRun, scored: ScoredTruth, options: DiagnosisOptions = OWN) -> Diagnosed:
    """Diagnose the detections of a run.

    Args:
        run: a finished run.
        scored: its ground truth.
        options: choices; subset and protocol are the run's.

    Raises:
        UserError: as `wstal.evaluation.diagnosis.diagnose`.
        StoreError: the run's detections are damaged.
    """
    classes = tuple(run.record.classes)
    detections = read_detections(run.artefact(DETECTIONS), classes, allow_empty=True)
    family = next((one.family for one in with_classes(classes)), run.record.data.name)
    if run.record.evaluated or options.annotations is None:
        tious = matches_of(run, options.annotations).tious
    else:
        tious = default_tious(family)
    tious = tious if options.tious is None else parse_tious(options.tious)
    result = diagnose(
        detections, scored.truth, scored.durations.tolist(), tious,
        dataset=family, coverage=options.coverage, as_released=options.as_released,
    )  # fmt: skip
    return Diagnosed(run.record.id, (result,), run.record.synthetic, tuple(_remarks(result)))


def _of_file(path: Path, name: str, options: DiagnosisOptions) -> Diagnosed:
    if options.annotations is None:
        raise UserError(f"Name the ground truth of {path} with --annotations.")
    known = read_annotations(options.annotations)
    notes = list(known.notes)
    return diagnose_detections(read_detections(path, known.classes, notes=notes), known, options, name, notes)


def diagnose_detections(
    detections: Detections, known: Annotations, options: DiagnosisOptions, name: str, notes: Sequence[str] = ()
) -> Diagnosed:
    """Diagnose detections.

    Args:
        detections: of some videos.
        known: annotations.
        options: choices; the annotations that they name are not read.
        name: for people.
        notes: of the readers.

    Raises:
        UserError: the protocol does not apply, or as `wstal.evaluation.diagnosis.diagnose`.
    """
    truth = known.ground_truth(options.subset)
    protocol = get_protocol(options.protocol)
    if protocol.matching != "best" or protocol.segments_per_second or protocol.ambiguous != "count":
        raise UserError(f"A diagnosis matches as the ActivityNet evaluator does, so not {protocol.name}. Use anet-210.")
    if (why := protocol.inapplicable(truth)) is not None:
        raise UserError(f"Protocol {protocol.name} does not apply here: {why}. Choose another protocol.")
    truth = select_videos(truth, [video for video in truth.videos if video not in protocol.excluded_videos])
    family = next((one.family for one in with_classes(known.classes)), "")
    tious = default_tious(family) if options.tious is None else parse_tious(options.tious)
    stated = dict(zip(known.videos, known.duration.tolist(), strict=True))
    result = diagnose(
        detections, truth, [stated[video] for video in truth.videos], tious,
        dataset=family, coverage=options.coverage, as_released=options.as_released,
    )  # fmt: skip
    return Diagnosed(name, (result,), notes=(*notes, *_remarks(result)))


def _remarks(result: Diagnosis) -> list[str]:
    remarks = []
    if empty := result.dropped["empty"]:
        remarks.append(f"{empty} instances of no length were left out")
    if beyond := result.dropped["coverage"]:
        remarks.append(f"{beyond} instances longer than their video were left out")
    if "coverage" not in result.buckets:
        remarks.append("no coverage: the annotations lack the duration of some videos")
    return remarks


def frames(result: Diagnosis) -> dict[str, pd.DataFrame]:
    """Return a diagnosis as tables: one row for each tIoU and, as tIoU `mean`, for their mean.

    Returns:
        `ap`: `class`, `tiou`, `ap`, `normalized_ap` in percent, with the class `mean`. `errors`: `kind`, `tiou`,
        `detections`, `share` (percent of the best 10 G of each class) and `gain` (points of normalised mAP if the kind
        were removed). `slabs`: `slab` (1 to 10), `kind`, `tiou`, `detections`, `share`. `buckets`: `characteristic`,
        `bucket`, `instances`, `tiou`, `missed` (percent of the instances) and `normalized_map`.
    """
    keys = [*map(tiou_key, result.tious), MEAN]

    def long(values: Any, names: dict[str, Sequence[Any]], **scaled: Any) -> pd.DataFrame:
        """Stack the last axis, the tIoUs, under the given names of the others."""
        index = pd.MultiIndex.from_product([*names.values(), keys], names=[*names, "tiou"])
        columns = {"value": values} | scaled
        return pd.DataFrame({name: _with_mean(one).ravel() for name, one in columns.items()}, index=index).reset_index()

    ap, normalized = (np.vstack([one, one.mean(axis=0)]) for one in (100 * result.ap, 100 * result.normalized_ap))
    counts, sizes = result.counts, np.maximum(result.counts.sum(axis=1, keepdims=True), 1)
    shares = np.where(result.counts.sum(axis=1, keepdims=True) > 0, 100 * counts / sizes, np.nan)
    total = counts.sum(axis=0)
    tables = {
        "ap": long(ap, {"class": [*result.truth.classes, MEAN]}, normalized_ap=normalized),
        "errors": long(total, {"kind": KINDS}, share=100 * total / max(1, len(result.kind)), gain=100 * result.gains),
        "slabs": long(counts, {"slab": range(1, SLABS + 1), "kind": KINDS}, share=shares),
    }
    rows = [
        long(100 * result.missed_share(name), {"bucket": buckets.names}, normalized_map=100 * result.bucket_ap[name])
        .assign(characteristic=name)
        .merge(pd.DataFrame({"bucket": buckets.names, "instances": buckets.sizes}))
        for name, buckets in result.buckets.items()
    ]
    tables["buckets"] = pd.concat(rows)[["characteristic", "bucket", "instances", "tiou", "value", "normalized_map"]]
    named = {"ap": "ap", "errors": "detections", "slabs": "detections", "buckets": "missed"}
    return {name: table.rename(columns={"value": named[name]}).reset_index(drop=True) for name, table in tables.items()}


def _with_mean(values: Any) -> Any:
    return np.concatenate([values, np.mean(values, axis=-1, keepdims=True)], axis=-1)


def to_json(found: Diagnosed) -> dict[str, Any]:
    """Return a diagnosis as JSON values in percent, a list entry for each seed."""
    return {
        "name": found.name,
        "synthetic": found.synthetic,
        "notes": list(found.notes),
        "seeds": [_values(result) for result in found.seeds],
    }


def _values(result: Diagnosis) -> dict[str, Any]:
    tables = frames(result)
    ap, errors, slabs, buckets = (tables[name] for name in ("ap", "errors", "slabs", "buckets"))
    means = ap[ap["class"] == MEAN]
    classes = ap[ap["class"] != MEAN]
    return {
        "instances": len(result.truth),
        "dropped": result.dropped,
        "detections": result.detections,
        "considered": len(result.kind),
        "instances_per_class": result.instances_per_class,
        "mAP": _by_tiou(means, "ap"),
        "normalized_mAP": _by_tiou(means, "normalized_ap"),
        "per_class": {
            name: {"ap": _by_tiou(rows, "ap"), "normalized_ap": _by_tiou(rows, "normalized_ap")}
            for name, rows in classes.groupby("class", sort=False)
        },
        "considered_normalized_mAP": dict(
            zip(_by_tiou(means, "ap"), _with_mean(100 * result.considered_normalized_ap.mean(axis=0)), strict=True)
        ),
        "errors": {
            kind: {column: _by_tiou(rows, column) for column in ("detections", "share", "gain")}
            for kind, rows in errors.groupby("kind", sort=False)
        },
        "slabs": [
            {
                kind: {column: _by_tiou(rows, column) for column in ("detections", "share")}
                for kind, rows in slab.groupby("kind", sort=False)
            }
            for _, slab in slabs.groupby("slab", sort=False)
        ],
        "missed": dict(zip(_by_tiou(means, "ap"), _with_mean(100 * result.missed.mean(axis=0)), strict=True)),
        "buckets": {
            name: {
                bucket: {"instances": int(rows["instances"].iloc[0])}
                | {column: _by_tiou(rows, column) for column in ("missed", "normalized_map")}
                for bucket, rows in part.groupby("bucket", sort=False)
            }
            for name, part in buckets.groupby("characteristic", sort=False)
        },
    }


def _by_tiou(rows: pd.DataFrame, column: str) -> dict[str, float | None]:
    values = zip(rows["tiou"], rows[column].tolist(), strict=True)
    return {tiou: None if value != value else float(value) for tiou, value in values}
