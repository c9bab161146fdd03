"""RMGCL+GKSA (Zhang & Zhao) over FAC-Net, a row of the paper's Table VIII.

Idea: `wstal.cross_video` around one FAC-Net network. Its class vectors are the head that both branches share, the
memory bank stores its embedding, and its cosines suit the contrast as they are.

Paper: Zhang & Zhao (see `wstal.cross_video`). Facts: the paper gives only the row's numbers. How FAC-Net and the method
are combined is decided here:
- one network over all columns, so one memory bank, where FAC-Net itself has one network per stream;
- videos are sampled to one length (ACM-Net's T) and come in true batches of 10, so that Eq. 9 and 16 average over a
  batch as with ACM-Net. FAC-Net accumulates the gradients of single whole videos. Test videos are whole, as FAC-Net's;
- weight decay is FAC-Net's, converted from the sum of 10 gradients to their mean;
- A^ins and A^bak weight the softmax of the CAS by the foreground attention and by its difference to its maximum;
- the auxiliary branch is classified by pooled cosines of A_hat, which has no feature whose cosine could be taken;
- the bank stores features after FAC-Net's dropout, which is inside its embedding. Its head has no dropout, so
  `method.head_dropout` changes nothing over FAC-Net;
- epochs and learning-rate decay are the paper's for its method over ACM-Net.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from baselines.acmnet import AcmNet
from baselines.facnet import FacNetNetwork, FacNetNetworkOptions
from baselines.rmgcl_gksa import RmgclGksa
from wstal import sampling
from wstal.cross_video_options import BoundedCrossVideoOptions
from wstal.method import Recipe
from wstal.types import IntArray


class FacNetRmgclGksaOptions(BoundedCrossVideoOptions):
    """Options with FAC-Net's network as the base, whose CAS is a weighted softmax."""

    base: FacNetNetworkOptions = Field(FacNetNetworkOptions(), description="options of FAC-Net's network")


class FacNetRmgclGksa(RmgclGksa):
    """RMGCL+GKSA over one FAC-Net network."""

    name = "facnet-rmgcl-gksa"
    title = "FAC-Net + RMGCL+GKSA"
    source = "paper, partly"
    Options = FacNetRmgclGksaOptions
    Base = FacNetNetwork
    TRAIN_SAMPLER = sampling.stratified_random

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return FAC-Net's network, localizer and learning rate, with the paper's epochs and ACM-Net's T."""
        recipe = super().recipe(dataset)
        videos = recipe.train.accumulate
        batches = {
            "batch_size": videos,
            "accumulate": 1,
            "temporal_length": AcmNet.recipe(dataset).train.temporal_length,
            "weight_decay": recipe.train.weight_decay / videos,
        }
        return recipe.model_copy(update={"train": recipe.train.model_copy(update=batches)})

    def train_indices(self, length: int, count: int, rng: np.random.Generator) -> IntArray:
        """Return ACM-Net's sample: the videos of a batch have one length."""
        return type(self).TRAIN_SAMPLER(length, count, rng)
