"""RMGCL+GKSA (Zhang & Zhao) over ACM-Net, called "Ours" in the paper's tables.

Idea: a memory bank keeps representative features of each class across videos. A noise-robust contrast pulls snippets
to their class's memory. Codewords summarize the bank, snippets read the summary, and the resulting predictions teach
the main branch.

Paper: Zhang & Zhao (see `wstal.cross_video`, which has the whole method). Facts: only the paper, no code was released.
Deviations:
- the attention head's kernel is 1, which Table IX's sizes need (the text says 3: `method.base.attention_kernel`);
- all of ACM-Net's losses train the main branch, where Eq. 17 writes the three classification terms, because the
  paper's baseline row has ACM-Net's numbers (`method.base.guide`, `.feature` and `.sparse` at 0 give Eq. 17 literally);
- GKA's FFN has a hidden layer of 128: with width D it alone would cost more than ACM-Net (`method.fusion_width`);
- the CAS that selects for the memory (Eq. 7), teaches and is taught (Eq. 14-16) passes no dropout in the head, about
  which the paper says nothing (`method.head_dropout`). ACM-Net's input dropout, on ActivityNet and FineAction, stays;
- A_hat's classification loss has weight 1: the text says that labels train both branches, Eq. 17 has only one;
- weight decay, the class threshold and FineAction's number of codewords are not stated: they are ACM-Net's, and
  ActivityNet's.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from baselines.acmnet import AcmNet, AcmNetOptions
from wstal.cross_video import CrossVideo
from wstal.cross_video_options import CrossVideoOptions
from wstal.families import many_classes
from wstal.method import BaseMethod, Recipe
from wstal.summarize.options import SummaryOptions
from wstal.types import Paper, Source

EPOCHS, DECAY_EVERY = 200, 100
MANY_CLASSES_CODEWORDS = 200


class RmgclGksaOptions(CrossVideoOptions):
    """`CrossVideoOptions` with ACM-Net as the base."""

    base: AcmNetOptions = Field(AcmNetOptions(), description="ACM-Net's options")


class RmgclGksa(CrossVideo):
    """RMGCL+GKSA over ACM-Net. Subclasses set another `Base` and its `Options`."""

    name = "rmgcl-gksa"
    title = "RMGCL+GKSA (Zhang & Zhao)"
    source: ClassVar[Source] = "paper"
    paper: ClassVar[Paper | None] = Paper(
        "Cross-Video Contextual Knowledge Exploration and Exploitation for Ambiguity Reduction in Weakly "
        "Supervised Temporal Action Localization",
        "Songchun Zhang, Chunhui Zhao",
        "IEEE Transactions on Circuits and Systems for Video Technology",
        2023,
        "https://arxiv.org/abs/2308.12609",
    )
    Options: ClassVar[type[CrossVideoOptions]] = RmgclGksaOptions
    Base: ClassVar[type[BaseMethod]] = AcmNet

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the base's network and localizer for the data set, with the paper's schedule for all data sets.

        The number of codewords is larger if there are many classes.
        """
        base = cls.Base.recipe(dataset)
        summary = SummaryOptions(count=MANY_CLASSES_CODEWORDS) if many_classes(dataset) else SummaryOptions()
        return Recipe(
            method=cls.Options(base=base.method, summary=summary),
            train=base.train.model_copy(update={"epochs": EPOCHS, "decay_every": DECAY_EVERY}),
            localizer=base.localizer,
        )
