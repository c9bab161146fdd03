"""Losses of boundary-matching networks (BMN, G-TAD; BSN's boundaries): balanced cross-entropy, sampled regression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wstal.tensors import Scalar

EPSILON = 1e-6


def balanced_cross_entropy(
    probability: Tensor, positive: Tensor, valid: Tensor | None = None, extra: float = 0.0, epsilon: float = EPSILON
) -> Scalar:
    """Compute a cross-entropy in which positives together weigh as much as negatives, half each.

    With P positives and N negatives it is -sum over positives of log p / 2P - sum over negatives of log(1 - p) / 2N. A
    kind that does not occur adds 0.

    Args:
        probability: p, of any shape.
        positive: of that shape, true where the truth is 1.
        valid: of that shape, true where an entry counts. None: all count.
        extra: added to P and to N (G-TAD's 10).
        epsilon: added within the logarithms.

    Example:
        >>> positive = torch.tensor([True, False, False])
        >>> found = balanced_cross_entropy(torch.tensor([0.5, 0.5, 0.5]), positive, epsilon=0.0)
        >>> round(found.item(), 4)
        0.6931
    """
    mask = torch.ones_like(positive) if valid is None else valid
    yes, no = ((positive & mask).to(probability.dtype), (~positive & mask).to(probability.dtype))
    gain = (yes * (probability + epsilon).log()).sum() / (yes.sum() + extra).clamp(min=1)
    loss = (no * (1 - probability + epsilon).log()).sum() / (no.sum() + extra).clamp(min=1)
    return -0.5 * (gain + loss)


def sampled_weights(
    high: Tensor, others: Sequence[Tensor], draws: Sequence[Tensor] | None, ratios: Sequence[float] = (1.0, 1.0)
) -> Tensor:
    """Return the weights of entries in a loss that sees as many of each group as of the high ones.

    All high ones count. One of another group counts if its draw is above 1 - ratio x (number of high ones) / (number of
    its group's); without draws it has the probability of that as its weight.

    Args:
        high: true for the entries that always count.
        others: true for the entries of each other group, in order.
        draws: uniform numbers in [0, 1) for each other group, or None.
        ratios: entries of each other group for one high one.

    Example:
        >>> high, low = torch.tensor([True, False, False]), torch.tensor([False, True, True])
        >>> sampled_weights(high, [low], None, [1.0]).tolist()
        [1.0, 0.5, 0.5]
    """
    weights = high.to(torch.get_default_dtype())
    for number, (group, ratio) in enumerate(zip(others, ratios, strict=False)):
        share = (ratio * high.sum() / group.sum().clamp(min=1)).clamp(max=1)
        weights = weights + group * (share if draws is None else draws[number] > 1 - share)
    return weights


def iou_regression(
    predicted: Tensor, target: Tensor, valid: Tensor, draws: Sequence[Tensor] | None, zeros: bool = False
) -> Scalar:
    """Compute half the mean squared error of predicted IoU over equally many high, middle and low targets.

    High targets are above 0.7, middle ones above 0.3.

    Args:
        predicted: of any shape.
        target: IoU with the truth, of that shape.
        valid: true where an entry counts.
        draws: as in `sampled_weights`, for middle and low.
        zeros: low targets include those of no overlap.

    Example:
        >>> target = torch.tensor([0.8, 0.5, 0.1])
        >>> iou_regression(torch.zeros(3), target, torch.ones(3, dtype=torch.bool), None).item()
        0.15000000596046448
    """
    high, middle = (target > 0.7) & valid, (target > 0.3) & (target <= 0.7) & valid
    low = (target <= 0.3) & valid & (torch.ones_like(valid) if zeros else target > 0)
    weights = sampled_weights(high, [middle, low], draws).to(predicted.dtype)
    return 0.5 * (weights * (predicted - target) ** 2).sum() / weights.sum().clamp(min=1)


def uniform_draws(like: Tensor, training: bool, count: int = 2) -> list[Tensor] | None:
    """Draw uniform numbers of a tensor's shape in training; none in evaluation, where losses are expectations.

    Args:
        like: gives shape and device.
        training: mode of the method.
        count: number of tensors.

    Example:
        >>> uniform_draws(torch.zeros(2), training=False) is None
        True
    """
    return [torch.rand_like(like) for _ in range(count)] if training else None
