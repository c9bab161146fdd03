"""Recurrent classifier, one step at a time, with the gradient of an output by its input in closed form (STAR)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

Given = Float[Tensor, "batch inputs"]
Hidden = Float[Tensor, "batch hidden"]


class LstmState(NamedTuple):
    """State of an LSTM.

    Args:
        hidden: `[B, hidden]` h.
        cell: `[B, hidden]` c.
    """

    hidden: Hidden
    cell: Hidden


class RecurrentClassifier(nn.Module):
    """LSTM with a hidden layer and an output layer on top.

    The gradient is written out, since scoring keeps no graph.

    Args:
        inputs: columns of the input.
        hidden: columns of the state and of the hidden layer.
        outputs: columns of the output.
        dropout: before the output layer.

    Example:
        >>> classifier = RecurrentClassifier(4, 8, 3, dropout=0.5)
        >>> outputs, state = classifier(torch.zeros(2, 4), classifier.start(2))
        >>> outputs.shape, state.hidden.shape
        (torch.Size([2, 3]), torch.Size([2, 8]))
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs + hidden, 4 * hidden)
        self.layer = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, outputs)

    def start(self, batch: int) -> LstmState:
        """Return the state before the first step, zeros."""
        zeros = self.layer.weight.new_zeros(batch, len(self.layer.weight))
        return LstmState(zeros, zeros)

    def forward(self, given: Given, state: LstmState) -> tuple[Float[Tensor, "batch outputs"], LstmState]:
        """Return the outputs of a step, and the state after it.

        Args:
            given: `[B, inputs]`.
            state: before the step.
        """
        write, keep, new, show = self._gates(given, state)
        cell = keep * state.cell + write * new
        hidden = show * cell.tanh()
        return self.output(self.dropout(self.layer(hidden).relu())), LstmState(hidden, cell)

    def gradient(self, given: Given, state: LstmState, output: int) -> Given:
        """Return the gradient of one output by the input of a step, without dropout.

        Args:
            given: `[B, inputs]`.
            state: before the step.
            output: number of the output.
        """
        write, keep, new, show = self._gates(given, state)
        shown = (keep * state.cell + write * new).tanh()
        active = (self.layer(show * shown) > 0).to(given)
        by_hidden = (self.output.weight[output] * active) @ self.layer.weight
        by_cell = by_hidden * show * (1 - shown.square())
        by_gates = (
            by_cell * new * write * (1 - write),
            by_cell * state.cell * keep * (1 - keep),
            by_cell * write * (1 - new.square()),
            by_hidden * shown * show * (1 - show),
        )
        return torch.cat(by_gates, dim=1) @ self.gates.weight[:, : given.shape[1]]

    def _gates(self, given: Given, state: LstmState) -> tuple[Hidden, Hidden, Hidden, Hidden]:
        """Return how much the cell takes in, keeps, its new content, and how much of it shows."""
        write, keep, new, show = self.gates(torch.cat([given, state.hidden], dim=1)).chunk(4, dim=1)
        return write.sigmoid(), keep.sigmoid(), new.tanh(), show.sigmoid()
