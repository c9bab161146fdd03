"""Small pure statistics over seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from scipy import stats

CONFIDENCE = 0.95
EXACT_PAIRS = 16


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and half the width of its 95 % Student-t interval (NaN for one value)."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return mean, math.nan
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return mean, float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of the exact sign-flip test that paired differences are symmetric about 0.

    The share of the 2^n sign patterns whose mean is at least as far from 0 as the observed one: with n pairs it
    cannot be below 2 / 2^n, so 6 are needed for p < 0.05. NaN for more than 16 pairs, which are too many patterns.
    """
    if len(differences) > EXACT_PAIRS:
        return math.nan
    observed = abs(math.fsum(differences))
    # equal up to rounding counts as equal: the observed pattern itself must
    slack = 1e-9 * math.fsum(map(abs, differences))
    patterns = itertools.product((1, -1), repeat=len(differences))
    extreme = sum(
        abs(math.fsum(sign * value for sign, value in zip(pattern, differences, strict=True))) >= observed - slack
        for pattern in patterns
    )
    return float(extreme / 2 ** len(differences))
