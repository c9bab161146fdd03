"""Contrastive losses of representative features with the memory bank: the robust loss of Eq. 9, and InfoNCE.

`robust_contrast` and `info_nce` take the cosines of all anchors and slots. `bank_contrast` computes the same from the
features, for a bank so large that a pass over these cosines is expensive.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from wstal.device import to_device_async
from wstal.spec import Spec
from wstal.tensors import Scalar

Reduction = Literal["mean", "sum"]
Cost = Callable[[Tensor, Tensor], Tensor]
# Adam squares gradients, and single precision ends at exp(88); 11.5 = log(100,000 slots)
LARGEST_EXPONENT, LOG_SLOTS = 40.0, 11.5
NO_PAIR = -1e4  # in place of a cosine: adds nothing to a sum of exponentials, and is finite


class ContrastOptions(Spec):
    """Options of the RMGCL loss (Eq. 9)."""

    loss: Literal["robust", "info_nce"] = Field("robust", description="Eq. 9, or InfoNCE (Table V)")
    weight: float = Field(0.1, ge=0, description="mu of Eq. 17")
    q: float = Field(0.2, gt=0, le=1, description="the exponent q of Eq. 9")
    density: float = Field(0.5, gt=0, le=1, description="lambda of Eq. 9")
    temperature: float = Field(0.1, ge=0.01, description="tau of Eq. 9 (not stated)")
    reduction: Reduction = Field("mean", description="over an anchor's positives; the paper writes a sum")
    anchors: Literal["all", "actions"] = Field(
        "all",
        exclude_if=lambda anchors: anchors == "all",  # newer than stored runs, so its default is not written
        description="features that are compared with the bank (not stated): all, or of action classes alone, to which "
        "background is a negative",
    )
    own_video: bool = Field(
        True,
        exclude_if=lambda own: own,
        description="an anchor's positives may stem from its own video (not stated); false leaves out slots whose "
        "latest feature does",
    )
    balanced: bool = Field(
        False,
        exclude_if=lambda balanced: not balanced,
        description="count mu in units in which the contrast's gradient on F is as long as that of the base's loss in "
        "the first step that has both (the paper states mu alone)",
    )

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
    return _reduce(robust_cost(scaled, total, q, density), positive, reduction)


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
    return _reduce(info_nce_cost(scaled, total), positive, reduction)


def robust_cost(
    scaled: Float[Tensor, "*pairs"], total: Float[Tensor, "*pairs"], q: float, density: float
) -> Float[Tensor, "*pairs"]:
    """Compute the cost of positives in Eq. 9.

    Args:
        scaled: s+.
        total: log(exp(s+) + sum exp(s-)).
        q: exponent in (0, 1].
        density: lambda.

    Example:
        >>> round(robust_cost(torch.tensor(0.0), torch.tensor(1.0), q=1.0, density=1.0).item(), 4)  # e - 1
        1.7183
    """
    # expm1 in place of exp: the ones cancel, and small q keeps its digits
    return (torch.expm1(q * (total + math.log(density))) - torch.expm1(q * scaled)) / q


def info_nce_cost(scaled: Float[Tensor, "*pairs"], total: Float[Tensor, "*pairs"]) -> Float[Tensor, "*pairs"]:
    """Compute the cost of positives in InfoNCE.

    Args:
        scaled: s+.
        total: log(exp(s+) + sum exp(s-)).

    Example:
        >>> info_nce_cost(torch.tensor(1.0), torch.tensor(3.0)).item()
        2.0
    """
    return total - scaled


def bank_contrast(
    anchors: Float[Tensor, "anchors dim"],
    row: Int[Tensor, " anchors"],
    tokens: Float[Tensor, "slots dim"],
    filled: Int[Tensor, " rows"],
    cost: Cost,
    temperature: float,
    reduction: Reduction = "mean",
    owners: tuple[Int[Tensor, " anchors"], Int[Tensor, " slots"]] | None = None,
) -> Scalar:
    """Compute `robust_contrast` or `info_nce` of anchors and all slots, equal to rounding.

    Only positives have a cost, and negatives matter by their sum alone, so that few passes over all pairs are needed.
    With 128 anchors and 100,500 slots the other functions make 40 more.

    Args:
        anchors: `[anchors, D]` representative features.
        row: `[anchors]` memory row of each, on the host.
        tokens: `[S, D]` filled slots, row by row, without gradient.
        filled: `[rows]` number of slots of each row, on the host.
        cost: of positives, from s+ and log(exp(s+) + sum exp(s-)).
        temperature: tau.
        reduction: over the positives of an anchor.
        owners: numbers of the videos of anchors and slots, on the host: slots of an anchor's class and of its video
            then are no pair, neither positive nor negative.

    Returns:
        The mean over the anchors that have a positive, 0 if none has.

    Example:
        >>> anchors, tokens = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]])
        >>> loss = bank_contrast(anchors, torch.tensor([0]), tokens, torch.tensor([1, 1]), info_nce_cost, 1.0)
        >>> round(loss.item(), 4)  # log(2)
        0.6931
    """
    counts = filled[row]
    anchor = torch.arange(len(row)).repeat_interleave(counts)
    # the slots of an anchor's row follow each other in the bank
    nth = torch.arange(len(anchor)) - (counts.cumsum(0) - counts)[anchor]
    pairs = torch.stack([(filled.cumsum(0) - filled)[row][anchor] + nth, anchor])
    kept = pairs if owners is None else pairs[:, owners[0][anchor] != owners[1][pairs[0]]]
    counts = torch.bincount(kept[1], minlength=len(row))
    slot, anchor, positives = to_device_async(torch.stack([*kept, counts[kept[1]]]), anchors.device)
    of_the_class = (slot, anchor) if owners is None else tuple(to_device_async(pairs, anchors.device))
    scale = 1 / (temperature * torch.linalg.vector_norm(tokens, dim=1).clamp(min=1e-12))
    # slots first: a product of this shape is 1.4 times as fast as its transpose
    similarities = (tokens @ functional.normalize(anchors, dim=1).T) * scale.unsqueeze(1)
    scaled = similarities[slot, anchor]
    # an anchor without negatives has logaddexp(s, -inf) = s, value and gradient
    negatives = similarities.index_put(of_the_class, scaled.new_tensor(-math.inf)).logsumexp(dim=0)
    costs = cost(scaled, torch.logaddexp(scaled, negatives[anchor]))
    if reduction == "mean":
        costs = costs / positives
    return costs.sum() / max(int((counts > 0).sum()), 1)


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
