"""Learned summaries: codewords that read the memory by attention (Eq. 10-11), and those of Tables VI and IX."""

from __future__ import annotations

import math

import entmax
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from wstal.summarize.options import MANY_SLOTS, ProjectionKind, SummaryOptions
from wstal.summarize.summarizer import Summarizer

EM_ITERATIONS, EM_TEMPERATURE = 3, 0.05


class Codewords(Summarizer):
    """N learned codewords R: self-attention among them, then sparse cross-attention to the memory.

    Args:
        dim: D.
        rows: C + 1 memory rows.
        options: `count` is N. `attention` is the meaning of "sparse" (not stated): `top_k` is a softmax over each
            codeword's `neighbours` best slots, `entmax15` the 1.5-entmax over all slots, `dense` no sparsity.
            `memory_projection`: `separable` is depthwise followed by pointwise, `depthwise` a scale and bias of each
            channel. `memory_embedding` concatenates a learned embedding of each memory row to the keys, and the
            codewords' own to the queries. The paper adds an N x D embedding to (C + 1) q keys. Positions within a queue
            have no meaning, rows do.

    Example:
        >>> summary = Codewords(dim=4, rows=3, options=SummaryOptions(count=2))
        >>> summary(torch.zeros(5, 4), torch.tensor([0, 0, 1, 2, 2])).shape
        torch.Size([2, 4])
    """

    def __init__(self, dim: int, rows: int, options: SummaryOptions) -> None:
        super().__init__()
        self.options = options
        self.codewords = nn.Parameter(torch.randn(options.count, dim) * dim**-0.5)
        self.positions = nn.Parameter(torch.randn(options.count, dim) * dim**-0.5)
        # a bias of keys adds one constant to all logits of a query, which no attention kind here sees: none, also below
        self.key = _mlp(2 * dim, dim, bias=False)
        self.value = _mlp(2 * dim, dim)
        self.query_norm = nn.LayerNorm(dim)
        self.memory_rows = nn.Parameter(torch.randn(rows, dim) * dim**-0.5) if options.memory_embedding else None
        self.memory_key = _Projection(dim, options.memory_projection, bias=False)
        self.memory_value = _Projection(dim, options.memory_projection, bias=True)
        self.memory_norm = nn.LayerNorm(dim)
        self.feed_forward = _mlp(dim, dim)
        self.summary_norm = nn.LayerNorm(dim)

    def forward(self, tokens: Float[Tensor, "slots dim"], row: Int[Tensor, " slots"]) -> Float[Tensor, "centres dim"]:
        """Return T_M of Eq. 11.

        Args:
            tokens: `[S, D]` the filled slots.
            row: `[S]` memory row of each.
        """
        queries = self.queries()
        many = len(tokens) >= MANY_SLOTS and self.options.attention == "top_k"
        read_slots = self._read_best(queries, tokens, row) if many else self.weights(queries, tokens, row) @ tokens
        attended = self.memory_value(read_slots)
        read: Tensor = self.memory_norm(queries + attended)
        summary: Tensor = self.summary_norm(read + self.feed_forward(read))
        return summary

    def queries(self) -> Float[Tensor, "centres dim"]:
        """Return Q_M of Eq. 10."""
        placed = torch.cat([self.codewords, self.positions], dim=1)
        among = functional.scaled_dot_product_attention(self.codewords, self.key(placed), self.value(placed))
        queries: Tensor = self.query_norm(self.codewords + among)
        return queries

    def weights(
        self, queries: Float[Tensor, "centres dim"], tokens: Float[Tensor, "slots dim"], row: Int[Tensor, " slots"]
    ) -> Float[Tensor, "centres slots"]:
        """Return `[N, S]` attention of each codeword to each slot. Each row sums to 1.

        Args:
            queries: `[N, D]` Q_M.
            tokens: `[S, D]` the filled slots.
            row: `[S]` memory row of each.
        """
        # the projection is linear: applied to N queries in place of (C + 1) q keys, it gives the same logits
        logits = self.memory_key.transposed(queries) @ tokens.T
        if self.memory_rows is not None:
            logits = logits + (self.positions @ self.memory_rows.T)[:, row]
        logits = logits / self._logit_scale()
        if self.options.attention == "dense":
            return logits.softmax(dim=1)
        if self.options.attention == "entmax15":
            sparse: Tensor = entmax.entmax15(logits, dim=1)
            return sparse
        best, place = logits.topk(min(self.options.neighbours, logits.shape[1]), dim=1)
        return torch.zeros_like(logits).scatter(1, place, best.softmax(dim=1))

    def _read_best(self, queries: Tensor, tokens: Tensor, row: Tensor) -> Tensor:
        """Return `weights(...) @ tokens` with attention `top_k`, equal to rounding.

        All slots are met by one product without gradient, which finds the best. What is computed from these few is
        computed again, with gradient.
        """
        mapped = self.memory_key.transposed(queries)
        of_rows = None if self.memory_rows is None else self.positions @ self.memory_rows.T
        with torch.no_grad():
            logits = tokens @ mapped.T
            if of_rows is not None:
                logits += of_rows.T[row]
            place = logits.T.topk(min(self.options.neighbours, len(tokens)), dim=1).indices
        near = tokens[place]
        best = (mapped.unsqueeze(1) @ near.mT).squeeze(1)
        if of_rows is not None:
            best = best + of_rows[torch.arange(len(place), device=place.device).unsqueeze(1), row[place]]
        shares = (best / self._logit_scale()).softmax(dim=1)
        return torch.squeeze(shares.unsqueeze(1) @ near, 1)

    def _logit_scale(self) -> float:
        """Return the root of the keys' width, which row embeddings double."""
        dim = self.codewords.shape[1]
        return math.sqrt(dim if self.memory_rows is None else 2 * dim)


