"""Self-attention within and between proposed segments of a video (ASM-Loc)."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from wstal.tensors import Embedded

Inside = Bool[Tensor, "batch proposals time"]


class SegmentAttention(nn.Module):
    """Multi-head self-attention, whose normalised output is added to the embedding. At first nothing is added.

    Args:
        dim: D, columns of the embedding.
        heads: number of heads, a divisor of D.

    Example:
        >>> import torch
        >>> attention, inside = SegmentAttention(8, heads=2), torch.tensor([[[True, True, False]]])
        >>> attention.between_proposals(torch.ones(1, 3, 8), inside)[0, :, 0].tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.norm = nn.BatchNorm1d(dim)
        nn.init.zeros_(self.norm.weight)

    def within_proposals(self, embedded: Embedded, inside: Inside) -> Embedded:
        """Let each snippet attend to the snippets that a proposal has in common with it; others get nothing."""
        share = inside.to(embedded)
        return self._added(embedded, self._attended(embedded, share.mT @ share > 0))

    def between_proposals(self, embedded: Embedded, inside: Inside) -> Embedded:
        """Let each proposal, the mean of its snippets, attend to all of the video, and give the result to its snippets.

        A snippet gets the mean over the proposals that cover it.
        """
        share = inside.to(embedded)
        pooled = share @ embedded / share.sum(dim=2, keepdim=True).clamp(min=1)
        present = inside.any(dim=2)
        attended = self._attended(pooled, present[:, :, None] & present[:, None])
        return self._added(embedded, share.mT @ attended / share.sum(dim=1).clamp(min=1)[..., None])

    def _attended(self, tokens: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens tokens"]) -> Tensor:
        """Return the attended values, 0 for a token that attends to none."""
        parts = (layer(tokens).unflatten(2, (self.heads, -1)) for layer in (self.query, self.key, self.value))
        query, key, value = (part.transpose(1, 2) for part in parts)
        attended: Tensor = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None])
        return attended.transpose(1, 2).flatten(2)

    def _added(self, embedded: Embedded, attended: Embedded) -> Embedded:
        added: Tensor = self.norm(self.output(attended).mT).mT
        return embedded + added
