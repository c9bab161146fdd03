"""Layers with the initial weights and the axis order that methods need."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class TemporalConv(nn.Conv1d):
    """X"""

    def forward(self, features: Float[Tensor, "batch time in_dim"]) -> Float[Tensor, "batch time out_dim"]:
        """X"""
        return super().forward(features.transpose(1, 2)).transpose(1, 2)


def init_xavier(*layers: nn.Linear) -> None:
    """X"""
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


def xavier_linear(in_dim: int, out_dim: int) -> nn.Linear:
    """X"""
    layer = nn.Linear(in_dim, out_dim)
    init_xavier(layer)
    return layer


def he_conv(columns: int, out: int, kernel: int) -> nn.Conv1d:
    """X"""
    layer = nn.Conv1d(columns, out, kernel, padding="same")
    nn.init.kaiming_uniform_(layer.weight)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer
