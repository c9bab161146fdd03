"""Quality of scores of snippets against binary labels: their ranking, and their calibration."""

from __future__ import annotations

import numpy as np
from scipy import stats

from wstal.types import Bools, Floats


def ranking_quality(score: Floats, positive: Bools) -> tuple[float, float]:
    """Compute average precision and the area under the ROC curve, where equal scores share a rank.

    Args:
        score: `[N]`, higher is more positive.
        positive: `[N]` labels.

    Returns:
        Average precision (mean precision over the positives) and AUC, as fractions; NaN without both kinds of labels.

    Example:
        >>> ranking_quality(np.array([0.9, 0.8, 0.1]), np.array([True, False, True]))
        (0.8333333333333333, 0.5)
    """
    count = int(positive.sum())
    if not 0 < count < len(positive):
        return float("nan"), float("nan")
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(positive[order])
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # the last of equal scores
    gained = np.diff(found[last], prepend=0)
    precision = float((gained * found[last] / (last + 1)).sum()) / count
    ranks = stats.rankdata(score)[positive].sum()
    area = (ranks - count * (count + 1) / 2) / (count * (len(positive) - count))
    return precision, float(area)


def calibration_error(score: Floats, positive: Bools, bins: int = 10) -> float:
    """Compute the expected calibration error of probabilities (Guo et al., ICML 2017, Eq. 3, for a binary label).

    Args:
        score: `[N]` probabilities of being positive.
        positive: `[N]` labels.
        bins: number of equal intervals of [0, 1]; a score at a border belongs to the upper one.

    Returns:
        Mean over snippets of the distance between their interval's mean score and its share of positives; NaN of none.

    Example:
        >>> calibration_error(np.array([0.75, 0.75, 0.25, 0.25]), np.array([True, False, False, False]))
        0.25
    """
    place = np.minimum((score * bins).astype(int), bins - 1)
    gaps = np.bincount(place, score, bins) - np.bincount(place, positive, bins)
    return float(np.abs(gaps).sum() / len(score)) if len(score) else float("nan")
