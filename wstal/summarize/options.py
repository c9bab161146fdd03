"""Options of knowledge summarization (GKS), and construction of the chosen summarizer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wstal.errors import UserError
from wstal.spec import Count, Spec
from wstal.summarize.codewords import AttentionKind, ProjectionKind
from wstal.summarize.summarizer import Summarizer

SummaryKind = Literal["codewords", "detr_layer", "k_means", "spectral", "dbscan", "optimal_transport", "em_attention"]


class SummaryOptions(Spec):
    """Options of GKS (Eq. 10-11) and of its alternatives in Table VI."""

    kind: SummaryKind = Field("codewords", description="codewords is the paper's; the others are Table VI's or IX's")
    count: Count = Field(40, description="N, codewords or centres (40 THUMOS14, 200 ActivityNet; dbscan: at most N)")
    attention: AttentionKind = Field("top_k", description='what "sparse" cross-attention means (not stated)')
    neighbours: Count = Field(64, description="slots that a codeword reads with attention top_k")
    memory_projection: ProjectionKind = Field(
        "separable", description="DWConv of Eq. 11: depthwise scale then pointwise map, or the depthwise scale alone"
    )
    memory_embedding: bool = Field(True, description="a learned embedding of each memory row in the keys (PE, Eq. 11)")
    heads: Count = Field(8, description="attention heads of detr_layer; must divide D")


def build_summarizer(options: SummaryOptions, dim: int, rows: int) -> Summarizer:
    """Create the summarizer that the options choose.

    Args:
        options: the options of GKS.
        dim: D, columns of the features.
        rows: C + 1 memory rows.

    Raises:
        UserError: the heads of `detr_layer` do not divide D.

    Example:
        >>> type(build_summarizer(SummaryOptions(count=2), dim=4, rows=3)).__name__
        'Codewords'
    """
    match options.kind:
        case "codewords":
            from wstal.summarize.codewords import Codewords

            return Codewords(
                dim,
                rows,
                options.count,
                options.attention,
                options.neighbours,
                options.memory_projection,
                options.memory_embedding,
            )
        case "detr_layer":
            from wstal.summarize.codewords import DetrLayer

            if dim % options.heads:
                raise UserError(f"method.summary.heads={options.heads} does not divide the embedding's {dim} columns.")
            return DetrLayer(dim, options.count, options.heads)
        case "em_attention":
            from wstal.summarize.expectation import ExpectationAttention

            return ExpectationAttention(dim, options.count)
        case kind:
            # scikit-learn and pot are imported only where they are used: they take a second
            from wstal.summarize.clustering import Clustering

            return Clustering(kind, dim, options.count)
