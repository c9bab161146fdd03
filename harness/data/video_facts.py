"""Facts about single videos: their annotated classes and durations, official labels and frame rates."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.data.annotations import Annotations, is_number, name_text, read_data_json, seconds
from harness.data.descriptor import is_frame_rate
from harness.data.features import some
from harness.io.text import check_text
from wstal.errors import MissingDataError, UserError


class OfficialLabels(NamedTuple):
    """Official class names of a video, sorted, and its duration in seconds where stated."""

    labels: tuple[str, ...]
    duration: float | None


class Annotated(NamedTuple):
    """Entry of a video in the annotation file, with no time but its duration in seconds (None where not stated)."""

    subset: str
    duration: float | None
    labels: tuple[str, ...]
    instances: int


def per_video(content: Annotations) -> dict[str, Annotated]:
    """Return the entries of the annotation file by video, with sorted class names."""
    labels: list[set[str]] = [set() for _ in content.videos]
    instances = np.bincount(content.video, minlength=len(content.videos))
    for video, label in zip(content.video.tolist(), content.label.tolist(), strict=True):
        labels[video].add(content.classes[label])
    return {
        name: Annotated(subset, None if math.isnan(duration) else duration, tuple(sorted(names)), count)
        for name, subset, duration, names, count in zip(
            content.videos, content.subset, content.duration.tolist(), labels, instances.tolist(), strict=True
        )
    }


def read_official(path: Path) -> dict[str, OfficialLabels] | None:
    """Read official labels by video, `{video: {"labels": [...], "duration_seconds": s}}`, or None without the file.

    Raises:
        UserError: the file has another form.
    """
    if not os.path.isfile(path):
        return None
    table = _read_object(path)
    labels: dict[str, OfficialLabels] = {}
    for video, entry in table.items():
        where = f"{path}, video {name_text(video, f'{path}: video id')}"
        if not isinstance(entry, dict) or not isinstance(entry.get("labels"), list):
            raise UserError(f'{where}: expected {{"labels": [names], "duration_seconds": s}}. Correct it.')
        names = tuple(sorted({name_text(label, f"{where}: `labels`") for label in entry["labels"]}))
        duration = seconds(entry.get("duration_seconds"), f"{where}: expected `duration_seconds`")
        labels[video] = OfficialLabels(names, None if math.isnan(duration) else duration)
    return labels


def read_frame_rates(path: Path) -> dict[str, float]:
    """Read frames per second by video.

    Raises:
        MissingDataError: the file is not there.
        UserError: not an object of positive numbers.
    """
    if not os.path.isfile(path):
        raise MissingDataError(f"{path} is not there: the descriptor takes frame rates from it. Restore it.")
    rates = _read_object(path)
    for video in rates:
        check_text(video, f"{path}: video id")
    if wrong := [video for video, rate in rates.items() if not (is_number(rate) and is_frame_rate(rate))]:
        raise UserError(f"{path}: frames per second must be positive numbers below 10,000, not so for {some(wrong)}.")
    return {video: float(rate) for video, rate in rates.items()}


def _read_object(path: Path) -> dict[str, Any]:
    value = read_data_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} must be a JSON object with a key for each video, got {type(value).__name__}.")
    return value
