"""Knowledge aggregation (GKA): snippets read the memory's summary and fuse it with their own features (Eq. 12-13)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wstal.tensors import Embedded


class Fusion(nn.Module):
    """Cross-attention from snippets to the summary, followed by a feed-forward network (GKA, Eq. 12-13).

    Computes F' = softmax(F T_M' / sqrt(D)) T_M and F_fuse = LayerNorm(F + FFN(concat(F', F))).

    Args:
        dim: D, columns of the features.
        hidden: width of the FFN's hidden layer.
        residual: whether F is added.
        norm: whether there is a LayerNorm.

    Example:
        >>> import torch
        >>> fusion = Fusion(dim=4, hidden=2)
        >>> fusion(torch.zeros(1, 3, 4), torch.ones(5, 4)).shape
        torch.Size([1, 3, 4])
    """

    def __init__(self, dim: int, hidden: int, *, residual: bool = True, norm: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.hidden = nn.Linear(2 * dim, hidden)
        self.output = nn.Linear(hidden, dim, bias=False)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, embedded: Embedded, knowledge: Float[Tensor, "centres dim"]) -> Embedded:
        """Return the fused features F_fuse.

        Args:
            embedded: `[B, T, D]` snippet features F.
            knowledge: `[N, D]` summary T_M, or all memory slots when there is no summary (Table IV).
        """
        dim = embedded.shape[-1]
        of_context, of_video = self.hidden.weight.chunk(2, dim=1)
        # one product computes F T_M' and the video half of the hidden layer, without a D-wide F' or sum: the hidden
        # layer is linear in F', so the few centres are mapped in its place, and the last product adds the residual
        flat = embedded.flatten(0, 1)
        products = flat @ torch.cat([knowledge / math.sqrt(dim), of_video]).T
        logits, of_video_part = products[:, : len(knowledge)], products[:, len(knowledge) :]
        context = logits.softmax(dim=1) @ (knowledge @ of_context.T)
        hidden = (context + of_video_part + self.hidden.bias).relu()
        fused = torch.addmm(flat, hidden, self.output.weight.T) if self.residual else self.output(hidden)
        return torch.reshape(self.norm(fused), embedded.shape)
