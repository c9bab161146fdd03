"""Warp of a video's time that gives chosen rows more samples (dynamic sampling of ASM-Loc)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wstal.types import Floats, IntArray


class TimeWarp(NamedTuple):
    """Monotonic map from the L rows of a video to W warped rows. Row i spans [i, i + 1) before the warp.

    Args:
        edges: `[L + 1]` warped times at which rows begin and, last, at which the video ends (W).

    Example:
        >>> warp = TimeWarp(np.array([0.0, 1.0, 4.0, 5.0]))  # the middle one of three rows lasts three times as long
        >>> warp.length, warp.positions().round(2).tolist()
        (5, [0.0, 0.33, 0.67, 1.0, 2.0])
    """

    edges: Floats

    @property
    def length(self) -> int:
        """Number of warped rows, W."""
        return round(float(self.edges[-1]))

    def positions(self) -> Floats:
        """Return the `[W]` rows, with fractions, that warped rows are interpolated at.

        Warped time is read where a row ends, so that a row of its usual duration is interpolated at itself.
        """
        return np.interp(np.arange(1, self.length + 1), self.edges[1:], np.arange(len(self.edges) - 1))

    def warped(self, times: Floats) -> Floats:
        """Return the warped times of times in rows."""
        return np.interp(times, np.arange(len(self.edges)), self.edges)

    def unwarped(self, times: Floats) -> Floats:
        """Return the times, in rows, of warped times."""
        return np.interp(times, self.edges, np.arange(len(self.edges)))


def stretch(length: int, intervals: IntArray, rows: float) -> TimeWarp:
    """Return the warp that stretches short intervals to `rows` rows.

    An interval of n <= `rows` rows gives its rows a weight of `rows` / n, unless a shorter interval gives them more.
    Other rows have weight 1. The weights of neighbouring stretched rows are scaled so that their sum is whole.

    Args:
        length: L, rows of the video.
        intervals: `[N, 2]` first row of each interval and one past its last, N >= 0.
        rows: U, rows that intervals shall have.

    Example:
        >>> stretch(4, np.array([[1, 3]]), rows=5).edges.tolist()
        [0.0, 1.0, 3.5, 6.0, 7.0]
    """
    weights = np.ones(length)
    for first, stop in intervals:
        if stop - first <= rows:
            weights[first:stop] = np.maximum(weights[first:stop], rows / (stop - first))
    marks = np.diff((weights > 1).astype(np.int64), prepend=0, append=0)
    for first, stop in zip(np.flatnonzero(marks == 1), np.flatnonzero(marks == -1), strict=True):
        total = weights[first:stop].sum()
        weights[first:stop] *= round(total) / total
    return TimeWarp(np.append(0.0, np.cumsum(weights)))


def interpolate(
    values: Float[Tensor, "batch time dim"], positions: Float[Tensor, "batch rows"]
) -> Float[Tensor, "batch rows dim"]:
    """Interpolate rows linearly at positions between them.

    Args:
        values: `[B, T, D]`.
        positions: `[B, rows]` from 0; those past the last row give the last row.

    Example:
        >>> interpolate(torch.tensor([[[0.0], [2.0]]]), torch.tensor([[0.0, 0.25, 1.0]])).flatten().tolist()
        [0.0, 0.5, 2.0]
    """
    last = values.shape[1] - 1
    positions = positions.to(values).clamp(max=last)
    low = positions.floor().long()
    index = torch.stack([low, (low + 1).clamp(max=last)]).unsqueeze(-1).expand(-1, -1, -1, values.shape[2])
    return torch.lerp(values.gather(1, index[0]), values.gather(1, index[1]), (positions - low).unsqueeze(-1))
