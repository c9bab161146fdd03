"""Targets of boundaries and of proposals in a window, in the window's rows, and candidates for boundaries."""

from __future__ import annotations

import torch
from torch import Tensor


def regions(instances: Tensor, half: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return `[N, 2]` regions around starts and around ends.

    Args:
        instances: `[N, 2]` start and end in rows.
        half: rows to each side, one value or `[N]`.

    Example:
        >>> [part.tolist() for part in regions(torch.tensor([[4.0, 9.0]]), half=1.5)]
        [[[2.5, 5.5]], [[7.5, 10.5]]]
    """
    start, end = instances.T
    return torch.stack([start - half, start + half], dim=1), torch.stack([end - half, end + half], dim=1)


def covered(intervals: Tensor, rows: int, shift: float = 0.0) -> Tensor:
    """Return `[T]`, the largest share of each row that one of the intervals covers. Row i spans [i, i + 1) + `shift`.

    Args:
        intervals: `[N, 2]` in rows.
        rows: T.
        shift: -0.5 puts the rows' middles at whole numbers.

    Example:
        >>> covered(torch.tensor([[1.5, 3.0]]), rows=4).tolist()
        [0.0, 0.5, 1.0, 0.0]
    """
    low = torch.arange(rows, dtype=intervals.dtype) + shift
    shared = torch.minimum(intervals[:, 1:], low + 1) - torch.maximum(intervals[:, :1], low)
    return torch.cat([shared, shared.new_zeros(1, rows)]).clamp(min=0).amax(dim=0)


def iou_map(instances: Tensor, rows: int, durations: int) -> Tensor:
    """Return `[D, T]`, the largest IoU of [i, i + d + 1] with an instance; 0 where that ends after the window.

    Args:
        instances: `[N, 2]` in rows.
        rows: T.
        durations: D.

    Example:
        >>> iou_map(torch.tensor([[0.0, 2.0]]), rows=3, durations=2).tolist()
        [[0.5, 0.5, 0.0], [1.0, 0.3333333333333333, 0.0]]
    """
    start = torch.arange(rows, dtype=torch.float64)
    end = start + torch.arange(1, durations + 1, dtype=torch.float64)[:, None]
    best = torch.zeros(durations, rows, dtype=torch.float64)
    for low, high in instances.double():  # a window has few, and all together take N times the memory
        shared = (torch.minimum(end, high) - torch.maximum(start, low)).clamp(min=0)
        best = torch.maximum(best, shared / ((end - start) + (high - low) - shared))
    return best * valid_cells(rows, durations)


def valid_cells(rows: int, durations: int) -> Tensor:
    """Return `[D, T]`, true where the proposal [i, i + d + 1] ends within the window.

    Args:
        rows: T.
        durations: D.

    Example:
        >>> valid_cells(3, 2).tolist()
        [[True, True, True], [True, True, False]]
    """
    return torch.arange(rows) + torch.arange(durations)[:, None] < rows


def boundary_candidates(curve: Tensor) -> Tensor:
    """Return which rows are candidates: a value above both neighbours or above half the largest, and both ends.

    Args:
        curve: `[..., T]` probability of a boundary.

    Example:
        >>> boundary_candidates(torch.tensor([0.1, 0.2, 0.1, 0.9, 0.3, 0.1])).tolist()
        [True, True, False, True, False, True]
    """
    found = curve > 0.5 * curve.amax(dim=-1, keepdim=True)
    found[..., 1:-1] |= (curve[..., 1:-1] > curve[..., :-2]) & (curve[..., 1:-1] > curve[..., 2:])
    found[..., 0] = found[..., -1] = True
    return found


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return `[..., P, N]` IoU of each interval with each other one; 0 where neither has a length.

    Args:
        first: `[..., P, 2]` start and end.
        second: `[..., N, 2]`.

    Example:
        >>> pairwise_iou(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
        [[0.5, 0.0]]
    """
    start, end = (first[..., :, None, side] for side in (0, 1))
    low, high = (second[..., None, :, side] for side in (0, 1))
    shared = (torch.minimum(end, high) - torch.maximum(start, low)).clamp(min=0)
    return shared / ((end - start) + (high - low) - shared).clamp(min=torch.finfo(first.dtype).tiny)
