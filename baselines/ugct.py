"""UGCT: uncertainty-guided collaborative training for weakly supervised temporal action localization.

Idea: an RGB and a flow network teach each other while they train. A slowly changing teacher of each stream labels the
snippets of the other one as foreground or background, and the attention there learns these labels. A branch predicts
how uncertain each label is, which lowers its weight, and is dropped after the training.

Paper: Yang et al., CVPR 2021. No code was released, and of the paper's text only the abstract and a note on it were at
hand. Stated:
- attention in two streams, with pseudo labels of snippets that are made online;
- the RGB teacher labels flow, the flow teacher labels RGB;
- an uncertainty for each pseudo label, which lessens its noise, from a branch that tests do without;
- the parts go on top of several attention-based methods; which one the quoted numbers are of is not known.
All else is a reading:
- a stream's base: one convolution of width 3 with a ReLU and as many columns as the stream has, a sigmoid attention a
  and logits X of C classes and background (`layers`, `hidden`, `dropout`). The mean of X weighted by a is the video's
  actions without background, that weighted by 1 - a is background alone (`pooling` also has top-k means), and the mean
  attention is small (`sparsity`). The background's weight is 0.1 (`background`): at 1 all snippets become background,
  with a mean attention of 0.002 after 12 epochs on the embedded data;
- a teacher is an average over steps with a decay of 0.999, of all steps alike while these are fewer (`decay`);
- a label is 1 where the other stream's teacher has an attention above its mean over the video (`labels`): 27.1 mean mAP
  on held-out training videos of THUMOS14 (R(2+1)D features), against 5.7 above a half (`threshold`);
- with u from a linear layer on the stream's embedding, the loss is the mean of exp(-u) (a - g)^2 + lambda u, the usual
  form of a regression with uncertainty (`regularizer`). Softplus keeps u from falling below 0, so that no label has a
  weight above 1. Without it (`bounded`) the loss has no lower bound: a label that is met exactly lowers it for ever;
- the labels' weight rises as exp(-5 (1 - t)^2) in the first quarter of the epochs (`pseudo_label`, `ramp`);
- Adam at 1e-4 with a weight decay of 5e-4, batches of 16, 8,000 steps, 750 rows of a video (ActivityNet: 75);
- scores are the students' means, or the teachers' (`scored`): classes above 0.1, attention above thresholds from 0.1 to
  0.9, scored by the attended CAS inside minus that in a margin of a quarter, plus 0.2 of the class probability, eight
  samples a row, hard suppression at 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal.families import epochs_for, many_classes
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource
from wstal.losses.mil import cross_entropy, with_background
from wstal.method import Recipe, TrainSpec
from wstal.parts.attention_network import AttentionNetwork, Teacher
from wstal.parts.cosine import normalized, pool
from wstal.parts.pooling import top_k_share_mean
from wstal.spec import Count
from wstal.streams import TwoStreamOptions, TwoStreams
from wstal.tensors import Cas, Embedded, Foreground, Scalar, VideoFeatures, VideoScores
from wstal.types import Batch, Paper, Scores, Video


class UgctOptions(TwoStreamOptions):
    """Options of UGCT. The paper states none of the values."""

    layers: Count = Field(1, le=8, description="convolutions of each stream")
    hidden: Count | None = Field(None, description="columns of the embedding; unset: the stream's own")
    dropout: float = Field(0.5, ge=0, lt=1, description="before the classifier")
    pooling: Literal["attention", "top_k"] = Field(
        "attention", description="logits of a video: attention-weighted mean, or mean of the top k attended logits"
    )
    ratio: Count = Field(8, description="k = T / ratio of the pooling top_k")
    background: float = Field(0.1, ge=0, description="weight of the classification of background")
    sparsity: float = Field(0.1, ge=0, description="weight of the mean attention")
    decay: float = Field(0.999, ge=0, lt=1, description="of the teachers' average over steps")
    labels: Literal["threshold", "mean", "soft"] = Field(
        "mean",
        description="1 where the teacher's attention is above `threshold`, or above its mean over the video, or soft: "
        "the attention itself",
    )
    threshold: float = Field(0.5, ge=0, le=1, description="teacher attention above which a snippet is foreground")
    regularizer: float = Field(0.1, gt=0, description="weight of the uncertainty itself (lambda)")
    bounded: bool = Field(True, description="no uncertainty below 0, that is no label of a weight above 1")
    pseudo_label: float = Field(1.0, ge=0, description="weight of the pseudo labels' loss")
    ramp: float = Field(0.25, ge=0, le=1, description="share of the epochs in which this weight rises")
    scored: Literal["student", "teacher"] = Field("student", description="networks that score videos")


STEPS, BATCH = 8_000, 16
LOCALIZER = LocalizerSpec(
    class_threshold=0.1,
    upsampling=8,
    sources=(
        ProposalSource(
            signal="attention",
            thresholds=tuple(step / 20 for step in range(2, 19)),
            strict=True,
            score={"cas": 1.0},
            video_score_weight=0.2,
        ),
    ),
    margin=0.25,
    nms=Nms(kind="hard", threshold=0.5),
)


class Ugct(TwoStreams):
    """UGCT over features `[B, T, D]` of two streams."""

    name = "ugct"
    title = "UGCT (from the paper)"
    source = "paper, partly"
    paper = Paper(
        "Uncertainty Guided Collaborative Training for Weakly Supervised Temporal Action Detection",
        "Wenfei Yang, Tianzhu Zhang, Xiaoyuan Yu, Tian Qi, Yongdong Zhang, Feng Wu",
        "CVPR",
        2021,
        "https://openaccess.thecvf.com/content/CVPR2021/html/Yang_Uncertainty_Guided_Collaborative_Training_for_Weakly_Supervised_Temporal_Action_Detection_CVPR_2021_paper.html",
    )
    Options = UgctOptions
    SCORING_OPTIONS = frozenset({"scored"})
    spec: UgctOptions
    steps: Tensor

    def __init__(self, spec: UgctOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        outputs = num_classes + 1
        self.networks: Sequence[AttentionNetwork] = nn.ModuleList(  # type: ignore[assignment]
            AttentionNetwork(width, spec.hidden, spec.layers, outputs, spec.dropout) for width in self.widths
        )
        self.uncertainty: Sequence[nn.Module] = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(spec.hidden or width, 1) for width in self.widths
        )
        self.teachers: Sequence[Teacher] = nn.ModuleList(map(Teacher, self.networks))  # type: ignore[assignment]
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._rising = 1.0

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the recipe, which differs between families in the number of rows and of epochs alone."""
        rows = 75 if many_classes(dataset) else 750
        epochs = epochs_for(dataset, STEPS, BATCH)
        train = TrainSpec(epochs=epochs, batch_size=BATCH, temporal_length=rows, test_length=rows, weight_decay=5e-4)
        return Recipe(method=UgctOptions(), train=train, localizer=LOCALIZER)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Set the share of the pseudo labels' weight that is reached.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: not used.
        """
        self._rising = risen(epoch, self.spec.ramp * epochs)

    def end_step(self) -> None:
        """Move the teachers towards the networks."""
        share = (1 / (self.steps + 1)).clamp(min=1 - self.spec.decay)
        for teacher, network in zip(self.teachers, self.networks, strict=True):
            teacher.follow(network, share)
        self.steps += 1

    def export_state(self) -> dict[str, Tensor]:
        """Return the state without the branch of the uncertainty, which scoring does not need."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("uncertainty.")}

    def labels_from(self, attention: Foreground) -> Foreground:
        """Return the labels that a teacher's attention gives the other stream."""
        if self.spec.labels == "soft":
            return attention
        mean = attention.mean(dim=1, keepdim=True)
        return (attention > (mean if self.spec.labels == "mean" else self.spec.threshold)).to(attention)

    def pooled(self, cas: Cas, attention: Foreground) -> VideoScores:
        """Return the logits of videos, pooled by a weight of each snippet.

        Args:
            cas: `[B, T, C + 1]` logits.
            attention: `[B, T, 1]` weights in [0, 1].
        """
        if self.spec.pooling == "attention":
            return pool(cas, normalized(attention)).squeeze(1)
        return top_k_share_mean(cas * attention, self.spec.ratio)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over streams of the terms, the mean `reliability` of the labels (their weight), and `total`."""
        spec, parts = self.spec, self.split(batch.features)
        actions, nothing = with_background(batch.labels, False), with_background(torch.zeros_like(batch.labels), True)
        taught = [self.labels_from(teacher(part)) for teacher, part in zip(self.teachers, parts, strict=True)]
        own = []
        for network, head, part, labels in zip(self.networks, self.uncertainty, parts, reversed(taught), strict=True):
            embedded, attention = network(part)
            cas, uncertainty = network.classify(embedded), self.uncertain(head, embedded)
            own.append(
                {
                    "foreground": cross_entropy(self.pooled(cas, attention).log_softmax(dim=1), actions),
                    "background": cross_entropy(self.pooled(cas, 1 - attention).log_softmax(dim=1), nothing),
                    "sparsity": attention.mean(),
                    "pseudo_label": uncertain_regression(attention, labels, uncertainty, spec.regularizer),
                    "reliability": (-uncertainty.detach()).exp().mean() / len(parts),
                }
            )
        terms = {name: torch.stack([one[name] for one in own]).sum() for name in own[0]}
        terms["total"] = (
            terms["foreground"]
            + spec.background * terms["background"]
            + spec.sparsity * terms["sparsity"]
            + spec.pseudo_label * self._rising * terms["pseudo_label"]
        )
        return terms

    def uncertain(self, head: nn.Module, embedded: Embedded) -> Foreground:
        """Return the uncertainty u of each snippet's label.

        Args:
            head: of the stream.
            embedded: `[B, T, D]`.
        """
        raw: Tensor = head(embedded)
        return functional.softplus(raw) if self.spec.bounded else raw

    def score(self, features: VideoFeatures) -> Scores:
        """Return the means over streams: the attended CAS without background, the attention and the video's classes."""
        scored: Sequence[AttentionNetwork] = (
            self.networks if self.spec.scored == "student" else [teacher.network for teacher in self.teachers]
        )
        attention, attended, videos = [], [], []
        for network, part in zip(scored, self.split(features.unsqueeze(0)), strict=True):
            embedded, one = network(part)
            cas = network.classify(embedded)
            attention.append(one[0, :, 0])
            attended.append((one * cas.softmax(dim=2))[0, :, :-1])
            videos.append(self.pooled(cas, one).softmax(dim=1)[0, :-1])
        cas, mean, video = (torch.stack(one).mean(dim=0) for one in (attended, attention, videos))
        return Scores({"cas": cas, "attention": mean}, video)


def uncertain_regression(
    attention: Foreground, labels: Foreground, uncertainty: Foreground, regularizer: float
) -> Scalar:
    """Compute the mean over snippets of exp(-u) (a - g)^2 + lambda u.

    Args:
        attention: `[B, T, 1]` a.
        labels: `[B, T, 1]` pseudo labels g.
        uncertainty: `[B, T, 1]` u.
        regularizer: lambda.
    """
    return ((-uncertainty).exp() * (attention - labels).square() + regularizer * uncertainty).mean()


def risen(epoch: int, epochs: float) -> float:
    """Return exp(-5 (1 - t)^2), which rises to 1 in the first epochs, with t the share of these that has passed.

    Args:
        epoch: number of the epoch, from 0.
        epochs: number of epochs in which the value rises.
    """
    return math.exp(-5 * (1 - epoch / epochs) ** 2) if epoch < epochs else 1.0
