"""Features of time intervals: each interval is divided into bins, each bin takes the mean of the sequence in it.

A bin's mean is that of a few evenly spaced points, and the value at a point is interpolated between the two nearest
rows. The values are linear in the sequence, so one matrix does it, of which few entries differ from zero.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

Edges = Float[Tensor, "*intervals"]


class Taps(NamedTuple):
    """Rows that each bin reads, with their weights.

    Args:
        index: `[..., bins, taps]` row of the sequence.
        weight: `[..., bins, taps]`, 0 where a bin has fewer taps than others.
    """

    index: Int[Tensor, "*bins taps"]
    weight: Float[Tensor, "*bins taps"]


@torch.no_grad()
def align_taps(start: Edges, end: Edges, bins: int, length: int) -> Taps:
    """Return what the bins of each interval read of a sequence, two rows for each point.

    An interval has at least one row of length. A bin of r rows has ceil(r) points. Rows stand at whole numbers. Beyond
    the first and the last row the sequence goes on for one row with their values, and is zero from there on.

    Args:
        start: first edge of each interval, in rows.
        end: last edge of each interval, in rows.
        bins: bins of an interval.
        length: T, rows of the sequence.

    Example:
        >>> taps = align_taps(torch.tensor([1.0]), torch.tensor([3.0]), bins=2, length=4)
        >>> taps.index.tolist(), taps.weight.tolist()
        ([[[1, 2], [2, 3]]], [[[0.5, 0.5], [0.5, 0.5]]])
    """
    size = (end - start).clamp(min=1)[..., None, None]
    count = (size / bins).ceil()
    bin_of, point = (
        torch.arange(bins, device=start.device)[:, None],
        torch.arange(int(count.max()), device=start.device),
    )
    time = start[..., None, None] + bin_of * (size / bins) + (point + 0.5) * (size / bins) / count
    used = (point < count) & (time >= -1) & (time <= length)
    low = time.clamp(min=0).floor().clamp(max=length - 1)
    beyond = time.clamp(min=0) - low
    fraction = torch.where(low >= length - 1, 0, beyond)  # the last row holds
    weight = torch.stack([1 - fraction, fraction], dim=-1) * (used / count)[..., None]
    index = torch.stack([low, (low + 1).clamp(max=length - 1)], dim=-1).long()
    return Taps(index.flatten(-2), weight.flatten(-2))


def align_matrix(start: Edges, end: Edges, bins: int, length: int) -> Float[Tensor, "*intervals bins time"]:
    """Return the matrix whose product with a sequence `[T, D]` gives the mean of each bin of each interval.

    Args:
        start: first edge of each interval, in rows.
        end: last edge of each interval, in rows.
        bins: bins of an interval.
        length: T, rows of the sequence.

    Example:
        >>> align_matrix(torch.tensor([1.0]), torch.tensor([3.0]), bins=2, length=4).tolist()
        [[[0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.5, 0.5]]]
    """
    taps = align_taps(start, end, bins, length)
    rows = taps.weight.new_zeros(*taps.weight.shape[:-1], length)
    return rows.scatter_add(-1, taps.index, taps.weight)
