"""SUB-ACT: modelling sub-actions.

Idea: an action has several sub-actions. Learned prototypes of sub-actions are compared with the snippets, and a graph
convolution over the prototypes assigns each sub-action softly to the actions, as graph pooling does. Sub-actions of the
attended snippets, through the assignment, have to tell the video's actions, and those of the others background. Three
further losses keep the sub-actions meaningful: of their relations, of balance and of representation.

Paper: Huang et al., IEEE Transactions on Image Processing 30, 2021, pp. 5154-5167. No code was released and the text
was not at hand. The abstract and the authors' overview figure state:
- K prototypes are random parameters, compared with the embedded snippets (d_t); attention has convolution, leaky ReLU,
  dropout, convolution and a softmax over time; background weights are 1 minus it, divided to be normalised;
- a graph from the similarities of the prototypes, a graph convolution and a softmax give the assignment S;
- attention-pooled d_t, in a softmax over sub-actions and times S, have a loss with the label, for the foreground and
  for the background branch;
- relation: S^T A S of the sub-actions' graph A is compared with a graph of the actions. Balance acts on the video's
  distributions over sub-actions and actions, representation on those of each snippet;
- at test the softmax of d_t times S is the class activation sequence, which is thresholded.
Readings of ours, where `FAC-Net` is what the first author's later released code does:
- comparison is the cosine, scaled as in FAC-Net's heads, or the squared distance divided by D (`matching`, `scale`);
- S has a column of background; K counts it among the actions (`sub_actions`);
- A is the softmax of the scaled similarities in each row, and one layer convolves;
- both branches have a cross-entropy (`background`);
- the actions' graph counts in how many training videos two labels occur, plus the identity; it and S^T A S are divided
  by the sums of their rows, and the loss is their mean squared difference (`relation`);
- balance: of each action of the video, the shares of its sub-actions, from the distribution times their assignment, are
  drawn to even ones or to the assignment's (`balance`, `balance_to`). What is lost is the divergence from them;
- representation: snippets have a low entropy over sub-actions and over classes, their mean over all videos of the batch
  a high one over sub-actions, all weighted by attention (`representation`);
- embedding, streams, training and post-processing are FAC-Net's, the thresholds RPN's.
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

from baselines.rpn import PrototypeOptions, Rpn, RpnNetwork, pooled_distances, relative
from wstal import sampling
from wstal.families import many_classes
from wstal.losses.mil import cross_entropy, normalized, with_background
from wstal.method import Method, Recipe
from wstal.parts.layers import dropout_layers, xavier_linear
from wstal.parts.prototypes import Graph, Matching, TimeAttention, distances, label_graph
from wstal.spec import Count
from wstal.streams import StreamOptions
from wstal.tensors import Features, Foreground, Labels, Scalar, VideoFeatures
from wstal.types import Batch, Paper, Scores, Video

BalanceTo = Literal["even", "assignment"]
Matches = Float[Tensor, "batch time subs"]
Assignment = Float[Tensor, "subs classes"]
LogShares = Float[Tensor, "batch subs"]


class SubActNetworkOptions(PrototypeOptions):
    """Options of one stream's network. The defaults are for THUMOS14."""

    sub_actions: Count = Field(4, description="sub-actions for each class and for background (K / (C + 1), not stated)")
    matching: Matching = Field(
        "cosine", description="cosine or squared distance, divided by the columns (which one is not stated)"
    )
    scale: PositiveFloat = Field(10.0, description="factor of both (not stated: that of FAC-Net's heads)")
    background: float = Field(0.1, ge=0, description="weight of the background branch's classification (not stated)")
    relation: float = Field(0.1, ge=0, description="weight of the relation loss (not stated)")
    balance: float = Field(0.1, ge=0, description="weight of the balance loss (not stated)")
    balance_to: BalanceTo = Field(
        "even", description="shares that balance draws sub-actions to (not stated): even ones, or their assignment's"
    )
    representation: float = Field(0.1, ge=0, description="weight of the representation loss (not stated)")


