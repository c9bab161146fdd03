"""Checkpoints between epochs: one safetensors file and a small JSON that points to it with its digest."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from harness.files import atomic_write, pretty_json, read_json, sha256
from wstal.errors import StoreError
from wstal.method import Method

POINTER = "checkpoint.json"


@dataclass
class History:
    """What a training leaves to look at.

    Args:
        steps_per_epoch: steps of each epoch.
        steps: every scalar of `Method.losses`, by name, one value a step; None where it is not finite.
        epochs: `Method.diagnostics`, by name, one value (a number, a list or null) an epoch.
    """

    steps_per_epoch: int = 0
    steps: dict[str, list[float | None]] = field(default_factory=dict)
    epochs: dict[str, list[Any]] = field(default_factory=dict)

    def add_epoch(self, steps: Sequence[Mapping[str, Tensor]], diagnostics: Mapping[str, Any]) -> None:
        """Append an epoch's steps and its diagnostics."""
        self.steps_per_epoch = len(steps)
        values = torch.stack([torch.stack(list(terms.values())).float() for terms in steps]).cpu()
        for name, column in zip(steps[0], values.T.tolist(), strict=True):
            # nine digits give a float32 back exactly
            self.steps.setdefault(name, []).extend(_finite(float(f"{value:.9g}")) for value in column)
        for name, value in diagnostics.items():
            kept = [_finite(one) for one in value] if isinstance(value, list) else _finite(value)
            self.epochs.setdefault(name, []).append(kept)

    def last_epoch_means(self) -> dict[str, float | None]:
        """Mean of each scalar over the last epoch, summed in step order in single precision; None where one is None."""
        means: dict[str, float | None] = {}
        for name, values in self.steps.items():
            last = [value for value in values[-self.steps_per_epoch :] if value is not None]
            whole = len(last) == self.steps_per_epoch
            means[name] = float(np.cumsum(last, dtype=np.float32)[-1]) / self.steps_per_epoch if whole else None
        return means

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return {"steps_per_epoch": self.steps_per_epoch, "steps": self.steps, "epochs": self.epochs}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_weights(path: Path, method: Method) -> str:
    """Write what scoring needs of a method's state as safetensors; returns the file's SHA-256."""
    data = safetensors.torch.save({name: value.cpu().contiguous() for name, value in method.export_state().items()})
    atomic_write(path, data)
    return sha256(data)


def load_weights(path: Path, method: Method, digest: str) -> None:
    """Read what `save_weights` wrote.

    Raises:
        StoreError: the file is absent, damaged, or of another network.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"Cannot read the weights {path}: {error.strerror}. Train the run again.") from error
    if sha256(data) != digest:
        raise StoreError(f"{path} is not the file that was written (its SHA-256 differs). Train the run again.")
    tensors = safetensors.torch.load(data)
    if wrong := tensors.keys() ^ method.export_state().keys():
        raise StoreError(f"{path} does not fit {method.name}: {', '.join(sorted(wrong))} in only one of the two.")
    try:
        method.load_state_dict(tensors, strict=False)  # what export_state drops stays as built
    except RuntimeError as error:
        raise StoreError(f"{path} does not fit {method.name}: {error}") from error


def save_checkpoint(
    folder: Path, identity: str, method: Method, optimizer: torch.optim.Optimizer, epoch: int, history: History
) -> None:
    """Keep all that training needs to go on after `epoch` epochs; the one before is removed once this one is whole."""
    tensors: dict[str, Tensor] = {f"method.{name}": value for name, value in method.state_dict().items()}
    state = optimizer.state_dict()
    for index, slots in state["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
    data = safetensors.torch.save({name: value.cpu().contiguous() for name, value in tensors.items()})
    file = f"checkpoint-{epoch:06d}.safetensors"
    atomic_write(folder / file, data)
    pointer = {"identity": identity, "epoch": epoch, "file": file, "sha256": sha256(data)} | {
        "history": history.to_json()
    }
    atomic_write(folder / POINTER, pretty_json(pointer))
    for old in folder.glob("checkpoint-*.safetensors"):
        if old.name != file:
            with contextlib.suppress(OSError):
                old.unlink()


def remove_checkpoints(folder: Path) -> None:
    """Remove what `save_checkpoint` left, the pointer first, so that no kill leaves a pointer to nothing."""
    for path in (folder / POINTER, *folder.glob("checkpoint-*.safetensors")):
        path.unlink(missing_ok=True)


def load_checkpoint(
    folder: Path, identity: str, method: Method, optimizer: torch.optim.Optimizer
) -> tuple[int, History]:
    """Continue from the checkpoint in `folder`: (epochs done, history), or (0, an empty one) where there is none.

    Raises:
        StoreError: the checkpoint is damaged or belongs to another run.
    """
    if not (folder / POINTER).exists():
        return 0, History()
    pointer = read_json(folder / POINTER)
    remedy = f"Or remove {folder} to train from the start."
    if pointer.get("identity") != identity:
        raise StoreError(
            f"The checkpoint in {folder} is of {pointer.get('identity')}, this run is {identity}: other bits would "
            f"come out. Go on as it was begun (--threads, --device). {remedy}"
        )
    try:
        data = (folder / pointer["file"]).read_bytes()
    except OSError as error:
        raise StoreError(f"The checkpoint in {folder} cannot be read: {error.strerror}. {remedy}") from error
    if sha256(data) != pointer["sha256"]:
        raise StoreError(f"The checkpoint in {folder} is damaged (its SHA-256 differs). {remedy}")
    tensors = safetensors.torch.load(data)
    method.load_state_dict({k.removeprefix("method."): v for k, v in tensors.items() if k.startswith("method.")})
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            slots.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return pointer["epoch"], History(**pointer["history"])
