"""The embedding convolution, which most of a full-size step is: how near its ways to compute it come to the peak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.benchmarks.hardware import Machine
from tests.benchmarks.measure import aim, flops, in_turns, note_compute
from wstal.parts.layers import TemporalConv

VIDEOS, TIME, WIDTH = 16, 750, 2048
Layout = Callable[[TemporalConv, Tensor], Tensor]


def as_it_is(conv: TemporalConv, features: Tensor) -> Tensor:
    found: Tensor = conv(features)
    return found


def channels_last(conv: TemporalConv, features: Tensor) -> Tensor:
    """A two-dimensional convolution of height 1: F is `[B, T, D]` in memory already, so nothing moves."""
    kernel = conv.weight.unsqueeze(2).to(memory_format=torch.channels_last)
    found = functional.conv2d(features.transpose(1, 2).unsqueeze(2), kernel, conv.bias, padding=(0, 1))
    return found.squeeze(2).transpose(1, 2)


def unfolded(conv: TemporalConv, features: Tensor) -> Tensor:
    """Three neighbours side by side, and one product."""
    padded = functional.pad(features, (0, 0, 1, 1))
    columns = torch.cat([padded[:, tap : tap + features.shape[1]] for tap in range(3)], dim=2)
    return functional.linear(columns, conv.weight.transpose(1, 2).flatten(1), conv.bias)


def shifted(conv: TemporalConv, features: Tensor) -> Tensor:
    """Three products, added up; the rows between two videos are computed too and dropped."""
    videos, time, _ = features.shape
    flat = functional.pad(features, (0, 0, 1, 1)).flatten(0, 1)
    rows = len(flat) - 2
    total = functional.linear(flat[:rows], conv.weight[:, :, 0], conv.bias)
    for tap in (1, 2):
        total = total.addmm(flat[tap : tap + rows], conv.weight[:, :, tap].T)
    return functional.pad(total, (0, 0, 0, 2)).view(videos, time + 2, -1)[:, :time]


LAYOUTS: tuple[Layout, ...] = (as_it_is, channels_last, unfolded, shifted)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_agree(layout: Layout) -> None:
    torch.manual_seed(0)
    conv, features = TemporalConv(6, 5, kernel_size=3, padding=1).double(), torch.rand(3, 7, 6, dtype=torch.float64)
    expected = torch.zeros(3, 7, 5, dtype=torch.float64)
    for time in range(7):
        for tap in range(3):
            if 0 <= time + tap - 1 < 7:
                expected[:, time] += features[:, time + tap - 1] @ conv.weight[:, :, tap].T
    torch.testing.assert_close(layout(conv, features), expected + conv.bias)


others = pytest.mark.full_size
CASES = [
    pytest.param(as_it_is, torch.float32, "both", id="as-it-is"),
    pytest.param(as_it_is, torch.float32, "forward", id="as-it-is-forward"),
    pytest.param(as_it_is, torch.bfloat16, "both", id="as-it-is-bf16"),
    *(pytest.param(one, torch.float32, "both", id=one.__name__, marks=others) for one in LAYOUTS[1:]),
    pytest.param(unfolded, torch.bfloat16, "both", id="unfolded-bf16", marks=others),
]


@pytest.mark.slow
@pytest.mark.benchmark(group="embedding convolution: [16, 750, 2048] to 2048, kernel 3")
@pytest.mark.parametrize(("layout", "dtype", "passes"), CASES)
def test_embedding(benchmark: Any, machine: Machine, layout: Layout, dtype: torch.dtype, passes: str) -> None:
    """Fractions are of the float32 peak, of bfloat16 (autocast) too."""
    torch.manual_seed(0)
    conv, features = TemporalConv(WIDTH, WIDTH, kernel_size=3, padding=1), torch.rand(VIDEOS, TIME, WIDTH)
    slope = torch.rand(VIDEOS, TIME, WIDTH).to(dtype)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = layout(conv, features)
        if passes == "both":
            conv.zero_grad()
            out.backward(slope)

    with torch.set_grad_enabled(passes == "both"):
        operations = flops(step)
        fraction = note_compute(benchmark, machine, operations, in_turns(benchmark, step, rounds=2, warm=0))
    if layout is as_it_is:
        aim(benchmark, "fraction of the peak", fraction, at_least=0.75)
