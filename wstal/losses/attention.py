"""Losses of a class-agnostic attention (TSCN, RSKP), and of class logits under it (HAM-Net, CO2-Net, AUMN)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from wstal.losses.mil import cross_entropy, with_background
from wstal.parts.pooling import top_k_count, top_k_mean, top_k_share_mean
from wstal.tensors import Cas, Foreground, Labels, Scalar, VideoScores
from wstal.types import Scores

LABEL_EPSILON = 1e-4


def min_shifted(logits: Cas, weights: Foreground) -> Cas:
    """Return w (X - m) + m, where m is the lowest logit of the snippet.

    A weight of 0 makes all classes equally unlikely. w X alone would raise negative logits.

    Args:
        logits: `[B, T, C]` X.
        weights: `[B, T, 1]` w in [0, 1].

    Example:
        >>> import torch
        >>> min_shifted(torch.tensor([[[-1.0, 3.0]]]), torch.tensor([[[0.5]]])).tolist()
        [[[-1.0, 1.0]]]
    """
    lowest = logits.min(dim=-1, keepdim=True).values
    return (logits - lowest) * weights + lowest


def video_log_scores(logits: Cas, ratio: int) -> VideoScores:
    """Return the log-softmax over classes of top-k pooled logits, with k = max(floor(T / ratio), 1).

    Args:
        logits: `[B, T, C]` snippet logits.
        ratio: snippets per pooled snippet.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]])
        >>> video_log_scores(logits, ratio=2).exp().tolist()
        [[0.5, 0.5]]
    """
    return top_k_share_mean(logits, ratio).log_softmax(dim=1)


def video_loss(logits: Cas, labels: Labels, *, background: bool, ratio: int) -> Scalar:
    """Compute the cross-entropy of the video's scores, with label vectors divided by their sum + 1e-4.

    Args:
        logits: `[B, T, C + 1]` logits of the C action classes and, last, background.
        labels: `[B, C]` multi-hot.
        background: the video's label includes background.
        ratio: as in `video_log_scores`.

    Example:
        >>> import torch
        >>> loss = video_loss(torch.zeros(1, 4, 2), torch.tensor([[1.0]]), background=False, ratio=2)
        >>> round(loss.item(), 3)  # log(2)
        0.693
    """
    return cross_entropy(video_log_scores(logits, ratio), with_background(labels, background), LABEL_EPSILON)


def guide_loss(attention: Foreground, logits: Cas) -> Scalar:
    """Compute the mean of |1 - a - P(background)|, with background as the last class of softmax(X).

    Both sides have a gradient.

    Args:
        attention: `[B, T, 1]` a in [0, 1].
        logits: `[B, T, C + 1]` X.

    Example:
        >>> import torch
        >>> guide_loss(torch.tensor([[[0.25]]]), torch.tensor([[[0.0, 0.0]]])).item()
        0.25
    """
    background = logits.softmax(dim=-1)[..., -1:]
    return (1 - attention - background).abs().mean()


def normalization_loss(attention: Foreground, ratio: int) -> Scalar:
    """Compute the mean of the k lowest attentions minus that of the k highest, with k = max(floor(T / ratio), 1).

    It is between -1, where these are 0 and 1, and 0, where all attentions are alike (TSCN).

    Args:
        attention: `[B, T, 1]` a in [0, 1].
        ratio: T / k.

    Example:
        >>> import torch
        >>> normalization_loss(torch.tensor([[[0.25], [0.5], [1.0]]]), ratio=3).item()
        -0.75
    """
    k = top_k_count(attention.shape[1], ratio)
    return (-top_k_mean(-attention, k) - top_k_mean(attention, k)).mean()


def attended_scores(
    logits: Float[Tensor, "1 time classes"], attention: Float[Tensor, "1 time 1"], ratio: int
) -> Scores:
    """Return one video's scores for localizers, computed from a X with background removed at the end.

    The signal `logit` is a X itself, which the methods' own localizers score, and `cas` is its softmax.

    Args:
        logits: `[1, T, C + 1]` X, logits of the C action classes and, last, background.
        attention: `[1, T, 1]` a.
        ratio: as in `video_log_scores`.

    Example:
        >>> import torch
        >>> scores = attended_scores(torch.zeros(1, 4, 3), torch.ones(1, 4, 1), ratio=2)
        >>> {name: tuple(signal.shape) for name, signal in scores.signals.items()}
        {'cas': (4, 2), 'attention': (4,), 'logit': (4, 2)}
    """
    attended = logits * attention
    signals = {
        "cas": attended.softmax(dim=-1)[0, :, :-1],
        "attention": attention[0, :, 0],
        "logit": attended[0, :, :-1],
    }
    return Scores(signals, video_log_scores(attended, ratio).exp()[0, :-1])
