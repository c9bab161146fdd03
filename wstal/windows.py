"""Windows of a video: rows at any spacing, by linear interpolation, and instances in a window's rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wstal.types import FloatArray, Floats, IntArray, SupervisedVideo


@dataclass(frozen=True)
class Window:
    """Equally spaced rows of a video. Row k spans [first + k step, first + (k + 1) step) of the video's own rows.

    Args:
        video: number of the video.
        first: where it begins, in the video's rows.
        step: rows of the video that a row of the window spans: 0.5 doubles the rows, T / 100 rescales a video to 100.
        rows: number of rows. Those past the video's end are zero.

    Example:
        >>> Window(0, first=2, step=0.5, rows=4).features(np.arange(8.0)[:, None])[:, 0].tolist()
        [1.75, 2.25, 2.75, 3.25]
    """

    video: int
    first: float
    step: float
    rows: int

    @property
    def last(self) -> float:
        """Where the window ends, in the video's rows."""
        return self.first + self.step * self.rows

    def features(self, features: FloatArray) -> Tensor:
        """Return the window's `[rows, D]` of a video's `[T, D]` features, linear between the middles of its rows."""
        middle = self.first + (np.arange(self.rows) + 0.5) * self.step
        return rows_at(features, np.where(middle < len(features), middle - 0.5, np.nan))

    def instances(self, video: SupervisedVideo) -> Tensor:
        """Return `[N, 2]` start and end of all instances of the video in rows of the window, uncut, in float64."""
        return torch.from_numpy((instances_in_rows(video) - self.first) / self.step)


def rows_at(features: FloatArray, positions: Floats) -> Tensor:
    """Return rows of a video at fractional positions, in float32.

    Args:
        features: `[T, D]`.
        positions: `[R]` in rows, 0 the first; outside of the video the nearest row, NaN a row of zeros.

    Example:
        >>> rows_at(np.array([[0.0], [10.0]]), np.array([-1.0, 0.25, np.nan]))[:, 0].tolist()
        [0.0, 2.5, 0.0]
    """
    inside = np.clip(np.nan_to_num(positions), 0, len(features) - 1)
    low = np.floor(inside).astype(np.int64)
    first, stop = int(low.min()), min(int(low.max()) + 2, len(features))
    part = torch.from_numpy(np.asarray(features[first:stop], dtype=np.float32))
    share = torch.from_numpy((inside - low).astype(np.float32))[:, None]
    here = torch.from_numpy(low - first)
    found = torch.lerp(part[here], part[(here + 1).clamp(max=len(part) - 1)], share)
    return found * torch.from_numpy(np.isfinite(positions).astype(np.float32))[:, None]


def instances_in_rows(video: SupervisedVideo) -> Floats:
    """Return `[N, 2]` start and end of a video's instances in its own rows.

    Example:
        >>> from wstal.types import Video
        >>> weak = Video("v", np.zeros((9, 1)), (0,), seconds_per_snippet=0.5)
        >>> instances_in_rows(SupervisedVideo(weak, np.array([0]), np.array([1.0]), np.array([2.5]))).tolist()
        [[2.0, 5.0]]
    """
    weak = video.video
    return (np.stack([video.start, video.end], axis=1, dtype=np.float64) - weak.offset) / weak.seconds_per_snippet


def window_starts(rows: int, size: int, stride: int) -> list[int]:
    """Return where windows of a video begin: every `stride` rows, the last one shifted back to end with the video.

    Args:
        rows: rows of the video. One that is shorter than a window has one window.
        size: rows of a window.
        stride: rows from one window to the next.

    Example:
        >>> window_starts(10, size=4, stride=2), window_starts(11, size=4, stride=4), window_starts(3, 4, 2)
        ([0, 2, 4, 6], [0, 4, 7], [0])
    """
    last = max(rows - size, 0)
    return [*range(0, last, stride), last]


def covering_starts(length: int, rows: int, stride: int) -> list[int]:
    """Return where windows of a video begin, every `stride` rows, so many that the last one reaches or passes its end.

    Args:
        length: rows of the video.
        rows: rows of a window.
        stride: rows from one window to the next.

    Example:
        >>> covering_starts(10, rows=4, stride=3), covering_starts(11, rows=4, stride=3), covering_starts(3, 4, 3)
        ([0, 3, 6], [0, 3, 6, 9], [0])
    """
    return [stride * number for number in range(math.ceil(max(length - rows, 0) / stride) + 1)]


def kept_instances(instances: Floats, rows: int, share: float) -> tuple[IntArray, Floats]:
    """Return which instances a window keeps, and their segments in it.

    Args:
        instances: `[N, 2]` start and end in rows of the window, uncut.
        rows: rows of the window.
        share: of an instance's length that a window must hold to keep it, above 0.

    Returns:
        `[M]` indices of those kept, and `[M, 2]` centre and width of the part inside, as fractions of the window.

    Example:
        >>> kept, segments = kept_instances(np.array([[-1.0, 3.0], [-2.0, 2.0]]), rows=4, share=0.75)
        >>> kept.tolist(), segments.tolist()
        ([0], [[0.375, 0.75]])
    """
    inside = instances.clip(0, rows)
    length, left = instances[:, 1] - instances[:, 0], inside[:, 1] - inside[:, 0]
    kept = np.flatnonzero((left >= share * length) & (left > 0))
    start, end = inside[kept].T / rows
    return kept, np.stack([(start + end) / 2, end - start], axis=1)
