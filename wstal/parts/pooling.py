"""Pooling over time."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def top_k_count(length: int, ratio: int) -> int:
    """k = max(floor(T / ratio), 1)."""
    return max(length // ratio, 1)


def top_k_mean(values: Float[Tensor, "batch time classes"], k: int) -> Float[Tensor, "batch classes"]:
    """Mean of the k largest values over time, for each class on its own."""
    return values.topk(k, dim=1).values.mean(dim=1)


def top_k_features(
    features: Float[Tensor, "batch time dim"], weights: Float[Tensor, "batch time"], k: int
) -> Float[Tensor, "batch dim"]:
    """Mean of the features of the k snippets with the largest weights."""
    chosen = weights.topk(k, dim=1).indices
    return features.gather(1, chosen.unsqueeze(-1).expand(-1, -1, features.shape[-1])).mean(dim=1)


def smooth(columns: Float[Tensor, "batch columns time"], half_window: int) -> Float[Tensor, "batch columns time"]:
    """Mean of each row and `half_window` rows to either side, zeros beyond the ends (HAM-Net, CO2-Net)."""
    return functional.avg_pool1d(columns, 2 * half_window + 1, stride=1, padding=half_window)
