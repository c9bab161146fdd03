"""Work that several protocols share for the same detections: ranking, overlapping pairs and matches.

Nothing matches across videos, so excluding a video changes no match in another video. Protocols that differ only in
their videos, or in how they average precision, share the whole matching.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from wstal.errors import UserError
from wstal.evaluation.matching import (
    Intervals,
    Pairs,
    chooser_of,
    detections_choose,
    instances_choose,
    match,
    meeting,
    stable_order,
)
from wstal.evaluation.protocols import Protocol
from wstal.types import Bools, Detections, Floats, GroundTruth, IntArray

Clock = float | None
T = TypeVar("T")


class SharedMatching:
    """Detections ranked and matched with the instances of all videos. Each part is computed when it is first needed.

    Args:
        detections: in any order. Classes are matched by name.
        ground_truth: of all videos, including those that a protocol excludes.
        tious: K increasing thresholds.

    Attributes:
        video: `[N]` video of each detection as an index into the ground truth, -1 for an unknown video.
        label: `[N]` class of each detection as an index into the ground truth.
        ranked: `[N]` rows class by class, best score first.

    Raises:
        UserError: a time or score is not finite, or a class is not in the ground truth.
    """

    def __init__(self, detections: Detections, ground_truth: GroundTruth, tious: tuple[float, ...]) -> None:
        self.detections, self.ground_truth, self.tious = detections, ground_truth, tious
        self.video, self.label = common_indices(detections, ground_truth)
        self.ranked = _rank(detections, self.label)
        self._done: dict[Hashable, object] = {}

    def ambiguous(self, clock: Clock) -> Bools:
        """Return `[N]`, true where a detection shares time with an Ambiguous interval of its video.

        Args:
            clock: segments per second. None: seconds.
        """

        def find() -> Bools:
            video, start, end = self.ground_truth.ambiguous.T
            touched = np.zeros(len(self.detections), dtype=bool)
            detections = Intervals(self.video + 1, *_times(self.detections.start, self.detections.end, clock))
            touched[meeting(detections, Intervals(video.astype(np.int64) + 1, *_times(start, end, clock)))[0]] = True
            return touched

        return self._once(("ambiguous", clock), find)

    def hits(self, protocol: Protocol) -> Bools:
        """Return `[N, K]`, true where a ranked detection is matched, before any video is excluded."""
        clock, dropped = protocol.segments_per_second, protocol.ambiguous == "drop"
        by_instances = protocol.matching == "instances"

        def find() -> Bools:
            pairs = self._favourites(protocol)
            if dropped:
                detection = pairs.option if by_instances else pairs.chooser
                pairs = pairs.select(~self.ambiguous(clock)[self.ranked][detection])
            sizes = len(self.ranked), len(self.ground_truth)
            hit = np.zeros((len(self.ranked), len(self.tious)), dtype=bool)
            for column, threshold in enumerate(self.tious):
                # thresholds increase: pairs below this one are below all later ones
                pairs = pairs.select(pairs.overlap > threshold if protocol.strict else pairs.overlap >= threshold)
                hit[:, column] = match(pairs, *sizes[::-1])[1] if by_instances else match(pairs, *sizes)[0]
            return hit

        return self._once(("hits", protocol.matching, protocol.ties, protocol.strict, clock, dropped), find)

    def instances(self, protocol: Protocol) -> IntArray:
        """Return `[N, K]` instance that each ranked detection is matched with, -1 for none.

        Only for protocols whose detections choose and that drop none.
        """
        matched = np.full((len(self.ranked), len(self.tious)), -1)
        pairs = self._favourites(protocol)
        for column, threshold in enumerate(self.tious):
            pairs = pairs.select(pairs.overlap > threshold if protocol.strict else pairs.overlap >= threshold)
            detection = chooser_of(pairs, len(self.ground_truth))
            matched[detection[detection >= 0], column] = np.flatnonzero(detection >= 0)
        return matched

    def _favourites(self, protocol: Protocol) -> Pairs:
        clock, matching, ties = protocol.segments_per_second, protocol.matching, protocol.ties

        def find() -> Pairs:
            detections, instances = self._intervals(clock)
            met = self._once(("meeting", clock), lambda: meeting(detections, instances))
            if matching == "instances":
                return instances_choose(detections, instances, met, self.tious[0])
            return detections_choose(detections, instances, met, self.tious[0], matching, ties)

        return self._once(("favourites", clock, matching, ties), find)

    def _intervals(self, clock: Clock) -> tuple[Intervals, Intervals]:
        """Return the ranked detections and the instances in file order, grouped by video and class."""
        found, truth, classes = self.detections.select(self.ranked), self.ground_truth, len(self.ground_truth.classes)
        # unknown videos (-1) form the first groups, which have no instance
        group = ((self.video + 1) * classes + self.label)[self.ranked]
        instances = Intervals((truth.video + 1) * classes + truth.label, *_times(truth.start, truth.end, clock))
        return Intervals(group, *_times(found.start, found.end, clock)), instances

    def _once(self, name: Hashable, find: Callable[[], T]) -> T:
        if name not in self._done:
            self._done[name] = find()
        return self._done[name]  # type: ignore[return-value]


def common_indices(detections: Detections, ground_truth: GroundTruth) -> tuple[IntArray, IntArray]:
    """Return `[N]` video (-1 if unknown) and `[N]` class of each detection as indices into the ground truth.

    Args:
        detections: in any order.
        ground_truth: of all videos.

    Raises:
        UserError: a time or score is not finite, or a class is not in the ground truth.

    Example:
        >>> one, time = np.array([0]), np.array([1.0])
        >>> truth = GroundTruth(("v",), ("dive", "jump"), one, one, time, time + 1, ambiguous=np.zeros((0, 3)))
        >>> found = Detections(("other",), ("jump",), one, one, time, time + 1, score=time)
        >>> [index.tolist() for index in common_indices(found, truth)]
        [[-1], [1]]
    """
    bad = ~np.isfinite([detections.start, detections.end, detections.score]).all(axis=0)
    if bad.any():
        name = detections.videos[detections.video[np.argmax(bad)]]
        raise UserError(f"{bad.sum()} detections have a time or score that is not finite, the first in {name}.")
    videos = {name: i for i, name in enumerate(ground_truth.videos)}
    classes = {name: i for i, name in enumerate(ground_truth.classes)}
    video = np.array([videos.get(name, -1) for name in detections.videos], dtype=np.int64)[detections.video]
    label = np.array([classes.get(name, -1) for name in detections.classes], dtype=np.int64)[detections.label]
    if (label < 0).any():
        name = detections.classes[detections.label[np.argmin(label)]]
        raise UserError(f"The ground truth has no class {name!r}, which detections have. Use one set of class names.")
    return video, label


def _rank(detections: Detections, label: IntArray) -> IntArray:
    """Return rows class by class, best score first. Equal scores are ordered by content.

    The order is total, so any part of the detections has the same order as within all of them.
    """
    row = np.argsort(-detections.score)
    row = row[stable_order(label[row])]
    score = detections.score[row]
    # equal scores are few: only they need the rest of the key
    again = (score[1:] == score[:-1]) & (label[row[1:]] == label[row[:-1]])
    tied = np.flatnonzero(np.append(again, False) | np.append(False, again))
    some = row[tied]
    name_rank = np.argsort(
        np.array(sorted(range(len(detections.videos)), key=detections.videos.__getitem__), dtype=int)
    )
    content = (detections.end[some], detections.start[some], name_rank[detections.video[some]])
    row[tied] = some[np.lexsort((some, *content, -score[tied], label[some]))]
    return row


def _times(start: npt.ArrayLike, end: npt.ArrayLike, clock: Clock) -> tuple[Floats, Floats]:
    """Return seconds or, where the protocol uses them, whole segments (rounded half to even, as numpy does)."""
    first, last = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    return (first, last) if clock is None else (np.rint(first * clock), np.rint(last * clock))
