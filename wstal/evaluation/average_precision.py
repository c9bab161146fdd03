"""Average precision of ranked detections, in the three forms that the field's evaluators use."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wstal.evaluation.tiou import Floats

Weights = npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]]
Precision = Literal["envelope", "raw", "eleven-point"]

# Products of floats, as Octave makes 0:0.1:1: a recall of exactly 3/10 does not reach 3 * 0.1. It decides digits.
RECALL_POINTS = np.arange(11) * 0.1


def average_precision(
    hit: npt.NDArray[np.bool_],
    counted: npt.NDArray[np.bool_] | None,
    positives: float,
    precision: Precision,
    weight: Weights | None = None,
) -> Floats:
    """Average precision of one class at each threshold.

    Args:
        hit: `[N, K]` whether each detection, best score first, found an instance at each of K tIoUs.
        counted: `[N, K]` False for detections that are neither hit nor miss (excused); all count if absent.
        positives: number (or total weight) of instances, above 0.
        precision: `envelope` is the area under the monotone precision (VOC since 2010), `raw` the mean of the precision
            at the hits, `eleven-point` the mean of the best precision at recall of at least 0, 0.1, ... 1 (VOC until
            2009).
        weight: `[N]` how often each detection counts, for resampled videos; once if absent.

    Returns:
        `[K]` fractions in [0, 1].
    """
    # precision falls between hits: only rows of a hit decide anything
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
        # one after the other, unlike `sum`, whose order depends on the number of columns and decides the last digit
        return np.asarray(np.cumsum(curve * gained, axis=0)[-1] / positives)
    # the best precision at a recall of at least r is the monotone precision where r is first reached
    recall = found / positives
    total = np.zeros(hit.shape[1])
    for column in range(hit.shape[1]):
        if found[-1, column] > 0:
            reached = np.searchsorted(recall[:, column], RECALL_POINTS)
            total[column] = curve[reached[reached < len(rows)], column].sum() / len(RECALL_POINTS)
    return total


def hits_first(score: Floats, hit: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """The order of detections by falling score in which hits precede misses of the same score."""
    return np.lexsort((~hit, -score))
