"""Normalisation over time."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def min_max(values: Float[Tensor, "time ..."], clip: bool = False) -> Float[Tensor, "time ..."]:
    """Scale each column over time to (v - low) / (high - low).

    low and high are the column's minimum and maximum, raised to at least 0.
    A column without positive range is divided by 1 (BaS-Net, CoLA).

    Args:
        values: `[T, ...]` scores of any sign.
        clip: set values below 0 to 0. False: a negative value stays negative.

    Example:
        >>> import torch
        >>> min_max(torch.tensor([[1.0], [2.0], [3.0]])).flatten().tolist()
        [0.0, 0.5, 1.0]
    """
    low, high = values.amin(dim=0).relu(), values.amax(dim=0).relu()
    scaled = (values - low) / (high - low).where(high > low, 1.0)
    return scaled.clamp(0, 1) if clip else scaled
