"""G-TAD: every interval of a window is a sub-graph of its snippets, whose overlap with the truth is regressed.

Snippets are nodes. Edges lead to the next snippets and to the most similar ones, and a block adds what convolutions
along both see. The features in and around every interval (a duration and a start) are pooled together with those of
similar snippets, and convolutions over the map of all intervals score them. Two heads for starts and ends help the
training alone. The proposals have no class: it comes from a classifier of videos.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal.parts.segment_align import align_matrix
from wstal.spec import Count, Spec
from wstal.tensors import Features

Nodes = Float[Tensor, "batch dim time"]
Map = Float[Tensor, "batch 2 durations time"]
GROUPS, GROUP_WIDTH = 32, 4  # of the convolutions of a graph block
INPUT_GROUPS = 4


class GtadOptions(Spec):
    """Options of G-TAD. The defaults are the released code's for THUMOS14."""

    width: Count = Field(256, description="columns of the encoded snippets")
    interval_width: Count = Field(512, description="columns of an interval's pooled features")
    map_width: Count = Field(128, description="columns of the convolutions over the map of intervals")
    kernel: Count = Field(3, description="size of these convolutions, odd")
    neighbours: Count = Field(3, description="most similar snippets that edges lead to, the snippet itself included")
    durations: Count = Field(64, description="longest interval (D), in rows")
    inner_bins: Count = Field(16, description="bins that an interval's own features are pooled to")
    context_bins: Count = Field(16, description="bins that the features of similar snippets are pooled to")


def nearest_rows(nodes: Nodes, count: int) -> Int[Tensor, "batch time neighbours"]:
    """Return the rows at the smallest Euclidean distance from each row, nearest first, itself included."""
    squares = (nodes**2).sum(dim=1)
    closeness = 2 * nodes.transpose(1, 2) @ nodes - squares[:, :, None] - squares[:, None, :]
    return closeness.topk(min(count, nodes.shape[2]), dim=2).indices


def neighbours_of(
    nodes: Nodes, index: Int[Tensor, "batch time neighbours"]
) -> Float[Tensor, "batch dim time neighbours"]:
    """Return the columns of each row's neighbours."""
    flat = index.flatten(1)[:, None].expand(-1, nodes.shape[1], -1)
    return nodes.gather(2, flat).unflatten(2, index.shape[1:])


class GraphBlock(nn.Module):
    """Residual block that adds convolutions over the next and over the most similar snippets (GCNeXt).

    Args:
        width: columns of the input and the output.
        neighbours: similar snippets.
    """

    def __init__(self, width: int, neighbours: int) -> None:
        super().__init__()
        inside = GROUPS * GROUP_WIDTH
        self.neighbours = neighbours
        self.temporal = nn.Sequential(
            nn.Conv1d(width, inside, 1),
            nn.ReLU(),
            nn.Conv1d(inside, inside, 3, padding=1, groups=GROUPS),
            nn.ReLU(),
            nn.Conv1d(inside, width, 1),
        )
        self.semantic = nn.Sequential(
            nn.Conv2d(2 * width, inside, 1),
            nn.ReLU(),
            nn.Conv2d(inside, inside, 1, groups=GROUPS),
            nn.ReLU(),
            nn.Conv2d(inside, width, 1),
        )

    def forward(self, nodes: Nodes) -> Nodes:
        """Return the nodes with what their edges add."""
        near = neighbours_of(nodes, nearest_rows(nodes, self.neighbours))
        edges = torch.cat([near, nodes[..., None].expand_as(near)], dim=1)
        return (self.temporal(nodes) + nodes + self.semantic(edges).amax(dim=3)).relu()


def anchors(durations: int, length: int) -> tuple[Tensor, Tensor]:
    """Return where the features of each interval `[D, T]` begin and end: half its length before and after it.

    Intervals that would leave the window are [0, 0]. They are scored, but no loss or detection reads that.
    """
    duration = torch.arange(durations)[:, None].float()
    start = torch.arange(length).float()
    half, inside = (duration + 1) / 2, start + duration < length
    return torch.where(inside, start - half, 0.0), torch.where(inside, start + duration + half, 0.0)


