"""Non-maximum suppression on time intervals: every group (a class in a video) at once.

Of two rows with equal scores the earlier start is better, then the earlier end. Rows that tie in all three are equal,
so no result depends on the order in which rows were given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from wstal.types import FloatArray, IntArray

Overlap = Literal["iou", "own"]
Float64 = npt.NDArray[np.float64]


def overlap(
    start: FloatArray,
    end: FloatArray,
    better_start: FloatArray,
    better_end: FloatArray,
    kind: Overlap = "iou",
    plus: float | FloatArray = 0.0,
) -> Float64:
    """`[N]` overlap of interval i with the better-scored interval i, in [0, 1] where `plus` is 0.

    Args:
        start: `[N]` seconds.
        end: `[N]` seconds.
        better_start: `[N]` seconds.
        better_end: `[N]` seconds.
        kind: `iou`, or `own`: intersection over the length of the interval itself.
        plus: added to every length and intersection, seconds (see `Nms.plus_one`): one value, or one a row that is the
            same throughout a group.
    """
    shared = np.maximum(np.minimum(end, better_end) - np.maximum(start, better_start) + plus, 0.0)
    whole = end - start + plus
    if kind == "iou":
        whole = whole + (better_end - better_start + plus) - shared
    return shared / np.maximum(whole, np.finfo(np.float64).tiny)


def _per_row(value: float | FloatArray, rows: int) -> Float64:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (rows,))


def hard_nms(
    start: FloatArray,
    end: FloatArray,
    score: FloatArray,
    group: IntArray,
    *,
    threshold: float,
    kind: Overlap = "iou",
    plus: float | FloatArray = 0.0,
) -> IntArray:
    """Greedy suppression: a row stays if its overlap with every better row that stays is below `threshold`.

    Args:
        start: `[N]` seconds.
        end: `[N]` seconds.
        score: `[N]`, finite.
        group: `[N]` rows of different groups never meet.
        threshold: overlap from which a row goes, above 0.
        kind: as in `overlap`.
        plus: as in `overlap`.

    Returns:
        `[M]` indices of the rows that stay, by group and then best first.

    Raises:
        ValueError: `threshold` is not above 0.
    """
    found = _conflicts(start, end, score, group, threshold, kind, plus)
    kept = np.flatnonzero(_resolve(found))
    return found.order[kept[np.lexsort((found.rank[kept], found.group[kept]))]]


def hard_decayed_nms(
    start: FloatArray,
    end: FloatArray,
    score: FloatArray,
    group: IntArray,
    *,
    threshold: float,
    sigma: float,
    kind: Overlap = "iou",
    plus: float | FloatArray = 0.0,
) -> tuple[IntArray, Float64]:
    """`hard_nms`, after which what went comes back with its score times exp(-overlap^2 / sigma), where the overlap is
    that with the best row that it had to go for (ASL). Arguments as `hard_nms` and `soft_nms`.

    Returns:
        `[N]` indices by group and start, and `[N]` scores.
    """
    found = _conflicts(start, end, score, group, threshold, kind, plus)
    stays = _resolve(found)
    final = score[found.order].astype(np.float64)
    lost = stays[found.better] & ~stays[found.worse]
    better, worse, shared = found.better[lost], found.worse[lost], found.shared[lost]
    by_rank = np.argsort(found.rank[better], kind="stable")
    goes, first = np.unique(worse[by_rank], return_index=True)
    final[goes] *= np.exp(-(shared[by_rank][first] ** 2) / sigma)
    return found.order, final


@dataclass(frozen=True, eq=False)
class _Conflicts:
    """Pairs of rows of which one has to go, as places in `order`, which sorts rows by group, start and end.

    Args:
        order: `[N]` row at each place.
        rank: `[N]` of each place, best first, over all groups.
        group: `[N]` of each place.
        better: `[P]` place of the better row of each pair.
        worse: `[P]` place of the other.
        shared: `[P]` its overlap with the better.
    """

    order: IntArray
    rank: IntArray
    group: IntArray
    better: IntArray
    worse: IntArray
    shared: Float64


def _conflicts(
    start: FloatArray,
    end: FloatArray,
    score: FloatArray,
    group: IntArray,
    threshold: float,
    kind: Overlap,
    plus: float | FloatArray,
) -> _Conflicts:
    if not threshold > 0:
        raise ValueError(f"Expected `threshold` to be above 0, got {threshold}.")
    order = np.lexsort((end, start, group))
    start, end, group, plus = start[order], end[order], group[order], _per_row(plus, len(order))[order]
    rank = np.empty(len(order), dtype=np.int64)
    rank[np.argsort(-score[order], kind="stable")] = np.arange(len(order))

    # For two rows to reach an IoU of threshold, the later may start after the earlier by at most (1 - threshold) of the
    # earlier's length. So few pairs need a look: 9 a row on THUMOS14-like proposals, of 535 rows in its group.
    length = end - start + plus
    reach = (length * (1 - threshold) if kind == "iou" else length) + 1e-9 * np.abs(start).max(initial=1.0)
    last = np.searchsorted(group, group, side="right") - 1
    early = np.arange(len(order))
    better, worse, overlaps = [early[:0]], [early[:0]], [length[:0]]
    for step in range(1, len(order)):  # each row against the step-th next start of its group
        early = early[early + step <= last[early]]
        early = early[start[early + step] - start[early] <= reach[early]]
        if not len(early):
            break
        late_wins = rank[early + step] < rank[early]
        first, second = early + step * late_wins, early + step * ~late_wins
        shared = overlap(start[second], end[second], start[first], end[first], kind, plus[second])
        conflict = shared >= threshold
        better.append(first[conflict])
        worse.append(second[conflict])
        overlaps.append(shared[conflict])
    return _Conflicts(order, rank, group, np.concatenate(better), np.concatenate(worse), np.concatenate(overlaps))


def _resolve(found: _Conflicts) -> npt.NDArray[np.bool_]:
    """`[N]` which place stays. As the greedy loop: only a row that stays removes."""
    better, worse, rows = found.better, found.worse, len(found.order)
    stays = np.ones(rows, dtype=np.bool_)
    while len(better):  # one pass a link of the longest chain of better and better rows
        unbeaten = np.ones(rows, dtype=np.bool_)
        unbeaten[worse] = False
        stays[worse[unbeaten[better]]] = False
        pending = stays[better] & stays[worse]
        better, worse = better[pending], worse[pending]
    return stays


def soft_nms(
    start: FloatArray,
    end: FloatArray,
    score: FloatArray,
    group: IntArray,
    *,
    sigma: float,
    kind: Overlap = "iou",
    plus: float | FloatArray = 0.0,
) -> tuple[IntArray, Float64]:
    """Gaussian soft suppression (Bodla et al., 2017): all rows stay, overlapped ones score less.

    Takes the best row of each group and multiplies the scores of the group's others by exp(-overlap^2 / sigma), then
    the best of these, and so on. Time grows with the square of the rows in a group.

    Args:
        start: `[N]` seconds.
        end: `[N]` seconds.
        score: `[N]`, finite. Negative scores decay towards 0 too, which raises them.
        group: `[N]` rows of different groups never meet.
        sigma: width of the decay.
        kind: as in `overlap`.
        plus: as in `overlap`.

    Returns:
        `[N]` indices by group and in the order in which rows were taken, and `[N]` their decayed scores.
    """
    order = np.lexsort((end, start, group))
    row, start, end, group = np.arange(len(order)), start[order], end[order], group[order]
    plus = _per_row(plus, len(order))[order]
    live = score[order].astype(np.float64)
    taken, owner, final = [row[:0]], [group[:0]], [live[:0]]
    while len(row):  # one pass a row of the fullest group
        first = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
        size = np.diff(first, append=len(row))
        at_top = np.flatnonzero(live == np.repeat(np.maximum.reduceat(live, first), size))
        best = at_top[np.append(True, group[at_top][1:] != group[at_top][:-1])]
        taken.append(row[best])
        owner.append(group[best])
        final.append(live[best])
        shared = overlap(start, end, np.repeat(start[best], size), np.repeat(end[best], size), kind, plus)
        rest = np.ones(len(row), dtype=np.bool_)
        rest[best] = False
        live = (live * np.exp(-(shared**2) / sigma))[rest]
        row, start, end, group, plus = row[rest], start[rest], end[rest], group[rest], plus[rest]
    by_group = np.argsort(np.concatenate(owner), kind="stable")
    return order[np.concatenate(taken)[by_group]], np.concatenate(final)[by_group]
