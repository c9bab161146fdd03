"""Parts of methods that compare snippets with prototypes under an attention over time (RPN, SUB-ACT)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wstal.parts.cosine import cosines
from wstal.parts.layers import TemporalConv
from wstal.tensors import Embedded, Foreground

Matching = Literal["distance", "cosine"]
Graph = Float[Tensor, "nodes nodes"]


def distances(
    features: Float[Tensor, "*rows dim"], prototypes: Float[Tensor, "count dim"], matching: Matching, scale: float
) -> Float[Tensor, "*rows count"]:
    """Compute how far each feature is from each prototype.

    Args:
        features: `[..., D]` x.
        prototypes: `[N, D]` p.
        matching: `distance` is s |x - p|^2 / D, `cosine` is s (1 - cos(x, p)).
        scale: s.

    Example:
        >>> features, prototypes = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> [distances(features, prototypes, matching, 1.0).tolist() for matching in ("distance", "cosine")]
        [[[0.5, 4.0]], [[0.0, 1.0]]]
    """
    if matching == "cosine":
        return scale * (1 - cosines(features, prototypes))
    # without the differences themselves, which take N times the memory of the features
    lengths = features.square().sum(dim=-1, keepdim=True) + prototypes.square().sum(dim=-1)
    return scale / features.shape[-1] * (lengths - 2 * (features @ prototypes.mT))


def label_graph(labels: Iterable[tuple[int, ...]], nodes: int) -> Graph:
    """Count the videos in which each two classes occur, add one to each class's own count, and divide rows by sums.

    Args:
        labels: class indices of each video.
        nodes: number of classes. One that never occurs has an edge to itself alone.

    Example:
        >>> label_graph([(0, 1), (0,), (0,)], nodes=3).tolist()  # class 0 occurs three times, once with class 1
        [[0.800000011920929, 0.20000000298023224, 0.0], [0.3333333432674408, 0.6666666865348816, 0.0], [0.0, 0.0, 1.0]]
    """
    counts = torch.eye(nodes)
    for classes in labels:
        present = torch.tensor(classes, dtype=torch.int64)
        counts[present.unsqueeze(1), present] += 1
    return counts / counts.sum(dim=1, keepdim=True)


def limited(graph: Graph, share: float) -> Graph:
    """Limit what each node takes from all others, in proportion; the rest of its row's sum of 1 is its own.

    Args:
        graph: rows that sum to 1.
        share: largest sum of a row without its own edge.

    Example:
        >>> limited(torch.tensor([[0.5, 0.5], [0.0, 1.0]]), 0.25).tolist()
        [[0.75, 0.25], [0.0, 1.0]]
    """
    others = graph - graph.diag().diag()
    total = others.sum(dim=1, keepdim=True)
    others = others * torch.where(total > share, share / total, 1.0)
    return others + (1 - others.sum(dim=1)).diag()


class TimeAttention(nn.Module):
    """Attention of a small convolutional network: a softmax over time, so a video's weights sum to 1.

    Args:
        dim: D, columns of the features.
        width: hidden columns.

    Example:
        >>> TimeAttention(4, width=8)(torch.zeros(2, 1, 4)).tolist()  # a lone snippet has all of it
        [[[1.0]], [[1.0]]]
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        hidden = TemporalConv(dim, width, kernel_size=3, padding=1)
        self.layers = nn.Sequential(hidden, nn.LeakyReLU(0.2), nn.Dropout(0.5), TemporalConv(width, 1, kernel_size=1))

    def forward(self, embedded: Embedded) -> Foreground:
        """Return the weights."""
        weights: Tensor = self.layers(embedded).softmax(dim=1)
        return weights
