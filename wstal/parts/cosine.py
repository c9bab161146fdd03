"""Cosine classifiers: learned class vectors that are compared with features by angle (FAC-Net, RSKP)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wstal.tensors import Attention, Embedded

EPSILON = 1e-9


def unit(vectors: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Scale vectors to length 1: v / (|v| + 1e-9). A zero vector stays zero.

    Example:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / (lengths + EPSILON)


def cosines(
    features: Float[Tensor, "*rows dim"], vectors: Float[Tensor, "*groups count dim"]
) -> Float[Tensor, "*rows count"]:
    """Compute the cosine of each feature with each vector.

    Args:
        features: `[..., rows, D]`.
        vectors: `[N, D]`, or one such set per video.

    Example:
        >>> cosines(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist()
        [[1.0, 0.0]]
    """
    return unit(features) @ unit(vectors).mT


def normalized(weights: Attention, epsilon: float = EPSILON) -> Attention:
    """Divide weights by their sum over time (+ `epsilon`).

    Args:
        weights: `[B, T, kinds]`.
        epsilon: added to the sum.

    Example:
        >>> normalized(torch.tensor([[[1.0], [3.0]]])).tolist()
        [[[0.25], [0.75]]]
    """
    return weights / (weights.sum(dim=1, keepdim=True) + epsilon)


def pool(features: Embedded, weights: Attention) -> Float[Tensor, "batch kinds dim"]:
    """Compute the weighted sum over time, sum_t w_t f_t, for each kind of weight.

    Args:
        features: `[B, T, D]`.
        weights: `[B, T, kinds]`.

    Example:
        >>> pool(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[0.5], [0.5]]])).tolist()
        [[[2.0, 3.0]]]
    """
    return weights.mT @ features


class ClassVectors(nn.Module):
    """Learned vectors of the C classes and, last, of background, and one of foreground.

    The foreground vector starts as the opposite of the background vector.

    Args:
        dim: D, columns of the features.
        num_classes: C.

    Example:
        >>> ClassVectors(dim=4, num_classes=2).classes.shape
        torch.Size([3, 4])
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.empty(num_classes + 1, dim))
        nn.init.xavier_uniform_(self.classes)
        self.foreground = nn.Parameter(-self.classes.detach()[-1:])