class IntervalPooling(nn.Module):
    """Linear layer over the pooled features of every interval, computed without them.

    Pooling is linear too, so the layer comes first: a table of each bin's product with each row of the window, from
    which an interval sums a few entries. That is a fraction of the products, and the pooled features, 8192 columns of
    each interval, are never in memory.

    Args:
        bins: bins of an interval.
        durations: D, rows of the longest interval.
    """

    def __init__(self, bins: int, durations: int) -> None:
        super().__init__()
        self.bins, self.durations = bins, durations
        self.length = 0

    def prepare(self, length: int, device: torch.device) -> None:
        """Find the entries that each interval reads, if the last window had another length."""
        if length == self.length:
            return
        found = []
        for start, end in zip(*anchors(self.durations, length), strict=True):  # one matrix for all would be large
            matrix = align_matrix(start, end, self.bins, length).flatten(1)
            interval, entry = matrix.nonzero(as_tuple=True)
            found.append((entry, matrix[interval, entry], interval.bincount(minlength=length)))
        entries, shares, count = (torch.cat(parts) for parts in zip(*found, strict=True))
        self.entries, self.shares = entries.to(device), shares.to(device)
        self.first = (count.cumsum(dim=0) - count).to(device)
        self.length = length

    def forward(self, nodes: Nodes, weight: Float[Tensor, "out dim bins"]) -> Float[Tensor, "intervals batch out"]:
        """Return the layer's output for each interval, those of the shortest duration first.

        Args:
            nodes: rows of the windows.
            weight: of the layer.
        """
        batch, _, length = nodes.shape
        self.prepare(length, nodes.device)
        table = torch.einsum("ock,bct->ktbo", weight, nodes).flatten(0, 1)
        summed = functional.embedding_bag(
            self.entries, table.flatten(1), self.first, mode="sum", per_sample_weights=self.shares.to(table.dtype)
        )
        return summed.unflatten(1, (batch, -1))


class GtadNetwork(nn.Module):
    """Graph blocks, heads for starts and ends, and the map of intervals.

    Args:
        spec: the method's options.
        feature_dim: D, columns of the features.
    """

    def __init__(self, spec: GtadOptions, feature_dim: int) -> None:
        super().__init__()
        width, map_width, padding = spec.width, spec.map_width, spec.kernel // 2
        self.neighbours = spec.neighbours
        self.input = nn.Conv1d(feature_dim, width, 3, padding=1, groups=math.gcd(feature_dim, INPUT_GROUPS))
        self.base, self.backbone = GraphBlock(width, spec.neighbours), GraphBlock(width, spec.neighbours)
        self.start, self.end = (
            nn.Sequential(GraphBlock(width, spec.neighbours), nn.Conv1d(width, 1, 1)) for _ in range(2)
        )
        self.inner = IntervalPooling(spec.inner_bins, spec.durations)
        self.context = IntervalPooling(spec.context_bins, spec.durations)
        self.pooled = nn.Conv2d(width * (spec.inner_bins + spec.context_bins), spec.interval_width, 1)
        self.reduced = nn.Linear(spec.interval_width, map_width)
        self.map = nn.Sequential(
            nn.Conv2d(map_width, map_width, spec.kernel, padding=padding),
            nn.ReLU(),
            nn.Conv2d(map_width, map_width, spec.kernel, padding=padding),
            nn.ReLU(),
            nn.Conv2d(map_width, 2, 1),
        )

    def forward(self, features: Features) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time"], Map]:
        """Return the probabilities of starts and ends, and the map of two scores of each interval."""
        base = self.base(self.input(features.transpose(1, 2)).relu())
        return self.start(base)[:, 0].sigmoid(), self.end(base)[:, 0].sigmoid(), self.score(self.backbone(base))

    def score(self, nodes: Nodes) -> Map:
        """Return the two scores of each interval, regressed and classified overlap with the truth."""
        similar = neighbours_of(nodes, nearest_rows(nodes, self.neighbours)).mean(dim=3)
        weight = self.pooled.weight.flatten(1).unflatten(1, (nodes.shape[1], -1))
        inner, context = weight.split([self.inner.bins, self.context.bins], dim=2)
        pooled = self.inner(nodes, inner) + self.context(similar, context) + self.pooled.bias
        reduced = self.reduced(pooled.relu()).relu().unflatten(0, (self.inner.durations, -1))
        return self.map(reduced.permute(2, 3, 0, 1)).sigmoid()
