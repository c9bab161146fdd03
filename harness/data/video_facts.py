"""Facts about single videos: annotated classes, official labels, durations, frame rates and times of feature rows."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.data.annotations import Annotations, read_data_json
from harness.data.descriptor import DatasetDescriptor, is_frame_rate
from harness.data.features import some
from harness.data.values import name_text, number, seconds
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
    for name, untimed in content.untimed:
        labels[name].add(untimed)
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
    read = {video: found for video, rate in rates.items() if (found := number(rate)) and is_frame_rate(found)}
    if wrong := [video for video in rates if video not in read]:
        raise UserError(f"{path}: frames per second must be positive numbers below 10,000, not so for {some(wrong)}.")
    return read


def _read_object(path: Path) -> dict[str, Any]:
    value = read_data_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} must be a JSON object with a key for each video, got {type(value).__name__}.")
    return value


@dataclass(frozen=True)
class Clock:
    """Durations and frame rates of a data set's videos.

    Args:
        descriptor: facts about the data set, which state the window and stride of a row.
        durations: seconds of each video, None where unknown. Official labels state them better than annotations:
            those of THUMOS14 count 30 frames per second even in videos that have 25.
        rates: frames per second of each video as the extractor saw it, where the videos differ.
    """

    descriptor: DatasetDescriptor
    durations: Mapping[str, float | None]
    rates: Mapping[str, float] | None = None

    def frame_rate(self, video: str) -> float:
        """Return the frames per second of a video as the extractor saw it.

        Raises:
            UserError: the frame-rate file lacks the video.
        """
        rate = self.descriptor.fps if self.rates is None else self.rates.get(video)
        if rate is None:
            raise UserError(f"{self.descriptor.fps_file} has no frame rate of {video}. Add it.")
        return rate

    def row_time(self, video: str, rows: int) -> tuple[float, float]:
        """Return the seconds that one row advances and the seconds before row 0's span starts.

        Args:
            video: name of the video.
            rows: number of its feature rows.

        Raises:
            UserError: no frame rate, or for resampled features no duration, is known.
        """
        if self.descriptor.resampled:
            if not (duration := self.durations[video]):
                raise UserError(
                    f"{video} has no duration, and a row's length follows from it. Add it to the annotations."
                )
            return duration / rows, 0.0
        fps = self.frame_rate(video)
        return self.descriptor.stride / fps, (self.descriptor.snippet_frames - self.descriptor.stride) / (2 * fps)

    def excess_rows(self, video: str, rows: int) -> int | None:
        """Count by how many rows a file is too long (positive) or too short (negative) for the video's duration.

        A file may have one row per full window or one row per started stride, and anything between the two counts as
        0. The result is None where the duration is unknown or the features were resampled.

        Args:
            video: name of the video.
            rows: number of its feature rows.
        """
        duration = self.durations[video]
        if self.descriptor.resampled or not duration:
            return None
        frames = duration * self.frame_rate(video)
        fewest = int((frames - self.descriptor.snippet_frames) // self.descriptor.stride) + 1
        most = -int(-frames // self.descriptor.stride)
        return min(0, rows - max(fewest, 1)) or max(0, rows - max(most, 1))

    def facts(self, videos: Sequence[str]) -> dict[str, Any]:
        """Return the facts that decide the times of these videos' rows, as JSON values."""
        facts = self.descriptor.model_dump(include={"fps", "snippet_frames", "stride", "resampled"})
        if self.descriptor.resampled:
            return facts | {"durations": {video: self.durations[video] for video in videos}}
        return facts | ({"rates": {v: self.rates[v] for v in videos if v in self.rates}} if self.rates else {})
