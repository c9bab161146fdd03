"""RPN: relational prototypical network.

Idea: classes that occur in the same videos are related. A graph convolutional network (GCN) over the co-occurrence of
labels makes a prototype of each class, and a snippet is classified by its distances from the prototypes. An attention
over time pools the distances, which classify the video and, in a clustering loss, draw snippets to the prototypes of
its classes. There is no background class: at test a weight by similarity suppresses what is close to no prototype.

Paper: Huang et al., AAAI 2020, pp. 11053-11060. No code was released and the text was not at hand. The abstract and the
authors' overview figure state:
- prototypes are the output of a GCN whose input is one-hot labels and whose graph is the co-occurrence of the training
  videos' labels;
- embedded snippets are compared with the prototypes by distance; a small CNN and a softmax over time give attention;
- the attention-pooled similarities, in a softmax over classes, have a cross-entropy with the normalised labels; the
  clustering loss acts on the attention-pooled distances; only original videos train, without a background class;
- at test alone, the class activation sequence is weighted by similarity before it is thresholded.
Readings of ours, where `FAC-Net` is what the first author's later released code does:
- the distance is one minus the cosine, scaled as in FAC-Net's heads, or the squared distance divided by D (`matching`,
  `scale`). The squared one vanishes under FAC-Net's weight decay: snippets and prototypes all shrink to one point;
- the graph has rows of counts plus the identity, divided by their sums, with a limited share of other classes
  (`neighbours`); two graph convolutions with a LeakyReLU between them (`hidden`);
- the embedding is FAC-Net's (`dropout`), the attention has two convolutions, with LeakyReLU and dropout (`attention`);
- the clustering loss is the mean over a video's classes, and its gradient reaches the attention (`clustering`);
- the weight is exp(-D) of the least distance D (`weighting`): 21.3 mean mAP on held-out training videos of THUMOS14
  (R(2+1)D features), against 18.8 with its place in the video's range and 14.4 without a weight;
- streams, training and post-processing are FAC-Net's; thresholds span two decades, since nothing is known of them.
`attention` is relative, as FAC-Net's: divided by its maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional

from baselines.facnet import FUSION, TRAIN, FacNetNetwork
from wstal import sampling
from wstal.localize.spec import ProposalSource
from wstal.losses.mil import cross_entropy, normalized
from wstal.memory import scaled_scores
from wstal.method import Method, Recipe
from wstal.parts.layers import dropout_layers, xavier_linear
from wstal.parts.prototypes import Matching, TimeAttention, distances, label_graph, limited
from wstal.spec import Count, Spec
from wstal.streams import SeparateStreams, StreamOptions
from wstal.tensors import Cas, Features, Foreground, Labels, Scalar, VideoFeatures, VideoScores
from wstal.types import Batch, Paper, Scores, Video

THRESHOLDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
Weighting = Literal["min_max", "exponential", "none"]
Prototypes = Float[Tensor, "classes dim"]


class PrototypeOptions(Spec):
    """Options of the parts that RPN and SUB-ACT share."""

    dropout: float = Field(0.5, ge=0, lt=1, description="after both layers of the embedding (not stated: FAC-Net's)")
    attention: Count = Field(256, description="hidden columns of the attention (not stated)")


class RpnNetworkOptions(PrototypeOptions):
    """Options of one stream's network."""

    hidden: Count = Field(1024, description="columns between the graph convolutions (not stated)")
    neighbours: float = Field(
        0.2, ge=0, le=1, description="most that a class takes from others in a graph convolution (not stated); 0: none"
    )
    matching: Matching = Field(
        "cosine", description="1 - cosine, or distance: squared and divided by the columns (which one is not stated)"
    )
    scale: PositiveFloat = Field(10.0, description="factor of the distances (not stated: that of FAC-Net's heads)")
    clustering: float = Field(0.1, ge=0, description="weight of the clustering loss (not stated)")
    weighting: Weighting = Field(
        "exponential",
        description="weight of a snippet at test, from its least distance D (not stated): exp(-D), its place in the "
        "video's range, or none",
    )


class RpnOptions(RpnNetworkOptions, StreamOptions):
    """Options of the networks and their streams."""


