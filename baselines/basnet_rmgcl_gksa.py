"""RMGCL+GKSA (Zhang & Zhao) over BaS-Net, a row of the paper's Table VIII.

Idea: the memory, its contrast, its summary and the pseudo labels act on BaS-Net's suppression pass, which is the one
that is localized: F is the output of its second convolution, A its class logits. The losses of both passes stay.

Paper: Zhang & Zhao (see `wstal.cross_video`, which has the whole method), over Lee et al.'s BaS-Net
(`baselines.basnet`). Facts: the paper names the pair and prints four numbers. It does not state how the two are
combined. Interpretations:
- the auxiliary branch is classified like the suppression pass, with background absent;
- the memory's action features are where the suppression pass scores the class highest, its background features where
  the filter passes least. Both are taken from the suppression pass's F, and the base pass is not wrapped;
- the schedule is the paper's. Batch size, weight decay and localizer are BaS-Net's. The table covers only THUMOS14:
  other data sets get BaS-Net's recipe with the paper's number of codewords.
"""

from __future__ import annotations

from pydantic import Field

from baselines.basnet import BasNet, BasNetOptions
from baselines.rmgcl_gksa import RmgclGksa
from wstal.cross_video_options import CrossVideoOptions


class BasNetRmgclGksaOptions(CrossVideoOptions):
    """`CrossVideoOptions` with BaS-Net as the base."""

    base: BasNetOptions = Field(BasNetOptions(), description="BaS-Net's options")


class BasNetRmgclGksa(RmgclGksa):
    """RMGCL+GKSA over BaS-Net."""

    name = "basnet-rmgcl-gksa"
    title = "BaS-Net + RMGCL+GKSA"
    source = "paper, partly"
    Options = BasNetRmgclGksaOptions
    Base = BasNet
