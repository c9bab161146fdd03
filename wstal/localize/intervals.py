"""Choice and rounding of proposals that a further stage of training reads (ASM-Loc)."""

from __future__ import annotations

import numpy as np

from wstal.types import Bools, FloatArray, Floats, IntArray


def best_share(labels: IntArray, scores: FloatArray, share: float) -> IntArray:
    """Return the proposals whose scores, best first, sum up to at most a share of their class's sum.

    Args:
        labels: `[N]` classes.
        scores: `[N]`.
        share: of each class's sum.

    Example:
        >>> best_share(np.array([0, 0, 1, 1]), np.array([0.2, 0.5, 0.3, 0.1]), share=0.75).tolist()
        [1, 2]
    """
    chosen = [np.zeros(0, dtype=np.int64)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(-scores[members], kind="stable")]
        sums = np.cumsum(scores[order])
        chosen.append(order[: np.count_nonzero(np.cumprod(sums <= share * sums[-1]))])
    return np.concatenate(chosen)


def outermost(times: Floats) -> IntArray:
    """Return the intervals, by start, that do not lie within one that starts before them. Of equal ones one stays.

    Args:
        times: `[N, 2]` start and end.

    Example:
        >>> outermost(np.array([[3.0, 6.0], [0.0, 4.0], [1.0, 2.0]])).tolist()
        [1, 0]
    """
    start, end = times.T
    order = np.lexsort((-end, start))
    reach = np.maximum.accumulate(np.append(-np.inf, end[order]))[:-1]
    proposals: IntArray = order[end[order] > reach]
    return proposals


def whole_rows(times: Floats, rows: int) -> IntArray:
    """Return `[N, 2]` intervals rounded to whole rows within a video, at least one row each.

    Args:
        times: `[N, 2]` start and end in rows.
        rows: of the video.

    Example:
        >>> whole_rows(np.array([[0.4, 1.6], [2.6, 2.9]]), rows=3).tolist()
        [[0, 2], [2, 3]]
    """
    start, end = np.round(times).T
    first = np.clip(start, 0, rows - 1)
    return np.stack([first, np.clip(end, first + 1, rows)], axis=1).astype(np.int64)


def covered(times: Floats, length: int, rows: int) -> Bools:
    """Return `[N, rows]`, true where an interval covers one of the rows that share a video's duration evenly.

    Args:
        times: `[N, 2]` start and end.
        length: duration of the video.
        rows: number of rows.

    Example:
        >>> covered(np.array([[2.0, 6.0]]), length=8, rows=4).tolist()
        [[False, True, True, False]]
    """
    intervals, row = whole_rows(times * (rows / length), rows), np.arange(rows)
    return (row >= intervals[:, :1]) & (row < intervals[:, 1:])
