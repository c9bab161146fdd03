"""W-TALC's co-activity similarity loss: videos of one class agree where it is active and differ where it is not."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def coactivity_loss(
    features: Float[Tensor, "batch time dim"],
    logits: Float[Tensor, "batch time classes"],
    labels: Float[Tensor, "batch actions"],
    pairs: int,
    present: Bool[Tensor, "batch time"] | None = None,
    margin: float = 0.5,
) -> Float[Tensor, ""]:
    """Mean over (pair, class of both its videos) of two hinges on cosine distances d (W-TALC, section 3.4).

    For each class, alpha is the softmax of its logits over time, H = sum_t alpha_t F_t the video's feature where the
    class is active and L = sum_t (1 - alpha_t) F_t the one where it is not (scaled by 1 / (T - 1) in the paper, which
    no cosine sees). The two videos of a pair cost [d(H1, H2) - d(H1, L2) + margin]+ / 2 and the same with L1, H2.

    Args:
        features: F.
        logits: of the action classes first; what follows them (background) is not read.
        labels: multi-hot.
        pairs: rows 0 and 1, 2 and 3, ... of the batch are pairs, as many as it holds of these.
        present: False where a row is padding.
        margin: of the hinges.

    Returns:
        0 where no pair shares a class.
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
