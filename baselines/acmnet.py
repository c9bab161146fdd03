"""ACM-Net: action context modeling network for weakly supervised temporal action localization.

Idea: each snippet has three attentions (action instance, action context, background) that sum to 1 and weight one
class activation sequence. Three top-k multiple-instance losses train them with three different video labels. A guide
loss, a feature-norm ordering loss and a sparsity loss regularise the attention.

Paper: Qu et al., arXiv 2104.02967. Facts: its released code (ispc-lab/ACM-Net at 4d38dc6), checked against tensors
recorded from it. Deviations:
- log-probabilities come from log-softmax, so the loss is never NaN and no step must be skipped;
- the samplers draw anew in every epoch (with the released code's torch version they repeat);
- the released code keeps the checkpoint that is best on the test set, here the last one counts;
- 500 epochs on ActivityNet: the released code evaluates on the test set 500 times, after every second epoch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource
from wstal.losses.mil import cross_entropy, with_background
from wstal.method import BaseMethod, Recipe, TrainSpec
from wstal.parts.layers import TemporalConv, drop_snippets
from wstal.parts.pooling import top_k_count, top_k_features, top_k_mean
from wstal.spec import Spec
from wstal.tensors import Cas, Embedded, Features, Labels, Scalar, VideoScores
from wstal.types import Paper, Scores, Snippets

INSTANCE, CONTEXT, BACKGROUND = range(3)
FEATURE_MARGIN = 50.0


class AcmNetOptions(Spec):
    """Options of ACM-Net. The defaults are for THUMOS14."""

    dropout: float = Field(0.7, ge=0, lt=1, description="of snippets and of classifier inputs alike")
    input_dropout: bool = Field(False, description="dropout on the features and before the attention (ActivityNet)")
    attention_kernel: Literal[1, 3] = Field(1, description="of the attention's convolution over time")
    instance_ratio: int = Field(8, ge=1, description="k = T / ratio snippets are pooled in the instance branch")
    context_ratio: int = Field(3, ge=1, description="the same in the context branch")
    background_ratio: int = Field(3, ge=1, description="the same in the background branch")
    instance_weight: float = Field(1.0, ge=0, description="weight of the instance branch's classification loss")
    guide: float = Field(2e-3, ge=0, description="weight of the guide loss (lambda 1)")
    feature: float = Field(5e-5, ge=0, description="weight of the feature-norm loss (lambda 2)")
    sparse: float = Field(2e-4, ge=0, description="weight of the sparsity loss (lambda 3)")


THUMOS_TRAIN = TrainSpec(epochs=1000, weight_decay=5e-5)  # the other defaults are ACM-Net's on THUMOS14
ACTIVITYNET_TRAIN = TrainSpec(epochs=500, batch_size=64, temporal_length=75, test_length=75, weight_decay=1e-3)
ACTIVITYNET_OPTIONS = AcmNetOptions(
    input_dropout=True,
    instance_ratio=2,
    context_ratio=10,
    background_ratio=10,
    instance_weight=5.0,
    guide=5e-3,
    sparse=0.0,
)

THUMOS_LOCALIZER = LocalizerSpec(
    class_threshold=0.25,
    upsampling=20,
    margin=0.2,
    minimum_run=2,
    sources=(
        ProposalSource(signal="cas", thresholds=(0.15, 0.2), score={"cas": 1.0}, masked=True),
        ProposalSource(
            signal="attention",
            thresholds=tuple(round(0.15 + 0.05 * step, 2) for step in range(17)),
            score={"cas": 1.0},
        ),
    ),
    nms=Nms(kind="hard", threshold=0.55, plus_one="second"),
)
ACTIVITYNET_THRESHOLDS = (0.005, 0.010, 0.015, 0.020)
ACTIVITYNET_LOCALIZER = LocalizerSpec(
    class_threshold=0.10,
    upsampling=20,
    margin=0.15,
    minimum_run=2,
    sources=(
        ProposalSource(
            signal="cas", thresholds=ACTIVITYNET_THRESHOLDS, score={"cas": 0.7, "attention": 0.3}, masked=True
        ),
        ProposalSource(
            signal="attention",
            thresholds=ACTIVITYNET_THRESHOLDS,
            score={"cas": 0.7, "attention": 0.3},
            masked=True,
            video_score_weight=0.25,
        ),
    ),
    nms=Nms(kind="hard", threshold=0.90, plus_one="second"),
)


class AcmNet(BaseMethod):
    """ACM-Net over features `[B, T, D]`. The embedding keeps the width D."""

    name = "acmnet"
    title = "ACM-Net"
    paper = Paper(
        "ACM-Net: Action Context Modeling Network for Weakly-Supervised Temporal Action Localization",
        "Sanqing Qu, Guang Chen, Zhijun Li, Lijun Zhang, Fan Lu, Alois Knoll",
        "arXiv",
        2021,
        "https://arxiv.org/abs/2104.02967",
    )
    Options = AcmNetOptions
    spec: AcmNetOptions

    def __init__(self, spec: AcmNetOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.embedding = TemporalConv(feature_dim, feature_dim, kernel_size=3, padding=1)
        self.attention = nn.Conv1d(feature_dim, 3, spec.attention_kernel, padding="same")
        self.classifier = nn.Linear(feature_dim, num_classes + 1)

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return ActivityNet's settings for `activitynet*` and (with T = 400) `fineaction`, otherwise THUMOS14's.

        The paper covers THUMOS14 and ActivityNet 1.3. Other data sets train for as many epochs.
        """
        if dataset.startswith("activitynet"):
            return Recipe(method=ACTIVITYNET_OPTIONS, train=ACTIVITYNET_TRAIN, localizer=ACTIVITYNET_LOCALIZER)
        if dataset.startswith("fineaction"):
            train = ACTIVITYNET_TRAIN.model_copy(update={"batch_size": 32, "temporal_length": 400, "test_length": 400})
            return Recipe(method=ACTIVITYNET_OPTIONS, train=train, localizer=ACTIVITYNET_LOCALIZER)
        return Recipe(method=AcmNetOptions(), train=THUMOS_TRAIN, localizer=THUMOS_LOCALIZER)

    def embed(self, features: Features) -> Embedded:
        """Return F: temporal convolution of width 3 and ReLU."""
        if self.spec.input_dropout:
            features = self._dropout(features)
        return torch.relu(self.embedding(features))

    def attend(self, embedded: Embedded) -> Float[Tensor, "batch time 3"]:
        """Return W: softmax over (instance, context, background)."""
        if self.spec.input_dropout:
            embedded = self._dropout(embedded)
        return torch.softmax(self.attention(embedded.transpose(1, 2)), dim=1).transpose(1, 2)

    def classify(self, embedded: Embedded) -> Cas:
        """Return A: logits of the C classes and, last, background. Training drops whole snippets, then inputs."""
        logits: Tensor = self.classifier(drop_snippets(embedded, self.spec.dropout, self.training))
        return logits

    def snippet_losses(self, snippets: Snippets, labels: Labels) -> dict[str, Tensor]:
        """Return the three classification losses, guide, feature and sparse terms, and their weighted `total`."""
        spec = self.spec
        embedded, attention, cas = snippets.embedded, snippets.attention, snippets.cas
        terms = self._classification(cas, attention, labels)
        classification = self._weighted(terms)
        terms |= {
            "guide": guide_loss(cas, attention),
            "feature": feature_norm_loss(*(self._pooled_feature(embedded, attention, kind) for kind in range(3))),
            "sparse": attention[..., [INSTANCE, CONTEXT]].sum(dim=1).mean(),
        }
        terms["total"] = (
            classification
            + spec.guide * terms["guide"]
            + spec.feature * terms["feature"]
            + spec.sparse * terms["sparse"]
        )
        return terms

    def classification_loss(self, cas: Cas, attention: Float[Tensor, "batch time 3"], labels: Labels) -> Scalar:
        """Return the weighted sum of the instance, context and background losses."""
        return self._weighted(self._classification(cas, attention, labels))

    def branch_cas(self, cas: Cas, attention: Float[Tensor, "batch time 3"]) -> tuple[Cas, Cas]:
        """Return the CAS weighted by instance and by background attention."""
        return cas * attention[..., INSTANCE, None], cas * attention[..., BACKGROUND, None]

    def snippet_scores(self, snippets: Snippets) -> Scores:
        """Return the signals `cas` (softmax of the instance CAS) and `attention` (instance), and the class scores."""
        attention, cas = snippets.attention, snippets.cas
        instance_cas = (cas * attention[..., INSTANCE : INSTANCE + 1]).softmax(dim=-1)
        video_scores = self._video_log_scores(cas, attention, INSTANCE).exp()
        signals = {"cas": instance_cas[0, :, : self.num_classes], "attention": attention[0, :, INSTANCE]}
        return Scores(signals, video_scores[0, : self.num_classes])

    def _classification(self, cas: Tensor, attention: Tensor, labels: Tensor) -> dict[str, Tensor]:
        targets = {
            "instance": with_background(labels, False),
            "context": with_background(labels, True),
            "background": with_background(torch.zeros_like(labels), True),
        }
        return {
            name: cross_entropy(self._video_log_scores(cas, attention, kind), target)
            for kind, (name, target) in enumerate(targets.items())
        }

    def _weighted(self, terms: dict[str, Tensor]) -> Tensor:
        return self.spec.instance_weight * terms["instance"] + terms["context"] + terms["background"]

    def _dropout(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.spec.dropout, self.training)

    def _k(self, length: int, kind: int) -> int:
        ratios = (self.spec.instance_ratio, self.spec.context_ratio, self.spec.background_ratio)
        return top_k_count(length, ratios[kind])

    def _video_log_scores(self, cas: Tensor, attention: Tensor, kind: int) -> VideoScores:
        weighted = cas * attention[..., kind : kind + 1]
        return top_k_mean(weighted, self._k(cas.shape[1], kind)).log_softmax(dim=1)

    def _pooled_feature(self, embedded: Tensor, attention: Tensor, kind: int) -> Float[Tensor, "batch dim"]:
        return top_k_features(embedded, attention[..., kind], self._k(embedded.shape[1], kind))


