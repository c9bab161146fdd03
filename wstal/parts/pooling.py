"""Pooling and normalisation over time."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from wstal.tensors import Embedded


def top_k_count(length: int, ratio: int) -> int:
    """Return k = max(floor(T / ratio), 1).

    Args:
        length: T, number of snippets.
        ratio: snippets per pooled snippet.

    Example:
        >>> top_k_count(750, 8), top_k_count(3, 8)
        (93, 1)
    """
    return max(length // ratio, 1)


def top_k_mean(values: Float[Tensor, "batch time classes"], k: int) -> Float[Tensor, "batch classes"]:
    """Compute the mean of the k largest values over time, for each class separately.

    Args:
        values: `[B, T, C]`.
        k: number of values, at most T.

    Example:
        >>> import torch
        >>> top_k_mean(torch.tensor([[[1.0, 8.0], [3.0, 0.0], [2.0, 4.0]]]), k=2).tolist()
        [[2.5, 6.0]]
    """
    return values.topk(k, dim=1).values.mean(dim=1)


def top_k_share_mean(values: Float[Tensor, "batch time classes"], ratio: int) -> Float[Tensor, "batch classes"]:
    """Compute `top_k_mean` with k = max(floor(T / ratio), 1).

    Args:
        values: `[B, T, C]`.
        ratio: snippets per pooled snippet.

    Example:
        >>> import torch
        >>> top_k_share_mean(torch.tensor([[[1.0], [3.0], [2.0], [0.0]]]), ratio=2).tolist()
        [[2.5]]
    """
    return top_k_mean(values, top_k_count(values.shape[1], ratio))


def above_mean(values: Float[Tensor, "batch time classes"]) -> Float[Tensor, "batch classes"]:
    """Compute the mean of each class's values that are not below their own mean over time (HAAN).

    Example:
        >>> import torch
        >>> above_mean(torch.tensor([[[1.0], [4.0], [7.0]]])).tolist()
        [[5.5]]
    """
    # rounding may leave the mean of equal values above all of them
    chosen = values >= values.mean(dim=1, keepdim=True).minimum(values.amax(dim=1, keepdim=True))
    return (values * chosen).sum(dim=1) / chosen.sum(dim=1)


def take_rows(features: Embedded, rows: Int[Tensor, "batch k"]) -> Float[Tensor, "batch k dim"]:
    """Return the chosen rows of each video.

    Args:
        features: `[B, T, D]`.
        rows: `[B, k]` indices below T.

    Example:
        >>> import torch
        >>> take_rows(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[2, 0]])).tolist()
        [[[3.0], [1.0]]]
    """
    return features.gather(1, rows.unsqueeze(-1).expand(-1, -1, features.shape[-1]))


def top_k_features(features: Embedded, weights: Float[Tensor, "batch time"], k: int) -> Float[Tensor, "batch dim"]:
    """Compute the mean of the features of the k snippets with the largest weights.

    Args:
        features: `[B, T, D]`.
        weights: `[B, T]`.
        k: number of snippets, at most T.

    Example:
        >>> import torch
        >>> top_k_features(torch.tensor([[[1.0], [2.0], [4.0]]]), torch.tensor([[0.1, 0.9, 0.8]]), k=2).tolist()
        [[3.0]]
    """
    return take_rows(features, weights.topk(k, dim=1).indices).mean(dim=1)


def smooth(columns: Float[Tensor, "batch columns time"], half_window: int) -> Float[Tensor, "batch columns time"]:
    """Compute the mean of each row and `half_window` rows to either side, with zeros past the ends (HAM-Net, CO2-Net).

    Args:
        columns: `[B, columns, T]`.
        half_window: rows to either side.

    Example:
        >>> import torch
        >>> smooth(torch.tensor([[[3.0, 3.0, 3.0]]]), half_window=1).tolist()
        [[[2.0, 3.0, 2.0]]]
    """
    return functional.avg_pool1d(columns, 2 * half_window + 1, stride=1, padding=half_window)


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


def logit_signals(
    logits: Float[Tensor, "time actions"], probabilities: Float[Tensor, " actions"]
) -> dict[str, Float[Tensor, "time ..."]]:
    """Return the localizers' signals of a method whose CAS are logits of any sign, without background and attention.

    Args:
        logits: `[T, C]` of one video.
        probabilities: `[C]` of the video's classes.

    Returns:
        `logit`; `above_midpoint`, the logits minus the midpoint of their class's range in the video; `cas`, the
        position within that range, from 0 to 1; `attention`, the mean of `cas` over classes weighted by probability.

    Example:
        >>> import torch
        >>> signals = logit_signals(torch.tensor([[-1.0], [3.0]]), torch.tensor([1.0]))
        >>> signals["above_midpoint"].flatten().tolist(), signals["cas"].flatten().tolist()
        ([-2.0, 2.0], [0.0, 1.0])
    """
    highest, lowest = logits.amax(dim=0), logits.amin(dim=0)
    cas = (logits - lowest) / (highest - lowest).where(highest > lowest, 1.0)
    return {
        "cas": cas,
        "attention": cas @ probabilities,
        "logit": logits,
        "above_midpoint": logits - (highest + lowest) / 2,
    }


def above_half(scores: Float[Tensor, " classes"]) -> Float[Tensor, " classes"]:
    """Set the scores of a video's classes to 0 that are not above half of the best one (3C-Net, A2CL-PT).

    Example:
        >>> import torch
        >>> above_half(torch.tensor([4.0, 3.0, 2.0])).tolist()
        [4.0, 3.0, 0.0]
    """
    return scores.where(scores > scores.amax() / 2, 0.0)
