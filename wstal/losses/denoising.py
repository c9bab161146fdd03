"""D2-Net's denoising losses: mutual information as the ratio of a joint matrix's singular values."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wstal.tensors import Cas, Labels, Scalar

LOWEST_PROBABILITY, LOWEST_SINGULAR_VALUE = 1e-10, 1e-5


def snippet_denoising(
    cas: Cas, labels: Labels, foreground: Bool[Tensor, "batch time"], background: Bool[Tensor, "batch time"]
) -> Scalar:
    """Compute the mean over videos of the log singular ratio of the joint matrix of attention and activation.

    The rows of the 2 x 2 matrix are means of (q, 1 - q) over the foreground, where q is the highest activation of the
    video's classes, and over the background, where it is that of any class. Videos that lack either are left out.

    Args:
        cas: `[B, T, C]` activations.
        labels: `[B, C]` multi-hot.
        foreground: `[B, T]` snippets of high attention.
        background: `[B, T]` snippets of low attention.

    Example:
        >>> cas, labels = torch.tensor([[[0.75], [0.25]]]), torch.ones(1, 1)
        >>> high, low = torch.tensor([[True, False]]), torch.tensor([[False, True]])
        >>> round(snippet_denoising(cas, labels, high, low).item(), 4)  # singular values 1 and 1/2
        0.6931
    """
    of_video = torch.where(labels.unsqueeze(1) > 0, cas, 0.0).amax(dim=2)
    means = [
        (highest * chosen).sum(dim=1) / chosen.sum(dim=1).clamp(min=1)
        for highest, chosen in ((of_video, foreground), (cas.amax(dim=2), background))
    ]
    active = torch.stack(means, dim=1)
    joint = torch.stack([active, 1 - active], dim=2).clamp(min=LOWEST_PROBABILITY)
    both = foreground.any(dim=1) & background.any(dim=1)
    return (log_singular_ratio(joint, 0.0) * both).sum() / both.sum().clamp(min=1)


def video_denoising(scores: Labels, labels: Labels) -> Scalar:
    """Compute the log singular ratio of the joint matrix `[C, C]` of labels and predictions.

    A class's row is the mean prediction of its videos. A prediction is a video's scores without those up to a fifth of
    the best, divided by their sum.

    Args:
        scores: `[B, C]` in (0, 1).
        labels: `[B, C]` multi-hot, without a class where a video does not count.

    Example:
        >>> round(video_denoising(torch.tensor([[0.6, 0.2], [0.2, 0.6]]), torch.eye(2)).item(), 4)  # 1 and 1/2
        0.6931
    """
    kept = torch.where(scores > 0.2 * scores.amax(dim=1, keepdim=True), scores, 0.0)
    share = labels / labels.sum(dim=0).clamp(min=1)
    return log_singular_ratio(share.mT @ (kept / kept.sum(dim=1, keepdim=True)), LOWEST_SINGULAR_VALUE)


def log_singular_ratio(matrices: Float[Tensor, "*batch rows columns"], least: float) -> Float[Tensor, "*batch"]:
    """Compute the log of the largest singular value over the smallest one above `least`, 0 if none is.

    Args:
        matrices: `[..., N, M]`.
        least: singular values up to here are left out.

    Example:
        >>> round(log_singular_ratio(torch.tensor([[4.0, 0.0], [0.0, 2.0]]), least=0.0).item(), 4)
        0.6931
    """
    # there is no decomposition in half precision
    values: Tensor = torch.linalg.svdvals(matrices.to(torch.promote_types(matrices.dtype, torch.float32)))
    counted = values > least
    smallest = torch.where(counted, values, math.inf).amin(dim=-1)
    some = counted.any(dim=-1)
    return torch.where(some, values.amax(dim=-1), 1.0).log() - torch.where(some, smallest, 1.0).log()
