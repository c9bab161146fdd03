"""Contrastive losses of representative features with the memory bank: the robust loss of Eq. 9, and InfoNCE."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from wstal.spec import Spec
from wstal.tensors import Scalar

Reduction = Literal["mean", "sum"]
# Adam squares gradients, and single precision ends at exp(88); 11.5 = log(100,000 slots)
LARGEST_EXPONENT, LOG_SLOTS = 40.0, 11.5


class ContrastOptions(Spec):
    """Options of the RMGCL loss (Eq. 9)."""

    loss: Literal["robust", "info_nce"] = Field("robust", description="Eq. 9, or InfoNCE (Table V)")
    weight: float = Field(0.1, ge=0, description="mu of Eq. 17")
    q: float = Field(0.2, gt=0, le=1, description="the exponent q of Eq. 9")
    density: float = Field(0.5, gt=0, le=1, description="lambda of Eq. 9")
    temperature: float = Field(0.1, ge=0.01, description="tau of Eq. 9 (not stated)")
    reduction: Reduction = Field("mean", description="over an anchor's positives; the paper writes a sum")

    @model_validator(mode="after")
    def _finite(self) -> ContrastOptions:
        if self.loss == "robust" and self.q * (1 / self.temperature + LOG_SLOTS) > LARGEST_EXPONENT:
            raise ValueError(
                f"q {self.q:g} with temperature {self.temperature:g} overflows single precision: "
                f"q (1 / temperature + {LOG_SLOTS}) must be below {LARGEST_EXPONENT:g}"
            )
        return self


def robust_contrast(
    cosines: Float[Tensor, "anchors slots"],
    positive: Bool[Tensor, "anchors slots"],
    q: float,
    density: float,
    temperature: float,
    reduction: Reduction = "mean",
) -> Scalar:
    """Compute Eq. 9: RINCE (Chuang et al., CVPR 2022) with every slot of the anchor's class as a positive.

    For s+ = cos+ / tau and s- = cos- / tau, each positive costs
    `-exp(q s+) / q + (lambda (exp(s+) + sum exp(s-)))^q / q`, computed in log space. It is finite in single precision
    while q (1 / tau + log(slots + 1)) is well below 88. Adam squares the gradient, which needs half of that.

    Args:
        cosines: `[anchors, slots]` similarity of each anchor to each filled slot.
        positive: `[anchors, slots]`, true for slots of the anchor's class. All others are its negatives.
        q: exponent in (0, 1]. The limit 0 is InfoNCE, and 1 is symmetric against noisy pairs.
        density: lambda.
        temperature: tau.
        reduction: over the positives of an anchor. The paper writes the sum.

    Returns:
        The mean over the anchors that have a positive, 0 if none has.

    Example:
        >>> cosines, positive = torch.tensor([[1.0, 0.0]]), torch.tensor([[True, False]])
        >>> round(robust_contrast(cosines, positive, q=1.0, density=0.5, temperature=1.0).item(), 4)  # (1 - e) / 2
        -0.8591
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
) -> Scalar:
    """Compute InfoNCE with several positives: each costs `log(exp(s+) + sum exp(s-)) - s+` (Eq. 9 for q -> 0).

    Args:
        cosines: `[anchors, slots]` similarity of each anchor to each filled slot.
        positive: `[anchors, slots]`, true for slots of the anchor's class. All others are its negatives.
        temperature: tau.
        reduction: over the positives of an anchor.

    Returns:
        The mean over the anchors that have a positive, 0 if none has.

    Example:
        >>> cosines, positive = torch.tensor([[0.0, 0.0]]), torch.tensor([[True, False]])
        >>> round(info_nce(cosines, positive, temperature=1.0).item(), 4)  # log(2)
        0.6931
    """
    scaled, total = _positive_and_all(cosines, positive, temperature)
    return _reduce(total - scaled, positive, reduction)


def _positive_and_all(cosines: Tensor, positive: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return s of every pair, and log(exp(s) + sum over the anchor's negatives of exp(s-))."""
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
