"""Multiple-instance classification losses on video-level scores."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from wstal.tensors import Labels, Scalar


def normalized(labels: Float[Tensor, "batch classes"], epsilon: float = 0.0) -> Float[Tensor, "batch classes"]:
    """Divide label vectors by their own sum (+ `epsilon`). A video without labels stays zero and has no loss.

    Args:
        labels: `[B, C]` multi-hot.
        epsilon: added to the sum, as some released code does.

    Example:
        >>> import torch
        >>> normalized(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])).tolist()
        [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    return labels / (labels.sum(dim=1, keepdim=True).clamp(min=1.0) + epsilon)


def with_background(labels: Labels, present: bool) -> Float[Tensor, "batch classes"]:
    """Append the label of the background class to action labels.

    Args:
        labels: `[B, C]` multi-hot.
        present: the video's label includes background.

    Example:
        >>> import torch
        >>> with_background(torch.tensor([[0.0, 1.0]]), True).tolist()
        [[0.0, 1.0, 1.0]]
    """
    return functional.pad(labels, (0, 1), value=float(present))


def cross_entropy(
    log_probabilities: Float[Tensor, "batch classes"], labels: Float[Tensor, "batch classes"], epsilon: float = 0.0
) -> Scalar:
    """Compute the mean over videos of -sum_c y_c log p_c, with labels normalised to sum 1 (ACM-Net's form of Eq. 5).

    Args:
        log_probabilities: `[B, C]` log p.
        labels: `[B, C]` multi-hot.
        epsilon: as in `normalized`.

    Example:
        >>> import torch
        >>> probabilities = torch.tensor([[0.5, 0.25, 0.25]])
        >>> round(cross_entropy(probabilities.log(), torch.tensor([[1.0, 0.0, 0.0]])).item(), 4)  # log(2)
        0.6931
    """
    return -(normalized(labels, epsilon) * log_probabilities).sum(dim=1).mean()
