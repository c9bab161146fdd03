from wstal.localize.localizer import localize
from wstal.localize.nms import hard_decayed_nms, hard_nms, overlap, soft_nms
from wstal.localize.spec import Fusion, LocalizerSpec, Nms, ProposalSource
from wstal.localize.tracks import upsample

__all__ = [
    "Fusion",
    "LocalizerSpec",
    "Nms",
    "ProposalSource",
    "hard_decayed_nms",
    "hard_nms",
    "localize",
    "overlap",
    "soft_nms",
    "upsample",
]