class RpnNetwork(Method):
    """Network of one stream over features `[B, T, D]`. The embedding keeps the width D."""

    name = "rpn-network"
    title = "RPN (one stream, from the paper)"
    Options = RpnNetworkOptions
    SCORING_OPTIONS = frozenset({"weighting"})
    TRAIN_SAMPLER = sampling.whole
    TEST_SAMPLER = sampling.whole
    spec: RpnNetworkOptions
    graph: Tensor

    def __init__(self, spec: RpnNetworkOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.embedding = dropout_layers(feature_dim, spec.dropout)
        self.attention = TimeAttention(feature_dim, spec.attention)
        self.convolutions = nn.ModuleList(
            [xavier_linear(num_classes, spec.hidden), xavier_linear(spec.hidden, feature_dim)]
        )
        self.register_buffer("graph", torch.eye(num_classes))

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return `Rpn`'s recipe without streams and their fusion."""
        source = ProposalSource(signal="cas", thresholds=THRESHOLDS, strict=True, score={"cas": 1.0})
        localizer = FacNetNetwork.recipe(dataset).localizer.model_copy(update={"sources": (source,)})
        return Recipe(method=RpnNetworkOptions(), train=TRAIN, localizer=localizer)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Set the graph from the labels of the training videos.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: all training videos, of which the labels alone are read. None: the graph stays.
        """
        if videos:
            graph = label_graph((video.labels for video in videos), self.num_classes)
            self.graph.copy_(limited(graph, self.spec.neighbours))

    def prototypes(self) -> Prototypes:
        """Return P `[C, D]` = A leaky(A W_1) W_2, of the graph A and one-hot labels as its nodes' features."""
        first, second = self.convolutions
        one_hot = torch.eye(self.num_classes, dtype=self.graph.dtype, device=self.graph.device)
        prototypes: Tensor = self.graph @ second(functional.leaky_relu(self.graph @ first(one_hot), 0.2))
        return prototypes

    def distances_and_attention(self, features: Features) -> tuple[Cas, Foreground]:
        """Return the distances `[B, T, C]` of the snippets from the prototypes, and the attention over time."""
        embedded = self.embedding(features)
        apart = distances(embedded, self.prototypes(), self.spec.matching, self.spec.scale)
        return apart, self.attention(embedded)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses `action` and `clustering`, and their weighted `total`."""
        pooled = pooled_distances(*self.distances_and_attention(batch.features))
        terms = {
            "action": cross_entropy((-pooled).log_softmax(dim=1), batch.labels),
            "clustering": clustering_loss(pooled, batch.labels),
        }
        return terms | {"total": terms["action"] + self.spec.clustering * terms["clustering"]}

    def score(self, features: VideoFeatures) -> Scores:
        """Return `cas` (softmax of the similarities, weighted), relative `attention`, and the class probabilities."""
        apart, attention = self.distances_and_attention(features.unsqueeze(0))
        cas = (-apart).softmax(dim=-1) * similarity_weight(apart, self.spec.weighting)
        video_scores = (-pooled_distances(apart, attention)).softmax(dim=1)
        return Scores({"cas": cas[0], "attention": relative(attention)[0, :, 0]}, video_scores[0])


class Rpn(SeparateStreams):
    """RPN: one `RpnNetwork` per stream."""

    name = "rpn"
    title = "RPN (from the paper)"
    source = "paper, partly"
    paper = Paper(
        "Relational Prototypical Network for Weakly Supervised Temporal Action Localization",
        "Linjiang Huang, Yan Huang, Wanli Ouyang, Liang Wang",
        "AAAI",
        2020,
        "https://ojs.aaai.org/index.php/AAAI/article/view/6760",
    )
    Options: ClassVar[type[Spec]] = RpnOptions
    SCORING_OPTIONS = RpnNetwork.SCORING_OPTIONS
    Network: ClassVar[type[Method]] = RpnNetwork

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the recipe of the networks with the fusion of their streams. All data sets train for 100 epochs."""
        network = cls.Network.recipe(dataset)
        options = cls.Options.model_validate(network.method.model_dump())
        localizer = network.localizer.model_copy(update={"fusion": FUSION})
        return Recipe(method=options, train=network.train, localizer=localizer)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Start the epoch of each network, which reads the labels of the training videos.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: all training videos.
        """
        for network in self.networks:
            network.start_epoch(epoch, epochs, videos)


def pooled_distances(apart: Cas, attention: Foreground) -> VideoScores:
    """Compute sum_t w_t D_t for each class.

    Args:
        apart: `[B, T, C]` D.
        attention: `[B, T, 1]` w, which sums to 1 over time.
    """
    return (attention * apart).sum(dim=1)


def clustering_loss(pooled: VideoScores, labels: Labels) -> Scalar:
    """Compute the mean over videos of the mean pooled distance from the prototypes of the video's classes.

    A video without labels counts as 0.

    Args:
        pooled: `[B, C]` as `pooled_distances` gives them.
        labels: `[B, C]` multi-hot.
    """
    return (normalized(labels) * pooled).sum(dim=1).mean()


def similarity_weight(apart: Cas, weighting: Weighting) -> Foreground:
    """Return the weight of each snippet, from its distance D from the nearest prototype.

    Args:
        apart: `[B, T, C]` distances.
        weighting: `min_max`: 1 for the video's least D, 0 for its largest, linear in between, 1 if all are equal.
            `exponential`: exp(-D). `none`: 1.
    """
    nearest = apart.amin(dim=-1, keepdim=True)
    if weighting == "min_max":
        return scaled_scores(-nearest, "min_max")
    # rounding may leave a distance of 0 just below it
    return (-nearest).exp().clamp(max=1) if weighting == "exponential" else torch.ones_like(nearest)


def relative(attention: Foreground) -> Foreground:
    """Divide an attention over time by its maximum."""
    return attention / attention.amax(dim=1, keepdim=True)
