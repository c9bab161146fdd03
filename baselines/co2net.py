"""CO2-Net: cross-modal consensus network for weakly supervised temporal action localization.

Idea: each stream's features are gated, by channel and snippet, by how well the stream's own global descriptor agrees
with the other stream's local one. This filters out redundant information. Two attentions, one per stream, learn from
each other. HAM-Net's losses and W-TALC's co-activity loss train the rest.

Paper: Hong et al., ACM MM 2021, arXiv 2107.12589. Facts: its released code (harlanhong/MM2021-CO2-Net at e879687),
checked against tensors recorded from it. Deviations:
- features of a single stream gate themselves (main and auxiliary are the same) and give one attention, which norm and
  guide loss count once. The mutual loss is then 0;
- detections in Ambiguous intervals stay: dropping them is part of an evaluation protocol here;
- ActivityNet's videos of up to 10 snippets are kept (the released code drops them from the lists);
- a convolution that the released code builds but never uses is left out;
- the last of 5,000 steps counts (the released code keeps the best of 25 evaluations on the test set).
The released code applies dropout to the attention's logits, which sets half of the snippets to an attention of 1/2 in
training. The option `logit_dropout` is its rate. If the other half starts below 1/2, the best snippets are found among
those of 1/2, nothing raises the others, and at test the attention is 0 everywhere (so on R(2+1)D features of THUMOS14,
in three runs of three). All rows of a test video are scored, unless `train.test_length`, which a data set's schedule
may set, limits them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from baselines.hamnet import LOCALIZER, leaky_conv
from wstal import sampling
from wstal.errors import UserError
from wstal.families import epochs_for, many_classes
from wstal.localize.spec import Nms
from wstal.losses.attention import attended_scores, guide_loss, min_shifted, video_loss
from wstal.losses.coactivity import coactivity_loss
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.layers import he_conv
from wstal.parts.pooling import smooth
from wstal.spec import ALL_ROWS, Count
from wstal.streams import StreamOptions, split_streams
from wstal.tensors import Cas, Features, Foreground, Scalar, VideoFeatures
from wstal.types import Batch, IntArray, Paper, Scores


class Co2NetOptions(StreamOptions):
    """Options of CO2-Net. The defaults are for THUMOS14."""

    attention_width: Count = Field(512, description="hidden columns of each stream's attention")
    attention_dropout: float = Field(0.5, ge=0, lt=1, description="in the gates and the attention")
    logit_dropout: float = Field(
        0.5,
        ge=0,
        lt=1,
        exclude_if=lambda dropout: dropout == 0.5,
        description="of the attention's logits, as in the released code: a dropped snippet has an attention of 1/2",
    )
    dropout: float = Field(0.7, ge=0, lt=1, description="of the fused features and before both classifier layers")
    half_window: int = Field(
        0, ge=0, le=1000, description="rows to either side that CAS and attention are averaged over (ActivityNet)"
    )
    pairs: int = Field(3, ge=0, le=1_000_000, description="pairs of videos of one class that lead each batch")
    ratio: int = Field(7, ge=1, description="k = T / ratio snippets are pooled in training")
    score_ratio: int = Field(10, ge=1, description="the same for the video scores of a test video")
    coactivity: float = Field(1.0, ge=0, description="weight of the co-activity loss")
    mutual: float = Field(1.0, ge=0, description="weight of the mutual learning of the attentions")
    norm: float = Field(0.8, ge=0, description="weight of the mean attention")
    guide: float = Field(0.8, ge=0, description="weight of the guide loss")


THUMOS_STEPS, ACTIVITYNET_STEPS, BATCH = 5_000, 22_000, 10
ACTIVITYNET_OPTIONS = Co2NetOptions(half_window=6, ratio=5)  # 13 rows, about a fifth of the 60
# HAM-Net's, with a fallback for videos without a confident class and the extra unit of suppression in snippets
CO2_LOCALIZER = LOCALIZER.model_copy(
    update={"fallback_to_argmax": True, "nms": Nms(kind="soft-gaussian", sigma=0.3, plus_one="snippet")}
)


class Consensus(nn.Module):
    """Cross-modal consensus module (CCM): gates the main stream with the help of the auxiliary one.

    Args:
        main: columns of the stream that is gated.
        auxiliary: columns of the other stream.
        spec: the method's options.
    """

    def __init__(self, main: int, auxiliary: int, spec: Co2NetOptions) -> None:
        super().__init__()
        width, dropout = spec.attention_width, spec.attention_dropout
        self.whole = nn.Sequential(*leaky_conv(main, main, 3), nn.Dropout(dropout))
        self.local = nn.Sequential(*leaky_conv(auxiliary, main, 3), nn.Dropout(dropout))
        self.attention = nn.Sequential(
            *leaky_conv(main, width, 3),
            nn.Dropout(dropout),
            *leaky_conv(width, width, 3),
            he_conv(width, 1, 1),
            nn.Dropout(spec.logit_dropout),
            nn.Sigmoid(),
        )

    def forward(
        self, main: Float[Tensor, "batch dim time"], auxiliary: Float[Tensor, "batch other time"]
    ) -> tuple[Float[Tensor, "batch dim time"], Float[Tensor, "batch 1 time"]]:
        """Return the gated main stream and its attention.

        Args:
            main: `[B, D, T]` features of the stream that is gated.
            auxiliary: `[B, D', T]` features of the other stream.
        """
        gate = self.whole(main.mean(dim=2, keepdim=True)) * self.local(auxiliary)
        gated = gate.sigmoid() * main
        return gated, self.attention(gated)


class Co2Net(Method):
    """CO2-Net over features `[B, T, D]` of one or two streams."""

    name = "co2net"
    title = "CO2-Net"
    paper = Paper(
        "Cross-modal Consensus Network for Weakly Supervised Temporal Action Localization",
        "Fa-Ting Hong, Jia-Chang Feng, Dan Xu, Ying Shan, Wei-Shi Zheng",
        "ACM MM",
        2021,
        "https://arxiv.org/abs/2107.12589",
    )
    Options = Co2NetOptions
    TRAIN_SAMPLER = sampling.grid_random
    SCORING_OPTIONS = frozenset({"score_ratio"})
    spec: Co2NetOptions

    def __init__(self, spec: Co2NetOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.widths = spec.widths(feature_dim)
        if len(self.widths) > 2:
            raise UserError(
                f"CO2-Net takes one or two streams, method.streams={list(self.widths)} names {len(self.widths)}. "
                "Choose two with --streams."
            )
        self.consensus: Sequence[nn.Module] = nn.ModuleList(  # type: ignore[assignment]
            Consensus(main, auxiliary, spec) for main, auxiliary in zip(self.widths, reversed(self.widths), strict=True)
        )
        self.fusion = nn.Sequential(*leaky_conv(feature_dim, feature_dim, 1), nn.Dropout(spec.dropout))
        self.classifier = nn.Sequential(
            nn.Dropout(spec.dropout),
            *leaky_conv(feature_dim, feature_dim, 3),
            nn.Dropout(spec.dropout),
            he_conv(feature_dim, num_classes + 1, 1),
        )

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return ActivityNet 1.2's settings for `activitynet*` and `fineaction`, otherwise THUMOS14's."""
        if many_classes(dataset):
            options, steps, rows, rate, decay = ACTIVITYNET_OPTIONS, ACTIVITYNET_STEPS, 60, 3e-5, 5e-4
        else:
            options, steps, rows, rate, decay = Co2NetOptions(), THUMOS_STEPS, 500, 5e-5, 1e-3
        train = TrainSpec(
            epochs=epochs_for(dataset, steps, BATCH),
            batch_size=BATCH,
            temporal_length=rows,
            test_length=ALL_ROWS,
            learning_rate=rate,
            weight_decay=decay,
        )
        return Recipe(method=options, train=train, localizer=CO2_LOCALIZER)

    @property
    def pairs(self) -> int:
        """Number of leading pairs, the option `pairs`."""
        return self.spec.pairs

    def train_batches(self, labels: Sequence[tuple[int, ...]], size: int, rng: np.random.Generator) -> list[IntArray]:
        """Return batches of pairs of different videos of one class, followed by any videos, all drawn anew."""
        return sampling.paired_batches(labels, size, self.pairs, rng, distinct=True)

    def filtered(self, features: Features) -> tuple[Float[Tensor, "batch in_dim time"], list[Foreground]]:
        """Return the gated streams, joined, and each stream's attention in [0, 1]."""
        streams = split_streams(features.transpose(1, 2), self.widths, dim=1)
        passes = zip(self.consensus, streams, reversed(streams), strict=True)
        gated, attention = zip(*(consensus(main, other) for consensus, main, other in passes), strict=True)
        return torch.cat(gated, dim=1), [smooth(one, self.spec.half_window).transpose(1, 2) for one in attention]

    def classified(self, filtered: Float[Tensor, "batch in_dim time"]) -> tuple[Features, Cas]:
        """Return E, the fused features, and X, logits of the C classes and, last, background."""
        fused = self.fusion(filtered)
        return fused.transpose(1, 2), smooth(self.classifier(fused), self.spec.half_window).transpose(1, 2)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the classification losses `whole` and `suppressed` (by attention), the other terms, and `total`."""
        spec, labels = self.spec, batch.labels
        filtered, streams = self.filtered(batch.features)
        fused, cas = self.classified(filtered)
        attention = torch.stack(streams).mean(dim=0)
        suppressed = min_shifted(cas, attention)
        each = [attention, *streams]
        terms = {
            "whole": video_loss(cas, labels, background=True, ratio=spec.ratio),
            "suppressed": video_loss(suppressed, labels, background=False, ratio=spec.ratio),
            "coactivity": coactivity_loss(fused, suppressed, labels, self.pairs),
            "mutual": mutual_loss(streams[0], streams[-1]),
            "norm": torch.stack([one.mean() for one in each]).mean(),
            "guide": torch.stack([guide_loss(one, cas) for one in each]).mean(),
        }
        terms["total"] = (
            terms["whole"]
            + terms["suppressed"]
            + spec.coactivity * terms["coactivity"]
            + spec.mutual * terms["mutual"]
            + spec.norm * terms["norm"]
            + spec.guide * terms["guide"]
        )
        return terms

    def score(self, features: VideoFeatures) -> Scores:
        """Return the signals `attention` (mean of the streams), `logit` (a X) and `cas` (softmax of a X)."""
        filtered, streams = self.filtered(features.unsqueeze(0))
        _, cas = self.classified(filtered)
        return attended_scores(cas, torch.stack(streams).mean(dim=0), self.spec.score_ratio)


def mutual_loss(one: Foreground, other: Foreground) -> Scalar:
    """Compute the mean squared difference of two attentions, where each half trains one of them towards the other.

    Args:
        one: `[B, T, 1]` attention of a stream.
        other: `[B, T, 1]` attention of the other stream.
    """
    return (functional.mse_loss(one, other.detach()) + functional.mse_loss(other, one.detach())) / 2
