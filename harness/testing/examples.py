"""Small made-up inputs for checks of a method, and the method near the end of its training on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from harness.random_streams import seed_torch
from harness.runs.examples import AnyBatch, supervised_on
from harness.runs.failed_step import losses_of
from wstal.method import Method
from wstal.spec import Spec
from wstal.streams import TwoStreamOptions
from wstal.supervised import SupervisedMethod, join
from wstal.types import Batch, CountedBatch, CountedVideo, SupervisedBatch, SupervisedVideo, Supervision, Video

WIDTH, CLASSES, LENGTH, EPOCHS = 16, 4, 20, 100


def example(
    videos: int = 3, length: int = LENGTH, dtype: torch.dtype = torch.float32, supervision: Supervision = "weak"
) -> Batch:
    """Create a batch of random features `[videos, length, WIDTH]`, with the same class for each two videos in a row.

    Args:
        videos: B.
        length: T.
        dtype: of features and labels.
        supervision: `Method.supervision`; with counts, video i has i + 1 instances.
    """
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.random((videos, length, WIDTH))).to(dtype)
    labels = torch.from_numpy(np.eye(CLASSES)[np.arange(videos) // 2 % CLASSES]).to(dtype)
    names = tuple(f"v{i}" for i in range(videos))
    if supervision != "weak+count":
        return Batch(features, labels, names)
    return CountedBatch(features, labels, names, counts=labels * torch.arange(1, videos + 1).unsqueeze(1))


def example_for(
    method: Method, videos: int = 3, length: int = LENGTH, dtype: torch.dtype = torch.float32, stage: int | None = None
) -> AnyBatch:
    """Create a batch of the type that a method trains on: of a supervised one, a window of each video.

    Args:
        method: the method.
        videos: B.
        length: T of the videos.
        dtype: of features, labels and targets that are not whole numbers.
        stage: `Method.stage`; by default that of the last epoch.
    """
    given = example(videos, length, dtype, method.supervision)
    if not isinstance(method, SupervisedMethod):
        return given
    stage = method.stage(EPOCHS - 1, EPOCHS) if stage is None else stage
    timed = supervised_videos_of(given)
    first = {window.video: window for window in reversed(method.windows(timed, stage))}
    rng = np.random.default_rng(0)
    made = [method.example(timed[number], first[number], stage, rng) for number in range(videos)]
    joined = join(made, given.labels, given.videos)
    targets = {n: value.to(dtype) if value.is_floating_point() else value for n, value in joined.targets.items()}
    return replace(joined, features=joined.features.to(dtype), targets=targets)


def supervised_videos_of(batch: Batch) -> list[SupervisedVideo]:
    """Return the videos of a batch with two instances of their class each, in their second and in their last quarter.

    No overlap of a proposal with them lies on a threshold, so that rounding decides nothing.

    Args:
        batch: as `example` makes it.
    """
    found = []
    for video in videos_of(batch):
        seconds = video.length * video.seconds_per_snippet
        start, end = seconds * np.array([0.2537, 0.7431]), seconds * np.array([0.5219, 0.9487])
        found.append(SupervisedVideo(video, np.array(video.labels * 2, dtype=np.int64), start, end))
    return found


def without_labels(batch: Batch) -> Batch:
    """Return a batch in which no class occurs."""
    none = torch.zeros_like(batch.labels)
    return replace(batch, labels=none, counts=none) if isinstance(batch, CountedBatch) else replace(batch, labels=none)


def reordered(batch: AnyBatch, order: Sequence[int]) -> AnyBatch:
    """Return a batch with its videos in another order.

    Args:
        batch: as `example_for` makes it.
        order: number of each video of the new batch.
    """
    names = tuple(batch.videos[i] for i in order)
    if isinstance(batch, SupervisedBatch):
        targets = {name: value[order] for name, value in batch.targets.items()}
        return SupervisedBatch(batch.features[order], batch.labels[order], names, targets)
    made = replace(batch, features=batch.features[order], labels=batch.labels[order], videos=names)
    return replace(made, counts=made.counts[order]) if isinstance(made, CountedBatch) else made


def on_device(batch: AnyBatch, device: str) -> AnyBatch:
    """Return a batch on a device, with its labels in host memory too, as training hands it to methods.

    Args:
        batch: in host memory.
        device: name of the device.
    """
    if isinstance(batch, SupervisedBatch):
        return supervised_on(batch, torch.device(device))
    labels = batch.labels
    made = replace(batch, features=batch.features.to(device), labels=labels.to(device), labels_on_host=labels)
    return replace(made, counts=made.counts.to(device)) if isinstance(made, CountedBatch) else made


def videos_of(batch: Batch) -> list[Video]:
    """Return the videos of a batch with one label each, as `Method.start_epoch` gets them."""
    made = [
        Video(name, features.numpy(), (int(labels.argmax()),), 0.64)
        for name, features, labels in zip(batch.videos, batch.features, batch.labels, strict=True)
    ]
    if not isinstance(batch, CountedBatch):
        return made
    counts = batch.counts.sum(dim=1).int().tolist()
    return [CountedVideo(**vars(video), counts=(count,)) for video, count in zip(made, counts, strict=True)]


def late_in_training(cls: type[Method], streams: Sequence[int] = ()) -> Method:
    """Create a method in training mode near the end of its training, so that memories and phases have started.

    Args:
        cls: class of the method.
        streams: columns of each stream, if the method has the option.
    """
    method = untrained(cls, streams)
    for epoch in (EPOCHS - 2, EPOCHS - 1):
        one_epoch(method, epoch)
    return method


def variants(cls: type[Method]) -> list[Method]:
    """Create the method on one stream and, if it has the option `streams`, on two."""
    halves = [(WIDTH // 2, WIDTH // 2)] if "streams" in cls.Options.model_fields else []
    return [late_in_training(cls, streams) for streams in ((), *halves)]


def untrained(cls: type[Method], streams: Sequence[int] = ()) -> Method:
    """Create a method in training mode with a seed's initial weights.

    Args:
        cls: class of the method.
        streams: columns of each stream, if the method has the option.
    """
    seed_torch(0, "initialisation")
    return cls(own_options(cls, streams), WIDTH, CLASSES).train()


def own_options(cls: type[Method], streams: Sequence[int] = ()) -> Spec:
    """Return a method's options on THUMOS14. A single stream is split for a method that needs two.

    Args:
        cls: class of the method.
        streams: columns of each stream, if the method has the option.
    """
    options = cls.recipe("thumos14").method
    if issubclass(cls, SupervisedMethod):
        return options.model_copy(update=dict(cls.CHECK_OPTIONS))
    if streams:
        return options.model_copy(update={"streams": tuple(streams)})
    return options.model_copy(update={"split": "halves"}) if isinstance(options, TwoStreamOptions) else options


def one_epoch(method: Method, epoch: int) -> dict[str, Tensor]:
    """Run an epoch of one batch, with its own seed and without the optimizers' step, and return the batch's losses.

    Args:
        method: in training mode.
        epoch: of `EPOCHS`.
    """
    seed_torch(1, "dropout", epoch)
    weak = not isinstance(method, SupervisedMethod)
    method.start_epoch(epoch, EPOCHS, videos_of(example(4, supervision=method.supervision)) if weak else ())
    losses = losses_of(method, example_for(method, 4, stage=method.stage(epoch, EPOCHS)))
    losses["total"].backward()  # type: ignore[no-untyped-call]
    method.end_step()
    method.zero_grad()
    return losses


def last_epochs(method: Method) -> list[int]:
    """Return the last epoch of each stage, in order; of a method with one stage, the last epoch of all."""
    return sorted({method.stage(epoch, EPOCHS): epoch for epoch in range(EPOCHS)}.values())
