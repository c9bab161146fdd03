"""Checkpoints between epochs: one safetensors file and a small JSON that points to it with its digest."""

from __future__ import annotations

import contextlib
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from harness.files import atomic_write, pretty_json, read_json, sha256
from wstal.errors import StoreError
from wstal.method import Method

POINTER = "checkpoint.json"
History = dict[str, list[float]]


def save_weights(path: Path, method: Method) -> str:
    """Write a method's parameters and buffers as safetensors; returns the file's SHA-256."""
    data = safetensors.torch.save({name: value.cpu().contiguous() for name, value in method.state_dict().items()})
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
    try:
        method.load_state_dict(safetensors.torch.load(data))
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
    pointer = {"identity": identity, "epoch": epoch, "file": file, "sha256": sha256(data), "history": history}
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
    """Continue from the checkpoint in `folder`: (epochs done, history), or (0, {}) where there is none.

    Raises:
        StoreError: the checkpoint is damaged or belongs to another run.
    """
    if not (folder / POINTER).exists():
        return 0, {}
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
    return pointer["epoch"], pointer["history"]
