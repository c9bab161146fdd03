"""Convolution over time."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class TemporalConv(nn.Conv1d):
    """`torch.nn.Conv1d` over features `[B, T, D]`."""

    def forward(self, features: Float[Tensor, "batch time in_dim"]) -> Float[Tensor, "batch time out_dim"]:
        """The convolution over time."""
        return super().forward(features.transpose(1, 2)).transpose(1, 2)
