"""Expectation-maximisation attention, the learned alternative of Table VI."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from wstal.summarize.summarizer import Summarizer

ITERATIONS = 3
TEMPERATURE = 0.05


class ExpectationAttention(Summarizer):
    """N learned bases that a few differentiable EM steps move to the slots.

    Li et al., "Expectation-Maximization Attention Networks for Semantic Segmentation", ICCV 2019. The similarity of
    slot and basis is the cosine of their deviations from the mean slot, divided by a temperature. ReLU features share
    most of their direction (mean cosine 0.7 between classes of THUMOS14 features) and differ in norm. Without centring,
    the basis nearest to the mean would take every slot, and dot products would need a temperature for each norm and
    width. A random basis has cosines of about 1/sqrt(D), nearly uniform responsibilities and so a mean close to the
    mean slot. The cosine ignores the length of its deviation, so the next step tells slots apart all the same. On those
    features the entropy of responsibilities over three steps is 0.9, 0.4 and 0.3 of log N at D = 512, and similar at D
    = 2048.

    Args:
        dim: D.
        count: N.

    Example:
        >>> ExpectationAttention(dim=4, count=2)(torch.rand(5, 4), torch.zeros(5, dtype=torch.int64)).shape
        torch.Size([2, 4])
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.bases = nn.Parameter(torch.randn(count, dim) * dim**-0.5)

    def forward(self, tokens: Float[Tensor, "slots dim"], row: Int[Tensor, " slots"]) -> Float[Tensor, "centres dim"]:
        """Return T_M: means of slots, weighted by responsibility.

        Args:
            tokens: `[S, D]` the filled slots.
            row: not used.
        """
        mean = tokens.mean(dim=0)
        deviations = tokens - mean
        directions = functional.normalize(deviations, dim=1)
        bases: Tensor = self.bases
        for _ in range(ITERATIONS):
            responsibility = (directions @ functional.normalize(bases, dim=1).T / TEMPERATURE).log_softmax(dim=1)
            # shares of a basis's mass are normalised as logarithms: a basis that lost all its mass has them too
            bases = responsibility.softmax(dim=0).T @ deviations
        return mean + bases
