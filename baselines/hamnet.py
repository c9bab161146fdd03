"""HAM-Net: hybrid attention (soft, semi-soft, hard) for weakly supervised temporal action localization.

Idea: one class-agnostic attention weights a class activation sequence that has a background class. In training the
snippets with the most attention are also removed, and the rest must still show the class, so that less salient parts
of an action count.

Paper: Islam, Long & Radke, AAAI 2021, arXiv 2101.00545. Facts: its released code (asrafulashiq/hamnet at 7894e05),
checked against tensors recorded from it. Deviations:
- all test videos are scored (the released code skips those without labels, and so reads test labels);
- a snippet is removed by its share of the largest attention (the released code's option to count from the smallest
  one is used only in evaluation, where nothing is removed).
The last checkpoint counts, as in the released code. All rows of a test video are scored, unless `train.test_length`,
which a data set's schedule may set, limits them.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from wstal import sampling
from wstal.families import many_classes
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource
from wstal.losses.attention import attended_scores, guide_loss, min_shifted, video_loss
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.layers import he_conv
from wstal.parts.pooling import smooth
from wstal.spec import ALL_ROWS, Count, Spec
from wstal.tensors import Cas, Features, Foreground, VideoFeatures
from wstal.types import Batch, Paper, Scores

SLOPE = 0.2


class HamNetOptions(Spec):
    """Options of HAM-Net. The defaults are for THUMOS14."""

    attention_width: Count = Field(512, description="hidden columns of the attention")
    dropout: float = Field(0.7, ge=0, lt=1, description="before the classifier's last layer")
    half_window: int = Field(
        0, ge=0, le=1000, description="rows to either side that CAS and attention are averaged over (ActivityNet)"
    )
    ratio: int = Field(10, ge=1, description="k = T / ratio snippets are pooled, in training and scoring")
    drop_below: float = Field(
        0.2, ge=0, le=1, description="share of the video's largest attention from which snippets are removed"
    )
    drop_share: float = Field(0.2, ge=0, le=1, description="of the hard in L1 and of the semi-soft loss in L2")
    with_background: float = Field(1.0, ge=0, description="weight of L1: base and hard loss")
    without_background: float = Field(1.0, ge=0, description="weight of L2: soft and semi-soft loss")
    norm: float = Field(0.8, ge=0, description="weight of the mean attention (alpha)")
    guide: float = Field(0.8, ge=0, description="weight of the guide loss (beta)")


THUMOS_TRAIN = TrainSpec(
    epochs=100, batch_size=20, temporal_length=500, test_length=ALL_ROWS, learning_rate=1e-5, weight_decay=1e-3
)
ACTIVITYNET_TRAIN = THUMOS_TRAIN.model_copy(update={"epochs": 20, "temporal_length": 80})
ACTIVITYNET_OPTIONS = HamNetOptions(
    dropout=0.5,
    half_window=8,  # 17 rows, about a fifth of the 80
    ratio=20,
    drop_share=0.5,
    with_background=0.25,
    without_background=2.0,
    norm=0.5,
    guide=0.1,
)
LOCALIZER = LocalizerSpec(
    class_threshold=0.2,
    class_threshold_inclusive=True,
    fallback_to_argmax=False,
    margin=0.25,
    skip_lone_first_sample=True,
    sources=(
        ProposalSource(
            signal="attention",
            thresholds=tuple(np.linspace(0.1, 0.9, 10).tolist()),
            strict=True,
            score={"logit": 1.0},
            video_score_weight=0.2,
        ),
    ),
    nms=Nms(kind="soft-gaussian", sigma=0.3, plus_one="second"),
)


def leaky_conv(columns: int, out: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    """Return a convolution that keeps T (see `he_conv`), and the LeakyReLU that follows it.

    Args:
        columns: input columns.
        out: output columns.
        kernel: width of the kernel in rows.
    """
    return he_conv(columns, out, kernel), nn.LeakyReLU(SLOPE)


class HamNet(Method):
    """HAM-Net over features `[B, T, D]`. Classifier and attention both read the features."""

    name = "hamnet"
    title = "HAM-Net"
    paper = Paper(
        "A Hybrid Attention Mechanism for Weakly-Supervised Temporal Action Localization",
        "Ashraful Islam, Chengjiang Long, Richard J. Radke",
        "AAAI",
        2021,
        "https://arxiv.org/abs/2101.00545",
    )
    Options = HamNetOptions
    TRAIN_SAMPLER = sampling.grid_random
    spec: HamNetOptions

    def __init__(self, spec: HamNetOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        width = spec.attention_width
        self.classifier = nn.Sequential(
            *leaky_conv(feature_dim, feature_dim, 3),
            *leaky_conv(feature_dim, feature_dim, 3),
            nn.Dropout(spec.dropout),
            he_conv(feature_dim, num_classes + 1, 1),
        )
        self.attention = nn.Sequential(
            *leaky_conv(feature_dim, width, 3),
            *leaky_conv(width, width, 3),
            he_conv(width, 1, 1),
            nn.Sigmoid(),
        )

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return ActivityNet 1.2's settings for `activitynet*` and `fineaction`, otherwise THUMOS14's.

        Each keeps its number of epochs on every data set.
        """
        if many_classes(dataset):
            return Recipe(method=ACTIVITYNET_OPTIONS, train=ACTIVITYNET_TRAIN, localizer=LOCALIZER)
        return Recipe(method=HamNetOptions(), train=THUMOS_TRAIN, localizer=LOCALIZER)

    def cas_and_attention(self, features: Features) -> tuple[Cas, Foreground]:
        """Return X, logits of the C classes and, last, background, and the attention a in [0, 1]."""
        columns, half = features.transpose(1, 2), self.spec.half_window
        cas, attention = smooth(self.classifier(columns), half), smooth(self.attention(columns), half)
        return cas.transpose(1, 2), attention.transpose(1, 2)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the four classification losses, mean attention and guide loss, and their weighted `total`.

        In evaluation mode nothing is removed, and the hard loss is the base loss.
        """
        spec, labels = self.spec, batch.labels
        cas, attention = self.cas_and_attention(batch.features)
        left = less_salient(attention, spec.drop_below) if self.training else attention
        terms = {
            "base": video_loss(cas, labels, background=True, ratio=spec.ratio),
            "hard": video_loss(min_shifted(cas, (left > 0).to(cas)), labels, background=True, ratio=spec.ratio),
            "soft": video_loss(cas * attention, labels, background=False, ratio=spec.ratio),
            "semi_soft": video_loss(min_shifted(cas, left), labels, background=False, ratio=spec.ratio),
            "norm": attention.mean(),
            "guide": guide_loss(attention, cas),
        }
        terms["total"] = (
            spec.with_background * terms["base"].lerp(terms["hard"], spec.drop_share)
            + spec.without_background * terms["soft"].lerp(terms["semi_soft"], spec.drop_share)
            + spec.norm * terms["norm"]
            + spec.guide * terms["guide"]
        )
        return terms

    def score(self, features: VideoFeatures) -> Scores:
        """Return the signals `attention`, `logit` (a X) and `cas` (softmax of a X over classes and background)."""
        return attended_scores(*self.cas_and_attention(features.unsqueeze(0)), self.spec.ratio)


def less_salient(attention: Foreground, below: float) -> Foreground:
    """Return the attention where it is less than the share `below` of the video's largest one, 0 elsewhere.

    Args:
        attention: `[B, T, 1]` in [0, 1].
        below: share in [0, 1].
    """
    return attention * (attention < below * attention.amax(dim=1, keepdim=True))
