"""Clock of a data set: the time that each feature row of a video stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.data.descriptor import DatasetDescriptor
from wstal.errors import UserError


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
        if self.rates is None:
            assert self.descriptor.fps is not None
            return self.descriptor.fps
        if video not in self.rates:
            raise UserError(f"{self.descriptor.fps_file} has no frame rate of {video}. Add it.")
        return self.rates[video]

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
