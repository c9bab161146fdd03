"""Aligned features of intervals against a loop over bins and points, with sequences whose means are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wstal.parts.segment_align import align_matrix


def looped(sequence: list[float], start: float, end: float, bins: int) -> list[float]:
    """The bins of one interval of a sequence of numbers, point by point."""
    length = len(sequence)
    size = max(end - start, 1.0)
    points = math.ceil(size / bins)
    means = []
    for one in range(bins):
        values = []
        for point in range(points):
            time = start + one * (size / bins) + (point + 0.5) * (size / bins) / points
            if time < -1 or time > length:
                values.append(0.0)
                continue
            low = int(max(time, 0.0))
            if low >= length - 1:
                values.append(sequence[-1])
            else:
                share = max(time, 0.0) - low
                values.append((1 - share) * sequence[low] + share * sequence[low + 1])
        means.append(sum(values) / points)
    return means


@given(
    length=st.integers(1, 12),
    start=st.floats(-8, 12, width=32),
    size=st.floats(0, 30, width=32),
    bins=st.integers(1, 6),
)
def test_matrix_equals_a_loop_over_points(length: int, start: float, size: float, bins: int) -> None:
    sequence = torch.arange(1.0, length + 1, dtype=torch.float64) ** 2
    edges = torch.tensor([start, start + size], dtype=torch.float64)
    found = align_matrix(edges[:1], edges[1:], bins, length)[0] @ sequence
    assert found.tolist() == pytest.approx(looped(sequence.tolist(), edges[0].item(), edges[1].item(), bins), rel=1e-9)


def test_intervals_of_one_call_do_not_affect_each_other() -> None:
    start, end = torch.tensor([0.0, 2.0, -3.0]), torch.tensor([9.0, 2.5, 20.0])
    together = align_matrix(start, end, 4, 10)
    alone = [align_matrix(start[i : i + 1], end[i : i + 1], 4, 10)[0] for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone))


def test_bins_of_a_straight_line_are_its_values_in_their_middles() -> None:
    line = torch.arange(20.0)
    found = align_matrix(torch.tensor([3.0]), torch.tensor([13.0]), 5, 20)[0] @ line
    assert found.tolist() == pytest.approx([4, 6, 8, 10, 12])


def test_a_constant_stays_inside_and_is_zero_one_row_beyond() -> None:
    ones = torch.ones(6)
    found = align_matrix(torch.tensor([0.0, -9.0, 7.5]), torch.tensor([6.0, -5.0, 9.0]), 3, 6) @ ones
    assert found.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_an_interval_has_at_least_a_row() -> None:
    line = torch.arange(8.0)
    short, row = (align_matrix(torch.tensor([2.0]), torch.tensor([end]), 2, 8)[0] @ line for end in (2.1, 3.0))
    assert torch.equal(short, row)
    assert short.tolist() == [2.25, 2.75]
