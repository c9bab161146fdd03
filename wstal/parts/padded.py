"""Pooling over time of videos of several lengths in one batch: rows of zeros at the end are padding."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wstal.tensors import Embedded, Features, Labels


def rows_present(features: Features) -> Bool[Tensor, "batch time"]:
    """Return false from a video's true length on, which is its number of rows that are not all zero, and at least 1.

    Example:
        >>> rows_present(torch.tensor([[[1.0], [2.0], [0.0]]])).tolist()
        [[True, True, False]]
    """
    lengths = features.any(dim=2).sum(dim=1).clamp(min=1)
    return torch.arange(features.shape[1], device=features.device) < lengths.unsqueeze(1)


def pooled_logits(
    logits: Float[Tensor, "batch time actions"], present: Bool[Tensor, "batch time"], ratio: int
) -> Labels:
    """Compute the mean over each video's k = ceil(length / ratio) highest logits, for each class separately.

    Args:
        logits: `[B, T, C]`.
        present: `[B, T]`, false where a row is padding.
        ratio: snippets per pooled snippet.

    Example:
        >>> logits = torch.tensor([[[1.0], [3.0], [2.0], [9.0]]])
        >>> pooled_logits(logits, torch.tensor([[True, True, True, False]]), ratio=2).tolist()
        [[2.5]]
    """
    k = -(-present.sum(dim=1) // ratio)
    most = -(-logits.shape[1] // ratio)
    highest = logits.masked_fill(~present.unsqueeze(-1), -math.inf).topk(most, dim=1).values
    counted = torch.arange(most, device=logits.device) < k.unsqueeze(1)
    return torch.where(counted.unsqueeze(-1), highest, 0.0).sum(dim=1) / k.unsqueeze(1)


def softmax_over_time(
    logits: Float[Tensor, "batch time actions"], present: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time actions"]:
    """Compute the softmax over each video's own rows, for each class separately. It is 0 where a row is padding.

    Args:
        logits: `[B, T, C]`.
        present: `[B, T]`, false where a row is padding.

    Example:
        >>> softmax_over_time(torch.zeros(1, 3, 1), torch.tensor([[True, True, False]])).flatten().tolist()
        [0.5, 0.5, 0.0]
    """
    return logits.masked_fill(~present.unsqueeze(-1), -math.inf).softmax(dim=1)


def smoothed(
    logits: Float[Tensor, "batch time actions"], present: Bool[Tensor, "batch time"], layer: nn.Conv1d
) -> Float[Tensor, "batch time actions"]:
    """Convolve the logits of each class over a video's own rows, and cut negative values off (3C-Net, A2CL-PT).

    Args:
        logits: `[B, T, C]`.
        present: `[B, T]`, false where a row is padding.
        layer: the convolution, which keeps T.

    Example:
        >>> layer = nn.Conv1d(1, 1, 1, bias=False)
        >>> _ = nn.init.constant_(layer.weight, 2.0)
        >>> smoothed(torch.tensor([[[1.0], [-1.0], [3.0]]]), torch.tensor([[True, True, False]]), layer).tolist()
        [[[2.0], [0.0], [0.0]]]
    """
    convolved: Tensor = layer(torch.where(present.unsqueeze(-1), logits, 0.0).transpose(1, 2))
    return convolved.relu().transpose(1, 2)


def labelled_pairs(labels: Labels, several: bool) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Return the numbers of the video and of the class of each label, video by video.

    Args:
        labels: `[B, C]` multi-hot, in host memory.
        several: whether videos with several labels count; else only those with one do.

    Example:
        >>> video, label = labelled_pairs(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), several=False)
        >>> video.tolist(), label.tolist()
        ([1], [1])
    """
    present = labels > 0
    if not several:
        present = present & (present.sum(dim=1, keepdim=True) == 1)
    video, label = present.nonzero(as_tuple=True)
    return video, label


def class_features(
    embedded: Embedded,
    weights: Float[Tensor, "batch time actions"],
    video: Int[Tensor, " pairs"],
    label: Int[Tensor, " pairs"],
) -> Float[Tensor, "pairs dim"]:
    """Compute the sum over time of a video's features, weighted for a class, for each (video, class) pair.

    Args:
        embedded: `[B, T, D]`.
        weights: `[B, T, C]`.
        video: `[N]` numbers of the videos.
        label: `[N]` numbers of the classes.

    Example:
        >>> embedded, weights = torch.tensor([[[2.0], [4.0]]]), torch.tensor([[[0.0, 0.5], [0.0, 0.25]]])
        >>> class_features(embedded, weights, torch.tensor([0]), torch.tensor([1])).tolist()
        [[2.0]]
    """
    return (weights.transpose(1, 2) @ embedded)[video, label]
