"""Pick and set up the device that a run computes on."""

from __future__ import annotations

import torch

from wstal.errors import UserError


def set_arithmetic(device: torch.device, precision: str) -> None:
    """What all of torch computes with in this process."""
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # else every new tensor is filled with NaN first, to expose reads of it: a twentieth of a small step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # cuDNN's convolutions would round to TF32 unless told not to
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def pick_device(name: str) -> torch.device:
    """The device called `auto`, `cpu` or `cuda[:n]`.

    Raises:
        UserError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"Unknown device {name!r}. Use auto, cpu or cuda.") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"Device {name!r} is not to be had here. Use --device cpu.")
    return device