class DetrLayer(Summarizer):
    """Standard transformer decoder layer with codewords as queries and the memory as keys (Table IX).

    Args:
        dim: D, also the width of the feed-forward part.
        count: N.
        heads: number of attention heads, a divisor of D.

    Example:
        >>> DetrLayer(dim=4, count=2, heads=2)(torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64)).shape
        torch.Size([2, 4])
    """

    def __init__(self, dim: int, count: int, heads: int) -> None:
        super().__init__()
        self.codewords = nn.Parameter(torch.randn(count, dim) * dim**-0.5)
        self.layer = nn.TransformerDecoderLayer(dim, heads, dim_feedforward=dim, dropout=0.1, batch_first=True)

    def forward(self, tokens: Float[Tensor, "slots dim"], row: Int[Tensor, " slots"]) -> Float[Tensor, "centres dim"]:
        """Return T_M.

        Args:
            tokens: `[S, D]` the filled slots.
            row: not used.
        """
        return torch.squeeze(self.layer(self.codewords.unsqueeze(0), tokens.unsqueeze(0)), 0)


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
        for _ in range(EM_ITERATIONS):
            responsibility = (directions @ functional.normalize(bases, dim=1).T / EM_TEMPERATURE).log_softmax(dim=1)
            # shares of a basis's mass are normalised as logarithms: a basis that lost all its mass has them too
            bases = responsibility.softmax(dim=0).T @ deviations
        return mean + bases


class _Projection(nn.Module):
    """1x1 convolution over slots: a scale of each channel, followed (separable) by a pointwise D x D map.

    Attention weights sum to 1, so values are projected after the weighted mean, on N rows instead of (C + 1) q.
    """

    def __init__(self, dim: int, kind: ProjectionKind, bias: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None
        self.pointwise = nn.Linear(dim, dim, bias=bias) if kind == "separable" else None

    def forward(self, values: Tensor) -> Tensor:
        values = values * self.scale
        if self.bias is not None:
            values = values + self.bias
        return values if self.pointwise is None else self.pointwise(values)

    def transposed(self, queries: Tensor) -> Tensor:
        """Return q' with q' . m = q . projection(m) for every m (a projection without bias)."""
        if self.pointwise is not None:
            queries = queries @ self.pointwise.weight
        return queries * self.scale


def _mlp(inputs: int, outputs: int, bias: bool = True) -> nn.Sequential:
    """Create two linear layers with a ReLU between them. `bias` is that of the last one."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs, bias=bias))
