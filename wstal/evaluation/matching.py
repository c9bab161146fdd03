"""Exact matching of detections with instances, without a loop over detections.

A greedy matcher lets choosers (detections by score, or instances in file order) take their favourite free option one
after the other. When every option prefers the earlier chooser, the result is the unique stable matching, so deferred
acceptance finds it: all choosers propose at once, each option keeps its earliest proposer, and the others go on to
their next option. A few vectorised rounds replace millions of steps. Only overlapping pairs are kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from wstal.evaluation.ties import SMALL, released_order
from wstal.evaluation.tiou import hull_overlap, intersection, tiou
from wstal.types import Bools, Floats, IntArray

Indices = tuple[IntArray, IntArray]
CHUNK = 1_000_000  # pairs compared at once


@dataclass(frozen=True, eq=False)
class Intervals:
    """Intervals that can only match within a group.

    Args:
        group: `[N]` one number in [0, 2^32) for each (video, class).
        start: `[N]` seconds or whole segments.
        end: `[N]` the same unit.
    """

    group: IntArray
    start: Floats
    end: Floats


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs within a group that overlap enough, sorted by chooser, favourite option first.

    Args:
        chooser: `[P]` index. A smaller one chooses earlier.
        option: `[P]` index of the option.
        overlap: `[P]` overlap of the two, in [0, 1].
    """

    chooser: IntArray
    option: IntArray
    overlap: Floats

    def select(self, keep: Bools) -> Pairs:
        """Return the pairs where a mask is true, in the same order."""
        return Pairs(self.chooser[keep], self.option[keep], self.overlap[keep])


def detections_choose(
    detections: Intervals,
    instances: Intervals,
    met: Indices,
    at_least: float,
    preference: str,
    ties: str = "earlier",
) -> Pairs:
    """Return the pairs in which detections are the choosers.

    Args:
        detections: best score first.
        instances: in file order.
        met: result of `meeting(detections, instances)`.
        at_least: smallest tIoU of a pair.
        preference: `best` for the largest tIoU, `first` for file order.
        ties: for `best`, the order of equal tIoUs: `earlier` in file order, or `released` (see
            `wstal.evaluation.ties`).

    Example:
        >>> zeros = np.zeros(2, dtype=np.int64)
        >>> detections = Intervals(zeros[:1], np.array([0.0]), np.array([2.0]))
        >>> instances = Intervals(zeros, np.array([1.0, 0.0]), np.array([2.0, 2.0]))
        >>> pairs = detections_choose(detections, instances, meeting(detections, instances), 0.1, "best")
        >>> pairs.option.tolist(), pairs.overlap.tolist()
        ([1, 0], [1.0, 0.5])
    """
    detection, instance, overlap = _overlapping(detections, instances, met, at_least, tiou)
    if preference == "best":
        towards = instance if ties == "earlier" else -instance
        again = detection[1:] == detection[:-1]
        choice = np.flatnonzero(np.append(again, False) | np.append(False, again))  # pairs of detections with several
        order = choice[np.lexsort((towards[choice], -overlap[choice], detection[choice]))]
        instance[choice], overlap[choice] = instance[order], overlap[order]
        if ties == "released":
            _order_as_released(detections, instances, detection, instance, overlap)
    return Pairs(detection, instance, overlap)


def instances_choose(detections: Intervals, instances: Intervals, met: Indices, at_least: float) -> Pairs:
    """Return the pairs in which instances choose, in file order, the detection of largest overlap.

    Of equal overlaps the detection with the better score comes first.

    Args:
        detections: best score first.
        instances: in file order.
        met: result of `meeting(detections, instances)`.
        at_least: smallest overlap of a pair (`hull_overlap`).

    Example:
        >>> zeros = np.zeros(2, dtype=np.int64)
        >>> detections = Intervals(zeros, np.array([0.0, 0.0]), np.array([1.0, 2.0]))
        >>> instances = Intervals(zeros[:1], np.array([0.0]), np.array([2.0]))
        >>> instances_choose(detections, instances, meeting(detections, instances), 0.1).option.tolist()
        [1, 0]
    """
    detection, instance, overlap = _overlapping(detections, instances, met, at_least, hull_overlap)
    order = np.lexsort((detection, -overlap, instance))
    return Pairs(instance[order], detection[order], overlap[order])


def match(pairs: Pairs, choosers: int, options: int) -> tuple[Bools, Bools]:
    """Let the choosers take options one after the other.

    Args:
        pairs: the pairs that overlap enough.
        choosers: number of choosers.
        options: number of options.

    Returns:
        `[choosers]` and `[options]`, true for those in a matched pair.

    Example:
        >>> pairs = Pairs(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0.9, 0.8, 0.5]))
        >>> chooser, option = match(pairs, choosers=2, options=3)
        >>> chooser.tolist(), option.tolist()
        ([True, True], [True, True, False])
    """
    holder = chooser_of(pairs, options)
    taken = np.zeros(choosers, dtype=bool)
    taken[holder[holder >= 0]] = True
    return taken, holder >= 0


