"""UntrimmedNet's head: clip classifier and selection module over precomputed features.

Idea: a linear classifier scores each clip of a video. A selection over clips gives the video's prediction: soft (a
second linear layer and a softmax over clips weight their probabilities) or hard (each class's best three).

Paper: Wang et al., CVPR 2017, arXiv 1703.03329. Facts: its released code (wanglimin/UntrimmedNet at 76ec6a3).
Deviations:
- only the head is trained, on fixed features, where the paper trains all of BN-Inception. So the optimiser and its
  schedule are ours, and so are classes and videos (the paper trains on 101 classes of THUMOS14, 1,010 videos);
- a clip is a seventh of the video, because shot boundaries are not available. The three snippets of a clip come from
  its thirds, as the three frames of a temporal segment network do;
- times begin at the start of the first snippet (the released code adds a frame), and a row lasts as long as the
  features say;
- the selection's layer has no bias: it would cancel in the softmax over clips;
- with hard selection a test video is scored as in training (no test code for it was released), and one dropout rate
  serves all streams (the hard flow network's was 0.7).
All rows of a test video are scored, unless `train.test_length`, which a data set's schedule may set, limits them.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal import sampling
from wstal.families import epochs_for, many_classes
from wstal.localize.spec import LocalizerSpec, ProposalSource
from wstal.losses.mil import cross_entropy
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.pooling import top_k_mean
from wstal.spec import ALL_ROWS, Count
from wstal.streams import SeparateStreams, StreamOptions
from wstal.tensors import Features, VideoFeatures, VideoScores
from wstal.types import Batch, IntArray, Paper, Scores

TEST_TEMPERATURE = 3.0


class UntrimmedNetOptions(StreamOptions):
    """Options of UntrimmedNet's head."""

    selection: Literal["soft", "hard"] = Field("soft", description="of clips: by attention, or each class's best")
    dropout: float = Field(0.8, ge=0, lt=1, description="of the features, the same for classifier and selection")
    clips: Count = Field(7, description="clips that a training video is cut into")
    best: Count = Field(3, description="clips of the largest logits that hard selection averages, for each class")


# on ActivityNet the paper trains 1.5 times as long
THUMOS_STEPS, ACTIVITYNET_STEPS, BATCH = 2_000, 3_000, 16
LOCALIZER = LocalizerSpec(
    class_threshold=0.1,
    fallback_to_argmax=False,
    sources=(
        ProposalSource(
            signal="relative", thresholds=(0.5,), strict=True, score={"smoothed": 1.0}, video_score_weight=0.2
        ),
    ),
)


