"""Checkpoints between epochs: a safetensors file and, written after it, a JSON file with its digest and the history.

The two newest are kept: where the newest is damaged, training continues from the one before, to the same bits.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from harness.io.atomic import atomic_write, remove
from harness.io.console import say
from harness.io.encoding import canonical_json, pretty_json, sha256
from harness.io.reading import open_regular, read_json
from harness.io.tensor_file import write_tensors
from wstal.errors import StoreError, UserError
from wstal.method import Method

KEPT = 2


@dataclass
class History:
    """Curves of a training.

    Args:
        steps_per_epoch: steps of each epoch.
        steps: every scalar of `Method.losses`, by name, one value a step; None where it is not finite.
        epochs: `Method.diagnostics`, by name, one value (a number, a list or null) an epoch.
    """

    steps_per_epoch: int = 0
    steps: dict[str, list[float | None]] = field(default_factory=dict)
    epochs: dict[str, list[Any]] = field(default_factory=dict)

    def add_epoch(self, steps: Sequence[Mapping[str, Tensor]], diagnostics: Mapping[str, Any]) -> None:
        """Append an epoch.

        Args:
            steps: loss terms of each step, by name.
            diagnostics: `Method.diagnostics` after the epoch.
        """
        self.steps_per_epoch = len(steps)
        if self.steps and self.steps.keys() != steps[0].keys():
            # a shared warm-up, from another run: terms that only one of the two has were not trained yet, and 0
            past = len(next(iter(self.steps.values())))
            self.steps = {name: self.steps.get(name, [0.0] * past) for name in steps[0]}
        values = torch.stack([torch.stack(list(terms.values())).float() for terms in steps]).cpu()
        for name, column in zip(steps[0], values.T.tolist(), strict=True):
            # nine digits give a float32 back exactly
            self.steps.setdefault(name, []).extend(_finite(float(f"{value:.9g}")) for value in column)
        self._add_diagnostics(diagnostics)

    def after_warmup(self, epochs: int, diagnostics: Mapping[str, Any]) -> History:
        """Return this history as that of another run, whose diagnostics stayed the same in these first epochs.

        Args:
            epochs: epochs so far.
            diagnostics: of the other run in each of them.
        """
        history = History(self.steps_per_epoch, dict(self.steps))
        for _ in range(epochs):
            history._add_diagnostics(diagnostics)
        return history

    def _add_diagnostics(self, diagnostics: Mapping[str, Any]) -> None:
        for name, value in diagnostics.items():
            kept = [_finite(one) for one in value] if isinstance(value, list) else _finite(value)
            self.epochs.setdefault(name, []).append(kept)

    def last_epoch_means(self) -> dict[str, float | None]:
        """Return the mean of each scalar over the last epoch, summed in step order in single precision.

        Returns:
            Means by name; None where a value is None.
        """
        means: dict[str, float | None] = {}
        for name, values in self.steps.items():
            last = [value for value in values[-self.steps_per_epoch :] if value is not None]
            whole = len(last) == self.steps_per_epoch
            means[name] = float(np.cumsum(last, dtype=np.float32)[-1]) / self.steps_per_epoch if whole else None
        return means

    def to_json(self) -> dict[str, Any]:
        """Return the history as JSON values."""
        return {"steps_per_epoch": self.steps_per_epoch, "steps": self.steps, "epochs": self.epochs}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_weights(path: Path, method: Method) -> str:
    """Write what scoring needs of a method's state as safetensors.

    Args:
        path: file to write.
        method: the trained method.

    Returns:
        SHA-256 of the file.
    """
    return write_tensors(path, method.export_state())


def load_weights(path: Path, method: Method, digest: str) -> None:
    """Read what `save_weights` wrote.

    Args:
        path: the file.
        method: gets the weights.
        digest: SHA-256 that the file has to have.

    Raises:
        StoreError: the file is absent, damaged, or of another network.
    """
    try:
        with open_regular(path) as file:
            data = file.read()
    except OSError as error:
        raise StoreError(f"Cannot read the weights {path}: {error.strerror}. Train the run again.") from error
    if sha256(data) != digest:
        raise StoreError(f"{path} is not the file that was written (its SHA-256 differs). Train the run again.")
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise StoreError(f"{path} holds no weights: {error}. Train the run again.") from error
    if wrong := tensors.keys() ^ method.export_state().keys():
        raise StoreError(f"{path} does not fit {method.name}: {', '.join(sorted(wrong))} in only one of the two.")
    try:
        method.load_state_dict(tensors, strict=False)  # what export_state drops stays as built
    except RuntimeError as error:
        raise StoreError(f"{path} does not fit {method.name}: {_in_one_line(error)}") from error


def save_checkpoint(
    folder: Path,
    identity: Mapping[str, Any],
    method: Method,
    optimizers: Sequence[torch.optim.Optimizer],
    epoch: int,
    history: History,
) -> None:
    """Write all that training needs to continue, and remove all earlier checkpoints but the newest.

    Args:
        folder: where to write.
        identity: what decides the bits.
        method: its state is written.
        optimizers: their state is written.
        epoch: epochs done.
        history: of these epochs.

    Raises:
        StoreError: the folder cannot be written; earlier checkpoints are as they were.
    """
    tensors: dict[str, Tensor] = {f"method.{name}": value for name, value in method.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"{_optimizer(number)}.{index}.{name}": value for name, value in slots.items()}
    stem = f"checkpoint-{epoch:06d}"
    digest = write_tensors(folder / f"{stem}.safetensors", tensors)
    about = {"identity": dict(identity), "epoch": epoch, "sha256": digest, "history": history.to_json()}
    # only now: what has this file is whole
    atomic_write(folder / f"{stem}.json", pretty_json(about | {"digest": sha256(canonical_json(about))}))
    with contextlib.suppress(StoreError):  # more than are needed do no harm
        _remove(folder, _stems(folder)[KEPT:])


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints, the JSON files first, so that a kill leaves none of these without its tensors.

    Raises:
        StoreError: the folder cannot be written.
    """
    _remove(folder, _stems(folder))


