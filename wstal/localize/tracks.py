"""Signals of many videos laid end to end, so that one call serves all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from wstal.types import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tracks:
    """K signals end to end, each followed by a gap row that belongs to none: runs cannot cross it.

    A row is followed by S - 1 samples on the straight line to the next.

    Args:
        rows: `[R]` values, 0 in gap rows.
        slope: `[R]` from each row to the next; a track's last row continues the one before, a gap row has 0.
        gap: `[K]` the gap row that ends each track.
        upsampling: S.
    """

    rows: Float64
    slope: Float64
    gap: IntArray
    upsampling: int

    @cached_property
    def samples(self) -> Float64:
        """`[R, S]` samples at rows 0, 1/S, ..., those of gap rows included."""
        fractions = np.arange(self.upsampling) / self.upsampling
        # torch does both in half of NumPy's time
        samples = torch.outer(torch.from_numpy(self.slope), torch.from_numpy(fractions))
        return samples.add_(torch.from_numpy(self.rows)[:, None]).numpy()

    @cached_property
    def first(self) -> IntArray:
        """`[K]` each track's first sample, as an index into the flat samples."""
        return np.append(0, self.gap[:-1] + 1) * self.upsampling

    def active(self, threshold: float, strict: bool) -> BoolArray:
        """`[R, S]` where samples reach (or, if strict, exceed) a threshold; what it says of gaps means nothing."""
        return self.samples > threshold if strict else self.samples >= threshold

    def edges(self, threshold: float, strict: bool) -> tuple[IntArray, IntArray]:
        """First sample and one past the last of each stretch of active samples, as indices into the flat samples."""
        on = self.rows > threshold if strict else self.rows >= threshold
        # On the line from one row to the next samples rise or fall, rounded or not. So only lines whose ends differ can
        # change, the last of each track, which has no other end, and gaps.
        look = np.append(on[1:] != on[:-1], True)
        look[self.gap - 1] = look[self.gap] = True
        row = np.flatnonzero(look)
        near = self.samples[row]
        states = near > threshold if strict else near >= threshold
        states[np.searchsorted(row, self.gap)] = False
        flat = states.reshape(-1)
        line, sample = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), self.upsampling)
        edges = np.append(np.flatnonzero(on[:1]), row[line] * self.upsampling + sample + 1)
        return edges[0::2], edges[1::2]  # a gap ends every track, so stretches come whole

    def prefix_sums(self, mask: BoolArray | None = None) -> Float64:
        """`[R * S + 1]` sums such that p[b] - p[a] is the sum of samples a..b-1 of a track, others than `mask` as 0.

        Each gap takes its track's sum away again, so prefix sums stay as small as one track's and the rounding in their
        differences does not grow with the number of videos: 4e-13 at most in the scores of 212 videos.
        """
        sums = np.empty(self.samples.size + 1)
        sums[0] = 0.0
        terms = sums[1:].reshape(self.samples.shape)
        np.multiply(self.samples, 1.0 if mask is None else mask, out=terms)
        terms[self.gap, 0] = -np.add.reduceat(sums[1:], self.first)
        torch.from_numpy(sums)[1:].cumsum_(dim=0)  # NumPy's adds the same in the same order, in four times the time
        return sums


def lay_out(signals: Sequence[FloatArray], upsampling: int) -> Tracks:
    """Join `[T]` signals, each interpolated to `upsampling` samples a row at rows 0, 1/s, ..., T - 1/s.

    The samples after the last row continue the last slope; a signal of one row is constant.
    """
    lengths = np.array([len(signal) for signal in signals], dtype=np.int64)
    gap = np.cumsum(lengths + 1) - 1
    rows = np.zeros(int(gap[-1]) + 1)
    is_row = np.ones(len(rows), dtype=np.bool_)
    is_row[gap] = False
    rows[is_row] = np.concatenate(signals)
    slope = np.append(np.diff(rows), 0.0)
    slope[gap] = 0.0
    slope[gap - 1] = np.where(lengths > 1, slope[gap - 2], 0.0)
    return Tracks(rows, slope, gap, upsampling)


def upsample(signal: FloatArray, upsampling: int) -> Float64:
    """`[T]` values to `[T * upsampling]`: linear at rows 0, 1/s, ..., T - 1/s, extrapolating past the last row."""
    return lay_out([signal], upsampling).samples[:-1].reshape(-1)
