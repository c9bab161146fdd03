"""Binary cross-entropy with weights that balance frequent and rare classes (HAAN)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, where
from torch.nn import functional

from wstal.tensors import Scalar, VideoScores


def balance(labels: VideoScores, positives: Float[Tensor, " classes"], videos: Scalar) -> VideoScores:
    """Return the weight of each class's loss: classes / videos that have it for a video with it, else that do not.

    Args:
        labels: `[B, C]` multi-hot.
        positives: `[C]` training videos that have the class.
        videos: number of training videos.

    Example:
        >>> import torch
        >>> labels = torch.tensor([[1.0, 0.0]])
        >>> balance(labels, torch.tensor([4.0, 2.0]), torch.tensor(10.0)).tolist()
        [[0.5, 0.25]]
    """
    counts = where(labels > 0, positives, videos - positives)
    return labels.shape[1] / counts.clamp(min=1)


def balanced_loss(logits: VideoScores, labels: VideoScores, weights: VideoScores) -> Scalar:
    """Compute the sum over videos of the mean weighted binary cross-entropy of their classes.

    Args:
        logits: `[B, C]`.
        labels: `[B, C]` multi-hot.
        weights: `[B, C]`.

    Example:
        >>> import torch
        >>> loss = balanced_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
        >>> round(loss.item(), 4)  # log(2)
        0.6931
    """
    return functional.binary_cross_entropy_with_logits(logits, labels, weights, reduction="none").mean(dim=1).sum()
