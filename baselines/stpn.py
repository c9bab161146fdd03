"""STPN: sparse temporal pooling network for weakly supervised temporal action localization.

Idea: a sigmoid attention weights the snippets, their weighted mean is classified, and an L1 penalty leaves few of them
with weight. The classifier's weights on single snippets are the temporal class activation map (T-CAM). Attention times
its sigmoid is thresholded. Streams are trained separately, use each other's T-CAM in scores, and their detections are
fused.

Paper: Nguyen et al., CVPR 2018, arXiv 1712.05080. No official code. Facts: the TensorFlow code that reaches the paper's
numbers (bellos1203/STPN at ecadfca), checked against weights that it released and tensors derived from its graph.
Deviations:
- the pooled feature is the mean over time, as in that code. The paper writes the sum, which is 400 times as large, so
  neither learning rate nor penalty would be comparable;
- a stream whose only class is the first of the list keeps it (the code treats that as no class at all);
- streams past the second: the T-CAMs of the other streams have equal shares. A single stream scores only its own;
- all detections that suppression leaves of a class in a video stay (the code keeps the best 1,000);
- the last of the 24,000 iterations counts (the published number is the 23,100th's, chosen on the test set).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal import sampling
from wstal.families import epochs_for
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource, StreamFusion
from wstal.method import BaseMethod, Recipe, TrainSpec
from wstal.parts.layers import init_xavier
from wstal.spec import Count, Spec
from wstal.streams import SeparateStreams, StreamOptions
from wstal.tensors import Cas, Embedded, Features, Foreground, Labels, Scalar, VideoFeatures, VideoScores
from wstal.types import Paper, Scores, Snippets


class StpnNetworkOptions(Spec):
    """Options of one stream's network."""

    hidden: Count = Field(256, description="columns of the attention's hidden layer")
    sparse: float = Field(1e-4, ge=0, description="beta: weight of the attention's L1 norm, a sum over time")


class StpnOptions(StpnNetworkOptions, StreamOptions):
    """Options of STPN."""

    own_weight: float = Field(
        0.5, ge=0, le=1, description="alpha: weight of a stream's own T-CAM in its scores; other streams' have the rest"
    )


STEPS, BATCH = 24_000, 6
LOCALIZER = LocalizerSpec(
    class_threshold=0.1,
    fallback_to_argmax=False,
    upsampling=24,
    sources=(ProposalSource(signal="cas", thresholds=(0.05,), score={"tcam": 1.0}),),
)


class StpnNetwork(BaseMethod):
    """STPN of one stream. F is the features themselves, A the T-CAM: logits without the classifier's bias.

    Attributes:
        BACKGROUND: outputs of the classifier for background, after the C actions'.
    """

    Options = StpnNetworkOptions
    TRAIN_SAMPLER = sampling.grid_random
    TEST_SAMPLER = sampling.grid
    BACKGROUND: ClassVar[int] = 0
    spec: StpnNetworkOptions

    def __init__(self, spec: StpnNetworkOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.hidden = nn.Linear(feature_dim, spec.hidden)
        self.attention = nn.Linear(spec.hidden, 1)
        self.classifier = nn.Linear(feature_dim, num_classes + self.BACKGROUND)
        init_xavier(self.hidden, self.attention, self.classifier)  # TensorFlow's defaults

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return THUMOS14's settings and steps for every data set. No others are known."""
        epochs = epochs_for(dataset, STEPS, BATCH)
        train = TrainSpec(epochs=epochs, batch_size=BATCH, temporal_length=400, test_length=400)
        return Recipe(method=cls.Options(), train=train, localizer=LOCALIZER)

    def embed(self, features: Features) -> Embedded:
        """Return the features unchanged."""
        return features

    def attend(self, embedded: Embedded) -> Foreground:
        """Return lambda: the sigmoid of two layers with a ReLU between them."""
        return torch.sigmoid(self.attention(self.hidden(embedded).relu()))

    def classify(self, embedded: Embedded) -> Cas:
        """Return the T-CAM."""
        return functional.linear(embedded, self.classifier.weight)

    def snippet_losses(self, snippets: Snippets, labels: Labels) -> dict[str, Tensor]:
        """Return the classification and the sparsity term, and their weighted `total`."""
        terms = {
            "classification": self.classification_loss(snippets.cas, snippets.attention, labels),
            "sparse": snippets.attention.sum(dim=(1, 2)).mean(),
        }
        terms["total"] = terms["classification"] + self.spec.sparse * terms["sparse"]
        return terms

    def classification_loss(self, cas: Cas, attention: Foreground, labels: Labels) -> Scalar:
        """Return the sigmoid cross-entropy, averaged over videos and classes."""
        return functional.binary_cross_entropy_with_logits(self.video_logits(cas, attention), labels)

    def video_logits(self, cas: Cas, attention: Foreground) -> VideoScores:
        """Return the classifier's output on the attention-weighted mean of F: the T-CAM's weighted mean plus the bias.

        Args:
            cas: `[B, T, C]` T-CAM.
            attention: `[B, T, 1]` lambda.
        """
        return (attention * cas).mean(dim=1) + self.classifier.bias

    def branch_cas(self, cas: Cas, attention: Foreground) -> tuple[Cas, Cas]:
        """Return the sigmoid of the T-CAM, weighted by attention and by 1 - attention."""
        probability = cas.sigmoid()
        return attention * probability, (1 - attention) * probability

    def snippet_scores(self, snippets: Snippets) -> Scores:
        """Return `attention`, `tcam` (attention times the T-CAM) and `cas` (attention times the T-CAM's sigmoid)."""
        attention, tcam = snippets.attention[0], snippets.cas[0, :, : self.num_classes]
        signals = {"cas": attention * tcam.sigmoid(), "attention": attention[:, 0], "tcam": attention * tcam}
        video_scores = self.video_logits(snippets.cas, snippets.attention)[0, : self.num_classes].sigmoid()
        return Scores(signals, video_scores)


class Stpn(SeparateStreams):
    """STPN: one network per stream over features `[B, T, D]`."""

    name = "stpn"
    title = "STPN"
    paper = Paper(
        "Weakly Supervised Action Localization by Sparse Temporal Pooling Network",
        "Phuc Nguyen, Ting Liu, Gautam Prasad, Bohyung Han",
        "CVPR",
        2018,
        "https://arxiv.org/abs/1712.05080",
    )
    Options = StpnOptions
    SCORING_OPTIONS = frozenset({"own_weight"})
    Network = StpnNetwork
    networks: Sequence[StpnNetwork]
    spec: StpnOptions

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the network's recipe, with suppression across the detections of the streams."""
        one = StpnNetwork.recipe(dataset)
        fused = one.localizer.model_copy(update={"fusion": StreamFusion(nms=Nms(kind="hard", threshold=0.5))})
        return Recipe(method=StpnOptions(), train=one.train, localizer=fused)

    def score(self, features: VideoFeatures) -> Scores:
        """Return the networks' scores, with `stream<i>/tcam` mixed from all T-CAMs under the stream's own attention."""
        parts = self.split(features.unsqueeze(0))
        passes = [network.snippets(part) for network, part in zip(self.networks, parts, strict=True)]
        scores = self.join([network.snippet_scores(one) for network, one in zip(self.networks, passes, strict=True)])
        for stream, one in enumerate(passes):
            others = [other.cas for other in passes if other is not one]
            if others:
                mixed = torch.lerp(torch.stack(others).mean(dim=0), one.cas, self.spec.own_weight)
                scores.signals[f"stream{stream}/tcam"] = (one.attention * mixed)[0]
        return scores
