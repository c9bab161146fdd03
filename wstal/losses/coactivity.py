"""W-TALC's co-activity similarity loss on pairs of videos that share a class."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from wstal.tensors import Cas, Embedded, Labels, Scalar


def coactivity_loss(
    features: Embedded,
    logits: Cas,
    labels: Labels,
    pairs: int,
    present: Bool[Tensor, "batch time"] | None = None,
    margin: float = 0.5,
) -> Scalar:
    """Compute the mean over (pair, shared class) of two hinges on cosine distances d (W-TALC, section 3.4).

    For each class, alpha is the softmax of its logits over time, H = sum_t alpha_t F_t the feature where the class is
    active, and L = sum_t (1 - alpha_t) F_t the feature where it is not (the paper's factor 1 / (T - 1) has no effect on
    a cosine). Each pair costs [d(H1, H2) - d(H1, L2) + margin]+ / 2 and the same with L1, H2.

    Args:
        features: `[B, T, D]` F.
        logits: `[B, T, C or more]` the C action classes first. Further columns (background) are ignored.
        labels: `[B, C]` multi-hot.
        pairs: number of leading pairs of the batch: rows 0 and 1, 2 and 3, ...
        present: `[B, T]`, false where a row is padding. None: no padding.
        margin: margin of the hinges.

    Returns:
        The loss, 0 if no pair shares a class.

    Example:
        >>> features = torch.ones(2, 3, 4)
        >>> coactivity_loss(features, torch.zeros(2, 3, 1), torch.tensor([[1.0], [1.0]]), pairs=1).item()
        0.5
    """
    rows = 2 * min(pairs, len(labels) // 2)
    features, logits, labels = features[:rows], logits[:rows, :, : labels.shape[1]], labels[:rows] > 0
    if present is not None:
        features = features * present[:rows].unsqueeze(-1)
        logits = logits.masked_fill(~present[:rows].unsqueeze(-1), -math.inf)
    active = logits.softmax(dim=1)
    high = torch.einsum("btc,btd->bcd", active, features)
    low = torch.einsum("btc,btd->bcd", 1 - active, features)

    agreement = _distance(high[0::2], high[1::2])
    hinges = (agreement - _distance(high[0::2], low[1::2]) + margin).relu()
    hinges = hinges + (agreement - _distance(low[0::2], high[1::2]) + margin).relu()
    shared = labels[0::2] & labels[1::2]
    return (hinges * shared).sum() / (2 * shared.sum().clamp(min=1))


def _distance(one: Tensor, other: Tensor) -> Float[Tensor, "pairs classes"]:
    return 1 - functional.cosine_similarity(one, other, dim=-1)
