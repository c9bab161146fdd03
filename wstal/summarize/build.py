"""Construction of the summarizer that the options choose."""

from __future__ import annotations

from wstal.errors import UserError
from wstal.summarize.codewords import Codewords, DetrLayer, ExpectationAttention
from wstal.summarize.options import SummaryOptions
from wstal.summarize.summarizer import Summarizer


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
            return Codewords(dim, rows, options)
        case "detr_layer":
            if dim % options.heads:
                raise UserError(f"method.summary.heads={options.heads} does not divide the embedding's {dim} columns.")
            return DetrLayer(dim, options.count, options.heads)
        case "em_attention":
            return ExpectationAttention(dim, options.count)
        case kind:
            # scikit-learn and pot are imported only where they are used: they take a second
            from wstal.summarize.clustering import Clustering

            return Clustering(kind, dim, options.count)
