"""Small pure statistics over seeds. Values are mAPs in percent, one a seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import integrate, special, stats

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
EXACT_PAIRS = 16
SIGN_PATTERNS = 99_999


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided t-tests (TOST; Schuirmann 1987) that a mean is within a tolerance of a fixed value.

    Args:
        p: the larger of the two; below 0.05 exactly where the 90 % interval lies inside the tolerance.
        low: lower end of the mean's 90 % t-interval.
        high: its upper end.
    """

    p: float
    low: float
    high: float


def mean_and_half_width(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Mean over seeds and half the width of its Student-t interval, the 95 % one if not told (NaN for one value)."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return mean, math.nan
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * standard_deviation(values) / math.sqrt(count)
    return mean, half


def standard_deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1) of two or more values."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def equivalence(values: Sequence[float], target: float, tolerance: float) -> Equivalence:
    """Whether the mean is shown to lie within `target` ± `tolerance`.

    Args:
        values: two or more, one a seed.
        target: a fixed number, such as a published one: it has no spread of its own here.
        tolerance: in the unit of the values.
    """
    mean, half = mean_and_half_width(values, 1 - 2 * SIGNIFICANCE)
    error = standard_deviation(values) / math.sqrt(len(values))

    def shown_above(margin: float) -> float:
        if error == 0:
            return 0.5 if margin == 0 else float(margin < 0)
        return float(stats.t.sf(margin / error, len(values) - 1))

    from_target = mean - target
    return Equivalence(
        max(shown_above(tolerance + from_target), shown_above(tolerance - from_target)), mean - half, mean + half
    )


def holm(p: Sequence[float]) -> list[float]:
    """p adjusted for being members of one family (Holm 1979, step-down): the family-wise error stays at the level."""
    adjusted = [0.0] * len(p)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = largest
    return adjusted


def expected_maximum(count: int) -> float:
    """Expectation of the largest of `count` independent standard normal draws: 0, 0.564, 0.846, ..., 3.24 of 1,000."""
    if count < 1:
        raise ValueError(f"Expected at least one draw, got {count}.")
    # E[M] = integral over x > 0 of (1 - F(x)) - F(-x), with F = Phi^count
    value, _ = integrate.quad(
        lambda x: -math.expm1(count * special.log_ndtr(x)) - math.exp(count * special.log_ndtr(-x)), 0, 40, limit=200
    )
    return float(value)


def expected_best(values: Sequence[float], looks: int) -> float:
    """What the best of some looks at the test set is expected to show, by luck alone.

    Args:
        values: two or more; their mean and spread are taken for those of a look.
        looks: how often the test set was scored to choose. They count as independent; looks along one training hang
            together, so for them this is an upper bound.
    """
    return math.fsum(values) / len(values) + standard_deviation(values) * expected_maximum(looks)


def paired_t_p(differences: Sequence[float]) -> float:
    """Two-sided p of the t-test that paired differences have mean 0: below 0.05 where the 95 % interval leaves 0 out.

    NaN for one pair; 0 where all differences are equal and not 0.
    """
    if len(differences) < 2:
        return math.nan
    error = standard_deviation(differences) / math.sqrt(len(differences))
    mean = math.fsum(differences) / len(differences)
    if error == 0:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / error, len(differences) - 1))


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of the sign-flip test that paired differences are symmetric about 0.

    The share of the 2^n sign patterns whose mean is at least as far from 0 as the observed one: with n pairs it
    cannot be below 2 / 2^n, so 6 are needed for p < 0.05. Above 16 pairs the patterns are 99,999 random ones (always
    the same) and the observed one (Phipson and Smyth 2010).
    """
    count = len(differences)
    observed = abs(math.fsum(differences))
    # equal up to rounding counts as equal: the observed pattern itself must
    least = observed - 1e-9 * math.fsum(map(abs, differences))
    if count > EXACT_PAIRS:
        signs = np.random.default_rng(0).integers(0, 2, (SIGN_PATTERNS, count), dtype=np.int8) * 2 - 1
        return float(1 + np.count_nonzero(np.abs(signs @ np.asarray(differences)) >= least)) / (SIGN_PATTERNS + 1)
    patterns = itertools.product((1, -1), repeat=count)
    extreme = sum(
        abs(math.fsum(sign * value for sign, value in zip(pattern, differences, strict=True))) >= least
        for pattern in patterns
    )
    return float(extreme / 2**count)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Args:
        mean: in mAP points.
        half_width: half the 95 % Student-t interval; NaN for one seed.
        seeds: how many there are.
        signed: whether it is a difference, shown with its sign.
    """

    mean: float
    half_width: float = math.nan
    seeds: int = 1
    signed: bool = False

    def __str__(self) -> str:
        mean = f"{self.mean:{'+' if self.signed else ''}.1f}"
        return mean if math.isnan(self.half_width) else f"{mean} ± {self.half_width:.1f}"


def estimate(values: Sequence[float], seeds: int) -> Estimate | None:
    """The mean over seeds, None where any of the seeds has no value: a mean with a missing member is none."""
    if not values or len(values) < seeds:
        return None
    return Estimate(*mean_and_half_width(values), len(values))
