"""Temporal actionness grouping (TAG): proposals from one curve, by runs above thresholds that may have gaps."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from wstal.localize.nms import Rows, hard_nms
from wstal.types import Floats, IntArray

THRESHOLDS = (0.01, 0.05, 0.1, 0.15, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
TOLERANCES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
OVERLAP = 0.9  # above which the worse of two is dropped


def actionness_proposals(logits: Floats, smoothing: float) -> Floats:
    """Return `[P, 3]` start, end and score of a video's proposals, the best first.

    Args:
        logits: `[T, 2]` of background and action.
        smoothing: standard deviation of a Gaussian over rows.

    Example:
        >>> curve = np.array([-9.0, -9.0, 9.0, 9.0, 9.0, -9.0, -9.0])
        >>> actionness_proposals(np.stack([-curve, curve], axis=1), smoothing=0.5)[0, :2].tolist()
        [2.0, 6.0]
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    curve = gaussian_filter1d(shifted[:, 1] / shifted.sum(axis=1), smoothing)
    found = [grouped(curve, logits[:, 1], high, gap) for high in THRESHOLDS for gap in TOLERANCES]
    boxes = np.concatenate(found)
    start, end, score = boxes.T
    group = np.zeros(len(boxes), dtype=np.int64)
    rows = Rows(start, end, score, group, np.ones(len(boxes)))
    kept = hard_nms(rows, np.nextafter(OVERLAP, 1))[0]
    kept = kept[np.lexsort((end[kept], start[kept], -score[kept]))]
    return boxes[kept]


def grouped(curve: Floats, logits: Floats, threshold: float, tolerance: float) -> Floats:
    """Return `[P, 3]` start, end and score of groups of runs above a threshold.

    A group goes on while the share of rows below the threshold stays within the tolerance, from each run forward and
    backward. As in the released code it ends a row after its last run's end, and its score is the sum of the logits
    up to there, which begins at row 0 where a backward group reaches the first run.

    Args:
        curve: `[T]` smoothed probability of action.
        logits: `[T]` of action.
        threshold: of the curve.
        tolerance: share of rows.

    Example:
        >>> grouped(np.array([0.9, 0.1, 0.9]), np.array([1.0, -1.0, 1.0]), 0.5, 0.1)[:, :2].tolist()
        [[0.0, 2.0], [2.0, 4.0], [0.0, 2.0], [0.0, 4.0]]
    """
    above = curve > threshold
    edges = np.diff(np.concatenate([[0], above.astype(np.int64), [0]]))
    first, stop = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if not len(first):
        return np.zeros((0, 3))
    balance = np.cumsum(~above) - tolerance * np.arange(len(curve))
    at_start = balance[first]
    at_stop = np.append(balance, balance[-1] - tolerance)[stop]
    run = np.arange(len(first))
    later = (at_start[None, :] > at_start[:, None]) & (run[None, :] > run[:, None])
    until = np.where(later.any(axis=1), later.argmax(axis=1) - 1, run[-1])
    earlier = (at_stop[None, :] < at_stop[:, None]) & (run[None, :] < run[:, None])
    open_ended = ~earlier.any(axis=1)
    since = np.where(open_ended, 0, len(run) - earlier[:, ::-1].argmax(axis=1))
    start = np.concatenate([first, first[since]])
    end = np.concatenate([stop[until], stop])
    total = np.append(0.0, np.cumsum(logits))
    low = np.where(np.concatenate([np.zeros(len(run), dtype=np.bool_), open_ended]), 0, start)
    beyond = np.concatenate([np.zeros(len(run), dtype=np.int64), open_ended.astype(np.int64)])
    last: IntArray = np.minimum(end + 1 + beyond, len(logits))
    return np.column_stack([start, end + 1, total[last] - total[low]]).astype(np.float64)
