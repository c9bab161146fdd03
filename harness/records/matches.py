"""Matching behind a run's headline number, stored so that test videos can be resampled without matching again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from pydantic import BaseModel, ConfigDict

from harness.data.annotations import read_annotations
from harness.data.detections import read_detections
from harness.io.encoding import canonical_json
from harness.io.tensor_file import TensorFile
from harness.io.text import printable
from harness.records.files import DETECTIONS, MATCHES
from harness.records.ground_truth import truth_of
from harness.records.run_folder import REMEDY, FinishedRun
from harness.records.schema import possible_tious
from wstal.errors import StoreError, UserError
from wstal.evaluation import (
    DetectionMatches,
    EvaluationResult,
    Protocol,
    class_average_precision,
    evaluate,
    get_protocol,
    tiou_key,
)

ABOUT = "about"
SAME = 1e-9  # percent: the same numbers, summed on another machine
MATCHES_TOLERANCE = 1e-6  # percent, between a record's mAP and what its run's flags give


@dataclass(frozen=True, eq=False)
class RunMatches:
    """DetectionMatches with the names that their indices stand for.

    Args:
        protocol: that they were made under.
        tious: K thresholds.
        classes: C names.
        videos: V names, those of the ground truth; the protocol may exclude some.
        flags: each detection as a hit or not.
    """

    protocol: Protocol
    tious: tuple[float, ...]
    classes: tuple[str, ...]
    videos: tuple[str, ...]
    flags: DetectionMatches

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Names of the videos that the protocol scores, sorted."""
        return tuple(sorted(set(self.videos) - self.protocol.excluded_videos))


class _About(BaseModel):
    """The names that `save_matches` writes."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    protocol: str
    tious: tuple[float, ...]
    classes: tuple[str, ...]
    videos: tuple[str, ...]


def save_matches(path: Path, result: EvaluationResult, videos: tuple[str, ...]) -> str:
    """Write an evaluation's flags as safetensors: whole numbers in the smallest type that holds them.

    Args:
        path: the file.
        result: the evaluation.
        videos: names of the ground truth's videos.

    Returns:
        The file's SHA-256; the same flags give the same bytes.
    """
    # one entry of metadata: safetensors keeps several in no fixed order
    about = {
        "protocol": result.protocol.name, "tious": result.tious, "classes": result.classes, "videos": videos,
    }  # fmt: skip
    with TensorFile(path) as file:
        for field in fields(DetectionMatches):
            file.add(field.name, _compact(getattr(result.flags, field.name)))
        return file.finish({ABOUT: canonical_json(about).decode()})


def matches_of(run: FinishedRun, annotations: Path | None = None) -> RunMatches:
    """Return a run's flags: those it stored, or made again from its detections.

    Args:
        run: a finished run.
        annotations: file or folder of the run's ground truth, needed where the run stored no flags.

    Raises:
        UserError: the run was not evaluated, no flags and no annotations, or annotations that do not give the run's
            own numbers.
        StoreError: a file of the run is damaged, or its flags do not give the record's mAPs.
    """
    record, stated = run.record, run.record.scored.mean_ap
    if MATCHES in record.artefacts:
        return read_matches(run)
    if annotations is None:
        raise UserError(
            f"The run {run.folder} stored no {MATCHES}: it was made by an older version. Name its ground truth with "
            "--annotations, so that they are made again from its detections, or remove the run and do it again."
        )
    classes = tuple(record.classes)
    detections = read_detections(run.artefact(DETECTIONS), classes, allow_empty=True)
    truth = truth_of(read_annotations(annotations), tuple(sorted(detections.videos)), classes)
    protocol = get_protocol(record.headline)
    for tious in possible_tious(list(stated)):
        result = evaluate(detections, truth, protocol, tious)
        if all(abs(100 * result.mean_ap[tiou] - value) <= SAME for tiou, value in stated.items()):
            return RunMatches(protocol, result.tious, truth.classes, truth.videos, result.flags)
    raise UserError(
        f"Under the annotations {annotations} the run {run.folder} has other mAPs than its record says. Give the "
        "annotations that it was scored on."
    )


def read_matches(run: FinishedRun) -> RunMatches:
    """Read the flags that a run stored.

    Args:
        run: a finished run.

    Raises:
        StoreError: the file is absent or damaged, or does not give the record's mAPs.
    """
    path = run.artefact(MATCHES)
    try:
        with safetensors.safe_open(path, "np") as file:
            about = _About.model_validate_json((file.metadata() or {})[ABOUT])
            columns = {field.name: _wide(file.get_tensor(field.name)) for field in fields(DetectionMatches)}
        found = RunMatches(
            get_protocol(about.protocol), about.tious, about.classes, about.videos, DetectionMatches(**columns)
        )
        _check_columns(found)
    except (safetensors.SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        # the digest is the record's: somebody wrote both
        raise StoreError(f"{path} does not hold a run's flags ({printable(str(error))}). {REMEDY}") from error
    _check(path, run.record.scored.mean_ap, found)
    return found


def _check_columns(found: RunMatches) -> None:
    """Raise ValueError unless all columns have the type and shape of `DetectionMatches`, and valid indices."""
    flags, rows, instances = found.flags, len(found.flags.video), len(found.flags.instance_video)
    videos, classes = len(found.videos), len(found.classes)
    for name, column, shape, kind, low, high in (
        ("detection", flags.detection, (rows,), "i", 0, 2**62),
        ("video", flags.video, (rows,), "i", -1, videos - 1),
        ("label", flags.label, (rows,), "i", 0, classes - 1),
        ("score", flags.score, (rows,), "f", -math.inf, math.inf),
        ("hit", flags.hit, (rows, len(found.tious)), "b", False, True),
        ("excused", flags.excused, (rows,), "b", False, True),
        ("instance_video", flags.instance_video, (instances,), "i", 0, videos - 1),
        ("instance_label", flags.instance_label, (instances,), "i", 0, classes - 1),
    ):
        if column.dtype.kind != kind or column.shape != shape:
            raise ValueError(f"{name} is {column.dtype} {list(column.shape)}")
        if not ((column >= low) & (column <= high)).all():
            raise ValueError(f"{name} has a value that stands for nothing")
    if not instances:
        raise ValueError("there is no instance")


def _check(path: Path, stated: Mapping[str, float], found: RunMatches) -> None:
    """Raise unless the flags give the mAPs that the record states, beside which a bootstrap of them is shown."""
    ap = class_average_precision(found.flags, len(found.classes), found.protocol)
    given = dict(zip(map(tiou_key, found.tious), 100 * np.nanmean(ap, axis=0), strict=True))
    for tiou, value in stated.items():
        if not abs(given.get(tiou, math.nan) - value) <= MATCHES_TOLERANCE:
            raise StoreError(
                f"{path} gives mAP {given.get(tiou, math.nan):.4f} at tIoU {tiou}, the run's record says "
                f"{value:.4f}. {REMEDY}"
            )


def _compact(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if column.dtype.kind != "i":
        return np.ascontiguousarray(column)
    converted = (np.ascontiguousarray(column, dtype=size) for size in (np.int8, np.int16, np.int32, np.int64))
    return next(small for small in converted if np.array_equal(small, column))


def _wide(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return column.astype(np.int64) if column.dtype.kind == "i" else column
