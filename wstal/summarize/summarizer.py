"""Base class of all summarizers of the memory bank (Eq. 10-11 and Table VI)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn


class Summarizer(nn.Module, ABC):
    """Module that compresses the filled slots of the memory bank to at most N centres T_M."""

    def refresh(self, tokens: Float[Tensor, "slots dim"], row: Int[Tensor, " slots"]) -> None:
        """Prepare an epoch, for example by clustering the slots. Called at its start if the bank is not empty.

        Draws come from torch's global generator, so that a run can be repeated.

        Args:
            tokens: `[S, D]` the filled slots, at least one.
            row: `[S]` memory row (class) of each.
        """

    @abstractmethod
    def forward(self, tokens: Float[Tensor, "slots dim"], row: Int[Tensor, " slots"]) -> Float[Tensor, "centres dim"]:
        """Return T_M.

        Args:
            tokens: `[S, D]` the filled slots, at least one.
            row: `[S]` memory row (class) of each.

        Returns:
            From 0 (a clustering before its first refresh) to N centres, with gradient if the summary is learned.
        """