class SubActOptions(SubActNetworkOptions, StreamOptions):
    """Options of the networks and their streams."""


class SubActNetwork(Method):
    """Network of one stream over features `[B, T, D]`. The embedding keeps the width D."""

    name = "sub-act-network"
    title = "SUB-ACT (one stream, from the paper)"
    Options = SubActNetworkOptions
    TRAIN_SAMPLER = sampling.whole
    TEST_SAMPLER = sampling.whole
    spec: SubActNetworkOptions
    actions: Tensor

    def __init__(self, spec: SubActNetworkOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.embedding = dropout_layers(feature_dim, spec.dropout)
        self.attention = TimeAttention(feature_dim, spec.attention)
        self.prototypes = nn.Parameter(torch.empty(spec.sub_actions * (num_classes + 1), feature_dim))
        nn.init.xavier_uniform_(self.prototypes)
        self.convolution = xavier_linear(feature_dim, num_classes + 1)
        self.register_buffer("actions", torch.eye(num_classes + 1))  # the graph of the actions and background

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return `SubAct`'s recipe without streams and their fusion."""
        options = SubActNetworkOptions(sub_actions=2 if many_classes(dataset) else 4)
        return RpnNetwork.recipe(dataset).model_copy(update={"method": options})

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Set the graph of the actions from the labels of the training videos.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: all training videos, of which the labels alone are read. None: the graph stays.
        """
        if videos:
            self.actions.copy_(label_graph((video.labels for video in videos), len(self.actions)))

    def graph_and_assignment(self) -> tuple[Graph, Tensor]:
        """Return A `[K, K]`, the softmax of the prototypes' similarities, and log S `[K, C + 1]`, background last."""
        spec, prototypes = self.spec, self.prototypes
        graph = (-distances(prototypes, prototypes, spec.matching, spec.scale)).softmax(dim=1)
        return graph, (graph @ self.convolution(prototypes)).log_softmax(dim=1)

    def matches_and_attention(self, features: Features) -> tuple[Matches, Foreground]:
        """Return d `[B, T, K]`, the similarities of the snippets to the prototypes, and the attention over time."""
        embedded = self.embedding(features)
        return -distances(embedded, self.prototypes, self.spec.matching, self.spec.scale), self.attention(embedded)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the classification losses of both branches, the three further losses, and their weighted `total`."""
        spec, labels = self.spec, batch.labels
        matches, attention = self.matches_and_attention(batch.features)
        graph, log_assignment = self.graph_and_assignment()
        assignment = log_assignment.exp()
        foreground, background = (
            pooled_distances(matches, weights).log_softmax(dim=1)
            for weights in (attention, background_weights(attention))
        )
        nothing = with_background(torch.zeros_like(labels), True)
        terms = {
            "foreground": cross_entropy(log_classes(foreground, log_assignment), with_background(labels, False)),
            "background": cross_entropy(log_classes(background, log_assignment), nothing),
            "relation": relation_loss(graph, assignment, self.actions),
            "balance": balance_loss(foreground, log_assignment, labels, spec.balance_to),
            "representation": representation_loss(matches.softmax(dim=-1), assignment, attention),
        }
        terms["total"] = (
            terms["foreground"]
            + spec.background * terms["background"]
            + spec.relation * terms["relation"]
            + spec.balance * terms["balance"]
            + spec.representation * terms["representation"]
        )
        return terms

    def score(self, features: VideoFeatures) -> Scores:
        """Return `cas` (softmax of d times S, without background), relative `attention`, and class probabilities."""
        matches, attention = self.matches_and_attention(features.unsqueeze(0))
        _, log_assignment = self.graph_and_assignment()
        cas = matches.softmax(dim=-1) @ log_assignment.exp()
        video_scores = log_classes(pooled_distances(matches, attention).log_softmax(dim=1), log_assignment).exp()
        signals = {"cas": cas[0, :, :-1].clamp(max=1), "attention": relative(attention)[0, :, 0]}
        return Scores(signals, video_scores[0, :-1])


class SubAct(Rpn):
    """SUB-ACT: one `SubActNetwork` per stream."""

    name = "sub-act"
    title = "SUB-ACT (from the paper)"
    paper = Paper(
        "Modeling Sub-Actions for Weakly Supervised Temporal Action Localization",
        "Linjiang Huang, Yan Huang, Wanli Ouyang, Liang Wang",
        "IEEE Transactions on Image Processing",
        2021,
        "https://doi.org/10.1109/TIP.2021.3078324",
    )
    Options = SubActOptions
    SCORING_OPTIONS = frozenset()
    Network: ClassVar[type[Method]] = SubActNetwork


def background_weights(attention: Foreground) -> Foreground:
    """Compute (1 - w_t) / (T - 1), which sums to 1 over time as w does. The weight of a lone snippet is 0.

    Args:
        attention: `[B, T, 1]` w.
    """
    return (1 - attention) / max(attention.shape[1] - 1, 1)


def log_classes(log_shares: LogShares, log_assignment: Assignment) -> Float[Tensor, "batch classes"]:
    """Compute log(S^T d) of a distribution d over sub-actions.

    Args:
        log_shares: `[B, K]` log d.
        log_assignment: `[K, C + 1]` log S.
    """
    return (log_shares.unsqueeze(2) + log_assignment).logsumexp(dim=1)


def relation_loss(graph: Graph, assignment: Assignment, actions: Float[Tensor, "classes classes"]) -> Scalar:
    """Compute the mean squared difference of S^T A S, rows divided by their sums, from the graph of the actions.

    Args:
        graph: `[K, K]` A of the sub-actions.
        assignment: `[K, C + 1]` S.
        actions: `[C + 1, C + 1]` graph of the actions, whose rows sum to 1.
    """
    pooled = assignment.mT @ graph @ assignment
    return functional.mse_loss(pooled / pooled.sum(dim=1, keepdim=True), actions)


def balance_loss(log_shares: LogShares, log_assignment: Assignment, labels: Labels, to: BalanceTo) -> Scalar:
    """Compute the mean over a video's actions of KL(q || u), with its sub-actions' shares q = d S_c / sum(d S_c).

    Args:
        log_shares: `[B, K]` log d, the video's distribution over sub-actions.
        log_assignment: `[K, C + 1]` log S, background last.
        labels: `[B, C]` multi-hot. A video without labels counts as 0.
        to: u is 1 / K (`even`) or S_c / sum(S_c) (`assignment`).
    """
    log_own = log_assignment[:, :-1]
    log_q = (log_shares.unsqueeze(2) + log_own).log_softmax(dim=1)
    log_u = log_own.log_softmax(dim=0) if to == "assignment" else torch.zeros_like(log_own).log_softmax(dim=0)
    divergence = (log_q.exp() * (log_q - log_u)).sum(dim=1)
    return (normalized(labels) * divergence).sum(dim=1).mean()


def representation_loss(shares: Matches, assignment: Assignment, attention: Foreground) -> Scalar:
    """Compute mean_t [H(d_t) + H(S^T d_t)] - H(mean_t d_t), with means over videos, and over time by attention.

    Args:
        shares: `[B, T, K]` d, each snippet's distribution over sub-actions.
        assignment: `[K, C + 1]` S.
        attention: `[B, T, 1]`, which sums to 1 over time.
    """
    unsure = (entropy(shares) + entropy(shares @ assignment)) * attention.squeeze(-1)
    return unsure.sum(dim=1).mean() - entropy((attention * shares).sum(dim=1).mean(dim=0))


def entropy(probabilities: Float[Tensor, "*rows count"]) -> Float[Tensor, "*rows"]:
    """Compute -sum p log p, of which a probability of 0 has no part."""
    return -torch.xlogy(probabilities, probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny)).sum(dim=-1)
