"""Contract of fully supervised methods: references that train on times, beside which weak methods are shown.

They get a type of input of their own (`SupervisedVideo`, `SupervisedBatch`), train on windows of videos with targets
that they make for each window, and give proposals.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from wstal.method import Method
from wstal.types import Batch, Floats, IntArray, SupervisedBatch, SupervisedVideo, Supervision
from wstal.windows import Window


class SupervisedMethod(Method):
    """Base class of methods that train on times.

    Attributes:
        CHECK_OPTIONS: options with which checks of the method are quick, for a network that is large by default.
        MATCHES_ON_HOST: a training step compares values on the CPU, so that a GPU waits for it.
    """

    supervision: ClassVar[Supervision] = "full"
    CHECK_OPTIONS: ClassVar[Mapping[str, Any]] = {}
    MATCHES_ON_HOST: ClassVar[bool] = False

    @abstractmethod
    def windows(self, videos: Sequence[SupervisedVideo], stage: int) -> list[Window]:
        """Return what an epoch shows, each once: windows of the training videos.

        Called at the start of a stage, and where a training goes on within one.

        Args:
            videos: all training videos.
            stage: `Method.stage` of the epochs to come.
        """

    @abstractmethod
    def targets(self, video: SupervisedVideo, window: Window, stage: int) -> dict[str, Tensor]:
        """Return the targets of a window by name, of equal shapes in all windows of a stage.

        Args:
            video: the window's video.
            window: one of `windows`.
            stage: as there.
        """

    def example(
        self, video: SupervisedVideo, window: Window, stage: int, rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return `[T, D]` features and the targets of a window, as a step sees it.

        Override it where an epoch draws what it shows of a window.

        Args:
            video: the window's video.
            window: one of `windows`.
            stage: as there.
            rng: generator of the epoch.
        """
        return window.features(video.video.features), self.targets(video, window, stage)

    @abstractmethod
    def window_losses(self, batch: SupervisedBatch) -> dict[str, Tensor]:
        """Return scalar losses by name, with the same names in every step of every stage, as `Method.losses` does.

        What is drawn in training mode is an expectation in evaluation mode, so that a loss can be repeated.
        """

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Refuse a batch without times: `window_losses` takes one with them."""
        raise TypeError(f"{self.name} trains on windows with targets, not on a {type(batch).__name__}.")

    def test_indices(self, length: int, at_most: int) -> IntArray:
        """Return all rows: windows take what they need of them."""
        return np.arange(length)


def join(
    examples: Sequence[tuple[Tensor, dict[str, Tensor]]], labels: Tensor, videos: tuple[str, ...]
) -> SupervisedBatch:
    """Join windows to a batch, with rows of zeros after shorter ones.

    Args:
        examples: `SupervisedMethod.example` of each.
        labels: `[B, C]` multi-hot classes of the videos.
        videos: their names.

    Example:
        >>> one = (torch.ones(2, 3), {"start": torch.zeros(2)})
        >>> join([one, one], torch.eye(2), ("v", "w")).features.shape
        torch.Size([2, 2, 3])
    """
    features = torch.nn.utils.rnn.pad_sequence([features for features, _ in examples], batch_first=True)
    names = examples[0][1]
    return SupervisedBatch(features, labels, videos, {n: torch.stack([own[n] for _, own in examples]) for n in names})


def whole_instances(instances: Floats, window: Window, share: float = 1.0) -> bool:
    """Test whether an instance lies in a window with more than `share` of its length, or with all of it.

    Args:
        instances: `[N, 2]` in rows of the video.
        window: the window.
        share: of the instance's length.

    Example:
        >>> whole_instances(np.array([[2.0, 6.0]]), Window(0, first=3, step=1, rows=8), share=0.7)
        True
    """
    start, end = instances[:, 0], instances[:, 1]
    inside = np.minimum(end, window.last) - np.maximum(start, window.first)
    enough = (inside > share * (end - start)) | (inside >= end - start)
    return bool((enough & (end > start)).any())


def snippet_signals(proposals: Tensor, video_scores: Tensor, rows: int) -> dict[str, Tensor]:
    """Return `cas` and `attention` of proposals, for what looks at snippets: the best score of those that cover a row.

    Args:
        proposals: `[P, 4]` as `Scores.proposals`; scores in [0, 1].
        video_scores: `[C]` class probabilities, which weigh proposals of no class.
        rows: T.

    Example:
        >>> found = snippet_signals(torch.tensor([[1.0, 3.0, 0.5, -1.0]]), torch.tensor([1.0, 0.2]), rows=3)
        >>> found["attention"].tolist(), found["cas"][:, 1].tolist()
        ([0.0, 0.5, 0.5], [0.0, 0.10000000149011612, 0.10000000149011612])
    """
    start, end, score, label = proposals.T
    middle = torch.arange(rows, device=proposals.device) + 0.5
    cas = proposals.new_zeros(rows, len(video_scores))
    free = torch.zeros_like(cas[:, 0])
    for chosen in torch.unique(label).tolist():
        own = label == chosen
        covers = (middle[:, None] >= start[own]) & (middle[:, None] < end[own])
        best = (covers * score[own]).amax(dim=1).clamp(0, 1)
        if chosen < 0:
            free = best
        else:
            cas[:, int(chosen)] = best
    cas = torch.maximum(cas, free[:, None] * video_scores)
    return {"cas": cas.float(), "attention": torch.maximum(free, cas.amax(dim=1)).float()}
