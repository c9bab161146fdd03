"""Matching of detections with instances, exact and without a loop over detections.

A greedy matcher lets choosers (detections by score, or instances in file order) take their favourite free option one
after the other. That is the unique stable matching when every option prefers the earlier chooser, so deferred
acceptance finds it: all choosers propose at once, each option keeps its earliest proposer, the others go on to their
next option. A few vectorised rounds replace millions of steps. Only overlapping pairs are ever held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wstal.evaluation.ties import SMALL, released_order
from wstal.evaluation.tiou import Floats, hull_overlap, intersection, tiou
from wstal.types import IntArray

Bools = npt.NDArray[np.bool_]
Indices = tuple[IntArray, IntArray]
CHUNK = 1_000_000  # pairs looked at together


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

    def __len__(self) -> int:
        """Number of intervals."""
        return len(self.group)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of one group that overlap enough, chooser by chooser, favourite option first.

    Args:
        chooser: `[P]` index; a smaller one chooses earlier.
        option: `[P]` index of what it may take.
        overlap: `[P]`.
    """

    chooser: IntArray
    option: IntArray
    overlap: Floats

    def select(self, keep: Bools) -> Pairs:
        """The pairs that a mask keeps, in the same order."""
        return Pairs(self.chooser[keep], self.option[keep], self.overlap[keep])


def detections_choose(
    detections: Intervals,
    instances: Intervals,
    met: Indices,
    at_least: float,
    preference: str,
    ties: str = "earlier",
) -> Pairs:
    """Pairs in which detections choose.

    Args:
        detections: best score first.
        instances: in file order.
        met: what `meeting` gives of them.
        at_least: smallest tIoU of a pair.
        preference: `best` tIoU or `first` in file order.
        ties: under `best`, which of equals comes first: the `earlier` in file order, or as `released` (see `ties`).
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
    """Pairs in which instances choose, in file order, the largest overlap; of equals the better score."""
    detection, instance, overlap = _overlapping(detections, instances, met, at_least, hull_overlap)
    order = np.lexsort((detection, -overlap, instance))
    return Pairs(instance[order], detection[order], overlap[order])


def match(pairs: Pairs, choosers: int, options: int) -> tuple[Bools, Bools]:
    """Let the choosers take options one after the other.

    Args:
        pairs: of those that overlap enough.
        choosers: how many there are.
        options: how many there are.

    Returns:
        `[choosers]` and `[options]`: which of them are in a matched pair.
    """
    # only choosers with a pair; where each one's list starts and ends; it walks down its list as it is refused
    position = np.flatnonzero(np.append(True, pairs.chooser[1:] != pairs.chooser[:-1])[: len(pairs.chooser)])
    last = np.append(position[1:], len(pairs.chooser))
    name = pairs.chooser[position]
    nobody = len(name)
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
    taken = np.zeros(choosers, dtype=bool)
    taken[name[holder[holder != nobody]]] = True
    return taken, holder != nobody


def meeting(detections: Intervals, others: Intervals) -> Indices:
    """(detection, other) of all pairs of one group that share time, by detection, then other."""
    found = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))]
    for rows, columns in _shared_groups(detections, others):
        # two comparisons tell nearly all pairs apart, in long rows of many detections; arithmetic is for what is left
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
    """(detection, instance, overlap) of the pairs with at least that overlap, in their order."""
    row, column = met
    overlap = overlap_of(detections.start[row], detections.end[row], instances.start[column], instances.end[column])
    enough = overlap >= at_least
    return row[enough], column[enough], overlap[enough]


def _shared_groups(detections: Intervals, instances: Intervals) -> Iterator[tuple[IntArray, IntArray]]:
    """The detections and the instances of each group that has both, in pieces of at most `CHUNK` pairs."""
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
    """`np.argsort(values, kind="stable")` of integers in [0, 2^32): numpy sorts 16 bits in linear time, not 64."""
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
        low = np.searchsorted(groups, detections.group[one], side="left")
        high = np.searchsorted(groups, detections.group[one], side="right")
        if high - low <= SMALL + 1:
            continue  # the sort is stable up to 16: the later one, as the pairs already are
        members = by_group[low:high]
        tious = tiou(detections.start[one], detections.end[one], instances.start[members], instances.end[members])
        begin, stop = np.searchsorted(detection, [one, one + 1])
        best_first = members[released_order(tious.tolist())[: stop - begin]]
        instance[begin:stop] = best_first
