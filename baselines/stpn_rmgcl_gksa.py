"""RMGCL+GKSA (Zhang & Zhao) over STPN, a row of the paper's Table VIII, and the STPN variant that it needs.

Idea: as `baselines.rmgcl_gksa`, with STPN's attention and classifier as the main branch. STPN has no embedding to
train: its F are the features themselves. So the base here is STPN with the paper's embedding (Eq. 1: temporal
convolution of width 3, ReLU) and an output for background, one network over all columns.

Paper: Zhang & Zhao (see `wstal.cross_video`), which does not say how STPN was changed. All of it is our interpretation.
So the row differs from `stpn` in more than RMGCL+GKSA: `stpn-embedded`, the same base alone, is the fair control.
Deviations:
- background attention is 1 - lambda. The video pooled by it must be background and nothing else, and the video pooled
  by lambda must be its actions and no background, each by sigmoid cross-entropy over all C + 1 outputs. The former has
  no gradient to lambda: with it all videos become background (lambda 0) within an epoch;
- A^ins and A^bak (Eq. 4) weight the sigmoid of the T-CAM, STPN's class probability, which is already on Eq. 7's scale
  of 0 to 1. Of the ways to scale, only min-max over the video's time is allowed;
- pseudo labels (Eq. 15-16) use softmaxes of the T-CAM, as over every base, though STPN learns sigmoids;
- the schedule is STPN's, and the bank starts after a quarter of it. Streams are joined, so no detections are fused.
"""

from __future__ import annotations

import torch
from pydantic import Field

from baselines.rmgcl_gksa import RmgclGksa
from baselines.stpn import StpnNetwork, StpnNetworkOptions
from wstal.cross_video_options import BoundedCrossVideoOptions
from wstal.losses.mil import with_background
from wstal.method import Recipe
from wstal.parts.layers import TemporalConv
from wstal.tensors import Cas, Embedded, Features, Foreground, Labels, Scalar


class StpnEmbedded(StpnNetwork):
    """STPN with an embedding of width D and a background output."""

    name = "stpn-embedded"
    title = "STPN with embedding and background"
    source = "ours"
    BACKGROUND = 1

    def __init__(self, spec: StpnNetworkOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.embedding = TemporalConv(feature_dim, feature_dim, kernel_size=3, padding=1)

    def embed(self, features: Features) -> Embedded:
        """Return F (Eq. 1)."""
        return torch.relu(self.embedding(features))

    def classification_loss(self, cas: Cas, attention: Foreground, labels: Labels) -> Scalar:
        """Return the losses of the video's actions under the attention and of background under the rest of it.

        The second one does not train the attention.
        """
        actions = super().classification_loss(cas, attention, with_background(labels, False))
        background = with_background(torch.zeros_like(labels), True)
        return actions + super().classification_loss(cas, 1 - attention.detach(), background)


class StpnRmgclGksaOptions(BoundedCrossVideoOptions):
    """Options with STPN as the base, whose CAS is a sigmoid."""

    base: StpnNetworkOptions = Field(StpnNetworkOptions(), description="STPN's options")


class StpnRmgclGksa(RmgclGksa):
    """RMGCL+GKSA over STPN."""

    name = "stpn-rmgcl-gksa"
    title = "STPN + RMGCL+GKSA"
    source = "paper, partly"
    Options = StpnRmgclGksaOptions
    Base = StpnEmbedded

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the base's recipe, with as many codewords as over ACM-Net."""
        return super().recipe(dataset).model_copy(update={"train": StpnEmbedded.recipe(dataset).train})
