"""Training of a method, resumable to the bit.

Every random draw of an epoch comes from (seed, purpose, epoch) alone, so a checkpoint between two epochs needs no
generator state: continuing from it repeats what the undisturbed run would have done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.io.atomic import remove
from harness.io.console import OnProgress
from harness.random_streams import numpy_stream, seed_torch
from harness.runs.checkpoint import History, load_checkpoint, remove_checkpoints, save_checkpoint
from harness.runs.examples import AnyBatch, Examples, TrainingVideos, examples_of, weak
from harness.runs.failed_step import (
    FAILED_STEP,
    Position,
    cause,
    losses,
    memory_advice,
    save_failed_step,
    undefined,
)
from wstal.errors import RunError, StoreError, UserError
from wstal.method import Method, TrainSpec
from wstal.supervised import SupervisedMethod
from wstal.types import IntArray

CHECKPOINT_SECONDS = 30.0
# of writing one checkpoint, up to which they come as often as that; slower ones come less often, for 2 % of the time
CHEAP_CHECKPOINT = 0.02 * CHECKPOINT_SECONDS


@dataclass(frozen=True)
class WarmupCache:
    """Checkpoint of the first epochs that a run has in common with others (`Method.shared_warmup`).

    Args:
        folder: of the checkpoint.
        identity: what decides its bits, as JSON.
    """

    folder: Path
    identity: Mapping[str, Any]


def train(
    method: Method,
    videos: TrainingVideos,
    spec: TrainSpec,
    seed: int,
    folder: Path,
    identity: Mapping[str, Any],
    on_progress: OnProgress = lambda *_: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    check: Callable[[], None] = lambda: None,
    warmup: WarmupCache | None = None,
    observe: Callable[[Method, int], None] = lambda *_: None,
) -> History:
    """Train `method` in place, from the newest checkpoint in `folder` where there is one.

    Args:
        method: on its device, initialised.
        videos: training videos; only those of a supervised method say when an action happens.
        spec: the schedule.
        seed: the run's seed.
        folder: where checkpoints are written, at most every `checkpoint_seconds`, and for at most 2 % of the time.
        identity: what decides the bits, as JSON; a checkpoint of another is refused.
        on_progress: called after each epoch; its note is the mean total loss.
        checkpoint_seconds: shortest time between two checkpoints that are written quickly.
        check: raises where the data are no longer those that the run began with; called before a checkpoint is written.
        warmup: the first epochs are read from it, or written to it for others.
        observe: called after each epoch with the method and the number of epochs done. It may set another mode and draw
            random numbers, which no epoch depends on.

    Returns:
        Every loss term by step, and the method's diagnostics by epoch.

    Raises:
        UserError: as `check_batches`.
        RunError: a loss that is not finite; names the videos, and the file that the step is kept in. Or too little
            memory; names the value to try.
        StoreError: the folder cannot be written, or as `load_checkpoint`.
    """
    check_batches(method, videos, spec)
    resumed = load_checkpoint(folder, identity, method)
    part, shared = method.shared_warmup(spec.epochs)
    if warmup is not None and resumed.epoch == 0:
        try:
            resumed = load_checkpoint(warmup.folder, warmup.identity, part)
            resumed.history = resumed.history.after_warmup(resumed.epoch, method.diagnostics())
        except StoreError:  # damaged: it is made again
            remove_checkpoints(warmup.folder)
    done, history = resumed.epoch, resumed.history
    optimizers: list[torch.optim.Optimizer] = []
    examples: Examples | None = None
    remove([folder / FAILED_STEP])
    saved, cost = time.monotonic(), 0.0
    sizes = {"train.batch_size": spec.batch_size, "train.temporal_length": spec.temporal_length}
    with memory_advice(f"training of {method.name}", sizes), ThreadPoolExecutor(max_workers=1) as worker:
        for epoch in range(done, spec.epochs):
            method.train()
            seed_torch(seed, "dropout", epoch)
            method.start_epoch(epoch, spec.epochs, () if isinstance(method, SupervisedMethod) else weak(videos))
            stage = method.stage(epoch, spec.epochs)
            goes_on = epoch > 0 and stage == method.stage(epoch - 1, spec.epochs)
            if not (goes_on and examples):
                examples = examples_of(method, videos, spec, stage)
            if not (goes_on and optimizers):
                optimizers = method.optimizers(spec)
                if goes_on:
                    resumed.restore(optimizers)
            _decay(optimizers, spec, epoch)
            rng = numpy_stream(seed, "sampling", epoch)
            chosen = method.train_batches(examples.labels, spec.batch_size, rng)
            steps = []
            for number, (batch, whole) in enumerate(batches(examples, chosen, rng, worker)):
                position = Position(epoch, spec.epochs, number)
                if number % spec.accumulate == 0:
                    for optimizer in optimizers:
                        optimizer.zero_grad(set_to_none=True)
                steps.append(_backward(method, batch, whole, spec.precision, folder, position))
                if (number + 1) % spec.accumulate == 0 or number + 1 == len(chosen):
                    for optimizer in optimizers:
                        optimizer.step()
                    method.end_step()
            history.add_epoch(steps, method.diagnostics())
            loss = history.last_epoch_means()["total"]
            assert loss is not None  # a step whose total is not finite has stopped the run
            on_progress("train", epoch + 1, spec.epochs, f"loss {loss:.4f}")
            _check_weights(method, epoch)
            observe(method, epoch + 1)
            if warmup is not None and epoch + 1 == shared:
                check()
                save_checkpoint(warmup.folder, warmup.identity, part, optimizers, shared, history)
            begin = time.monotonic()
            pause = checkpoint_seconds * max(1.0, cost / CHEAP_CHECKPOINT)
            if begin - saved >= pause or epoch + 1 == spec.epochs:
                check()
                save_checkpoint(folder, identity, method, optimizers, epoch + 1, history)
                saved = time.monotonic()
                cost = saved - begin
    seed_torch(seed, "dropout", spec.epochs)
    method.end_training()
    return history


def check_batches(method: Method, videos: TrainingVideos, spec: TrainSpec) -> None:
    """Check that the videos can be joined to batches.

    Raises:
        UserError: no training videos; or several a batch, of a method that takes them in lengths of their own.
    """
    if not videos:
        raise UserError("There are no training videos. Check the train subset of the data set.")
    if isinstance(method, SupervisedMethod):
        examples_of(method, videos, spec, method.stage(0, spec.epochs))
        return
    if method.PADS or spec.batch_size == 1:
        return
    rng = np.random.default_rng(0)
    if len({len(method.train_indices(video.length, spec.temporal_length, rng)) for video in weak(videos)}) > 1:
        raise UserError(
            f"{method.name} takes videos in their own lengths, one at a time: use train.batch_size=1 (and "
            f"train.accumulate={spec.batch_size} for steps as large)."
        )


def _decay(optimizers: Sequence[torch.optim.Optimizer], spec: TrainSpec, epoch: int) -> None:
    """Set the learning rates of an epoch: each group's own rate at first, times the decays so far."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            first = group.setdefault("initial_lr", group["lr"])
            if spec.decay_every is not None:
                group["lr"] = first * spec.decay_factor ** (epoch // spec.decay_every)


def _backward(
    method: Method, batch: AnyBatch, whole: bool, precision: str, folder: Path, position: Position
) -> dict[str, Tensor]:
    """Add a batch's gradients to those that are there; its loss terms.

    Features that are not `whole` are not given to the method, which may hide that or fail on it in its own way.
    """
    draws = torch.get_rng_state()
    terms = losses(method, batch, precision) if whole else undefined()
    finite = _arrival(terms["total"].isfinite())
    terms["total"].backward()  # type: ignore[no-untyped-call]
    # before the weights are touched: the step can be done again as it was
    if not finite():
        reason = cause(method, batch)
        try:
            save_failed_step(folder / FAILED_STEP, method, batch, draws, position, precision)
            kept = f"The step is kept: `wstal-bench debug replay {folder / FAILED_STEP}`."
        except StoreError as error:
            kept = f"The step could not be kept: {error}"
        values = ", ".join(f"{name} {value:g}" for name, value in terms.items())
        raise RunError(
            f"The loss of {method.name} is not finite in epoch {position.epoch + 1}, step {position.step + 1} "
            f"({values}), videos {', '.join(batch.videos)}: {reason}. {kept}"
        )
    return {name: value.detach() for name, value in terms.items()}


def _arrival(flag: Tensor) -> Callable[[], bool]:
    """Return a reader of a flag, which waits for it alone: a GPU goes on with the backward pass queued behind it."""
    if flag.device.type != "cuda":
        return lambda: bool(flag)
    here = torch.empty_like(flag, device="cpu", pin_memory=True).copy_(flag, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()

    def read() -> bool:
        event.synchronize()
        return bool(here)

    return read


def _check_weights(method: Method, epoch: int) -> None:
    """Refuse weights that are not finite: a run that continues from their checkpoint would fail again."""
    # the extremes are NaN where one value is; `isfinite` of a memory bank would take twice its size beside it
    bad = [
        name
        for name, value in method.state_dict().items()
        if value.numel() and not bool(torch.stack(value.aminmax()).isfinite().all())
    ]
    if bad:
        raise RunError(
            f"Weights of {method.name} are not finite after epoch {epoch + 1} ({', '.join(bad[:3])}). "
            "Lower train.learning_rate; the same command goes on from the last checkpoint."
        )


def batches(
    examples: Examples, chosen: Sequence[IntArray], rng: np.random.Generator, worker: ThreadPoolExecutor
) -> Iterator[tuple[AnyBatch, bool]]:
    """Yield the chosen items batch by batch, and whether all their features are finite.

    The next batch is prepared while a step runs.

    Args:
        examples: what the epochs show.
        chosen: numbers of the items of each batch.
        rng: generator of the epoch.
        worker: thread that prepares batches.
    """
    ahead = worker.submit(examples.batch, chosen[0], rng)
    for indices in chosen[1:]:
        batch, ahead = ahead.result(), worker.submit(examples.batch, indices, rng)
        yield batch
    yield ahead.result()
