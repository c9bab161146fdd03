"""FAC-Net: foreground-action consistency network for weakly supervised temporal action localization.

Idea: foreground and actions imply each other. One embedding, one set of class vectors and one foreground vector serve
three heads: snippets that a class attends to must look like foreground, snippets that foreground attends to must show
the action, and a multiple-instance head classifies everything, including background. Attention is a softmax over time
at three temperatures. Every product is a cosine. RGB and flow are two networks, fused after localization.

Paper: Huang, Wang & Li, ICCV 2021, arXiv 2108.06524. Facts: its released code
(LeonHLJ/FAC-Net@c0108860ecb679a14ef1c3722581b20434271433), checked against tensors recorded from it. Deviations:
- 1e-9 is added to lengths: in the released code a snippet of zeros gives NaN;
- the released code keeps, for each stream, the epoch that is best on the test set, here the last one counts;
- detections that overlap an Ambiguous interval stay: dropping them is part of an evaluation protocol here;
- ActivityNet's code is not released: THUMOS14's recipe with thresholds ten times lower, because the thresholded softmax
  is over ten times as many classes;
- `attention` is relative: the method's softmax over time has no scale, so it is divided by its maximum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from wstal import sampling
from wstal.families import many_classes
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource, StreamFusion
from wstal.losses.mil import cross_entropy, with_background
from wstal.method import BaseMethod, Recipe, TrainSpec
from wstal.parts.cosine import ClassVectors, cosines, pool
from wstal.parts.layers import dropout_layers
from wstal.spec import Spec
from wstal.streams import SeparateStreams, StreamOptions
from wstal.tensors import Cas, Embedded, Foreground, Labels, Scalar, VideoScores
from wstal.types import Paper, Scores, Snippets

# the released code drops what is *above* the threshold, `Nms` what is at or above: 0.2, 0.5 and 0.9 are frequent
# fractions of whole snippets, and the next fraction of up to 10,000 of them is 1e-5 away
ABOVE = 1e-6
LABEL_EPSILON = 1e-8

# gradients of 10 single videos are summed: 100 epochs of 200 videos are 2,000 steps of 10
TRAIN = TrainSpec(epochs=100, batch_size=1, accumulate=10, learning_rate=1e-4, betas=(0.9, 0.99), weight_decay=5e-3)
THRESHOLDS = (0.03, 0.035, 0.04, 0.045, 0.05)
MANY_CLASSES_THRESHOLDS = tuple(round(threshold / 10, 4) for threshold in THRESHOLDS)
FUSION = StreamFusion(
    weights=(0.1, 1.0), nms=Nms(kind="hard", threshold=0.9 + ABOVE, overlap="own", plus_one="snippet")
)


class FacNetNetworkOptions(Spec):
    """Options of one stream's network. The defaults are for THUMOS14."""

    dropout: float = Field(0.5, ge=0, lt=1, description="after both layers of the embedding")
    scale: PositiveFloat = Field(5.0, description="s, of cosines; the heads classify at twice that")
    temperatures: tuple[PositiveFloat, ...] = Field(
        (1.0, 2.0, 5.0), min_length=1, description="tau, of the softmaxes over time, whose heads are averaged"
    )
    class_wise: float = Field(1.0, ge=0, description="weight of the class-wise foreground classification loss")
    class_agnostic: float = Field(0.1, ge=0, description="weight of the class-agnostic attention's loss")
    mil: float = Field(0.1, ge=0, description="weight of the multiple-instance loss")


class FacNetOptions(FacNetNetworkOptions, StreamOptions):
    """Options of the networks and their streams."""


