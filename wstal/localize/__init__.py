"""Localizer: snippet scores to detections by thresholds, outer-inner contrast and non-maximum suppression."""

from wstal.localize.localizer import localize
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource, StreamFusion

__all__ = ["LocalizerSpec", "Nms", "ProposalSource", "StreamFusion", "localize"]
