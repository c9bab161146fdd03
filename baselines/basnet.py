"""BaS-Net: background suppression network for weakly supervised temporal action localization.

Idea: one classifier with a background class sees each video twice: as it is, with background in its label, and after a
learned filter has suppressed snippets, without background in its label. To satisfy both, the filter must remove
background. The filtered pass is localized.

Paper: Lee et al., AAAI 2020, arXiv 1911.09963. Facts: its released code (Pilhyeon/BaSNet-pytorch at c8c6bbd), checked
against tensors recorded from it. Deviations:
- the released code sets class scores to 0 or 1 before it adds 0.2 of them to a detection's score: a constant, left out;
- it gives no detections if the only class that passes is the first of the list, here that class is treated like any
  other (a video where no class passes has no detections, as there);
- after its first epoch each of its 1,500 steps takes the first batch of a new shuffle, here each epoch shows each video
  once and keeps its smaller last batch;
- k follows the length of the sample, not the configured length (the two are equal in a run);
- it keeps the best of 1,500 evaluations on the test set, here the last checkpoint counts;
- thresholds are the code's, 0 to 0.225 (the paper's go up to 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal import sampling
from wstal.families import epochs_for
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource
from wstal.losses.mil import normalized, with_background
from wstal.method import BaseMethod, Recipe, TrainSpec
from wstal.parts.pooling import min_max, top_k_share_mean
from wstal.spec import Count, Spec
from wstal.tensors import Cas, Embedded, Features, Foreground, Labels, Scalar, VideoScores
from wstal.types import Paper, Scores, Snippets

# a filter that is shut (or open) to the last bit of single precision has finite log-odds
SHUT = 1e-6


class BasNetOptions(Spec):
    """Options of BaS-Net."""

    filter_width: Count = Field(512, description="hidden width of the filter")
    dropout: float = Field(0.7, ge=0, lt=1, description="of the last layer's inputs")
    ratio: Count = Field(8, description="k = T / ratio snippets are pooled")
    sparse: float = Field(1e-4, ge=0, description="weight of the sparsity loss (alpha)")


STEPS, BATCH = 1_500, 16
LOCALIZER = LocalizerSpec(
    class_threshold=0.25,
    class_threshold_inclusive=True,
    fallback_to_argmax=False,
    upsampling=24,
    margin=0.25,
    skip_lone_first_sample=True,
    sources=(
        ProposalSource(signal="normalized", thresholds=(0.0,), strict=True, score={"normalized": 1.0}, masked=True),
        ProposalSource(
            signal="normalized",
            thresholds=tuple(round(0.025 * step, 3) for step in range(1, 10)),
            score={"normalized": 1.0},
            masked=True,
        ),
    ),
    nms=Nms(kind="hard", threshold=0.7, plus_one="second"),
)


@dataclass(frozen=True, eq=False)
class Suppressed(Snippets):
    """Suppression pass: F and A of the filtered features, W the filter's weights.

    Args:
        features: `[B, T, D]` features before the filter, for the base pass.
    """

    features: Tensor


class BasNet(BaseMethod):
    """BaS-Net over features `[B, T, D]`. The embedding keeps the width D."""

    name = "basnet"
    title = "BaS-Net"
    paper = Paper(
        "Background Suppression Network for Weakly-supervised Temporal Action Localization",
        "Pilhyeon Lee, Youngjung Uh, Hyeran Byun",
        "AAAI",
        2020,
        "https://arxiv.org/abs/1911.09963",
    )
    Options = BasNetOptions
    TRAIN_SAMPLER = sampling.grid_random
    TEST_SAMPLER = sampling.grid
    spec: BasNetOptions

    def __init__(self, spec: BasNetOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.filter = nn.Sequential(
            nn.Linear(feature_dim, spec.filter_width), nn.LeakyReLU(), nn.Linear(spec.filter_width, 1), nn.Sigmoid()
        )
        self.embedding = nn.Sequential(
            nn.Conv1d(feature_dim, feature_dim, kernel_size=3, padding=1),
            nn.LeakyReLU(),
            nn.Conv1d(feature_dim, feature_dim, kernel_size=3, padding=1),
            nn.LeakyReLU(),
        )
        self.classifier = nn.Linear(feature_dim, num_classes + 1, bias=False)

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return THUMOS14's settings and steps for every data set.

        The paper's settings for ActivityNet were not released.
        """
        train = TrainSpec(epochs=epochs_for(dataset, STEPS, BATCH), batch_size=BATCH, weight_decay=5e-4)
        return Recipe(method=BasNetOptions(), train=train, localizer=LOCALIZER)

    def snippets(self, features: Features) -> Suppressed:
        """Return the suppression pass."""
        weights = self.attend(features)
        embedded = self.embed(weights * features)
        return Suppressed(embedded, weights, self.classify(embedded), features)

    def attend(self, embedded: Features) -> Foreground:
        """Return the filter's foreground weights w, computed from the features themselves."""
        weights: Tensor = self.filter(embedded)
        return weights

    def embed(self, features: Features) -> Embedded:
        """Return F: two temporal convolutions of width 3 with LeakyReLU, the same in both passes."""
        return torch.transpose(self.embedding(features.transpose(1, 2)), 1, 2)

    def classify(self, embedded: Embedded) -> Cas:
        """Return A: logits of the C classes and, last, background."""
        logits: Tensor = self.classifier(functional.dropout(embedded, self.spec.dropout, self.training))
        return logits

    def snippet_losses(self, snippets: Snippets, labels: Labels) -> dict[str, Tensor]:
        """Return both passes' classification losses, the filter's sum over time (`sparse`), and the `total`."""
        assert isinstance(snippets, Suppressed)  # what `snippets` returns
        base = self.classify(self.embed(snippets.features))
        terms = {
            "base": self._classification(base, with_background(labels, True)),
            "suppression": self.classification_loss(snippets.cas, snippets.attention, labels),
            "sparse": snippets.attention.sum(dim=(1, 2)).mean(),
        }
        terms["total"] = terms["base"] + terms["suppression"] + self.spec.sparse * terms["sparse"]
        return terms

    def classification_loss(self, cas: Cas, attention: Foreground, labels: Labels) -> Scalar:
        """Return the loss of the suppression pass.

        The filter has already acted on the features, so its weights are not used.
        """
        return self._classification(cas, with_background(labels, False))

    def branch_cas(self, cas: Cas, attention: Foreground) -> tuple[Cas, Cas]:
        """Return A, already filtered, and A with the log-odds of background by the filter as its background logit.

        The suppression pass is trained to see no background, so its own background logit does not show where it is.
        """
        return cas, torch.cat([cas[..., :-1], -attention.logit(SHUT)], dim=-1)

    def snippet_scores(self, snippets: Snippets) -> Scores:
        """Return the scores of the suppression pass.

        Returns:
            Signals `normalized` (A by class, min-max over time), which the method's own localizer reads, `cas` (softmax
            of A with background, without its column) and `attention` (the filter's weights), and class probabilities.
        """
        cas, classes = snippets.cas[0], self.num_classes
        signals = {
            "cas": cas.softmax(dim=-1)[:, :classes],
            "attention": snippets.attention[0, :, 0],
            "normalized": min_max(cas[:, :classes]),
        }
        return Scores(signals, self._video_scores(snippets.cas)[0, :classes])

    def _video_scores(self, cas: Tensor) -> VideoScores:
        return top_k_share_mean(cas, self.spec.ratio).softmax(dim=1)

    def _classification(self, cas: Tensor, targets: Tensor) -> Scalar:
        """Return the binary cross-entropy of softmaxed video scores, averaged over videos and C + 1 classes."""
        return functional.binary_cross_entropy(self._video_scores(cas), normalized(targets))
