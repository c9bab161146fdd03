"""W-TALC: weakly supervised temporal activity localization and classification.

Idea: one fully connected layer over joint features, a linear classifier for each snippet, and top-k multiple-instance
learning. A co-activity loss makes two videos of one class similar where the class is active and different where it is
not. Detections are runs above the midpoint of a class's own range in the video.

Paper: Paul, Roy & Roy-Chowdhury, ECCV 2018, arXiv 1807.10418. Facts: its released code (sujoyp/wtalc-pytorch at
81ea982), checked against tensors recorded from it. Deviations:
- a second fully connected layer, which the released code builds but never uses, is left out;
- a test video of fewer than 8 snippets is scored by its best one (the released code takes the mean of none, and loses
  all its classes);
- detections in Ambiguous intervals stay: dropping them is part of an evaluation protocol here;
- the last of 100,000 steps counts (the released code prints 199 tests to choose from).
All rows of a test video are scored, unless `train.test_length`, which a data set's schedule may set, limits them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal import sampling
from wstal.families import epochs_for
from wstal.localize.spec import LocalizerSpec, ProposalSource
from wstal.losses.coactivity import coactivity_loss
from wstal.losses.mil import cross_entropy
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.layers import init_xavier
from wstal.parts.padded import pooled_logits, rows_present
from wstal.parts.pooling import logit_signals, top_k_share_mean
from wstal.spec import ALL_ROWS, Spec
from wstal.tensors import Embedded, Features, VideoFeatures
from wstal.types import Batch, IntArray, Paper, Scores


class WtalcOptions(Spec):
    """Options of W-TALC. The defaults are the released code's."""

    dropout: float = Field(0.7, ge=0, lt=1, description="of the embedded snippets")
    ratio: int = Field(8, ge=1, description="a video's T / ratio highest logits are pooled (s), rounded up in training")
    pairs: int = Field(3, ge=0, le=1_000_000, description="pairs of videos of one class that lead each batch")
    classification: float = Field(
        0.5, ge=0, le=1, description="weight of the classification loss (lambda); the rest is the co-activity loss's"
    )


STEPS, BATCH = 100_000, 10
LOCALIZER = LocalizerSpec(
    class_threshold=0.0,
    fallback_to_argmax=False,
    class_score="logit",
    minimum_run=2,
    sources=(
        ProposalSource(
            signal="above_midpoint",
            thresholds=(0.0,),
            strict=True,
            score={"logit": 1.0},
            inside="max",
            video_score_weight=0.7,
        ),
    ),
)


class Wtalc(Method):
    """W-TALC over features `[B, T, D]`. The embedding keeps the width D, and no layer reads neighbouring snippets."""

    name = "wtalc"
    title = "W-TALC"
    paper = Paper(
        "W-TALC: Weakly-supervised Temporal Activity Localization and Classification",
        "Sujoy Paul, Sourya Roy, Amit K. Roy-Chowdhury",
        "ECCV",
        2018,
        "https://arxiv.org/abs/1807.10418",
    )
    Options = WtalcOptions
    PADS = True
    TRAIN_SAMPLER = sampling.crop
    spec: WtalcOptions

    def __init__(self, spec: WtalcOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.embedding = nn.Linear(feature_dim, feature_dim)
        self.classifier = nn.Linear(feature_dim, num_classes)
        init_xavier(self.embedding, self.classifier)

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the released code's settings and steps for every data set."""
        epochs = epochs_for(dataset, STEPS, BATCH)
        train = TrainSpec(epochs=epochs, batch_size=BATCH, test_length=ALL_ROWS, weight_decay=5e-4)
        return Recipe(method=WtalcOptions(), train=train, localizer=LOCALIZER)

    @property
    def pairs(self) -> int:
        """Number of leading pairs, the option `pairs`."""
        return self.spec.pairs

    def train_batches(self, labels: Sequence[tuple[int, ...]], size: int, rng: np.random.Generator) -> list[IntArray]:
        """Return batches of pairs of videos of one class, followed by any videos, all drawn anew.

        A video may repeat.
        """
        return sampling.paired_batches(labels, size, self.pairs, rng, distinct=False)

    def embed(self, features: Features) -> Embedded:
        """Return F: fully connected layer, ReLU, dropout."""
        return functional.dropout(self.embedding(features).relu(), self.spec.dropout, self.training)

    def classify(self, embedded: Embedded) -> Float[Tensor, "batch time actions"]:
        """Return A: logits of the C classes. There is no background."""
        logits: Tensor = self.classifier(embedded)
        return logits

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `classification`, `coactivity` of the leading pairs, and their weighted `total`."""
        present = rows_present(batch.features)
        embedded = self.embed(batch.features)
        logits = self.classify(embedded)
        pooled = pooled_logits(logits, present, self.spec.ratio)
        terms = {
            "classification": cross_entropy(pooled.log_softmax(dim=1), batch.labels),
            "coactivity": coactivity_loss(embedded, logits, batch.labels, self.pairs, present),
        }
        classification = terms["classification"]
        terms["total"] = terms["coactivity"].to(classification).lerp(classification, self.spec.classification)
        return terms

    def score(self, features: VideoFeatures) -> Scores:
        """Return the scores of one pass (see `scores`)."""
        return self.scores(self.classify(self.embed(features.unsqueeze(0)))[0])

    def scores(self, logits: Float[Tensor, "time actions"]) -> Scores:
        """Return the scores of one video.

        The method's own localizer reads the signals `logit` and `above_midpoint` of `logit_signals`, and the class
        scores `logit`, means of the highest snippets. The video scores are their softmax.

        W-TALC has no background and no attention, and adding one number to all its logits changes no loss. So `cas` is
        the value that its own threshold acts on: the position of each logit within its class's range in the video, from
        0 to 1. `attention` is the mean of `cas` over the classes, weighted by their video scores.
        """
        video = top_k_share_mean(logits.unsqueeze(0), self.spec.ratio)[0]
        return Scores(logit_signals(logits, video.softmax(dim=0)), video.softmax(dim=0), {"logit": video})
