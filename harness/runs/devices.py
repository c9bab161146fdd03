"""Device that a run computes on, and how torch computes there."""

from __future__ import annotations

import torch

from wstal.errors import UserError


def set_arithmetic(device: torch.device, precision: str) -> None:
    """Set how torch computes in this process: deterministic algorithms, and TF32 only where asked for.

    Args:
        device: where the run computes.
        precision: `TrainSpec.precision`.
    """
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # else every new tensor is filled with NaN first, to expose reads of it: a twentieth of a small step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # cuDNN's convolutions would round to TF32 unless told not to
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def pick_device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu` or `cuda[:n]`.

    Raises:
        UserError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"Unknown device {name!r}. Use auto, cpu or cuda.") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"Device {name!r} is not available on this machine. Use --device cpu.")
    return device
