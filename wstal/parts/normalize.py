"""Normalisation over time."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def min_max(values: Float[Tensor, "time ..."], clip: bool = False) -> Float[Tensor, "time ..."]:
    """Each column's values over time as (v - low) / (high - low), low and high their minimum and maximum, at least 0.

    A column without positive range is divided by 1 (BaS-Net, CoLA).

    Args:
        values: scores, of any sign.
        clip: bring what is below 0 to 0; else a negative value stays negative.
    """
    low, high = values.amin(dim=0).relu(), values.amax(dim=0).relu()
    scaled = (values - low) / (high - low).where(high > low, 1.0)
    return scaled.clamp(0, 1) if clip else scaled
