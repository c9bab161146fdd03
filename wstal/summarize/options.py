"""Options of knowledge summarization (GKS)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wstal.spec import Count, Spec

AttentionKind = Literal["top_k", "entmax15", "dense"]
ProjectionKind = Literal["depthwise", "separable"]
SummaryKind = Literal["codewords", "detr_layer", "k_means", "spectral", "dbscan", "optimal_transport", "em_attention"]

# a full bank of THUMOS14 has 10,500, of ActivityNet 100,500. From here on the contrast and the codewords take the way
# whose passes over all slots are few; below, the way whose bits the stored runs have
MANY_SLOTS = 20_000


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
