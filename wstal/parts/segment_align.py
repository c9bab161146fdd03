"""Features of time intervals: each interval is divided into bins, each bin takes the mean of the sequence in it.

A bin's mean is that of a few evenly spaced points, and the value at a point is interpolated between the two nearest
rows. The values are linear in the sequence, so one matrix does it, of which few entries differ from zero.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Edges = Float[Tensor, "*intervals"]


@torch.no_grad()
def align_matrix(start: Edges, end: Edges, bins: int, length: int) -> Float[Tensor, "*intervals bins time"]:
    """Return the matrix whose product with a sequence `[T, D]` gives the mean of each bin of each interval.

    An interval has at least one row of length. A bin of r rows has ceil(r) points. Rows stand at whole numbers. Beyond
    the first and the last row the sequence goes on for one row with their values, and is zero from there on.

    Args:
        start: first edge of each interval, in rows.
        end: last edge of each interval, in rows.
        bins: bins of an interval.
        length: T, rows of the sequence.

    Example:
        >>> align_matrix(torch.tensor([1.0]), torch.tensor([3.0]), bins=2, length=4).tolist()
        [[[0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.5, 0.5]]]
    """
    size = (end - start).clamp(min=1)[..., None, None] / bins
    count = size.ceil()
    bin_of, point = (
        torch.arange(bins, device=start.device)[:, None],
        torch.arange(int(count.max()), device=start.device),
    )
    time = start[..., None, None] + bin_of * size + (point + 0.5) * size / count
    used = (point < count) & (time >= -1) & (time <= length)
    inside = time.clamp(min=0)
    low = inside.floor().clamp(max=length - 1)
    share = torch.where(low >= length - 1, 0, inside - low)  # the last row holds
    weight = torch.cat([1 - share, share], dim=-1) * torch.cat([used, used], dim=-1) / count
    row = torch.cat([low, (low + 1).clamp(max=length - 1)], dim=-1).long()
    matrix = weight.new_zeros(*weight.shape[:-1], length)
    return matrix.scatter_add(-1, row, weight)
