from wstal.localize.localizer import localize
from wstal.localize.nms import hard_nms, overlap, soft_nms
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource
from wstal.localize.tracks import upsample

__all__ = [
    "LocalizerSpec",
    "Nms",
    "ProposalSource",
    "hard_nms",
    "localize",
    "overlap",
    "soft_nms",
    "upsample",
]
