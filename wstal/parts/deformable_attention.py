"""Temporal deformable attention: each query reads a few learned points of a sequence instead of all of it.

The points of a query lie around its reference, a point or a segment of the sequence, by offsets that the query decides,
as it decides the points' weights. The value at a point is interpolated between two rows. Weights of all points add up
to one row of a matrix for each query and head, and one product with the values does the rest.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Points = Float[Tensor, "batch heads queries points"]
References = Float[Tensor, "batch queries kinds"]


def sample_points(
    values: Float[Tensor, "batch heads time dim"], location: Points, weight: Points
) -> Float[Tensor, "batch heads queries dim"]:
    """Return the weighted sum of the values at each query's points.

    Args:
        values: rows of each head; row t stands at (t + 1/2) / T. Outside the rows values are zero.
        location: points in [0, 1], as fractions of the sequence. They have a gradient.
        weight: weights of the points.

    Example:
        >>> values = torch.tensor([[[[1.0], [3.0]]]])
        >>> sample_points(values, torch.tensor([[[[0.5]]]]), torch.ones(1, 1, 1, 1)).item()
        2.0
    """
    rows = values.shape[2]
    row = location * rows - 0.5
    low = row.floor()
    fraction = row - low
    index = torch.cat([low, low + 1], dim=-1)
    shares = torch.cat([weight * (1 - fraction), weight * fraction], dim=-1)
    inside = (index >= 0) & (index < rows)
    matrix = shares.new_zeros(*location.shape[:3], rows)
    return matrix.scatter_add(-1, index.clamp(0, rows - 1).long(), shares * inside) @ values


class DeformableAttention(nn.Module):
    """Attention of queries to points of a sequence (Deformable DETR, in one dimension).

    Args:
        width: columns of queries, sequence and output.
        heads: heads, each with points of its own.
        points: points that a head reads for a query.

    Example:
        >>> attention = DeformableAttention(width=8, heads=2, points=4)
        >>> attention(torch.zeros(1, 3, 8), torch.full((1, 3, 2), 0.5), torch.zeros(1, 5, 8)).shape
        torch.Size([1, 3, 8])
    """

    def __init__(self, width: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.offsets = nn.Linear(width, heads * points)
        self.weights = nn.Linear(width, heads * points)
        self.values = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Set the initial weights: all points of a query weigh the same, and lie whole rows from its reference."""
        for layer in (self.values, self.output):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
        for layer in (self.values, self.output, self.weights):
            nn.init.zeros_(layer.bias)
        direction = (torch.arange(self.heads) * (4 * math.pi / self.heads)).cos()
        self.offsets.bias.copy_((direction[:, None] * torch.arange(1, self.points + 1)).flatten())

    def forward(
        self,
        query: Float[Tensor, "batch queries dim"],
        reference: References,
        source: Float[Tensor, "batch time dim"],
        padded: Bool[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch queries dim"]:
        """Return what each query reads.

        Args:
            query: decides offsets and weights.
            reference: point, or centre and width of a segment, as fractions of the sequence. An offset of 1 is one row
                from a point, and an eighth of a segment's width (a `points`-th of its half) from its centre.
            source: the sequence that is read.
            padded: true at rows that hold nothing, and are read as zeros.
        """
        values = self.values(source)
        if padded is not None:
            values = values.masked_fill(padded[..., None], 0.0)
        unit = 1 / source.shape[1] if reference.shape[-1] == 1 else reference[..., 1] / (2 * self.points)
        location = (
            reference[..., 0, None, None] + self._by_head(self.offsets(query)) * torch.as_tensor(unit)[..., None, None]
        )
        weight = self._by_head(self.weights(query)).softmax(dim=-1)
        each = values.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        read = sample_points(each, location.transpose(1, 2), weight.transpose(1, 2))
        found: Tensor = self.output(read.transpose(1, 2).flatten(2))
        return found

    def _by_head(self, points: Tensor) -> Tensor:
        return points.reshape(*points.shape[:-1], self.heads, self.points)
