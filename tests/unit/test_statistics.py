"""Statistics against scipy and hand-worked arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.statistics import mean_and_half_width, sign_flip_p

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


def test_sign_flip_by_hand() -> None:
    # means of the 8 patterns of (1, 2, 3) times 3: 6, 4, 2, 0 and their negatives; only +-6 are as far as 6
    assert sign_flip_p([1, 2, 3]) == 2 / 8
    # (3, -1): sums 2, 4 and their negatives; all are at least 2 away
    assert sign_flip_p([3, -1]) == 1
    assert sign_flip_p([0, 0, 0]) == 1
    # six alike reach the smallest p of six pairs; five cannot fall below 0.05
    assert sign_flip_p([0.1] * 6) == 2 / 64
    assert sign_flip_p([0.1] * 5) == 2 / 32


@given(differences)
def test_sign_flip_is_scipys_exact_test(values: list[float]) -> None:
    if len(values) < 2 or len({abs(value) for value in values}) < len(values):
        return  # scipy wants two; ties differ by rounding
    expected = stats.permutation_test(
        (np.array(values),), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    # scipy doubles the smaller tail; the null is symmetric, so that is the share of both tails
    assert sign_flip_p(values) == pytest.approx(min(expected, 1.0), abs=2 / 2 ** len(values))


@given(differences, st.floats(0.1, 100))
def test_sign_flip_does_not_depend_on_scale_order_or_sign(values: list[float], scale: float) -> None:
    p = sign_flip_p(values)
    assert 2 / 2 ** len(values) <= p <= 1 or len(values) == 1
    assert sign_flip_p([-value for value in reversed(values)]) == p


def test_sign_flip_of_too_many_pairs_is_not_computed() -> None:
    assert math.isnan(sign_flip_p([1.0] * 17))
