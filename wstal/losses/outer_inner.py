"""Outer-inner contrast of boxes in a heat map, with the gradient of their bounds (AutoLoc's OIC layer)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Heat = Float[Tensor, "classes time"]
Boxes = Float[Tensor, "2 anchors time"]  # starts and ends, in rows
Contrast = Float[Tensor, "classes anchors time"]

INFLATION = 0.25  # of a box's width, to each side
LEAST_INFLATION = 1.0  # rows
INNER_MARGIN, OUTER_MARGIN = 1, 2  # rows by which a box may leave the video


def inflated(inner: Boxes) -> Boxes:
    """Extend boxes by a quarter of their width, at least a row, to each side.

    Example:
        >>> inflated(torch.tensor([[[0.0]], [[8.0]]])).flatten().tolist()
        [-2.0, 10.0]
    """
    start, end = inner
    by = ((end - start) * INFLATION).clamp(min=LEAST_INFLATION)
    return torch.stack([start - by, end + by])


def floored(boxes: Boxes, margin: int) -> Boxes:
    """Return bounds as whole rows, clipped to the video and `margin` rows beyond.

    Args:
        boxes: `[2, A, T]`.
        margin: rows.

    Example:
        >>> floored(torch.tensor([[[-2.5, 0.5]], [[0.2, 9.9]]]), margin=1).flatten().tolist()
        [-1.0, 0.0, 0.0, 2.0]
    """
    return boxes.clamp(-margin, boxes.shape[-1] - 1 + margin).floor()


def outer_inner_contrast(inner: Boxes, heat: Heat) -> Contrast:
    """Compute 1 - OIC loss of boxes: (mean heat inside - mean heat around + 1) / 2, or 0 where no row is around.

    Around is the inflated box without the box. Bounds are whole rows, so the gradient is that of the means by their
    bounds (see `bound_gradients`). Clipping and inflation pass gradients on unchanged: those of an outer box reach the
    inner box that it was inflated from.

    Args:
        inner: `[2, A, T]` starts and ends in rows, of each anchor at each snippet.
        heat: `[K, T]` scores of K classes, without gradient.

    Example:
        >>> heat, box = torch.tensor([[0.0, 1.0, 1.0, 0.0]]), torch.tensor([[[1.2]], [[2.2]]])
        >>> outer_inner_contrast(box.expand(2, 1, 4), heat)[0, 0, 0].item()  # 1 inside, 0 around
        1.0
    """
    contrast: Tensor = _OuterInnerContrast.apply(inner, heat)  # type: ignore[no-untyped-call]
    return contrast


class _OuterInnerContrast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inner: Tensor, heat: Tensor) -> Tensor:
        rows = floored(inner, INNER_MARGIN), floored(inflated(inner), OUTER_MARGIN)
        ctx.save_for_backward(*rows, heat)
        inside, around, _, rows_around = _means(*rows, heat)
        return torch.where(rows_around > 0, (inside - around + 1) / 2, 0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # of the loss, so the contrast's has the opposite sign
        of_inner, of_outer = bound_gradients(*ctx.saved_tensors)
        return -((of_inner + of_outer) * gradient[:, None]).sum(dim=0), None


def bound_gradients(
    inner: Boxes, outer: Boxes, heat: Heat
) -> tuple[Float[Tensor, "classes 2 anchors time"], Float[Tensor, "classes 2 anchors time"]]:
    """Return the gradients of the OIC loss (mean around - mean inside + 1) / 2 by the bounds of both boxes.

    A bound that moves by a row moves the heat at it from one mean into the other.

    Args:
        inner: `[2, A, T]` whole rows, the last one included.
        outer: the same.
        heat: `[K, T]`.

    Returns:
        Those of the inner box and those of the outer one.

    Example:
        >>> heat = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
        >>> inner, outer = (torch.tensor(box)[:, None, None].expand(2, 1, 4) for box in ([1.0, 2.0], [0.0, 3.0]))
        >>> [part[0, :, 0, 0].tolist() for part in bound_gradients(inner, outer, heat)]
        [[0.25, -0.25], [0.0, 0.0]]
    """
    inside, around, rows, rows_around = _means(inner, outer, heat)
    rows_around = rows_around.clamp(min=1)

    def at(row: Tensor) -> Tensor:
        within = (row >= 0) & (row < heat.shape[1])
        return heat[:, row.clamp(0, heat.shape[1] - 1).long()] * within

    start, end = (at(bound) for bound in inner)
    outer_start, outer_end = (at(bound) for bound in outer)
    of_start = (start - around) / rows_around - (inside - start) / rows
    of_end = (around - end) / rows_around - (end - inside) / rows
    of_outer = (around - outer_start) / rows_around, (outer_end - around) / rows_around
    return torch.stack([of_start, of_end], dim=1) / 2, torch.stack(of_outer, dim=1) / 2


def _means(inner: Boxes, outer: Boxes, heat: Heat) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the mean heat inside, that of the outer box without the inner, and the rows of both.

    Rows outside of the video count, with heat 0. As in the release a box that ends at row 0 has no heat.
    """
    summed = functional.pad(heat.cumsum(dim=1), (1, 0))
    (inner_heat, inner_rows), (outer_heat, outer_rows) = (_box_sum(box, summed) for box in (inner, outer))
    around = outer_rows - inner_rows
    return inner_heat / inner_rows, (outer_heat - inner_heat) / around.clamp(min=1), inner_rows, around


def _box_sum(boxes: Boxes, summed: Float[Tensor, "classes edges"]) -> tuple[Contrast, Float[Tensor, "anchors time"]]:
    """Return the summed heat of each box, and its rows. `summed`: heat before each row."""
    start, end = boxes
    last = summed.shape[1] - 1
    stop = torch.where(end > 0, (end + 1).clamp(max=last), 0)
    at_stop, at_start = (summed[:, edge.long()] for edge in (stop, start.clamp(0, last)))
    return at_stop - at_start, end - start + 1
