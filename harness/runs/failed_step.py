"""Failures of a training step: a loss that is not finite, whose step is kept and can be replayed, or lack of memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from harness.io.atomic import atomic_write
from harness.io.reading import open_regular
from harness.registry import load_method
from harness.runs.examples import AnyBatch
from wstal.errors import MissingDataError, RunError, UserError
from wstal.method import Method
from wstal.supervised import SupervisedMethod
from wstal.types import Batch, CountedBatch, SupervisedBatch

TARGET = "target."
FAILED_STEP = "failed-step.safetensors"
REFUSES_NAN = "all elements of input should be between 0 and 1"  # torch's binary cross-entropy
# torch has an exception class for CUDA's lack of memory only; the CPU's allocator, oneDNN and cuBLAS put it in words
LACKS = ("allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


@dataclass(frozen=True)
class Position:
    """Position of a step in a training, counted from 0."""

    epoch: int
    epochs: int
    step: int


def save_failed_step(
    path: Path, method: Method, batch: AnyBatch, draws: Tensor, position: Position, precision: str
) -> None:
    """Write all that is needed to repeat a step.

    Args:
        path: file to write.
        method: its state before the step.
        batch: of the step.
        draws: state of the CPU generator before the step's draws.
        position: of the step.
        precision: `TrainSpec.precision`.
    """
    tensors = {f"method.{name}": value for name, value in method.state_dict().items()}
    tensors |= {"features": batch.features, "labels": batch.labels, "draws": draws}
    if isinstance(batch, CountedBatch):
        tensors["counts"] = batch.counts
    if isinstance(batch, SupervisedBatch):
        tensors |= {f"{TARGET}{name}": value for name, value in batch.targets.items()}
    facts = {
        "method": method.name,
        "options": method.spec.model_dump_json(),
        "videos": json.dumps(batch.videos),
        "position": json.dumps(vars(position)),
        "precision": precision,
    }
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    atomic_write(path, safetensors.torch.save(whole, facts))


def replay(path: Path) -> tuple[Method, AnyBatch, dict[str, Tensor]]:
    """Repeat a failed step's forward pass on the CPU with the same draws.

    Returns:
        The method as it was before the step, the batch, and the loss terms.

    Raises:
        MissingDataError: there is no such file.
        UserError: the file is not what `save_failed_step` wrote.
    """
    try:
        open_regular(path).close()
        with safetensors.safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if lacking := [name for name in ("method", "options", "videos", "position") if name not in facts]:
            raise ValueError(f"it does not state {', '.join(lacking)}")
        cls = load_method(facts["method"])
        options = cls.Options.model_validate_json(facts["options"])
        position = Position(**json.loads(facts["position"]))
        batch = _stored_batch(tensors, tuple(map(str, json.loads(facts["videos"]))))
        method = cls(options, batch.features.shape[2], batch.labels.shape[1])
        method.train().start_epoch(position.epoch, position.epochs)
        if batch.features.ndim != 3 or len(batch.labels) != len(batch.features):
            raise ValueError(f"features {tuple(batch.features.shape)} do not go with {len(batch.labels)} labels")
        method.load_state_dict({n.removeprefix("method."): t for n, t in tensors.items() if n.startswith("method.")})
        torch.set_rng_state(tensors["draws"])
        # a method may hide what is not finite, or fail on it in its own way
        whole = bool(batch.features.isfinite().all())
        return method, batch, losses(method, batch, facts.get("precision", "float32")) if whole else undefined()
    except FileNotFoundError as error:
        raise MissingDataError(f"{path} is not there. Give the {FAILED_STEP} that a failed run left.") from error
    except (OSError, safetensors.SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"{path} cannot be replayed: {why}. Give the {FAILED_STEP} that a failed run left in its folder."
        ) from error


def _stored_batch(tensors: Mapping[str, Tensor], videos: tuple[str, ...]) -> AnyBatch:
    features, labels = tensors["features"], tensors["labels"]
    if "counts" in tensors:
        return CountedBatch(features, labels, videos, counts=tensors["counts"])
    targets = {name.removeprefix(TARGET): value for name, value in tensors.items() if name.startswith(TARGET)}
    return SupervisedBatch(features, labels, videos, targets) if targets else Batch(features, labels, videos)


def losses(method: Method, batch: AnyBatch, precision: str) -> dict[str, Tensor]:
    """Return the method's losses.

    Args:
        method: in training mode.
        batch: of a step.
        precision: `TrainSpec.precision`.

    Returns:
        Loss terms by name; only a `total` of NaN where torch refuses values that are not finite.
    """
    try:
        with torch.autocast(batch.features.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            return losses_of(method, batch)
    except RuntimeError as error:
        if REFUSES_NAN not in str(error) and not_finite(method, batch) is None:
            raise
        return undefined()


def losses_of(method: Method, batch: AnyBatch) -> dict[str, Tensor]:
    """Return the losses of a batch, if it is of the type that the method's supervision asks for.

    Args:
        method: the method.
        batch: of a step.

    Raises:
        TypeError: it is of the other type.
    """
    if isinstance(method, SupervisedMethod) and isinstance(batch, SupervisedBatch):
        return method.window_losses(batch)
    if isinstance(method, SupervisedMethod) or not isinstance(batch, Batch):
        raise TypeError(f"{method.name} has the supervision {method.supervision}, not one for a {type(batch).__name__}")
    return method.losses(batch)


def undefined() -> dict[str, Tensor]:
    """Return the losses of a step that cannot be computed."""
    return {"total": torch.tensor(torch.nan, requires_grad=True)}


def cause(method: Method, batch: AnyBatch) -> str:
    """Return what in a step is not finite, or, if only the loss is not, how large the features are.

    Args:
        method: as it was before the step.
        batch: of the step.
    """
    if (found := not_finite(method, batch)) is not None:
        return found
    largest = batch.features.abs().amax(dim=(1, 2))
    video = int(largest.argmax())
    return (
        "all features and weights are finite, the loss itself overflowed: correct the features if the largest is not "
        f"plausible ({float(largest[video]):.3g}, in {batch.videos[video]}), else lower train.learning_rate"
    )


def not_finite(method: Method, batch: AnyBatch) -> str | None:
    """Return which inputs of a step are not finite: features by video, else weights by name, else None.

    Args:
        method: as it was before the step.
        batch: of the step.
    """
    finite = batch.features.isfinite().flatten(1).all(dim=1).tolist()
    if bad := [name for name, good in zip(batch.videos, finite, strict=True) if not good]:
        return f"features of {', '.join(bad)} are not finite: correct or remove them"
    weights = [name for name, value in method.state_dict().items() if not bool(value.isfinite().all())]
    if weights:
        return f"weights are not finite since an earlier step ({', '.join(weights[:3])}): lower train.learning_rate"
    return None


@contextlib.contextmanager
def memory_advice(stage: str, options: Mapping[str, int]) -> Iterator[None]:
    """Turn a lack of memory into a message with the value to try.

    Args:
        stage: what is done, for the message.
        options: their present values; half of the first that can be halved is advised.

    Raises:
        RunError: the memory was not enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in LACKS):
            raise
        advice = next(
            (f"Try --set {name}={value // 2} (now {value})" for name, value in options.items() if value > 1),
            "Nothing is left to halve: take a machine with more",
        )
        raise RunError(
            f"Out of memory in {stage}. {advice}; where other work fills the memory, the same command goes on later."
        ) from error
