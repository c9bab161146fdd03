"""Localizer: snippet scores to detections by thresholds, outer-inner contrast and non-maximum suppression."""

from wstal.localize.given import GivenProposals, SoftSuppression
from wstal.localize.localizer import Localizer, localize
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource, Sides, StreamFusion

__all__ = [
    "GivenProposals",
    "Localizer",
    "LocalizerSpec",
    "Nms",
    "ProposalSource",
    "Sides",
    "SoftSuppression",
    "StreamFusion",
    "localize",
]
