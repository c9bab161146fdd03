"""Contrast of representative features with the memory bank: the robust loss of Eq. 9, and InfoNCE, its limit q -> 0."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Reduction = Literal["mean", "sum"]


def robust_contrast(
    cosines: Float[Tensor, "anchors slots"],
    positive: Bool[Tensor, "anchors slots"],
    q: float,
    density: float,
    temperature: float,
    reduction: Reduction = "mean",
) -> Float[Tensor, ""]:
    """Eq. 9: RINCE (Chuang et al., CVPR 2022) with every slot of the anchor's class as a positive.

    For s+ = cos+ / tau and s- = cos- / tau, each positive costs
    `-exp(q s+) / q + (lambda (exp(s+) + sum exp(s-)))^q / q`, taken in log space: finite in single precision
    while q (1 / tau + log(slots + 1)) stays well below 88; Adam's squares of its gradient need half of that.

    Args:
        cosines: similarity of each anchor to each filled slot.
        positive: slots of the anchor's class; all others are its negatives.
        q: 0 < q <= 1; near 0 it is InfoNCE, 1 is symmetric against noisy pairs.
        density: lambda.
        temperature: tau.
        reduction: over the positives of an anchor; the paper writes the sum.

    Returns:
        Mean over the anchors that have a positive; 0 where none has.
    """
    scaled, total = _positive_and_all(cosines, positive, temperature)
    # expm1 in place of exp: the ones cancel, and small q keeps its digits
    cost = (torch.expm1(q * (total + math.log(density))) - torch.expm1(q * scaled)) / q
    return _reduce(cost, positive, reduction)


def info_nce(
    cosines: Float[Tensor, "anchors slots"],
    positive: Bool[Tensor, "anchors slots"],
    temperature: float,
    reduction: Reduction = "mean",
) -> Float[Tensor, ""]:
    """InfoNCE with several positives: each costs `log(exp(s+) + sum exp(s-)) - s+`. Arguments as `robust_contrast`."""
    scaled, total = _positive_and_all(cosines, positive, temperature)
    return _reduce(total - scaled, positive, reduction)


def _positive_and_all(cosines: Tensor, positive: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """s of every pair, and log(exp(s) + sum over the anchor's negatives of exp(s-))."""
    scaled = cosines / temperature
    # -inf for positives; an anchor without negatives has logaddexp(s, -inf) = s, value and gradient
    negatives = scaled.masked_fill(positive, -math.inf).logsumexp(dim=1, keepdim=True)
    return scaled, torch.logaddexp(scaled, negatives)


def _reduce(cost: Tensor, positive: Tensor, reduction: Reduction) -> Tensor:
    count = positive.sum(dim=1)
    # negatives have no cost of their own: zeroed before the sum, so that their values cannot overflow it
    anchors = torch.where(positive, cost, 0.0).sum(dim=1)
    if reduction == "mean":
        anchors = anchors / count.clamp(min=1)
    return anchors.sum() / (count > 0).sum().clamp(min=1)
