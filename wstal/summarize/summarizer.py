"""What every way to summarise the memory bank has in common (Eq. 10-11 and Table VI)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn


class Summarizer(nn.Module, ABC):
    """Compresses the filled slots of the memory bank to at most N centres T_M."""

    def refresh(self, tokens: Float[Tensor, "slots dim"], row: Int[Tensor, " slots"]) -> None:
        """Called at the start of an epoch with a bank that is not empty: where clusterings are computed.

        Draws, if any, come from torch's global generator, so that a run repeats.
        """

    @abstractmethod
    def forward(self, tokens: Float[Tensor, "slots dim"], row: Int[Tensor, " slots"]) -> Float[Tensor, "centres dim"]:
        """T_M.

        Args:
            tokens: the filled slots, at least one.
            row: the memory row (class) of each.

        Returns:
            From 0 (a clustering before its first refresh) to N centres; with gradient where the summary is learned.
        """
