"""Boundary matching against the product with the whole sampling matrix, forward and backward, in turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.benchmarks.measure import aim, in_turns
from wstal.parts.cell_sampling import SparseSum, folded, matching_samples

BATCH, CHANNELS, FOLD, POINTS = 2, 64, 128, 32


def matrix(sampling: SparseSum, rows: int, cells: int) -> Tensor:
    """`[rows, POINTS x cells]`, nearly all zeros."""
    each: Tensor = sampling(torch.eye(POINTS * rows)).view(cells, POINTS, rows)
    return each.permute(2, 1, 0).reshape(rows, POINTS * cells).contiguous()


def direct(whole: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """The published order: sample all points of all cells, then join them."""
    batch, channels, length = rows.shape
    points = (rows.reshape(batch * channels, length) @ whole).view(batch, channels * POINTS, -1)
    return weight.reshape(len(weight), -1) @ points


@pytest.mark.parametrize(("rows", "durations"), [(32, 16), (64, 32)])
def test_sampling_takes_no_longer_than_twice_the_matrix_product(benchmark: Any, rows: int, durations: int) -> None:
    torch.manual_seed(0)
    sampling = matching_samples(rows, durations, POINTS)
    whole = matrix(sampling, rows, rows * durations)
    features = torch.randn(BATCH, CHANNELS, rows, requires_grad=True)
    weight = torch.randn(FOLD, CHANNELS, POINTS, requires_grad=True)

    def step(form: Callable[[], Tensor]) -> list[Tensor]:
        features.grad = weight.grad = None
        found = form()
        (found**2).sum().backward()
        assert features.grad is not None
        assert weight.grad is not None
        return [found.detach(), features.grad, weight.grad]

    def ours() -> list[Tensor]:
        return step(lambda: folded(sampling, features, weight))

    def theirs() -> list[Tensor]:
        return step(lambda: direct(whole, features, weight))

    for mine, expected in zip(ours(), theirs(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    found = in_turns(benchmark, ours, {"matrix product": theirs})
    if found:
        aim(benchmark, "times the matrix product's time", found["ours"] / found["matrix product"], at_most=2)
