"""Quality of a ranking of snippets against binary labels."""

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
