"""Average precision of ranked detections, in the three definitions that published evaluators use."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wstal.types import Bools, Floats

Weights = npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]]
Precision = Literal["envelope", "raw", "eleven-point"]

# Products of floats, as Octave computes 0:0.1:1. A recall of exactly 3/10 does not reach 3 * 0.1, and that changes
# the last digits of results.
RECALL_POINTS = np.arange(11) * 0.1


def average_precision(
    hit: Bools,
    counted: Bools | None,
    positives: float,
    precision: Precision,
    weight: Weights | None = None,
) -> Floats:
    """Compute the average precision of one class at each tIoU threshold.

    Args:
        hit: `[N, K]`, true where a detection is a true positive at a threshold. Detections are sorted best score first.
        counted: `[N, K]`, false where a detection is neither true nor false positive (excused). None: all count.
        positives: number, or total weight, of ground-truth instances, above 0.
        precision: `envelope` is the area under the monotone precision-recall curve (PASCAL VOC since 2010). `raw` is
            the mean precision at the true positives. `eleven-point` is the mean of the best precision at recall of at
            least 0, 0.1, ..., 1 (PASCAL VOC until 2009).
        weight: `[N]`, how often each detection counts, for resampled videos. None: once.

    Returns:
        `[K]` fractions in [0, 1].

    Example:
        >>> hit = np.array([[True], [False], [True]])
        >>> average_precision(hit, None, 2, "envelope").round(3).tolist()
        [0.833]
    """
    # precision falls between hits, so only rows with a hit matter
    rows = np.flatnonzero(hit.any(axis=1))
    if not len(rows):
        return np.zeros(hit.shape[1])
    times = np.ones((len(hit), 1)) if weight is None else weight[:, None].astype(np.float64)
    gained = hit[rows] * times[rows]
    found = np.cumsum(gained, axis=0)
    seen = np.cumsum(times if counted is None else counted * times, axis=0)[rows]
    curve = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
    if precision != "raw":
        curve = np.maximum.accumulate(curve[::-1], axis=0)[::-1]
    if precision != "eleven-point":
        # in a fixed order, unlike `sum`, whose order depends on the number of columns and changes the last digit
        return np.asarray(np.cumsum(curve * gained, axis=0)[-1] / positives)
    # the best precision at a recall of at least r is the monotone precision where r is first reached
    recall = found / positives
    total = np.zeros(hit.shape[1])
    for column in range(hit.shape[1]):
        if found[-1, column] > 0:
            reached = np.searchsorted(recall[:, column], RECALL_POINTS)
            total[column] = curve[reached[reached < len(rows)], column].sum() / len(RECALL_POINTS)
    return total


def hits_first(score: Floats, hit: Bools) -> npt.NDArray[np.intp]:
    """Return the order of detections by decreasing score, with hits before misses of the same score.

    Args:
        score: `[N]` confidence.
        hit: `[N]`, true for a true positive.

    Example:
        >>> hits_first(np.array([0.5, 0.9, 0.5]), np.array([False, True, True])).tolist()
        [1, 2, 0]
    """
    return np.lexsort((~hit, -score))
