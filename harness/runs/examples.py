"""Batches of a training: sampled videos for weakly supervised methods, windows with targets for supervised ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from harness.data.counts import supervised_videos, training_videos
from harness.data.features import in_memory
from harness.data.source import DataSource
from wstal.device import to_device_async
from wstal.errors import UserError
from wstal.method import Method, TrainSpec
from wstal.supervised import SupervisedMethod, join
from wstal.types import Batch, CountedBatch, CountedVideo, IntArray, SupervisedBatch, SupervisedVideo, Video

AnyBatch = Batch | SupervisedBatch
TrainingVideos = Sequence[Video] | Sequence[SupervisedVideo]


class Examples(ABC):
    """Items that an epoch shuffles: their labels, and batches of them."""

    labels: list[tuple[int, ...]]

    @abstractmethod
    def batch(self, indices: IntArray, rng: np.random.Generator) -> tuple[AnyBatch, bool]:
        """Return a batch, and whether all its features are finite.

        Args:
            indices: numbers of its items.
            rng: generator of the epoch.
        """


def examples_of(method: Method, videos: TrainingVideos, spec: TrainSpec, stage: int) -> Examples:
    """Return what the epochs of a stage show to a method.

    Args:
        method: the method.
        videos: training videos of the type that its supervision asks for.
        spec: gives the rows of a sample.
        stage: `Method.stage`.

    Raises:
        TypeError: the videos are of another type.
        UserError: a supervised method finds no window to train on.
    """
    if isinstance(method, SupervisedMethod):
        return _Windows(method, [supervised(video) for video in videos], stage)
    return _Videos(method, weak(videos), spec.temporal_length)


def training_input(source: DataSource, cls: type[Method]) -> TrainingVideos:
    """Return the training videos of a data set, in memory if there is room, as the method's supervision asks for.

    Args:
        source: the data set.
        cls: class of the method.

    Raises:
        UserError: the data set cannot give them, or the method declares the supervision `full` and has not the
            contract of such methods.
    """
    if issubclass(cls, SupervisedMethod):
        timed = supervised_videos(source)
        videos = in_memory([one.video for one in timed], on_progress=source.on_progress)
        return [replace(one, video=video) for one, video in zip(timed, videos, strict=True)]
    if cls.supervision == "full":
        raise UserError(
            f"{cls.__name__} declares the supervision full, but is no wstal.supervised.SupervisedMethod, which alone "
            "is handed times. Derive it from that class, or declare another supervision."
        )
    return in_memory(training_videos(source, cls.supervision), on_progress=source.on_progress)


def weak(videos: TrainingVideos) -> list[Video]:
    """Return videos if none of them has times.

    Raises:
        TypeError: one has.
    """
    for video in videos:
        if not isinstance(video, Video):
            raise TypeError("A weakly supervised method was about to be handed times.")
    return list(videos)  # type: ignore[arg-type]


def supervised(video: Video | SupervisedVideo) -> SupervisedVideo:
    """Return a video if it has times.

    Raises:
        TypeError: it has none.
    """
    if not isinstance(video, SupervisedVideo):
        raise TypeError(f"A supervised method was about to be handed {video.name} without times.")
    return video


class _Videos(Examples):
    def __init__(self, method: Method, videos: Sequence[Video], temporal_length: int) -> None:
        self.method, self.videos, self.temporal_length = method, videos, temporal_length
        self.labels = [video.labels for video in videos]

    def batch(self, indices: IntArray, rng: np.random.Generator) -> tuple[Batch, bool]:
        method, device = self.method, self.method.device
        batch = [self.videos[index] for index in indices]
        stored = [video.features for video in batch]  # once: what is not in memory is opened each time
        rows = [method.train_indices(len(array), self.temporal_length, rng) for array in stored]
        longest = max(map(len, rows))
        features = np.zeros((len(batch), longest, method.feature_dim), dtype=np.float32)
        labels = np.zeros((len(batch), method.num_classes), dtype=np.float32)
        for row, video in enumerate(batch):
            features[row, : len(rows[row])] = stored[row][rows[row]]
            labels[row, list(video.labels)] = 1
        here = torch.from_numpy(labels)
        made = Batch(
            to_device_async(torch.from_numpy(features), device),
            to_device_async(here, device),
            tuple(video.name for video in batch),
            here,
        )
        # a sum tells it in a third of the time, but for finite features that overflow it
        whole = bool(np.isfinite(features.sum()) or np.isfinite(features).all())
        return _counted(made, batch) if method.supervision == "weak+count" else made, whole


class _Windows(Examples):
    def __init__(self, method: SupervisedMethod, videos: Sequence[SupervisedVideo], stage: int) -> None:
        self.method, self.videos, self.stage = method, videos, stage
        self.windows = method.windows(videos, stage)
        if not self.windows:
            raise UserError(
                f"{method.name} finds no window with an instance in the {len(videos)} training videos. Check that "
                "their annotations have times, and that instances fit into a window."
            )
        self.labels = [videos[window.video].video.labels for window in self.windows]

    def batch(self, indices: IntArray, rng: np.random.Generator) -> tuple[SupervisedBatch, bool]:
        chosen = [self.windows[index] for index in indices]
        videos = [self.videos[window.video] for window in chosen]
        pairs = zip(videos, chosen, strict=True)
        examples = [self.method.example(video, window, self.stage, rng) for video, window in pairs]
        labels = torch.zeros(len(chosen), self.method.num_classes)
        for row, index in enumerate(indices):
            labels[row, list(self.labels[index])] = 1
        made = join(examples, labels, tuple(video.video.name for video in videos))
        whole = bool(made.features.sum().isfinite() or made.features.isfinite().all())
        return supervised_on(made, self.method.device), whole


def supervised_on(batch: SupervisedBatch, device: torch.device) -> SupervisedBatch:
    """Return a batch on a device.

    Args:
        batch: in host memory.
        device: where it goes.
    """
    return replace(
        batch,
        features=to_device_async(batch.features, device),
        labels=to_device_async(batch.labels, device),
        targets={name: to_device_async(value, device) for name, value in batch.targets.items()},
    )


def _counted(batch: Batch, videos: Sequence[Video]) -> CountedBatch:
    """Add the counts of a batch's videos."""
    counts = torch.zeros_like(batch.host_labels)
    for row, video in enumerate(videos):
        assert isinstance(video, CountedVideo), f"{video.name} has no counts"  # `training_videos` gives them
        counts[row, list(video.labels)] = torch.tensor(video.counts, dtype=counts.dtype)
    given = {name: getattr(batch, name) for name in ("features", "labels", "videos", "labels_on_host")}
    return CountedBatch(**given, counts=to_device_async(counts, batch.labels.device))
