"""Losses and scores of class logits under one class-free attention: what HAM-Net and CO2-Net share."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from wstal.losses.mil import cross_entropy, with_background
from wstal.parts.pooling import top_k_share_mean
from wstal.types import Scores

LABEL_EPSILON = 1e-4


def min_shifted(
    logits: Float[Tensor, "batch time classes"], weights: Float[Tensor, "batch time 1"]
) -> Float[Tensor, "batch time classes"]:
    """w (X - m) + m, m the snippet's lowest logit: a weight of 0 makes all classes equally unlikely, at any sign of X.

    w X alone would raise a negative logit.
    """
    lowest = logits.min(dim=-1, keepdim=True).values
    return (logits - lowest) * weights + lowest


def video_log_scores(logits: Float[Tensor, "batch time classes"], ratio: int) -> Float[Tensor, "batch classes"]:
    """Log-softmax over classes of the mean of each class's k = max(floor(T / ratio), 1) largest logits."""
    return top_k_share_mean(logits, ratio).log_softmax(dim=1)


def video_loss(
    logits: Float[Tensor, "batch time classes"], labels: Float[Tensor, "batch actions"], *, background: bool, ratio: int
) -> Float[Tensor, ""]:
    """Cross-entropy of the video's scores, label vectors normalised by their sum + 1e-4.

    Args:
        logits: of the C action classes and, last, background.
        labels: multi-hot.
        background: whether the video's label has background too.
        ratio: as in `video_log_scores`.
    """
    return cross_entropy(video_log_scores(logits, ratio), with_background(labels, background), LABEL_EPSILON)


def guide_loss(
    attention: Float[Tensor, "batch time 1"], logits: Float[Tensor, "batch time classes"]
) -> Float[Tensor, ""]:
    """Mean of |1 - a - P(background)|, background the last class of softmax(X); both sides have gradient."""
    background = logits.softmax(dim=-1)[..., -1:]
    return (1 - attention - background).abs().mean()


def attended_scores(
    logits: Float[Tensor, "1 time classes"], attention: Float[Tensor, "1 time 1"], ratio: int
) -> Scores:
    """What localizers read of one video: everything but `attention` comes from a X, background left out at the end.

    `logit` is a X itself, which the methods' own localizers score; `cas` is its softmax.

    Args:
        logits: X of the C action classes and, last, background.
        attention: a.
        ratio: as in `video_log_scores`.
    """
    attended = logits * attention
    signals = {
        "cas": attended.softmax(dim=-1)[0, :, :-1],
        "attention": attention[0, :, 0],
        "logit": attended[0, :, :-1],
    }
    return Scores(signals, video_log_scores(attended, ratio).exp()[0, :-1])
