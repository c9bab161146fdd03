"""Layers of a transformer over a sequence whose queries read it by deformable attention, normalised after each part."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from wstal.parts.deformable_attention import DeformableAttention, References

Memory = Float[Tensor, "batch time dim"]
Queries = Float[Tensor, "batch queries dim"]
Padded = Bool[Tensor, "batch time"]


class LayerSizes(NamedTuple):
    """Sizes of a layer.

    Args:
        width: columns of queries and sequence.
        heads: heads of each attention.
        points: points that a head reads.
        hidden: hidden columns of the feed-forward part.
        dropout: after attention and in the feed-forward part.
    """

    width: int
    heads: int
    points: int
    hidden: int
    dropout: float


def position_embedding(padded: Padded, width: int) -> Memory:
    """Return sines and cosines of each row's place in its sequence, alternating, of `width / 2` frequencies.

    The lowest frequency is that of one turn from the first row to the last one that is no padding.

    Args:
        padded: true at rows of padding.
        width: columns.

    Example:
        >>> position_embedding(torch.zeros(1, 8, dtype=torch.bool), 2)[0, 0].round(decimals=3).tolist()
        [0.7070000171661377, 0.7070000171661377]
    """
    valid = (~padded).float()
    angle = valid.cumsum(dim=1) / (valid.sum(dim=1, keepdim=True) + 1e-6) * (2 * math.pi)
    period = 10_000 ** (2 * torch.arange(width // 2, device=padded.device).float() / width)
    phases = angle[..., None] / period
    return torch.stack([phases.sin(), phases.cos()], dim=-1).flatten(2)


class FeedForward(nn.Module):
    """Two linear layers around a ReLU, added to the input."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the input plus its change."""
        change: Tensor = self.dropout(self.out(self.dropout(self.into(rows).relu())))
        return rows + change


def _reset(layer: nn.Module) -> None:
    """Set matrices as Xavier does, but for those that decide the points of an attention."""
    for parameter in layer.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    for module in layer.modules():
        if isinstance(module, DeformableAttention):
            module.reset()


class EncoderLayer(nn.Module):
    """Every row reads points around itself."""

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        self.attention = DeformableAttention(sizes.width, sizes.heads, sizes.points)
        self.feed_forward = FeedForward(sizes.width, sizes.hidden, sizes.dropout)
        self.after_attention, self.after_feed_forward = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)
        _reset(self)

    def forward(self, rows: Memory, position: Memory, padded: Padded | None) -> Memory:
        """Return the encoded rows."""
        middle = (torch.arange(rows.shape[1], device=rows.device, dtype=rows.dtype) + 0.5) / rows.shape[1]
        reference = middle[None, :, None].expand(len(rows), -1, -1)
        read = self.attention(rows + position, reference, rows, padded)
        rows = self.after_attention(rows + self.dropout(read))
        encoded: Tensor = self.after_feed_forward(self.feed_forward(rows))
        return encoded


class DecoderLayer(nn.Module):
    """Queries attend to each other, then read points of the encoded rows in their segments."""

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        self.among_queries = nn.MultiheadAttention(sizes.width, sizes.heads, sizes.dropout, batch_first=True)
        self.attention = DeformableAttention(sizes.width, sizes.heads, sizes.points)
        self.feed_forward = FeedForward(sizes.width, sizes.hidden, sizes.dropout)
        self.after_queries, self.after_attention = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)
        self.after_feed_forward = nn.LayerNorm(sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)
        _reset(self)

    def forward(
        self, queries: Queries, place: Queries, reference: References, memory: Memory, padded: Padded | None
    ) -> Queries:
        """Return the decoded queries."""
        placed = queries + place
        among = self.among_queries(placed, placed, queries, need_weights=False)[0]
        queries = self.after_queries(queries + self.dropout(among))
        read = self.attention(queries + place, reference, memory, padded)
        queries = self.after_attention(queries + self.dropout(read))
        decoded: Tensor = self.after_feed_forward(self.feed_forward(queries))
        return decoded


def logit(fraction: Tensor) -> Tensor:
    """Return the inverse of the sigmoid, finite at 0 and 1.

    Example:
        >>> logit(torch.tensor([0.5, 1.0])).round(decimals=2).tolist()
        [0.0, 11.510000228881836]
    """
    return (fraction.clamp(min=1e-5) / (1 - fraction).clamp(min=1e-5)).log()


def perceptron(in_dim: int, hidden: int, out_dim: int) -> nn.Sequential:
    """Return three linear layers with ReLUs between them.

    Args:
        in_dim: columns of the input.
        hidden: columns of both hidden layers.
        out_dim: columns of the output.

    Example:
        >>> perceptron(4, 8, 2)(torch.zeros(3, 4)).shape
        torch.Size([3, 2])
    """
    return nn.Sequential(
        nn.Linear(in_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out_dim)
    )
