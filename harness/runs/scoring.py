"""Snippet scores of trained methods, and the localizer that all methods have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.io.console import OnProgress
from harness.registry import load_method
from harness.runs.failed_step import memory_advice
from wstal.localize import LocalizerSpec
from wstal.method import Method, TrainSpec
from wstal.types import FloatArray, Scores, SnippetScores, Video

COMMON = "acmnet"
# A convolution 2,048 wide takes 54 ms of CPU for 75 rows alone, 24 ms in a batch of 8 and 23 ms in one of 16, since it
# reorders its weights once a call; for 750 rows 211 ms alone and 192 ms in a batch of 4.
BATCH, BATCH_ROWS = 16, 1536
AHEAD = 1 << 24  # numbers of videos that wait for others of their length: 64 MiB of features


def common_localizer(family: str) -> LocalizerSpec:
    """Return the settings that every method is localized with besides its own: ACM-Net's for the family of data sets.

    They tell the gains of a model from those of its post-processing.
    """
    return load_method(COMMON).recipe(family).localizer


def score_videos(
    method: Method,
    videos: Sequence[Video],
    spec: TrainSpec,
    on_progress: OnProgress = lambda *_: None,
) -> Iterator[SnippetScores]:
    """Score whole videos in evaluation mode, and yield the scores of each as soon as they and all before are there.

    Videos of equal length share a pass of the network where the method can do so to the bits of a video alone.

    Args:
        method: trained, on its device; left in evaluation mode.
        videos: any length; longer ones than `spec.test_length` are sampled down.
        spec: gives the test length.
        on_progress: called after each video.

    Yields:
        One entry a video, in order, signals as float64 arrays.

    Raises:
        RunError: the memory is not enough.
    """
    method.eval()
    scorer = _Scorer(method)
    room = AHEAD // (method.feature_dim + method.num_classes)  # rows
    waiting: deque[_Video] = deque()
    done = 0
    for number, video in enumerate(videos, 1):
        new = _Video.read(method, video, spec)
        waiting.append(new)
        alike = [one for one in waiting if one.scores is None and one.rows == new.rows]
        if len(alike) == scorer.batch_size(new.rows):
            scorer.score(alike)
        keep = room if number < len(videos) else 0
        while waiting and (waiting[0].scores is not None or sum(one.rows for one in waiting) > keep):
            one = waiting.popleft()
            if one.scores is None:
                scorer.score([one])
            done += 1
            on_progress("score", done, len(videos), "")
            yield one.snippet_scores()


@dataclass(eq=False)
class _Video:
    """Video on its way to its scores.

    Args:
        video: the video.
        length: its rows.
        rows: T, those that are scored.
        features: `[T, D]` of these, None once it is scored.
        scores: None until it is scored.
    """

    video: Video
    length: int
    rows: int
    features: Tensor | None
    scores: Scores | None = None

    @classmethod
    def read(cls, method: Method, video: Video, spec: TrainSpec) -> _Video:
        stored = video.features
        rows = method.test_indices(len(stored), spec.test_length)
        features = torch.from_numpy(np.asarray(stored[rows], dtype=np.float32))
        return cls(video, len(stored), len(rows), features.to(method.device))

    def snippet_scores(self) -> SnippetScores:
        assert self.scores is not None
        found = self.scores.proposals
        return SnippetScores(
            video=self.video.name,
            signals=_arrays(self.scores.signals),
            video_scores=self.scores.video_scores.double().cpu().numpy(),
            seconds_per_snippet=self.video.seconds_per_snippet * self.length / self.rows,
            offset=self.video.offset,
            class_scores=_arrays(self.scores.class_scores),
            proposals=None if found is None else found.double().cpu().numpy(),
        )


class _Scorer:
    """Scoring in batches, where they have the bits of videos alone.

    Which kernels compute a product, and so the order of its sums, depends on the shapes. So the first batch of each
    shape is scored both ways, and others of that shape in one pass only if all bits agreed.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.agree: dict[int, bool] = {}  # by number of rows: their batches have one size

    def batch_size(self, rows: int) -> int:
        """Return how many videos of so many rows share a pass."""
        if type(self.method).score_batch is Method.score_batch or not self.agree.get(rows, True):
            return 1
        return max(1, min(BATCH, BATCH_ROWS // rows))

    def score(self, videos: Sequence[_Video]) -> None:
        """Score videos of one length: a whole batch, or one."""
        features = [video.features for video in videos if video.features is not None]
        rows = videos[0].rows
        limit = {"train.test_length": rows}
        with torch.no_grad(), memory_advice(f"scoring of {self.method.name}", limit):
            if len(videos) > 1 and self.agree.get(rows):
                scores = self.method.score_batch(torch.stack(features))
            else:
                scores = [self.method.score(one) for one in features]
            if len(videos) > 1 and rows not in self.agree:
                together = self.method.score_batch(torch.stack(features))
                self.agree[rows] = all(map(_same_bits, scores, together))
        for video, one in zip(videos, scores, strict=True):
            video.features, video.scores = None, one


def _same_bits(one: Scores, other: Scores) -> bool:
    first, second = (
        {"": scores.video_scores} | scores.signals | {f"/{name}": value for name, value in scores.class_scores.items()}
        for scores in (one, other)
    )
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def _arrays(tensors: dict[str, Tensor]) -> dict[str, FloatArray]:
    return {name: tensor.double().cpu().numpy() for name, tensor in tensors.items()}
