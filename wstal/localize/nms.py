"""Non-maximum suppression of time intervals, for all groups (a class in a video) at once.

Of two rows with equal scores the earlier start is better, then the earlier end. Rows that tie in all three are equal,
so no result depends on the order of the rows.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from wstal.types import Bools, FloatArray, Floats, IntArray

Column = npt.NDArray[Any]
Overlap = Literal["iou", "own"]
CHUNK = 1 << 14  # pairs compared at once, few enough for a processor's cache


def overlap(
    start: FloatArray,
    end: FloatArray,
    better_start: FloatArray,
    better_end: FloatArray,
    kind: Overlap = "iou",
    plus: float | FloatArray = 0.0,
) -> Floats:
    """Compute the `[N]` overlap of each interval with a better-scored interval, in [0, 1] if `plus` is 0.

    Args:
        start: `[N]` seconds.
        end: `[N]` seconds.
        better_start: `[N]` seconds.
        better_end: `[N]` seconds.
        kind: `iou`, or `own` for the intersection over the length of the interval itself.
        plus: seconds added to every length and intersection (see `Nms.plus_one`), one value or `[N]`. Within a group
            the value must be the same.

    Example:
        >>> overlap(np.array([0.0]), np.array([2.0]), np.array([1.0]), np.array([5.0]), kind="own").tolist()
        [0.5]
    """
    shared = np.maximum(np.minimum(end, better_end) - np.maximum(start, better_start) + plus, 0.0)
    whole = end - start + plus
    if kind == "iou":
        whole = whole + (better_end - better_start + plus) - shared
    return shared / np.maximum(whole, np.finfo(np.float64).tiny)


class Rows(NamedTuple):
    """Scored intervals of many groups.

    Args:
        start: `[N]` seconds.
        end: `[N]` seconds.
        score: `[N]`, finite.
        group: `[N]` group of each row. Rows of different groups do not affect each other.
        plus: `[N]` seconds added to every length and intersection (see `Nms.plus_one`), the same within a group.
    """

    start: Column
    end: Column
    score: Column
    group: Column
    plus: Column

    def take(self, index: IntArray) -> Rows:
        """Return the rows at these indices."""
        return Rows(*(column[index] for column in self))


def hard_nms(
    rows: Rows, threshold: float, kind: Overlap = "iou", sigma: float | None = None
) -> tuple[IntArray, Floats]:
    """Apply greedy suppression: a row stays if its overlap with every better row that stays is below `threshold`.

    With `sigma`, removed rows are put back with a decayed score (ASL): it is multiplied by exp(-overlap^2 / sigma),
    where the overlap is with the best row that caused the removal.

    Args:
        rows: the intervals.
        threshold: overlap at which a row is removed, above 0.
        kind: as in `overlap`.
        sigma: width of the decay. None: removed rows do not come back.

    Returns:
        `[M]` indices of the rows that stay (or of all), sorted by group and start, and `[M]` their scores.

    Raises:
        ValueError: `threshold` is not above 0.

    Example:
        >>> start, end, score = np.array([0.0, 0.5, 5.0]), np.array([2.0, 2.0, 6.0]), np.array([0.6, 0.9, 0.3])
        >>> rows = Rows(start, end, score, group=np.zeros(3, dtype=np.int64), plus=np.zeros(3))
        >>> hard_nms(rows, threshold=0.5)[0].tolist()
        [1, 2]
        >>> index, score = hard_nms(rows, threshold=0.5, sigma=0.3)
        >>> index.tolist(), score.round(3).tolist()
        ([0, 1, 2], [0.092, 0.9, 0.3])
    """
    found = _conflicts(rows, threshold, kind)
    stays = _resolve(found)
    if sigma is None:
        kept = found.order[stays]
        return kept, rows.score[kept]
    final = rows.score[found.order].astype(np.float64)
    lost = stays[found.better] & ~stays[found.worse]
    worse, shared, better = found.worse[lost], found.shared[lost], rows.take(found.order[found.better[lost]])
    best_first = np.lexsort((better.end, better.start, -better.score))
    goes, first = np.unique(worse[best_first], return_index=True)
    final[goes] *= np.exp(-(shared[best_first][first] ** 2) / sigma)
    return found.order, final


class _Conflicts(NamedTuple):
    """Pairs of rows of which one must be removed, as positions in `order`, which sorts rows by group and start.

    Args:
        order: `[N]` row at each position.
        better: `[P]` position of the better row of each pair.
        worse: `[P]` position of the other row.
        shared: `[P]` overlap of the worse row with the better row.
    """

    order: IntArray
    better: IntArray
    worse: IntArray
    shared: Floats


def _conflicts(rows: Rows, threshold: float, kind: Overlap) -> _Conflicts:
    if not threshold > 0:
        raise ValueError(f"Expected `threshold` to be above 0, got {threshold}.")
    order = _by_group_and_start(rows.start, rows.group)
    start, end, score, group, plus = rows.take(order)

    # For two rows to reach an IoU of threshold, the later may start after the earlier by at most (1 - threshold) of the
    # earlier's length. So few pairs are compared: 9 a row on THUMOS14-like proposals, of 535 rows in its group.
    reach = (end - start + plus) * (1 - threshold if kind == "iou" else 1)
    place = np.arange(len(order))
    last = np.searchsorted(group, group, side="right") - 1
    line = _line(start, last)  # for one search in all groups; the slack is far above rounding
    slack = 1e-9 * np.abs(start).max(initial=1.0) + 1e-14 * line.max(initial=0.0)
    until = np.minimum(np.searchsorted(line, line + reach + slack, side="right") - 1, last)
    later = np.maximum(until - place, 0)  # rows after each that it is compared with
    before = np.cumsum(later) - later

    found = [(place[:0], place[:0], reach[:0])]
    for some in np.split(place, np.flatnonzero(np.diff(before // CHUNK)) + 1):
        early = np.repeat(some, later[some])
        late = np.repeat(some + 1 - before[some], later[some])
        late += np.arange(before[some[:1]].sum(), before[some[:1]].sum() + len(late))
        s1, e1, score1 = (np.repeat(column[some], later[some]) for column in (start, end, score))
        s2, e2, score2 = start[late], end[late], score[late]
        late_wins = (score2 > score1) | ((score2 == score1) & (s2 == s1) & (e2 < e1))
        shared = overlap(s2, e2, s1, e1, kind, plus[late])
        if kind == "own":
            shared = np.where(late_wins, overlap(s1, e1, s2, e2, kind, plus[late]), shared)
        hit = np.flatnonzero(shared >= threshold)
        early, late, late_wins = early[hit], late[hit], late_wins[hit]
        found.append((np.where(late_wins, late, early), np.where(late_wins, early, late), shared[hit]))
    better, worse, shared = (np.concatenate(column) for column in zip(*found, strict=True))
    return _Conflicts(order, better, worse, shared)


def _by_group_and_start(start: FloatArray, group: IntArray) -> IntArray:
    """Return `[N]` rows sorted by group, then start, then the given order."""
    order = np.argsort(_line(start, group), kind="stable")  # a fifth of the time of `lexsort`
    step, time = np.diff(group[order]), np.diff(start[order])
    if ((step > 0) | ((step == 0) & (time >= 0))).all():
        return order
    return np.lexsort((start, group))  # starts of many groups, or far ones, are too close for one float


def _line(start: FloatArray, group: IntArray) -> Floats:
    """Return `[N]` starts of all groups on one line, one group after the other."""
    from_first: Floats = start - start.min(initial=np.inf)
    offset: Floats = group * (from_first.max(initial=0.0) + 1)
    return from_first + offset


def _resolve(found: _Conflicts) -> Bools:
    """Return `[N]`, true for the positions that stay. As in the greedy loop, only a row that stays removes others."""
    better, worse, rows = found.better, found.worse, len(found.order)
    stays = np.ones(rows, dtype=np.bool_)
    while len(better):  # one pass per link of the longest chain of better and better rows
        unbeaten = np.ones(rows, dtype=np.bool_)
        unbeaten[worse] = False
        stays[worse[unbeaten[better]]] = False
        pending = stays[better] & stays[worse]
        better, worse = better[pending], worse[pending]
    return stays


def soft_nms(rows: Rows, sigma: float, kind: Overlap = "iou") -> tuple[IntArray, Floats]:
    """Apply Gaussian soft suppression (Bodla et al., 2017): all rows stay, overlapped ones get lower scores.

    Takes the best row of each group and multiplies the scores of the group's other rows by exp(-overlap^2 / sigma),
    then the best of these, and so on. Time grows with the square of the rows in a group.

    Args:
        rows: the intervals. Negative scores decay towards 0 too, which raises them.
        sigma: width of the decay.
        kind: as in `overlap`.

    Returns:
        `[N]` indices sorted by group and in the order in which rows were taken, and `[N]` their decayed scores.

    Example:
        >>> start, end, none = np.array([0.0, 0.5]), np.array([2.0, 2.0]), np.zeros(2, dtype=np.int64)
        >>> index, score = soft_nms(Rows(start, end, np.array([0.6, 0.9]), group=none, plus=none), sigma=0.3)
        >>> index.tolist(), score.round(3).tolist()
        ([1, 0], [0.9, 0.092])
    """
    order = np.lexsort((rows.end, rows.start, rows.group))
    start, end, score, group, plus = rows.take(order)
    live = score.astype(np.float64)
    first = np.flatnonzero(np.append(True, group[1:] != group[:-1])[: len(order)])
    size = np.diff(first, append=len(order))
    taken, final = np.empty_like(order), np.empty_like(live)
    longest = np.argsort(-size, kind="stable")
    while len(longest):  # groups of similar size have one line each, padded with rows that overlap nothing
        width = size[longest[0]]
        batch, longest = np.split(longest, [max(1, 2 * CHUNK // width)])
        none = np.arange(width) >= size[batch, None]
        place = first[batch, None] + np.where(none, 0, np.arange(width))
        s, e = np.where(none, np.inf, start[place]), np.where(none, -np.inf, end[place])
        scores, p = np.where(none, -np.inf, live[place]), plus[first[batch], None]
        for nth in range(width):
            lines = np.count_nonzero(size[batch] > nth)  # the first ones
            batch, place = batch[:lines], place[:lines]
            s, e, scores, p = s[:lines], e[:lines], scores[:lines], p[:lines]
            best = np.arange(lines), scores.argmax(axis=1)  # of equals the first
            taken[first[batch] + nth], final[first[batch] + nth] = place[best], scores[best]
            best_s, best_e = s[best], e[best]
            s[best], e[best], scores[best] = np.inf, -np.inf, -np.inf
            # 4 of 100 pairs in a group overlap; the scores of the others stay
            meet = np.flatnonzero(np.minimum(e, best_e[:, None]) - np.maximum(s, best_s[:, None]) + p > 0)
            line = meet // width
            shared = overlap(s.reshape(-1)[meet], e.reshape(-1)[meet], best_s[line], best_e[line], kind, p[line, 0])
            scores.reshape(-1)[meet] *= np.exp(-(shared**2) / sigma)
    return order[taken], final


def suppress_where_windows_meet(rows: Rows, starts: FloatArray, ends: FloatArray, threshold: float) -> IntArray:
    """Suppress what reaches into the parts that two neighbouring windows share, where both may have found one instance.

    Rows that reach into several such parts stay if one of them keeps it; rows that reach into none stay.

    Args:
        rows: intervals found in all windows of a video.
        starts: where each window starts, in ascending order.
        ends: where each window ends.
        threshold: as in `hard_nms`.

    Returns:
        `[M]` ascending indices of the rows that stay.

    Example:
        >>> start, end, none = np.array([1.0, 3.0, 3.1]), np.array([2.0, 5.0, 5.1]), np.zeros(3, dtype=np.int64)
        >>> rows = Rows(start, end, np.array([0.1, 0.9, 0.8]), group=none, plus=none)
        >>> suppress_where_windows_meet(rows, np.array([0.0, 4.0]), np.array([5.0, 9.0]), 0.4).tolist()
        [0, 1]
    """
    free, stays = np.ones(len(rows.start), dtype=np.bool_), np.zeros(len(rows.start), dtype=np.bool_)
    for low, high in zip(starts[1:], ends[:-1], strict=True):
        shared = np.flatnonzero(np.minimum(rows.end, high) - np.maximum(rows.start, low) > 0)
        free[shared] = False
        stays[shared[hard_nms(rows.take(shared), threshold)[0]]] = True
    return np.flatnonzero(free | stays)