def guide_loss(cas: Cas, attention: Float[Tensor, "batch time 3"]) -> Scalar:
    """Compute the mean over videos of sum_t |1 - s_t - W_ins,t|.

    s_t is the background probability of the instance-weighted CAS. The subtracted W_ins,t is a target without gradient,
    the one that weights the CAS has a gradient.

    Args:
        cas: `[B, T, C + 1]` logits, background last.
        attention: `[B, T, 3]` W.
    """
    weights = attention[..., INSTANCE]
    background = (cas * weights.unsqueeze(-1)).softmax(dim=-1)[..., -1]
    return (1 - background - weights.detach()).abs().sum(dim=1).mean()


def feature_norm_loss(
    instance: Float[Tensor, "batch dim"], context: Float[Tensor, "batch dim"], background: Float[Tensor, "batch dim"]
) -> Scalar:
    """Compute a squared hinge that orders feature norms: instance, context, background, each 50 above the next.

    Args:
        instance: `[B, D]` pooled features of the instance branch.
        context: `[B, D]` pooled features of the context branch.
        background: `[B, D]` pooled features of the background branch.
    """
    norms = [pooled.norm(dim=1) for pooled in (instance, context, background)]
    ordered = [(FEATURE_MARGIN - high + low).relu() for high, low in pairwise(norms)]
    total: Tensor = ordered[0] + ordered[1] + norms[2]
    return total.square().mean()