class FacNetNetwork(BaseMethod):
    """Network of one stream over features `[B, T, D]`. The embedding keeps the width D."""

    name = "facnet-network"
    title = "FAC-Net (one stream)"
    Options = FacNetNetworkOptions
    TRAIN_SAMPLER = sampling.whole
    TEST_SAMPLER = sampling.whole
    spec: FacNetNetworkOptions

    def __init__(self, spec: FacNetNetworkOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.embedding = dropout_layers(feature_dim, spec.dropout)
        self.vectors = ClassVectors(feature_dim, num_classes)

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return `FacNet`'s recipe without streams and their fusion."""
        thresholds = MANY_CLASSES_THRESHOLDS if many_classes(dataset) else THRESHOLDS
        localizer = LocalizerSpec(
            class_threshold=0.1,
            class_threshold_inclusive=True,
            fallback_to_argmax=False,
            sources=(ProposalSource(signal="cas", thresholds=thresholds, strict=True, score={"cas": 1.0}),),
            margin=0.25,
            outer_weight=0.6,
            past_end=True,
            minimum_run=3,
            nms=Nms(kind="hard", threshold=0.2 + ABOVE, overlap="own", plus_one="snippet"),
        )
        return Recipe(method=FacNetNetworkOptions(), train=TRAIN, localizer=localizer)

    def embed(self, features: Embedded) -> Embedded:
        """Return F: two linear layers, each with ReLU and dropout."""
        embedded: Tensor = self.embedding(features)
        return embedded

    def attend(self, embedded: Embedded) -> Foreground:
        """Return W = exp(G_t - max G), G = s cos(F, g): the foreground attention softmax_t(G) divided by its maximum.

        W^tau divided by its sum is the attention of temperature tau.
        """
        scores = self.spec.scale * cosines(embedded, self.vectors.foreground)
        return (scores - scores.detach().amax(dim=1, keepdim=True)).exp()

    def classify(self, embedded: Embedded) -> Cas:
        """Return A = S: s times the cosines to the class vectors, background last."""
        return self.spec.scale * cosines(embedded, self.vectors.classes)

    def snippet_losses(self, snippets: Snippets, labels: Labels) -> dict[str, Tensor]:
        """Return the classification losses `class_wise`, `class_agnostic` and `mil`, and their weighted `total`."""
        pooled = [pool(snippets.embedded, attention) for attention in self._attentions(snippets.cas)]
        foreground = [self._head(features, self.vectors.foreground).squeeze(-1) for features in pooled]
        return self._terms(_mean(foreground), self._class_agnostic(snippets), snippets.cas, labels)

    def classification_loss(self, cas: Cas, attention: Foreground, labels: Labels) -> Scalar:
        """Return the weighted losses of any CAS.

        Where the heads take the cosine of a pooled feature, this takes the pooled cosine.
        """
        scores = _log(attention)  # G minus a constant that is the same for all classes of a video
        foreground = [2 * (weights * scores).sum(dim=1) for weights in self._attentions(cas)]
        action = [2 * (weights * cas).sum(dim=1) for weights in self._attentions(scores)]
        return self._terms(_mean(foreground), _mean(action), cas, labels)["total"]

    def branch_cas(self, cas: Cas, attention: Foreground) -> tuple[Cas, Cas]:
        """Return softmax_c(A) weighted by W and by 1 - W."""
        probabilities = cas.softmax(dim=-1)
        return probabilities * attention, probabilities * (1 - attention)

    def snippet_scores(self, snippets: Snippets) -> Scores:
        """Return `cas` (softmax of A without background), `attention` (W) and the class-agnostic head's scores."""
        signals = {
            "cas": snippets.cas[0].softmax(dim=-1)[:, : self.num_classes],
            "attention": snippets.attention[0, :, 0],
        }
        return Scores(signals, self._class_agnostic(snippets)[0].softmax(dim=-1)[: self.num_classes])

    def _attentions(self, logits: Tensor) -> list[Tensor]:
        """Return the softmax over time at each temperature."""
        return [(temperature * logits).softmax(dim=1) for temperature in self.spec.temperatures]

    def _head(self, features: Tensor, vectors: Tensor) -> Tensor:
        return 2 * self.spec.scale * cosines(features, vectors)

    def _class_agnostic(self, snippets: Snippets) -> VideoScores:
        """Return the class logits of the snippets that foreground attends to."""
        pooled = [pool(snippets.embedded, weights)[:, 0] for weights in self._attentions(_log(snippets.attention))]
        return _mean([self._head(features, self.vectors.classes) for features in pooled])

    def _terms(self, class_wise: Tensor, class_agnostic: Tensor, cas: Tensor, labels: Tensor) -> dict[str, Tensor]:
        mil = _mean([2 * (weights * cas).sum(dim=1) for weights in self._attentions(cas)])
        heads = {"class_wise": class_wise, "class_agnostic": class_agnostic, "mil": mil}
        terms = {
            name: cross_entropy(logits.log_softmax(dim=1), with_background(labels, name == "mil"), LABEL_EPSILON)
            for name, logits in heads.items()
        }
        spec = self.spec
        terms["total"] = (
            spec.class_wise * terms["class_wise"]
            + spec.class_agnostic * terms["class_agnostic"]
            + spec.mil * terms["mil"]
        )
        return terms


class FacNet(SeparateStreams):
    """FAC-Net: one `FacNetNetwork` per stream."""

    name = "facnet"
    title = "FAC-Net"
    paper = Paper(
        "Foreground-Action Consistency Network for Weakly Supervised Temporal Action Localization",
        "Linjiang Huang, Liang Wang, Hongsheng Li",
        "ICCV",
        2021,
        "https://arxiv.org/abs/2108.06524",
    )
    Options = FacNetOptions
    Network = FacNetNetwork

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return THUMOS14's recipe, with lower thresholds for `activitynet*` and (not in the paper) `fineaction`.

        All train for 100 epochs.
        """
        network = FacNetNetwork.recipe(dataset)
        localizer = network.localizer.model_copy(update={"fusion": FUSION})
        return Recipe(method=FacNetOptions(), train=network.train, localizer=localizer)


def _mean(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).mean(dim=0)


def _log(attention: Tensor) -> Tensor:
    return attention.clamp(min=torch.finfo(attention.dtype).tiny).log()
