"""Localizer: snippet scores to detections by thresholds, outer-inner contrast and non-maximum suppression."""

from wstal.localize.localizer import localize
from wstal.localize.nms import hard_decayed_nms, hard_nms, overlap, soft_nms
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource, StreamFusion
from wstal.localize.tracks import upsample

__all__ = [
    "LocalizerSpec",
    "Nms",
    "ProposalSource",
    "StreamFusion",
    "hard_decayed_nms",
    "hard_nms",
    "localize",
    "overlap",
    "soft_nms",
    "upsample",
]
