"""What STAR's terms promise of any curve: RAM counts runs, COV forbids the same pattern only, ST-GradCAM ranks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from baselines.star import Variation, repetitions, shared_attention, spread, st_gradcam

VARIATIONS: tuple[Variation, ...] = ("squared", "absolute")
LENGTHS = st.integers(1, 5)
POSITIVE = st.floats(0.01, 10)


def curve_of(values: list[float]) -> Tensor:
    curve = torch.tensor([values], dtype=torch.float64)
    return curve / curve.sum()


CURVES = st.lists(POSITIVE, min_size=1, max_size=20).map(curve_of)


@given(runs=st.lists(st.tuples(LENGTHS, LENGTHS), min_size=1, max_size=6), before=st.integers(0, 3), height=POSITIVE)
def test_ram_is_the_number_of_runs(runs: list[tuple[int, int]], before: int, height: float) -> None:
    values = [0.0] * before
    for inside, gap in runs:
        values += [height] * inside + [0.0] * gap
    for variation in VARIATIONS:
        assert repetitions(torch.tensor([values], dtype=torch.float64), variation).item() == pytest.approx(len(runs))


@given(curve=CURVES, scale=POSITIVE, times=LENGTHS)
def test_ram_depends_on_neither_height_nor_speed_nor_direction(curve: Tensor, scale: float, times: int) -> None:
    for variation in VARIATIONS:
        ram = repetitions(curve, variation).item()
        for same in (curve * scale, curve.repeat_interleave(times, dim=1), curve.flip(1)):
            assert repetitions(same, variation).item() == pytest.approx(ram)


@given(curve=CURVES)
def test_ram_is_at_most_one_run_for_each_two_snippets(curve: Tensor) -> None:
    squared, absolute = (repetitions(curve, variation).item() for variation in VARIATIONS)
    assert 0 < squared <= absolute + 1e-9 <= -(-curve.shape[1] // 2) + 2e-9
    assert absolute >= 1 - 1e-9


@given(rows=st.integers(2, 40), wiggle=st.floats(0.001, 0.1))
def test_squared_ram_is_nearly_blind_to_small_wiggles(rows: int, wiggle: float) -> None:
    curve = torch.ones(1, rows, dtype=torch.float64)
    curve[0, 1::2] -= wiggle
    squared, absolute = (repetitions(curve, variation).item() for variation in VARIATIONS)
    assert abs(squared - 1) <= rows * wiggle**2 / 2 + wiggle
    assert absolute - 1 >= (rows - 2) * wiggle / 2 - 1e-9


@given(values=st.lists(st.tuples(POSITIVE, st.booleans()), min_size=2, max_size=20), margin=st.floats(0, 2))
def test_coverage_lets_other_patterns_and_slight_overlaps_alone(
    values: list[tuple[float, bool]], margin: float
) -> None:
    heights, first = torch.tensor([height for height, _ in values]), torch.tensor([chosen for _, chosen in values])
    apart = [(heights * chosen)[None].double() for chosen in (first, ~first)]
    assert shared_attention(apart[0], apart[1], margin).item() == 0
    # twice at one snippet: all above the margin is forbidden
    again = torch.zeros(1, len(values), dtype=torch.float64)
    again[0, 0] = 1
    assert shared_attention(again, again, margin).item() == pytest.approx(max(1 - margin / len(values), 0))
    even = torch.full_like(again, 1 / len(values))
    assert shared_attention(even, even, max(margin, 1.0)).item() == pytest.approx(0, abs=1e-12)


@given(curve=CURVES, other=CURVES, margin=st.floats(0, 2))
def test_coverage_grows_with_what_was_attended_to(curve: Tensor, other: Tensor, margin: float) -> None:
    rows = min(curve.shape[1], other.shape[1])
    curve, other = curve[:, :rows], other[:, :rows]
    once, twice = (shared_attention(curve, covered, margin).item() for covered in (other, 2 * other))
    assert 0 <= once <= twice <= 1 + 1e-9


@given(curve=CURVES)
def test_a_curve_is_sparser_than_a_constant_one(curve: Tensor) -> None:
    even = torch.full_like(curve, 1 / curve.shape[1])
    for kind in ("entropy", "mean"):
        assert 0 <= spread(curve.log(), kind).item() <= max(spread(even.log(), kind).item(), 0) + 1e-9


@given(seed=st.integers(0, 1000), rows=st.integers(2, 20))
def test_st_gradcam_ranks_snippets_of_equal_attention_by_their_gain(seed: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(rows, 3, generator=generator, dtype=torch.float64)
    gradient = torch.randn(3, generator=generator, dtype=torch.float64)
    scores = st_gradcam(torch.full((rows,), 1 / rows, dtype=torch.float64), gradient, features)
    assert torch.equal(scores.argsort(), (features @ gradient).argsort())
    assert bool(((scores > 0) & (scores < 1 / rows)).all())
