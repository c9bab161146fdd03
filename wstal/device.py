"""Helpers that keep a training step from waiting for the GPU: asynchronous copies, and counters on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn


def to_device_async(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host to a device without waiting for the copy to end.

    For a GPU the tensor is put into pinned memory first, because only copies from there are asynchronous.

    Args:
        tensor: in host memory.
        device: where the copy goes.

    Example:
        >>> to_device_async(torch.tensor([1, 2]), torch.device("cpu")).tolist()
        [1, 2]
    """
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


class CountsOnHost(nn.Module):
    """Module whose buffers named in `COUNTERS` stay on the host, where Python can read them without waiting."""

    COUNTERS: ClassVar[tuple[str, ...]]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {name: self._buffers[name] for name in self.COUNTERS}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._buffers |= kept
        return self
