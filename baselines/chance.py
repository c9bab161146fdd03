"""Chance baselines: two methods that classify videos and do not localize.

Idea: mAP at low tIoU rewards knowing what a video shows. `whole-video` gives one detection over the whole video.
`random` uses random numbers as snippet scores, localized like ACM-Net's. A method that is not better than these has
learned to classify videos, but nothing about time.

Paper: none, both are our own. They have the same classifier: linear, on the mean feature, trained with a softmax.
"""

from __future__ import annotations

import zlib

import torch
from jaxtyping import Float
from torch import Tensor, nn

from baselines.acmnet import AcmNet
from wstal.localize.spec import LocalizerSpec, ProposalSource
from wstal.losses.mil import cross_entropy
from wstal.method import Method, Recipe
from wstal.spec import Spec
from wstal.tensors import VideoFeatures
from wstal.types import Batch, Scores


class ChanceOptions(Spec):
    """Empty options: these methods have none."""


class WholeVideo(Method):
    """Detection of each class of a video from its beginning to its end."""

    name = "whole-video"
    title = "Whole video"
    source = "ours"
    chance = True
    Options = ChanceOptions
    spec: ChanceOptions

    def __init__(self, spec: ChanceOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.classifier = nn.Linear(feature_dim, num_classes)

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return ACM-Net's samples, batches and class threshold, a tenth of its epochs, and 10 times its rate."""
        like = AcmNet.recipe(dataset)
        train = like.train.model_copy(
            update={"epochs": like.train.epochs // 10, "learning_rate": 10 * like.train.learning_rate}
        )
        localizer = LocalizerSpec(
            class_threshold=like.localizer.class_threshold,
            sources=(ProposalSource(signal="attention", thresholds=(0.5,), score={"cas": 1.0}),),
        )
        return Recipe(method=ChanceOptions(), train=train, localizer=localizer)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `classification`, the cross-entropy with labels that sum to 1, which is also the `total`."""
        loss = cross_entropy(self._logits(batch.features).log_softmax(dim=-1), batch.labels)
        return {"classification": loss, "total": loss}

    def score(self, features: VideoFeatures) -> Scores:
        """Return `cas`, the video's class probabilities at every snippet, and `attention`, 1 everywhere."""
        probabilities = self._logits(features).softmax(dim=-1)
        signals = {"cas": probabilities.expand(len(features), -1), "attention": features.new_ones(len(features))}
        return Scores(signals, probabilities)

    def _logits(self, features: Float[Tensor, "*batch time in_dim"]) -> Float[Tensor, "*batch classes"]:
        logits: Tensor = self.classifier(features.mean(dim=-2))
        return logits


class RandomScores(WholeVideo):
    """Detection of a video's classes at random times, the same each time the video is scored."""

    name = "random"
    title = "Random scores"
    source = "ours"
    seed: Tensor

    def __init__(self, spec: ChanceOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.register_buffer("seed", torch.randint(2**62, ()))

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return `WholeVideo`'s recipe with ACM-Net's localizer."""
        return super().recipe(dataset).model_copy(update={"localizer": AcmNet.recipe(dataset).localizer})

    def score(self, features: VideoFeatures) -> Scores:
        """Return `cas` and `attention` uniform in [0, 1), seeded by the run's seed and the bytes of the features."""
        digest = zlib.crc32(features.float().contiguous().cpu().numpy().tobytes())
        generator = torch.Generator().manual_seed(int(self.seed) ^ digest)
        draws = torch.rand(len(features), self.num_classes + 1, generator=generator).to(features)
        return Scores({"cas": draws[:, :-1], "attention": draws[:, -1]}, super().score(features).video_scores)