def chooser_of(pairs: Pairs, options: int) -> IntArray:
    """Let the choosers take options one after the other, and return who has each option.

    Args:
        pairs: the pairs that overlap enough.
        options: number of options.

    Returns:
        `[options]` chooser of each option, -1 for a free one.

    Example:
        >>> pairs = Pairs(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0.9, 0.8, 0.5]))
        >>> chooser_of(pairs, options=3).tolist()
        [0, 1, -1]
    """
    # only choosers with a pair: start and end of each one's list, which it walks down as it is refused
    position = np.flatnonzero(np.append(True, pairs.chooser[1:] != pairs.chooser[:-1])[: len(pairs.chooser)])
    last = np.append(position[1:], len(pairs.chooser))
    name = np.append(pairs.chooser[position], -1)
    nobody = len(position)
    holder = np.full(options, nobody)
    asking = np.arange(nobody)
    while len(asking):
        option = pairs.option[position[asking]]
        previous = holder[option]
        np.minimum.at(holder, option, asking)
        accepted = holder[option] == asking
        put_out = previous[accepted]
        refused = np.concatenate([asking[~accepted], put_out[put_out != nobody]])
        position[refused] += 1
        asking = refused[position[refused] < last[refused]]
    return np.asarray(name[holder])


def meeting(detections: Intervals, others: Intervals) -> Indices:
    """Return the (detection, other) indices of all pairs of a group that share time, sorted in this order.

    Args:
        detections: the first intervals.
        others: the second intervals.

    Example:
        >>> one = Intervals(np.array([0, 1]), np.array([0.0, 0.0]), np.array([2.0, 2.0]))
        >>> other = Intervals(np.array([0, 0]), np.array([5.0, 1.0]), np.array([6.0, 3.0]))
        >>> [index.tolist() for index in meeting(one, other)]
        [[0], [1]]
    """
    found = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))]
    for rows, columns in _shared_groups(detections, others):
        # two comparisons of long rows exclude nearly all pairs, so only a few need arithmetic
        near = others.start[columns, None] < detections.end[rows]
        near &= others.end[columns, None] > detections.start[rows]
        column, row = np.nonzero(near)
        found.append((rows[row], columns[column]))
    detection, other = (np.concatenate(part) for part in zip(*found, strict=True))
    shared = intersection(
        detections.start[detection], detections.end[detection], others.start[other], others.end[other]
    )
    some = np.flatnonzero(shared > 0)  # an empty interval inside another one shares none
    some = some[stable_order(detection[some])]
    return detection[some], other[some]


def _overlapping(
    detections: Intervals,
    instances: Intervals,
    met: Indices,
    at_least: float,
    overlap_of: Callable[[Floats, Floats, Floats, Floats], Floats],
) -> tuple[IntArray, IntArray, Floats]:
    """Return (detection, instance, overlap) of the pairs with at least that overlap, in their order."""
    row, column = met
    overlap = overlap_of(detections.start[row], detections.end[row], instances.start[column], instances.end[column])
    enough = overlap >= at_least
    return row[enough], column[enough], overlap[enough]


def _shared_groups(detections: Intervals, instances: Intervals) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the detections and the instances of each group that has both, in pieces of at most `CHUNK` pairs."""
    by_group = np.argsort(instances.group, kind="stable")
    groups, first, size = np.unique(instances.group[by_group], return_index=True, return_counts=True)
    ranked = stable_order(detections.group)
    low, high = (np.searchsorted(detections.group[ranked], groups, side=side) for side in ("left", "right"))
    for group in np.flatnonzero(low < high):
        columns = by_group[first[group] : first[group] + size[group]]
        step = max(1, CHUNK // len(columns))
        for begin in range(low[group], high[group], step):
            yield ranked[begin : min(begin + step, high[group])], columns


def stable_order(values: IntArray) -> IntArray:
    """Return `np.argsort(values, kind="stable")` of integers in [0, 2^32), faster.

    numpy sorts 16-bit integers in linear time, but not 64-bit ones.

    Example:
        >>> stable_order(np.array([3, 1, 3, 0])).tolist()
        [3, 1, 0, 2]
    """
    order = np.argsort((values & 0xFFFF).astype(np.uint16), kind="stable")
    upper = (values >> 16).astype(np.uint16)
    return order[np.argsort(upper[order], kind="stable")] if upper.any() else order


def _order_as_released(
    detections: Intervals, instances: Intervals, detection: IntArray, instance: IntArray, overlap: Floats
) -> None:
    """Reorder, in place, the instances of each detection that has equal tIoUs among many instances."""
    equal = (detection[1:] == detection[:-1]) & (overlap[1:] == overlap[:-1])
    by_group = np.argsort(instances.group, kind="stable")
    groups = instances.group[by_group]
    for one in np.unique(detection[1:][equal]):
        low, high = (np.searchsorted(groups, detections.group[one], side=side) for side in ("left", "right"))
        if high - low <= SMALL + 1:
            continue  # the sort is stable up to 16 items, so the pairs are already in order
        members = by_group[low:high]
        tious = tiou(detections.start[one], detections.end[one], instances.start[members], instances.end[members])
        begin, stop = np.searchsorted(detection, [one, one + 1])
        instance[begin:stop] = members[released_order(tious.tolist())[: stop - begin]]
