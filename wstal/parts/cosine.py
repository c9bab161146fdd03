"""Cosine classifiers: learned class vectors that features are compared with by angle (FAC-Net, RSKP)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-9


def unit(vectors: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Vectors of length 1: v / (|v| + 1e-9). A vector of zeros stays what it is."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / (lengths + EPSILON)


def cosines(
    features: Float[Tensor, "*rows dim"], vectors: Float[Tensor, "*groups count dim"]
) -> Float[Tensor, "*rows count"]:
    """Cosine of each feature to each vector; vectors may be one set, or one a video."""
    return unit(features) @ unit(vectors).mT


def normalized(
    weights: Float[Tensor, "batch time kinds"], epsilon: float = EPSILON
) -> Float[Tensor, "batch time kinds"]:
    """Weights divided by their sum over time (+ `epsilon`)."""
    return weights / (weights.sum(dim=1, keepdim=True) + epsilon)


def pool(
    features: Float[Tensor, "batch time dim"], weights: Float[Tensor, "batch time kinds"]
) -> Float[Tensor, "batch kinds dim"]:
    """sum_t w_t f_t, one a kind of weight."""
    return weights.mT @ features


class ClassVectors(nn.Module):
    """Vectors of the C classes and, last, of background; and one of foreground, which starts as background's opposite.

    Args:
        dim: D, columns of the features that are compared.
        num_classes: C.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.empty(num_classes + 1, dim))
        nn.init.xavier_uniform_(self.classes)
        self.foreground = nn.Parameter(-self.classes.detach()[-1:])