@dataclass
class Resumed:
    """Point that a training goes on from.

    Args:
        epoch: epochs done.
        history: of these epochs.
        slots: state of the optimizers, by number of the optimizer and of the parameter, not yet restored.
    """

    epoch: int = 0
    history: History = field(default_factory=History)
    slots: dict[int, dict[int, dict[str, Tensor]]] = field(default_factory=dict)

    def restore(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Restore the state of the optimizers, which keep their own settings."""
        for number, optimizer in enumerate(optimizers):
            slots = self.slots.get(number, {})  # an optimizer without momentum has no state
            optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def load_checkpoint(folder: Path, identity: Mapping[str, Any], method: Method) -> Resumed:
    """Read the newest whole checkpoint in a folder; report on stderr if newer ones are damaged, and remove these.

    Args:
        folder: where `save_checkpoint` wrote.
        identity: what decides the bits; a checkpoint of another is refused.
        method: gets the checkpoint's state.

    Returns:
        Epochs done, their history and the state of the optimizers; nothing done without a checkpoint.

    Raises:
        StoreError: all checkpoints are damaged, or the newest belongs to another run.
    """
    stems = _stems(folder)
    remedy = f"remove {folder} to train from the start."
    damaged: list[str] = []
    for stem in stems:
        try:
            about = _read_about(folder / f"{stem}.json")
            if about["identity"] != identity:
                raise StoreError(f"{_difference(folder, about['identity'], identity)} Or {remedy}")
            data = (folder / f"{stem}.safetensors").read_bytes()
            if sha256(data) != about["sha256"]:
                raise ValueError("the SHA-256 of its tensors differs")
        except (OSError, ValueError) as error:
            damaged.append(f"{stem}: {getattr(error, 'strerror', None) or error}")
            continue
        slots = _restore(safetensors.torch.load(data), method, f"{folder / stem} does not fit {method.name}", remedy)
        resumed = Resumed(about["epoch"], History(**about["history"]), slots)
        break
    else:
        # tensors alone are what a kill leaves that comes before the first checkpoint is whole
        if any((folder / f"{stem}.json").exists() for stem in stems):
            raise StoreError(f"The checkpoints in {folder} are damaged ({'; '.join(damaged)}). To go on, {remedy}")
        resumed = Resumed()
    if damaged:
        say(f"Passed over {'; '.join(damaged)}: training goes on after epoch {resumed.epoch}, to the same bits.")
        _remove(folder, stems[: len(damaged)])
    return resumed


def _stems(folder: Path) -> list[str]:
    """Return the names of the checkpoints, whole or not, newest first."""
    return sorted({path.stem for path in folder.glob("checkpoint*")}, reverse=True)


def _remove(folder: Path, stems: Sequence[str]) -> None:
    for suffix in ("json", "safetensors"):
        remove(folder / f"{stem}.{suffix}" for stem in stems)


def _read_about(path: Path) -> dict[str, Any]:
    """Read a checkpoint's JSON file; raise ValueError where it is absent or not as it was written."""
    if not path.exists():
        raise ValueError(f"{path.name} is not there")
    try:
        about = read_json(path)
    except UserError as error:
        raise ValueError(f"{path.name} cannot be read") from error
    digest = about.pop("digest", None) if isinstance(about, dict) else None
    if digest is None or sha256(canonical_json(about)) != digest:
        raise ValueError(f"{path.name} is not as it was written")
    return dict(about)


def _difference(folder: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return a message that names the parts in which two identities differ."""
    parts = [
        f"{name} {stored.get(name)!r} (now {wanted.get(name)!r})"
        for name in stored.keys() | wanted.keys()
        if stored.get(name) != wanted.get(name)
    ]
    return (
        f"The checkpoint in {folder} was begun with {', '.join(sorted(parts))}: other bits would come out. "
        "Go on as it was begun (--threads, --device, the same machine and packages)."
    )


def _optimizer(number: int) -> str:
    """Return the prefix of an optimizer's tensors; the first has none of its number, as when there was only one."""
    return f"optimizer{number or ''}"


def _restore(
    tensors: dict[str, Tensor], method: Method, misfit: str, remedy: str
) -> dict[int, dict[int, dict[str, Tensor]]]:
    """Restore the state of a method, and return that of its optimizers."""
    slots: dict[int, dict[int, dict[str, Tensor]]] = {}
    for key, value in tensors.items():
        if not key.startswith("method."):
            optimizer, index, name = key.split(".", 2)
            number = int(optimizer.removeprefix("optimizer") or 0)
            slots.setdefault(number, {}).setdefault(int(index), {})[name] = value
    try:
        method.load_state_dict({k.removeprefix("method."): v for k, v in tensors.items() if k.startswith("method.")})
    except (RuntimeError, ValueError) as error:
        raise StoreError(f"{misfit}: {_in_one_line(error)}. Its code was changed; {remedy}") from error
    return slots


def _in_one_line(error: Exception) -> str:
    """Join the lines of a message: torch has one for each tensor that does not fit."""
    return " ".join(str(error).split()).rstrip(".")
