"""What lets a training step never wait for a GPU: copies that nothing waits for, and counters that stay on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn


def to_device_async(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device, or on its way there: only from pinned memory does a copy not wait."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


class CountsOnHost(nn.Module):
    """A module some of whose buffers stay on the host wherever it is moved: Python can read them at any time."""

    COUNTERS: ClassVar[tuple[str, ...]]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {name: self._buffers[name] for name in self.COUNTERS}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._buffers |= kept
        return self
