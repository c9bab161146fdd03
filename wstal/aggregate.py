"""Knowledge aggregation: snippets read the summary and fuse what they read (Eq. 12-13)."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn


class Fusion(nn.Module):
    """F' = softmax(F T_M' / sqrt(D)) T_M, then F_fuse = LayerNorm(F + FFN(concat(F', F))).

    Args:
        dim: D.
        hidden: width of the FFN's hidden layer.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * dim, hidden)
        self.output = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, embedded: Float[Tensor, "batch time dim"], knowledge: Float[Tensor, "centres dim"]
    ) -> Float[Tensor, "batch time dim"]:
        """F_fuse.

        Args:
            embedded: F.
            knowledge: T_M, or the memory's own slots for aggregation without summary (Table IV).
        """
        attention = (embedded @ knowledge.T / math.sqrt(embedded.shape[-1])).softmax(dim=-1)
        # the hidden layer is linear in F': mapping the few centres first gives the same sum for a fraction of the work
        of_context, of_video = self.hidden.weight.chunk(2, dim=1)
        hidden = attention @ (knowledge @ of_context.T) + embedded @ of_video.T + self.hidden.bias
        fused: Tensor = self.norm(embedded + self.output(hidden.relu()))
        return fused