class UntrimmedNetwork(Method):
    """UntrimmedNet's head on one stream."""

    Options = UntrimmedNetOptions
    TRAIN_SAMPLER = sampling.grid_random  # with 21 rows, three of each of 7 clips
    spec: UntrimmedNetOptions

    def __init__(self, spec: UntrimmedNetOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.classifier = nn.Linear(feature_dim, num_classes)
        self.attention = nn.Linear(feature_dim, 1, bias=False) if spec.selection == "soft" else None
        nn.init.zeros_(self.classifier.bias)
        for layer in (self.classifier, self.attention):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.001)

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return THUMOS14's settings, with 1.5 times the steps on ActivityNet and (not in the paper) FineAction."""
        epochs = epochs_for(dataset, ACTIVITYNET_STEPS if many_classes(dataset) else THUMOS_STEPS, BATCH)
        train = TrainSpec(epochs=epochs, batch_size=BATCH, temporal_length=21, test_length=ALL_ROWS, weight_decay=5e-4)
        return Recipe(method=UntrimmedNetOptions(), train=train, localizer=LOCALIZER)

    def test_indices(self, length: int, at_most: int) -> IntArray:
        """Return all rows, or `at_most` evenly spaced ones."""
        return sampling.grid(length, min(length, at_most))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `classification`, the cross-entropy of the selected clips' prediction, which is also the `total`."""
        features = functional.dropout(batch.features, self.spec.dropout, self.training)
        loss = cross_entropy(self.video_log_scores(features), batch.labels)
        return {"classification": loss, "total": loss}

    def video_log_scores(self, features: Features) -> VideoScores:
        """Return log-probabilities of the classes, by clips and their selection."""
        logits = self._clips(self.classifier(features))
        if self.attention is None:
            return top_k_mean(logits, min(self.spec.best, logits.shape[1])).log_softmax(dim=1)
        weights = self._clips(self.attention(features)).log_softmax(dim=1)
        return (weights + logits.log_softmax(dim=2)).logsumexp(dim=1)

    def score(self, features: VideoFeatures) -> Scores:
        """Return `cas`, the softmax of each snippet's logits, and `attention`, its weight relative to the largest.

        The weight ranks the snippets of a video and does not say how much foreground the video has, so `cas` does not
        include it, as in the paper's released localization. Hard selection has no such weight: there `attention` is the
        probability of the snippet's best class.
        """
        logits: Tensor = self.classifier(features)
        cas = logits.softmax(dim=1)
        if self.attention is None:
            return Scores(
                {"cas": cas, "attention": cas.amax(dim=1)}, self.video_log_scores(features.unsqueeze(0))[0].exp()
            )
        weights = (self.attention(features)[:, 0] / TEST_TEMPERATURE).softmax(dim=0)
        return Scores({"cas": cas, "attention": weights / weights.max()}, (weights @ logits).softmax(dim=0))

    def _clips(self, values: Float[Tensor, "batch time outputs"]) -> Float[Tensor, "batch clips outputs"]:
        """Return means over clips of neighbouring rows, as equal in length as possible, with at least one row each."""
        parts = values.tensor_split(min(self.spec.clips, values.shape[1]), dim=1)
        return torch.stack([part.mean(dim=1) for part in parts], dim=1)


class UntrimmedNet(SeparateStreams):
    """UntrimmedNet: one head per stream over features `[B, T, D]`, whose softmaxes are averaged."""

    name = "untrimmednet"
    title = "UntrimmedNet"
    paper = Paper(
        "UntrimmedNets for Weakly Supervised Action Recognition and Detection",
        "Limin Wang, Yuanjun Xiong, Dahua Lin, Luc Van Gool",
        "CVPR",
        2017,
        "https://arxiv.org/abs/1703.03329",
    )
    Options = UntrimmedNetOptions
    Network = UntrimmedNetwork
    spec: UntrimmedNetOptions

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the network's recipe."""
        return UntrimmedNetwork.recipe(dataset)

    def score(self, features: VideoFeatures) -> Scores:
        """Return the streams' means, and `smoothed` and `relative` of their `cas` (see `smoothed_and_relative`)."""
        scores = super().score(features)
        cas = scores.signals["cas"]
        smoothed, relative = smoothed_and_relative(cas)
        signals = {"cas": cas, "attention": scores.signals["attention"], "smoothed": smoothed, "relative": relative}
        return Scores(signals, scores.video_scores)


def smoothed_and_relative(
    cas: Float[Tensor, "time classes"],
) -> tuple[Float[Tensor, "time classes"], Float[Tensor, "time classes"]]:
    """Return the scored and the thresholded signal of the released localization.

    f is the mean of each snippet and the next one (of the last one and itself). A snippet is active where f, its own or
    the previous one's, exceeds half of the video's largest: the released mask is dilated by one row to the right. So
    the second signal is the larger of both, divided by the largest of all.
    """
    smoothed = (cas + torch.cat([cas[1:], cas[-1:]])) / 2
    dilated = torch.maximum(smoothed, torch.cat([smoothed[:1], smoothed[:-1]]))
    return smoothed, dilated / smoothed.amax(dim=0).clamp(min=torch.finfo(cas.dtype).tiny)
