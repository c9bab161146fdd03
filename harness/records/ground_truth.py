"""Ground truth of the videos that a run scored, kept beside its detections so that a run folder explains itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.annotations import AMBIGUOUS_CLASS, Annotations, read_annotations, select_videos
from harness.data.detections import read_detections
from harness.io.atomic import atomic_write
from harness.io.encoding import canonical_json, sha256
from harness.records.files import DETECTIONS, GROUND_TRUTH
from harness.records.run_folder import FinishedRun
from wstal.errors import UserError
from wstal.types import Floats, GroundTruth

SUBSET = "test"


@dataclass(frozen=True, eq=False)
class ScoredTruth:
    """Ground truth of a run's test videos.

    Args:
        truth: instances, with the run's classes in its order.
        durations: `[V]` seconds of each video, NaN where unknown.
    """

    truth: GroundTruth
    durations: Floats


def save_ground_truth(path: Path, truth: GroundTruth, durations: dict[str, float | None]) -> str:
    """Write ground truth as an ActivityNet-style annotation file, which every command reads.

    Args:
        path: the file.
        truth: instances of the scored videos. Ambiguous intervals become instances of that class.
        durations: seconds by video, None where unknown.

    Returns:
        The file's SHA-256; the same ground truth gives the same bytes.
    """
    data = annotation_bytes(truth, durations)
    atomic_write(path, data)
    return sha256(data)


def annotation_bytes(truth: GroundTruth, durations: Mapping[str, float | None]) -> bytes:
    """Return ground truth as the content of an ActivityNet-style annotation file.

    Args:
        truth: as of `save_ground_truth`.
        durations: as of `save_ground_truth`.
    """
    database: dict[str, dict[str, Any]] = {}
    for video in truth.videos:
        duration = durations.get(video)
        database[video] = {"subset": SUBSET, "annotations": []} | ({} if duration is None else {"duration": duration})
    columns = (column.tolist() for column in (truth.video, truth.label, truth.start, truth.end))
    rows = [(video, truth.classes[label], start, end) for video, label, start, end in zip(*columns, strict=True)]
    rows += [(int(video), AMBIGUOUS_CLASS.capitalize(), start, end) for video, start, end in truth.ambiguous.tolist()]
    for video, label, start, end in rows:
        database[truth.videos[video]]["annotations"].append({"label": label, "segment": [start, end]})
    return canonical_json({"version": "wstal-bench", "database": database})


def scored_truth(run: FinishedRun, annotations: Path | None = None) -> ScoredTruth:
    """Return the ground truth of a run: the given annotations, or those that the run stored.

    Args:
        run: a finished run.
        annotations: file or folder; needed for a run of an older version.

    Raises:
        UserError: the run stored none and none is given, or the annotations lack a video that the run scored.
        StoreError: the stored file is damaged.
    """
    known = read_annotations(stored_truth(run) if annotations is None else annotations)
    videos = known.videos if annotations is None else _detected_videos(run, known)
    stated = dict(zip(known.videos, known.duration.tolist(), strict=True))
    durations = np.array([stated.get(video, math.nan) for video in videos])
    return ScoredTruth(truth_of(known, videos, tuple(run.record.classes)), durations)


def stored_truth(run: FinishedRun) -> Path:
    """Return the annotation file that a run stored.

    Raises:
        UserError: it stored none.
        StoreError: the file is damaged.
    """
    if GROUND_TRUTH not in run.record.artefacts:
        raise UserError(
            f"The run {run.folder} stored no {GROUND_TRUTH}: it was made by an older version. Name its ground truth "
            "with --annotations."
        )
    return run.artefact(GROUND_TRUTH)


def truth_of(annotations: Annotations, videos: tuple[str, ...], classes: tuple[str, ...]) -> GroundTruth:
    """Return the instances of some videos, whatever their subset, with the given order of videos and classes.

    Args:
        annotations: of these and other videos.
        videos: their names.
        classes: names; instances of other classes are left out.
    """
    number = {name: index for index, name in enumerate(classes)}
    label = np.array([number.get(name, -1) for name in annotations.classes], dtype=np.int64)[annotations.label]
    keep = label >= 0
    start, end = annotations.start[keep], annotations.end[keep]
    truth = GroundTruth(annotations.videos, classes, annotations.video[keep], label[keep], start, end, np.zeros((0, 3)))
    return select_videos(truth, videos)


def _detected_videos(run: FinishedRun, known: Annotations) -> tuple[str, ...]:
    """Return the videos of a run in the order of the annotations; a detection file lists videos without detection."""
    detections = read_detections(run.artefact(DETECTIONS), tuple(run.record.classes), allow_empty=True)
    scored = set(detections.videos)
    if missing := sorted(scored.difference(known.videos)):
        raise UserError(
            f"{known.path} lacks {len(missing)} of the {len(scored)} videos of {run.folder}, such as {missing[0]}. "
            "Give the annotations that the run was scored on."
        )
    return tuple(video for video in known.videos if video in scored)
