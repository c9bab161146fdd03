"""Pooling over time."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def top_k_count(length: int, ratio: int) -> int:
    """k = max(floor(T / ratio), 1)."""
    return max(length // ratio, 1)


def top_k_mean(values: Float[Tensor, "batch time classes"], k: int) -> Float[Tensor, "batch classes"]:
    """Mean of the k largest values over time, for each class on its own."""
    return values.topk(k, dim=1).values.mean(dim=1)


def top_k_share_mean(values: Float[Tensor, "batch time classes"], ratio: int) -> Float[Tensor, "batch classes"]:
    """X"""
    return top_k_mean(values, top_k_count(values.shape[1], ratio))


def take_rows(features: Float[Tensor, "batch time dim"], rows: Int[Tensor, "batch k"]) -> Float[Tensor, "batch k dim"]:
    """X"""
    return features.gather(1, rows.unsqueeze(-1).expand(-1, -1, features.shape[-1]))


def top_k_features(
    features: Float[Tensor, "batch time dim"], weights: Float[Tensor, "batch time"], k: int
) -> Float[Tensor, "batch dim"]:
    """Mean of the features of the k snippets with the largest weights."""
    return take_rows(features, weights.topk(k, dim=1).indices).mean(dim=1)


def smooth(columns: Float[Tensor, "batch columns time"], half_window: int) -> Float[Tensor, "batch columns time"]:
    """Mean of each row and `half_window` rows to either side, zeros beyond the ends (HAM-Net, CO2-Net)."""
    return functional.avg_pool1d(columns, 2 * half_window + 1, stride=1, padding=half_window)
