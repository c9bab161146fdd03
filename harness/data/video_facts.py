"""Facts about single videos: their annotated classes and durations, official labels and frame rates."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from harness.data.annotations import Annotations, is_number, name_text, read_data_json, seconds
from harness.data.descriptor import is_frame_rate
from harness.data.features import some
from harness.io.text import check_text
from wstal.errors import MissingDataError, UserError


class VideoFacts(NamedTuple):
    """Facts about a video with no time but its duration.

    Args:
        labels: sorted class names.
        duration: seconds, None where not stated.
        subset: its name in the annotation file, empty in official labels.
    """

    labels: tuple[str, ...]
    duration: float | None
    subset: str = ""


def per_video(content: Annotations) -> dict[str, VideoFacts]:
    """Return the facts in an annotation file by video."""
    labels: dict[str, set[str]] = {video: set() for video in content.videos}
    for video, label in zip(content.video.tolist(), content.label.tolist(), strict=True):
        labels[content.videos[video]].add(content.classes[label])
    return {
        name: VideoFacts(tuple(sorted(labels[name])), None if math.isnan(duration) else duration, subset)
        for name, duration, subset in zip(content.videos, content.duration.tolist(), content.subset, strict=True)
    }


def read_official(path: Path) -> dict[str, VideoFacts] | None:
    """Read official labels by video, `{video: {"labels": [...], "duration_seconds": s}}`, or None without the file.

    Raises:
        UserError: the file has another form.
    """
    if not os.path.isfile(path):
        return None
    table = _read_object(path)
    labels: dict[str, VideoFacts] = {}
    for video, entry in table.items():
        where = f"{path}, video {name_text(video, f'{path}: video id')}"
        if not isinstance(entry, dict) or not isinstance(entry.get("labels"), list):
            raise UserError(f'{where}: expected {{"labels": [names], "duration_seconds": s}}. Correct it.')
        names = tuple(sorted({name_text(label, f"{where}: `labels`") for label in entry["labels"]}))
        duration = seconds(entry.get("duration_seconds"), f"{where}: expected `duration_seconds`")
        labels[video] = VideoFacts(names, duration)
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
