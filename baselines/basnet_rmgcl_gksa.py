"""BaS-Net with RMGCL + GKSA, as the paper's Table VIII has it.

Idea: the memory, its contrast, its summary and the pseudo labels work on BaS-Net's suppression pass, the one that is
localized: F after its second convolution, A its class logits, both passes' losses kept as they are.

Paper: Zhang & Zhao (see `wstal.cross_video`, which is the whole method), over Lee et al.'s BaS-Net
(`baselines.basnet`). Facts: the paper names the pair and prints four numbers; how the two meet is not stated. Readings:
- the auxiliary branch is classified as the suppression pass is, with background absent;
- action features of the memory are where the suppression pass scores the class highest, background features where the
  filter lets least through, both of the suppression pass's F: the base pass is not wrapped;
- the schedule is the paper's, batch, weight decay and localizer are BaS-Net's. The table is on THUMOS14 alone: other
  data sets get BaS-Net's recipe with the paper's number of codewords.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from baselines.basnet import BasNet, BasNetOptions
from baselines.rmgcl_gksa import DECAY_EVERY, EPOCHS, codewords
from wstal.cross_video import CrossVideo, CrossVideoOptions
from wstal.method import BaseMethod, Recipe
from wstal.spec import Spec


class BasNetRmgclGksaOptions(CrossVideoOptions):
    """`CrossVideoOptions` with BaS-Net's as the base's."""

    base: BasNetOptions = Field(BasNetOptions(), description="BaS-Net's options")


class BasNetRmgclGksa(CrossVideo):
    """RMGCL + GKSA over BaS-Net."""

    name: ClassVar[str] = "basnet-rmgcl-gksa"
    title: ClassVar[str] = "BaS-Net + RMGCL+GKSA"
    Options: ClassVar[type[Spec]] = BasNetRmgclGksaOptions
    Base: ClassVar[type[BaseMethod]] = BasNet

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """BaS-Net's network and localizer; the paper's schedule."""
        base = BasNet.recipe(dataset)
        return Recipe(
            method=BasNetRmgclGksaOptions(summary=codewords(dataset)),
            train=base.train.model_copy(update={"epochs": EPOCHS, "decay_every": DECAY_EVERY}),
            localizer=base.localizer,
        )
