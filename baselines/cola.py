"""CoLA: snippet contrastive learning for weakly supervised temporal action localization.

Idea: the sum of a snippet's class scores is its actionness. Its extremes are easy actions and easy background. The
snippets just inside and just outside the borders of the binarised actionness are hard ones. A contrast pulls hard
action to easy action and away from easy background, and hard background the other way.

Paper: Zhang et al., CVPR 2021, arXiv 2103.16392. Facts: its released code (zhang-can/CoLA at d21f1b5, ActivityNet 1.2
from branch anet12 at 314c8d7), checked against tensors recorded from it. Deviations:
- a ring with fewer than k snippets is filled with others of score 0, as in the released code, where the sort decides
  which ones: here the earliest;
- the order of detections with equal scores also depends on its sort: here the earlier start comes first;
- the classification loss is a mean over classes, which is too small where there are many: others measured ActivityNet's
  released settings at 1 average mAP, and at 25 with the loss times 10. There `cls_scale` is C / 10, 1 restores the
  code;
- settings are the released ones, which the authors tuned again after the paper (mean mAP 0.1:0.7 is 41.7, not 40.9);
- the released code keeps the checkpoint that is best on the test set, here the last one counts.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from wstal import sampling
from wstal.families import epochs_for
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource
from wstal.losses.contrast import info_nce
from wstal.losses.mil import normalized
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.layers import TemporalConv
from wstal.parts.pooling import min_max, take_rows, top_k_count, top_k_share_mean
from wstal.spec import Count, Spec
from wstal.tensors import Cas, Embedded, Features, Scalar, VideoFeatures, VideoScores
from wstal.types import Batch, Paper, Scores


class ColaOptions(Spec):
    """Options of CoLA. The defaults are for THUMOS14."""

    embedding_kernel: Literal[3, 9] = Field(3, description="of the embedding's convolution over time")
    temporal_head: bool = Field(
        False, description="a head of kernel 9, smoothed by class with kernel 7, dilation 2 (ActivityNet); else 1"
    )
    dropout: float = Field(0.7, ge=0, lt=1, description="of the head's inputs")
    easy_ratio: Count = Field(5, description="k = T / ratio easy snippets, and snippets pooled for the video's scores")
    hard_ratio: Count = Field(20, description="k = T / ratio hard snippets")
    easy_dropout: float = Field(0.6, ge=0, lt=1, description="of the snippets that may be easy ones")
    inner_width: Count = Field(3, description="length of the smaller structuring element (m)")
    outer_width: Count = Field(6, description="length of the larger structuring element (M)")
    temperature: float = Field(0.07, ge=0.01, description="tau of the contrast")
    cls_scale: float = Field(1.0, ge=0, description="weight of the classification loss (not in the paper)")
    contrast: float = Field(0.01, ge=0, description="weight of the contrast (lambda)")

    @model_validator(mode="after")
    def _has_rings(self) -> ColaOptions:
        if self.inner_width >= self.outer_width:
            raise ValueError(
                f"inner_width {self.inner_width} and outer_width {self.outer_width} leave no ring between them: "
                "make the outer one larger"
            )
        return self


THUMOS_STEPS, THUMOS_BATCH, ACTIVITYNET_STEPS, ACTIVITYNET_BATCH = 6_000, 16, 100_000, 256
ACTIVITYNET_CLS_SCALE = {"activitynet12": 10.0, "activitynet13": 20.0, "fineaction": 10.6}
ACTIVITYNET_OPTIONS = ColaOptions(embedding_kernel=9, temporal_head=True, easy_ratio=10, hard_ratio=8, contrast=0.005)


def localizer(class_threshold: float, step: float) -> LocalizerSpec:
    """Return the released localizer: 10 CAS thresholds, `step` apart from 0, and 33 of actionness, 0.1 to 0.9.

    Args:
        class_threshold: lowest video score of a class.
        step: distance of the CAS thresholds.
    """
    cas = ProposalSource(
        signal="cas", thresholds=(0.0,), strict=True, score={"cas": 1.0}, masked=True, video_score_weight=0.2
    )
    higher = tuple(round(step * number, 3) for number in range(1, 10))
    return LocalizerSpec(
        class_threshold=class_threshold,
        class_threshold_inclusive=True,
        upsampling=24,
        margin=0.25,
        minimum_run=2,
        sources=(
            cas,
            cas.model_copy(update={"thresholds": higher, "strict": False}),
            ProposalSource(
                signal="attention",
                thresholds=tuple(round(0.1 + 0.025 * number, 3) for number in range(33)),
                score={"cas": 1.0},
                video_score_weight=0.2,
            ),
        ),
        nms=Nms(kind="hard", threshold=0.6, plus_one="second"),
    )


class Cola(Method):
    """CoLA over features `[B, T, D]`. The embedding keeps the width D."""

    name = "cola"
    title = "CoLA"
    paper = Paper(
        "CoLA: Weakly-Supervised Temporal Action Localization with Snippet Contrastive Learning",
        "Can Zhang, Meng Cao, Dongming Yang, Jie Chen, Yuexian Zou",
        "CVPR",
        2021,
        "https://arxiv.org/abs/2103.16392",
    )
    Options = ColaOptions
    TRAIN_SAMPLER = sampling.grid_random
    spec: ColaOptions

    def __init__(self, spec: ColaOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.embedding = TemporalConv(feature_dim, feature_dim, spec.embedding_kernel, padding="same")
        head = [TemporalConv(feature_dim, num_classes, 9 if spec.temporal_head else 1, padding="same", bias=False)]
        if spec.temporal_head:
            head.append(
                TemporalConv(num_classes, num_classes, 7, dilation=2, padding="same", groups=num_classes, bias=False)
            )
        self.classifier = nn.Sequential(*head)

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return ActivityNet 1.2's settings for `activitynet*` and `fineaction`, otherwise THUMOS14's.

        Each keeps its number of steps on every data set.
        """
        if dataset not in ACTIVITYNET_CLS_SCALE:
            epochs = epochs_for(dataset, THUMOS_STEPS, THUMOS_BATCH)
            train = TrainSpec(epochs=epochs, batch_size=THUMOS_BATCH, weight_decay=5e-4)
            return Recipe(method=ColaOptions(), train=train, localizer=localizer(0.2, 0.025))
        train = TrainSpec(
            epochs=epochs_for(dataset, ACTIVITYNET_STEPS, ACTIVITYNET_BATCH),
            batch_size=ACTIVITYNET_BATCH,
            temporal_length=50,
            test_length=50,
            weight_decay=5e-4,
        )
        options = ACTIVITYNET_OPTIONS.model_copy(update={"cls_scale": ACTIVITYNET_CLS_SCALE[dataset]})
        return Recipe(method=options, train=train, localizer=localizer(0.1, 0.015))

    def embed(self, features: Features) -> Embedded:
        """Return E: temporal convolution and ReLU."""
        return torch.relu(self.embedding(features))

    def classify(self, embedded: Embedded) -> Cas:
        """Return A: scores of the C classes, none below 0 and none for background. Actionness is their sum."""
        return torch.relu(self.classifier(functional.dropout(embedded, self.spec.dropout, self.training)))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the classification loss, the contrasts of hard action and hard background, and the `total`."""
        spec = self.spec
        embedded = self.embed(batch.features)
        cas = self.classify(embedded)
        easy_action, easy_background = self._easy(embedded, cas)
        hard_action, hard_background = self._hard(embedded, cas)
        terms = {
            "classification": functional.binary_cross_entropy(self._video_scores(cas), normalized(batch.labels)),
            "hard_action": snippet_contrast(hard_action, easy_action, easy_background, spec.temperature),
            "hard_background": snippet_contrast(hard_background, easy_background, easy_action, spec.temperature),
        }
        contrast = terms["hard_action"] + terms["hard_background"]
        terms["total"] = spec.cls_scale * terms["classification"] + spec.contrast * contrast
        return terms

    def score(self, features: VideoFeatures) -> Scores:
        """Return the scores of one pass (see `scores`)."""
        return self.scores(self.classify(self.embed(features.unsqueeze(0)))[0])

    def scores(self, cas: Float[Tensor, "time classes"]) -> Scores:
        """Return `cas` and `attention`: A and actionness, each scaled to 0-1 over time.

        A has no upper bound and no background that would make it a probability. The class probabilities are a softmax
        without background.
        """
        signals = {"cas": min_max(cas, clip=True), "attention": min_max(cas.sum(dim=1), clip=True)}
        return Scores(signals, self._video_scores(cas.unsqueeze(0))[0])

    def _video_scores(self, cas: Tensor) -> VideoScores:
        return top_k_share_mean(cas, self.spec.easy_ratio).softmax(dim=1)

    def _easy(self, embedded: Tensor, cas: Tensor) -> tuple[Tensor, Tensor]:
        """Return the snippets of highest and of lowest actionness, among those that one draw of dropout leaves."""
        actionness, k = cas.sum(dim=2), top_k_count(cas.shape[1], self.spec.easy_ratio)
        mask = self._easy_mask(actionness)
        lowest = actionness.amax(dim=1, keepdim=True) - actionness
        return select(embedded, actionness * mask, k), select(embedded, lowest * mask, k)

    def _easy_mask(self, actionness: Tensor) -> Tensor:
        return functional.dropout(torch.ones_like(actionness), self.spec.easy_dropout, self.training)

    def _hard(self, embedded: Tensor, cas: Tensor) -> tuple[Tensor, Tensor]:
        """Return the snippets of highest actionness in the inner and in the outer ring."""
        actionness, k = cas.sum(dim=2), top_k_count(cas.shape[1], self.spec.hard_ratio)
        inner, outer = rings(actionness, self.spec.inner_width, self.spec.outer_width)
        return select(embedded, actionness * inner, k), select(embedded, actionness * outer, k)


def rings(
    actionness: Float[Tensor, "batch time"], small: int, large: int
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time"]]:
    """Return masks just inside and just outside the borders of where actionness is above its median over time.

    Args:
        actionness: `[B, T]` sum of each snippet's class scores.
        small: length of the smaller structuring element, in snippets.
        large: length of the larger one.
    """
    # midpoint, as NumPy's median of an even number; torch.median has no deterministic CUDA form
    median = actionness.quantile(0.5, dim=1, keepdim=True, interpolation="midpoint")
    binary = (actionness > median).to(actionness.dtype)
    return erode(binary, small) - erode(binary, large), dilate(binary, large) - dilate(binary, small)


def erode(binary: Float[Tensor, "batch time"], length: int) -> Float[Tensor, "batch time"]:
    """Compute the minimum over t - floor(length / 2) ... t + floor((length - 1) / 2), as SciPy's erosion.

    Values outside the video are 0.

    Args:
        binary: `[B, T]` values 0 or 1.
        length: length of the structuring element, in snippets.
    """
    return -functional.max_pool1d(-functional.pad(binary, (length // 2, (length - 1) // 2)), length, stride=1)


def dilate(binary: Float[Tensor, "batch time"], length: int) -> Float[Tensor, "batch time"]:
    """Compute the maximum over the mirrored window of `erode`, as SciPy's dilation.

    Values outside the video are 0.

    Args:
        binary: `[B, T]` values 0 or 1.
        length: length of the structuring element, in snippets.
    """
    return functional.max_pool1d(functional.pad(binary, ((length - 1) // 2, length // 2)), length, stride=1)


def select(embedded: Embedded, scores: Float[Tensor, "batch time"], k: int) -> Float[Tensor, "batch k dim"]:
    """Return the embeddings of the k snippets with the highest scores, the earliest of equals.

    The scores get no gradient.

    Args:
        embedded: `[B, T, D]`.
        scores: `[B, T]`.
        k: number of snippets, at most T.
    """
    return take_rows(embedded, scores.sort(dim=1, descending=True, stable=True).indices[:, :k])


def snippet_contrast(
    query: Float[Tensor, "batch queries dim"],
    positive: Float[Tensor, "batch positives dim"],
    negatives: Float[Tensor, "batch negatives dim"],
    temperature: float,
) -> Scalar:
    """Compute InfoNCE of the mean query with the mean positive against each negative, by cosine, averaged over videos.

    Args:
        query: `[B, queries, D]`.
        positive: `[B, positives, D]`.
        negatives: `[B, negatives, D]`.
        temperature: tau.
    """
    anchor = functional.normalize(query.mean(dim=1), dim=1)
    others = torch.cat([positive.mean(dim=1, keepdim=True), negatives], dim=1)
    cosines = torch.einsum("bd,bnd->bn", anchor, functional.normalize(others, dim=2))
    first = (torch.arange(cosines.shape[1], device=cosines.device) == 0).expand_as(cosines)
    return info_nce(cosines, first, temperature)
