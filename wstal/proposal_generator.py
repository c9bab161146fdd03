"""Methods that find intervals without a class (BSN, BMN, G-TAD), beside a video classifier that names the classes.

The classifier is UntrimmedNet's head, trained in the same steps on the same features: it sees rows of the whole video
of each window, and the video's official labels. It shares nothing with the generator.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from wstal.localize.given import SoftSuppression, soft_suppression
from wstal.losses.mil import cross_entropy
from wstal.method import TrainSpec
from wstal.spec import Count, Spec
from wstal.supervised import SupervisedMethod, snippet_signals, whole_instances
from wstal.tensors import Features, Labels, Scalar, VideoFeatures, VideoScores
from wstal.types import FloatArray, Floats, IntArray, Scores, SupervisedBatch, SupervisedVideo
from wstal.windows import Window, instances_in_rows, rows_at, window_starts

CLIPS = "clips"  # name of the classifier's rows among the targets
AT_ONCE = 8  # windows of a test video in one pass
INSIDE = 0.9  # of its length, of an instance that makes a window one to train on


class GeneratorOptions(Spec):
    """Options that proposal generators have in common: windows, and the classifier of videos.

    Example:
        >>> GeneratorOptions(window=64).upsampling
        2
    """

    window: Count = Field(128, description="rows of a window, after up-sampling")
    upsampling: Count = Field(2, description="rows of a window for each row of the features, by linear interpolation")
    rescale: bool = Field(False, description="each video to the rows of one window, in place of windows of its rows")
    window_proposals: Count = Field(200, description="proposals of a test window that stay")
    classifier_rows: Count = Field(21, description="rows of a video that the classifier sees in a step")
    classifier_dropout: float = Field(0.8, ge=0, lt=1, description="of the classifier's features")
    classifier_rate: PositiveFloat = Field(1e-3, description="learning rate of the classifier")


class VideoClassifier(nn.Module):
    """UntrimmedNet's head: a class distribution for each row, averaged by a softmax attention over rows.

    Args:
        feature_dim: D.
        num_classes: C.
        dropout: of the features.

    Example:
        >>> VideoClassifier(8, 3, dropout=0.5).eval()(torch.rand(2, 5, 8)).exp().sum(dim=1).round().tolist()
        [1.0, 1.0]
    """

    def __init__(self, feature_dim: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(feature_dim, num_classes)
        self.attention = nn.Linear(feature_dim, 1, bias=False)
        nn.init.zeros_(self.classifier.bias)
        for layer in (self.classifier, self.attention):
            nn.init.normal_(layer.weight, std=0.001)

    def forward(self, features: Features) -> VideoScores:
        """Return `[B, C]` log-probabilities of the classes."""
        kept = self.dropout(features)
        weights: Tensor = self.attention(kept)
        logits: Tensor = self.classifier(kept)
        return (weights.log_softmax(dim=1) + logits.log_softmax(dim=2)).logsumexp(dim=1)


class ProposalGenerator(SupervisedMethod):
    """Base class of methods that find intervals in windows, without a class.

    A subclass gives `window_targets`, `window_losses` with `classification` among its terms, and `window_proposals`.
    """

    spec: GeneratorOptions

    def __init__(self, spec: GeneratorOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.video_classifier = VideoClassifier(feature_dim, num_classes, spec.classifier_dropout)

    @abstractmethod
    def window_targets(self, instances: Tensor) -> dict[str, Tensor]:
        """Return a window's targets.

        Args:
            instances: `[N, 2]` in rows of the window, uncut, float64.
        """

    @abstractmethod
    def window_proposals(self, windows: Features) -> list[Floats]:
        """Return `[P, 3]` start and end in rows, and score in [0, 1], of each window's proposals.

        Args:
            windows: `[W, T, D]`.
        """

    def windows_of(self, rows: int, video: int = 0) -> list[Window]:
        """Return the windows of a video: each begins half a window after the one before, the last ends with the video.

        Args:
            rows: rows of the video.
            video: its number.
        """
        size, upsampling = self.spec.window, self.spec.upsampling
        if self.spec.rescale:
            return [Window(video, 0, rows / size, size)]
        starts = window_starts(rows * upsampling, size, max(size // 2, 1))
        return [Window(video, start / upsampling, 1 / upsampling, size) for start in starts]

    def windows(self, videos: Sequence[SupervisedVideo], stage: int) -> list[Window]:
        """Return the windows that have nearly all of an instance in them."""
        return [
            window
            for number, video in enumerate(videos)
            for window in self.windows_of(video.video.length, number)
            if whole_instances(instances_in_rows(video), window, INSIDE)
        ]

    def targets(self, video: SupervisedVideo, window: Window, stage: int) -> dict[str, Tensor]:
        """Return the window's targets."""
        return self.window_targets(window.instances(video))

    def example(
        self, video: SupervisedVideo, window: Window, stage: int, rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return a window with its targets, and rows of the whole video for the classifier, one of each equal part."""
        features, targets = super().example(video, window, stage, rng)
        return features, targets | {CLIPS: clips(video.video.features, self.spec.classifier_rows, rng)}

    def classification_loss(self, batch: SupervisedBatch) -> Scalar:
        """Return the cross-entropy of the video classifier."""
        return video_loss(self.video_classifier, batch.targets[CLIPS], batch.labels)

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        """Return one Adam, with a learning rate of its own for the classifier."""
        groups = [
            {"params": self.generator_parameters(), "lr": train.learning_rate, "weight_decay": train.weight_decay},
            {"params": [*self.video_classifier.parameters()], "lr": self.spec.classifier_rate, "weight_decay": 5e-4},
        ]
        return [torch.optim.Adam(groups, betas=train.betas, fused=True)]

    def generator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the generator."""
        own = {id(parameter) for parameter in self.video_classifier.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    @torch.no_grad()
    def score(self, features: VideoFeatures) -> Scores:
        """Return the proposals of all windows and the classifier's probabilities."""
        rows = len(features)
        host = features.detach().cpu().numpy()
        windows = self.windows_of(rows)
        proposals = [np.zeros((0, 4))]
        for first in range(0, len(windows), AT_ONCE):
            some = windows[first : first + AT_ONCE]
            given = torch.stack([window.features(host) for window in some]).to(features)
            for window, found in zip(some, self.window_proposals(given), strict=True):
                edges = np.clip(window.first + found[:, :2] * window.step, 0, rows)
                row = np.column_stack([edges, found[:, 2], np.full(len(found), -1.0)])
                proposals.append(row[row[:, 1] > row[:, 0]])
        video_scores = self.video_classifier(features.unsqueeze(0))[0].exp()
        joined = torch.from_numpy(np.concatenate(proposals))
        signals = snippet_signals(joined, video_scores.double().cpu(), rows)
        return Scores({n: s.to(features) for n, s in signals.items()}, video_scores, proposals=joined)


def clips(features: FloatArray, count: int, rng: np.random.Generator) -> Tensor:
    """Return rows of a video for its classifier, drawn from each of equal parts.

    Args:
        features: `[T, D]` of the whole video.
        count: rows to draw.
        rng: generator of the epoch.

    Example:
        >>> clips(np.arange(9.0)[:, None], 3, np.random.default_rng(0))[:, 0].tolist()
        [1.0, 3.0, 6.0]
    """
    places = (np.arange(count) + rng.random(count)) * (len(features) / count)
    return rows_at(features, np.floor(places))


def video_loss(classifier: VideoClassifier, clips: Features, labels: Labels) -> Scalar:
    """Return the cross-entropy of a video classifier.

    Args:
        classifier: the classifier.
        clips: `[B, R, D]` rows of the videos.
        labels: `[B, C]` multi-hot.

    Example:
        >>> loss = video_loss(VideoClassifier(8, 4, 0.5).eval(), torch.zeros(2, 5, 8), torch.eye(4)[:2])
        >>> round(loss.item(), 4)
        1.3863
    """
    return cross_entropy(classifier(clips), labels)


def best_of_window(start: Floats, end: Floats, score: Floats, rule: SoftSuppression | None, keep: int) -> Floats:
    """Return `[P, 3]` start, end and score of a window's best proposals.

    Args:
        start: `[N]` rows.
        end: `[N]` rows.
        score: `[N]`.
        rule: suppression within the window. None: none.
        keep: proposals that stay at most.

    Example:
        >>> best_of_window(np.array([0.0, 4.0]), np.array([2.0, 6.0]), np.array([0.2, 0.9]), None, keep=1).tolist()
        [[4.0, 6.0, 0.9]]
    """
    if rule is None:
        order: IntArray = np.lexsort((end, start, -score))[:keep]
        left = score[order]
    else:
        order, left = soft_suppression(start, end, score, rule, keep)
    return np.column_stack([start[order], end[order], left])


def clip_gradients(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], norm: float) -> None:
    """Let an optimizer scale the gradients of parameters down to a norm before each step.

    Args:
        optimizer: of the parameters.
        parameters: whose gradients together have the norm.
        norm: the largest.

    Example:
        >>> weight = nn.Parameter(torch.zeros(1))
        >>> optimizer = torch.optim.SGD([weight], lr=1.0)
        >>> clip_gradients(optimizer, [weight], norm=0.5)
        >>> weight.grad = torch.tensor([3.0])
        >>> optimizer.step()
        >>> round(weight.item(), 4)
        -0.5
    """

    def clip(*_: object) -> None:
        nn.utils.clip_grad_norm_(parameters, norm)

    optimizer.register_step_pre_hook(clip)
