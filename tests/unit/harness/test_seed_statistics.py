"""Statistics against scipy, statsmodels, published tables and hand-worked arrays."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from harness.seed_statistics import (
    equivalence_p,
    expected_best,
    expected_maximum,
    holm,
    mean_and_half_width,
    paired_t_p,
    sign_flip_p,
)

differences = st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=1, max_size=8)


def test_interval_is_students_t() -> None:
    values = [20.0, 22.0, 24.0]
    mean, half = mean_and_half_width(values)
    low, high = stats.t.interval(0.95, 2, loc=22, scale=stats.sem(values))
    assert mean == 22
    assert (mean - half, mean + half) == pytest.approx((low, high))
    # by hand: t(.975, 2) = 4.3027, s = 2, n = 3
    assert half == pytest.approx(4.3027 * 2 / math.sqrt(3), rel=1e-4)


def test_one_value_has_no_interval() -> None:
    mean, half = mean_and_half_width([7.0])
    assert mean == 7
    assert math.isnan(half)


def test_equivalence_by_hand() -> None:
    # mean 42, s = 1, n = 4, so the error is 0.5; from 42.5 the two t are (1 - 0.5) / 0.5 = 1 and (1 + 0.5) / 0.5 = 3
    values = [41.0, 41.0, 43.0, 43.0]
    scale = math.sqrt(3) / 2
    shrunk = [42 + (value - 42) * scale for value in values]
    assert statistics.stdev(shrunk) == pytest.approx(1)
    # P(t_3 > 1) = 0.19550
    assert equivalence_p(shrunk, 42.5, 1) == pytest.approx(0.19550, abs=1e-5)
    # t(.95, 3) = 2.3534: the 90 % interval is 42 +- 2.3534 / 2, so up to 43.1767
    assert equivalence_p(shrunk, 42, 1.1767) == pytest.approx(0.05, abs=1e-4)


@given(
    st.lists(st.floats(0, 100), min_size=2, max_size=8).filter(lambda values: statistics.stdev(values) > 1e-3),
    st.floats(0, 100),
    st.floats(0.1, 20),
)
def test_equivalence_is_statsmodels_tost(values: list[float], target: float, tolerance: float) -> None:
    p = equivalence_p(values, target, tolerance)
    reference = DescrStatsW(np.array(values))
    assert p == pytest.approx(reference.ttost_mean(target - tolerance, target + tolerance)[0], abs=1e-9)
    low, high = reference.tconfint_mean(alpha=0.1)
    inside = target - tolerance < low and high < target + tolerance
    assert (p < 0.05) == inside or p == pytest.approx(0.05)


def test_equivalence_without_spread_is_certain() -> None:
    assert equivalence_p([42.0] * 3, 42.5, 1) == 0
    assert equivalence_p([42.0] * 3, 43.0, 1) == 0.5
    assert equivalence_p([42.0] * 3, 44.0, 1) == 1
    assert equivalence_p([42.0] * 3, 40.0, 1) == 1


def test_holm_by_hand() -> None:
    # sorted .01, .02, .03, .04 times 4, 3, 2, 1 are .04, .06, .06, .04; the last must not fall below the third
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
    # of a test that was not made
    assert holm([0.02, math.nan, 0.01]) == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_holm_is_statsmodels(count: int) -> None:
    p = (np.random.default_rng(count).integers(0, 30, count) / 200).tolist()  # equal ones among them
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, 0),
        (2, 1 / math.sqrt(math.pi)),
        (3, 3 / (2 * math.sqrt(math.pi))),
        # Harter 1961, table of expected normal order statistics
        (4, 1.02938), (5, 1.16296), (10, 1.53875), (50, 2.24907), (100, 2.50759), (400, 2.96818),
    ],
)  # fmt: skip
def test_expected_maximum_is_the_tabled_one(count: int, expected: float) -> None:
    assert expected_maximum(count) == pytest.approx(expected, abs=1e-5)


def test_expected_maximum_needs_a_draw() -> None:
    with pytest.raises(ValueError, match="at least one"):
        expected_maximum(0)


def test_best_of_looks_is_what_draws_give() -> None:
    values = [41.0, 42.0, 43.0]  # mean 42, s = 1
    assert expected_best(values, 1) == 42
    draws = np.random.default_rng(0).normal(42, 1, (100_000, 20)).max(axis=1)
    assert expected_best(values, 20) == pytest.approx(draws.mean(), abs=0.01)


def test_sign_flip_by_hand() -> None:
    # means of the 8 patterns of (1, 2, 3) times 3: 6, 4, 2, 0 and their negatives; only +-6 are as far as 6
    assert sign_flip_p([1, 2, 3]) == 2 / 8
    # (3, -1): sums 2, 4 and their negatives; all are at least 2 away
    assert sign_flip_p([3, -1]) == 1
    assert sign_flip_p([0, 0, 0]) == 1
    # six alike reach the smallest p of six pairs; five cannot fall below 0.05
    assert sign_flip_p([0.1] * 6) == 2 / 64
    assert sign_flip_p([0.1] * 5) == 2 / 32


@given(st.lists(st.integers(-80, 80).map(lambda count: count / 8), min_size=2, max_size=8))
def test_sign_flip_is_the_share_of_all_sign_patterns(values: list[float]) -> None:
    # eighths add up without rounding, so that ties are exact
    sums = np.array(list(itertools.product((1, -1), repeat=len(values)))) @ np.array(values)
    assert sign_flip_p(values) == np.mean(np.abs(sums) >= abs(sum(values)))


@given(differences, st.floats(0.1, 100))
def test_sign_flip_does_not_depend_on_scale_order_or_sign(values: list[float], scale: float) -> None:
    p = sign_flip_p(values)
    assert 2 / 2 ** len(values) <= p <= 1 or len(values) == 1
    assert sign_flip_p([-value for value in reversed(values)]) == p


def test_sign_flip_of_many_pairs_draws_its_patterns() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 18).round(3)
    # the sums of all 2^18 patterns, from those of two halves
    halves = [np.array(list(itertools.product((1, -1), repeat=9))) @ part for part in (values[:9], values[9:])]
    exact = np.mean(np.abs(halves[0][:, None] + halves[1]) >= abs(values.sum()) - 1e-9)
    assert 0.005 < exact < 0.5
    drawn = sign_flip_p(values.tolist())
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 100_000))
    assert sign_flip_p(values.tolist()) == drawn
    assert sign_flip_p([1.0] * 30) == 1e-5


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=12).filter(lambda values: len(set(values)) > 1))
def test_paired_t_is_scipys_and_agrees_with_the_interval(values: list[int]) -> None:
    p = paired_t_p(values)
    assert p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=1e-12)
    mean, half = mean_and_half_width(values)
    assert abs(abs(mean) - half) < 1e-9 or (p < 0.05) == (abs(mean) > half)


def test_paired_t_of_one_pair_and_of_equal_differences() -> None:
    assert math.isnan(paired_t_p([1.0]))
    assert paired_t_p([2.0, 2.0, 2.0]) == 0
    assert paired_t_p([0.0, 0.0]) == 1
