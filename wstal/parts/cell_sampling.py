"""Sampling of proposal features: for each (duration, start) a weighted sum of rows, after the layer that follows it.

A network that samples 32 points of each of D x T proposals and joins them by a linear layer multiplies a tensor of
[channels, 32, D, T]. Both steps are linear, so the layer can come first, on T rows for each of the 32 points. What is
left is a sparse sum with a few entries a point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class SparseSum(nn.Module):
    """Constant sparse matrix `[cells, inputs]`, applied to `[inputs, width]` in time proportional to its entries.

    Its values are no part of `state_dict`: they follow from sizes.

    Args:
        cell: `[E]` row of each entry.
        source: `[E]` column of each entry.
        value: `[E]`.
        cells: rows of the matrix.
        sources: columns of the matrix.

    Example:
        >>> found = SparseSum(np.array([0, 0]), np.array([0, 2]), np.array([1.0, 0.5]), cells=2, sources=3)
        >>> found(torch.tensor([[1.0], [2.0], [4.0]])).tolist()
        [[3.0], [0.0]]
    """

    def __init__(self, cell: Any, source: Any, value: Any, cells: int, sources: int) -> None:
        super().__init__()
        for name, row, column, rows in (("", cell, source, cells), ("transposed_", source, cell, sources)):
            order = np.lexsort((column, row))
            first = np.searchsorted(row[order], np.arange(rows))
            self.register_buffer(f"{name}index", torch.from_numpy(np.ascontiguousarray(column[order])), False)
            self.register_buffer(f"{name}first", torch.from_numpy(first.astype(np.int64)), False)
            weights = torch.from_numpy(value[order]).to(torch.get_default_dtype())
            self.register_buffer(f"{name}value", weights, False)

    def forward(self, values: Tensor) -> Tensor:
        """Return `[cells, width]`."""
        own = (self.index, self.first, self.value)
        back = (self.transposed_index, self.transposed_first, self.transposed_value)
        found: Tensor = _Sum.apply(values, *own, *back)  # type: ignore[no-untyped-call]
        return found


class _Sum(torch.autograd.Function):
    """Sum both ways by the same kernel: torch's own backward of `embedding_bag` sorts the entries in each step."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, *tables: Tensor) -> Tensor:
        index, first, value, *back = tables
        ctx.save_for_backward(*back)
        return _sum(values, index, first, value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _sum(gradient.contiguous(), *ctx.saved_tensors), *[None] * 6


def _sum(values: Tensor, index: Tensor, first: Tensor, value: Tensor) -> Tensor:
    found: Tensor = functional.embedding_bag(
        index, values, first, mode="sum", per_sample_weights=value.to(values.dtype)
    )
    return found


def folded(sampling: SparseSum, rows: Tensor, weight: Tensor) -> Tensor:
    """Return `[B, F, cells]`: the sampled points of each cell, joined by a linear layer.

    Args:
        sampling: `[cells, points x T]`, column `point x T + row`.
        rows: `[B, C, T]`.
        weight: `[F, C, points]` of the layer.

    Example:
        >>> one = SparseSum(np.array([0]), np.array([3]), np.array([2.0]), cells=1, sources=4)
        >>> folded(one, torch.tensor([[[5.0, 7.0]]]), torch.tensor([[[1.0, 10.0]]])).tolist()
        [[[140.0]]]
    """
    batch, channels, length = rows.shape
    out, _, points = weight.shape
    stacked = rows.permute(2, 0, 1).reshape(length * batch, channels)
    by_point = weight.permute(1, 2, 0).reshape(channels, points * out)
    each = (stacked @ by_point).view(length, batch, points, out).permute(2, 0, 1, 3)
    found: Tensor = sampling(each.reshape(points * length, batch * out))
    return found.view(-1, batch, out).permute(1, 2, 0)


def matching_samples(
    rows: int, durations: int, points: int = 32, per_point: int = 3, by_end: bool = False
) -> SparseSum:
    """Return BMN's sampling: of each proposal, widened by half its length to each side, equally spaced points.

    The proposal of duration d and start i goes from row i to row i + d and has the length d + 1. Each point is the mean
    of `per_point` neighbouring positions, each linear between rows; positions outside of the window count as 0.

    Args:
        rows: T.
        durations: D.
        points: points of a proposal.
        per_point: positions averaged to a point.
        by_end: cells are (start, last row) in place of (duration, start), and proposals go one row further, as in the
            released ActivityNet code.

    Returns:
        Sampling `[D x T, points x T]`, or `[T x T, points x T]` by end. Empty for proposals that end after the window.

    Example:
        >>> matching_samples(rows=3, durations=2, points=1, per_point=1)(torch.eye(3)).shape
        torch.Size([6, 3])
    """
    entries = []
    start = np.arange(rows)
    for duration in range(durations):
        last = duration + by_end
        places = np.linspace(-0.5 * (last + 1), last + 0.5 * (last + 1), points * per_point)
        places = start[: max(rows - duration, 0), None] + places  # [starts, positions]
        low = np.trunc(places)  # towards 0, as the released code: between -1 and 0 the weights of row 0 add up to 1
        share = places - low
        point = np.broadcast_to(np.arange(points * per_point) // per_point, places.shape)
        first = start[: len(places)]
        cell = first * rows + first + duration if by_end else duration * rows + first
        cell = np.broadcast_to(cell[:, None], places.shape)
        for row, weight in ((low, 1 - share), (np.ceil(places), share)):
            inside = (row >= 0) & (row <= rows - 1) & (weight != 0)
            source = point[inside] * rows + row[inside].astype(np.int64)
            entries.append((cell[inside], source, weight[inside] / per_point))
    cell, source, value = (np.concatenate(column) for column in zip(*entries, strict=True))
    key, where = np.unique(cell * (points * rows) + source, return_inverse=True)
    sums = np.bincount(where, weights=value)
    cells = rows * (rows if by_end else durations)
    return SparseSum(key // (points * rows), key % (points * rows), sums, cells, points * rows)
