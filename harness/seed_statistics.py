"""Statistics over seeds: intervals, tests and estimates of mAPs in percent, one value for each seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, special, stats

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
SIGN_PATTERNS = 99_999


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of one or more values and half the width of its 95 % Student-t interval, NaN of a single one."""
    count = len(values)
    mean = statistics.fmean(values)
    if count < 2:
        return mean, math.nan
    return mean, float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * statistics.stdev(values) / math.sqrt(count)


def equivalence_p(values: Sequence[float], target: float, tolerance: float) -> float:
    """Return the p of two one-sided t-tests (TOST, Schuirmann 1987) that the mean lies within `target` ± `tolerance`.

    It is the larger of the two, below 0.05 exactly where the 90 % interval lies inside the tolerance.

    Args:
        values: two or more.
        target: a fixed number, such as a published one: it has no spread of its own here.
        tolerance: in the unit of the values.
    """
    error = statistics.stdev(values) / math.sqrt(len(values))

    def shown_above(margin: float) -> float:
        if error == 0:
            return 0.5 if margin == 0 else float(margin < 0)
        return float(stats.t.sf(margin / error, len(values) - 1))

    from_target = statistics.fmean(values) - target
    return max(shown_above(tolerance + from_target), shown_above(tolerance - from_target))


def holm(p: Sequence[float]) -> list[float]:
    """Adjust the p-values of one family so that its family-wise error stays at the level (Holm 1979, step-down).

    A NaN, of a test that was not made, stays and does not count.
    """
    known = [index for index, value in enumerate(p) if not math.isnan(value)]
    adjusted = [math.nan] * len(p)
    largest = 0.0
    for place, index in enumerate(sorted(known, key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(known) - place) * p[index]))
        adjusted[index] = largest
    return adjusted


def expected_maximum(count: int) -> float:
    """Return the expected maximum of `count` independent standard normal draws: 0, 0.564, 0.846, ..., 3.24 of 1,000."""
    if count < 1:
        raise ValueError(f"Expected at least one draw, got {count}.")
    # E[M] = integral over x > 0 of (1 - F(x)) - F(-x), with F = Phi^count
    value, _ = integrate.quad(
        lambda x: -math.expm1(count * special.log_ndtr(x)) - math.exp(count * special.log_ndtr(-x)), 0, 40, limit=200
    )
    return float(value)


def expected_best(values: Sequence[float], looks: int) -> float:
    """Return the value that the best of several looks at the test set is expected to reach by luck alone.

    Args:
        values: two or more; a look is taken to have their mean and spread.
        looks: number of times that the test set was scored to choose. They count as independent; looks along one
            training are correlated, so for them this is an upper bound.
    """
    return statistics.fmean(values) + statistics.stdev(values) * expected_maximum(looks)


def paired_t_p(differences: Sequence[float]) -> float:
    """Return the two-sided p of the t-test that paired differences have mean 0.

    It is below 0.05 where the 95 % interval leaves out 0. NaN for one pair, 0 where all differences are equal and
    not 0.
    """
    if len(differences) < 2:
        return math.nan
    # without variance (up to rounding) scipy warns and returns NaN
    if math.isclose(min(differences), max(differences), rel_tol=1e-12):
        return float(differences[0] == 0)
    return float(stats.ttest_1samp(differences, 0).pvalue)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Return the two-sided p of the sign-flip test that paired differences are symmetric about 0.

    It is the share of the 2^n sign patterns whose mean is at least as far from 0 as the observed one. With n pairs it
    cannot be below 2 / 2^n, so p < 0.05 needs 6. Above 16 pairs the patterns are 99,999 random ones (always the same)
    and the observed one (Phipson and Smyth 2010).
    """
    if len(differences) < 2:
        return 1.0
    least = abs(math.fsum(differences)) - 1e-9 * math.fsum(map(abs, differences))

    def is_as_far(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        # equal up to rounding counts as equal: the observed pattern itself must
        return np.asarray(np.abs(values.sum(axis=axis)) >= least, dtype=np.float64)

    test = stats.permutation_test(
        (np.asarray(differences, dtype=np.float64),),
        is_as_far,
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=SIGN_PATTERNS,  # all of them, where there are fewer
        rng=0,
    )
    return float(test.pvalue)


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds with its interval.

    Args:
        mean: in mAP points.
        half_width: half the 95 % Student-t interval; NaN for one seed.
        seeds: number of seeds.
        signed: whether it is a difference, shown with its sign.
    """

    mean: float
    half_width: float = math.nan
    seeds: int = 1
    signed: bool = False

    def __str__(self) -> str:
        return f"{self.mean:{'+' if self.signed else ''}.1f}{self.spread}"

    @property
    def spread(self) -> str:
        """Half the interval as it is shown behind the mean, empty for one seed."""
        return "" if math.isnan(self.half_width) else f" ± {self.half_width:.1f}"


def estimate(values: Sequence[float], seeds: int) -> Estimate | None:
    """Return the mean over seeds, None where a seed has no value: a mean with a missing member is no mean.

    Args:
        values: of the seeds that have one.
        seeds: number of seeds.
    """
    if not values or len(values) < seeds:
        return None
    return Estimate(*mean_and_half_width(values), len(values))
