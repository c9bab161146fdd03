"""Multiple-instance classification losses on video-level scores."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def normalized(labels: Float[Tensor, "batch classes"], epsilon: float = 0.0) -> Float[Tensor, "batch classes"]:
    """Label vectors divided by their own sum (+ `epsilon`); a video without any label stays zero and costs nothing."""
    return labels / (labels.sum(dim=1, keepdim=True).clamp(min=1.0) + epsilon)


def with_background(labels: Float[Tensor, "batch actions"], present: bool) -> Float[Tensor, "batch classes"]:
    """Append the label of the background class to multi-hot action labels."""
    return functional.pad(labels, (0, 1), value=float(present))


def cross_entropy(
    log_probabilities: Float[Tensor, "batch classes"], labels: Float[Tensor, "batch classes"], epsilon: float = 0.0
) -> Float[Tensor, ""]:
    """Mean over videos of -sum_c y_c log p_c, labels normalised to sum 1 (ACM-Net's form of the paper's Eq. 5)."""
    return -(normalized(labels, epsilon) * log_probabilities).sum(dim=1).mean()
