"""Diagnosis of detections: kinds of false positives, missed instances, and sensitivity to what instances are like.

Definitions: Alwassel et al., Diagnosing Error in Temporal Action Detectors, ECCV 2018, and its released code DETAD.
Two faults of that code are corrected. It compares a detection in a video without instances with those of the video
before it. At several tIoU thresholds, it removes a detection that is matched outside a bucket at one of them from all.
`as_released=True` gives its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from wstal.errors import UserError
from wstal.evaluation.buckets import Buckets, buckets_of
from wstal.evaluation.matching import Intervals, meeting
from wstal.evaluation.protocols import PROTOCOLS
from wstal.evaluation.sharing import SharedMatching
from wstal.evaluation.tiou import check_tious, tiou
from wstal.types import Bools, Detections, Floats, GroundTruth, IntArray

KINDS = ("true positive", "double detection", "wrong label", "localization", "confusion", "background")
TRUE_POSITIVE, DOUBLE, WRONG_LABEL, LOCALIZATION, CONFUSION, BACKGROUND = range(len(KINDS))
SLABS = 10  # of G detections each, G being the number of a class's instances
SMALLEST_OVERLAP = 0.1  # below it, a false positive is background
SMALLEST_PRECISION = 0.05  # normalised; a detection of lower rank finds no instance
CoverageRule = Literal["clip", "drop"]


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Numbers of a diagnosis, in fractions: D detections, M instances, C classes, K thresholds.

    Args:
        tious: K thresholds.
        truth: the instances that were kept.
        dropped: number of instances left out, by reason (`empty`, `coverage`).
        detections: D, all of them.
        instances_per_class: N, mean number of instances of a class, which normalises precision.
        ap: `[C, K]` average precision.
        normalized_ap: `[C, K]` the same with normalised precision.
        considered_normalized_ap: `[C, K]` the same over the `SLABS * G` best detections of each class.
        kind: `[P, K]` index into `KINDS` of these detections, class by class, best first.
        slab: `[P]` slab of each, from 0.
        without_kind: `[kinds, C, K]` normalised AP without the false positives of a kind (true positives: unchanged).
        missed: `[M, K]`, true for an instance that no detection of enough precision finds.
        buckets: instances by coverage (where durations are known), length and number of instances in the video.
        bucket_ap: by characteristic, `[buckets, K]` mean normalised AP of the instances in a bucket, NaN for none.
    """

    tious: tuple[float, ...]
    truth: GroundTruth
    dropped: dict[str, int]
    detections: int
    instances_per_class: float
    ap: Floats
    normalized_ap: Floats
    considered_normalized_ap: Floats
    kind: IntArray
    slab: IntArray
    without_kind: Floats
    missed: Bools
    buckets: dict[str, Buckets]
    bucket_ap: dict[str, Floats]

    @cached_property
    def counts(self) -> IntArray:
        """`[SLABS, kinds, K]` detections of each kind among the best of each class, slab by slab."""
        counts = np.zeros((SLABS, len(KINDS), len(self.tious)), dtype=np.int64)
        for column in range(len(self.tious)):
            np.add.at(counts[:, :, column], (self.slab, self.kind[:, column]), 1)
        return counts

    @cached_property
    def gains(self) -> Floats:
        """`[kinds, K]` gain in mean normalised AP if the false positives of a kind were removed."""
        return np.asarray((self.without_kind - self.considered_normalized_ap).mean(axis=1))

    def missed_share(self, characteristic: str) -> Floats:
        """Return `[buckets, K]` share of missed instances, NaN for an empty bucket."""
        buckets = self.buckets[characteristic]
        rows = [self.missed[buckets.of == number] for number in range(len(buckets.names))]
        return np.array([row.mean(axis=0) if len(row) else np.full(len(self.tious), np.nan) for row in rows])


def diagnose(
    detections: Detections,
    ground_truth: GroundTruth,
    durations: Sequence[float],
    tious: Sequence[float],
    *,
    dataset: str = "thumos14",
    coverage: CoverageRule = "clip",
    as_released: bool = False,
) -> Diagnosis:
    """Diagnose detections, matched as the ActivityNet evaluator does.

    Args:
        detections: in any order. Those in other videos are background.
        ground_truth: all videos of the evaluated subset, instances in file order.
        durations: seconds of each video of the ground truth, NaN where unknown.
        tious: K increasing thresholds.
        dataset: family of the data set, which decides the edges of buckets.
        coverage: what happens to an instance longer than its video: `clip` keeps it, `drop` leaves it out, as the
            released code does.
        as_released: repeat the two faults of the released code.

    Raises:
        UserError: as `evaluate`, or no instance is left.

    Example:
        >>> zero, start = np.array([0, 0]), np.array([0.0, 8.0])
        >>> truth = GroundTruth(("v",), ("jump",), zero, zero, start, start + 2, ambiguous=np.zeros((0, 3)))
        >>> found = Detections(("v",), ("jump",), zero, zero, start, np.array([2.0, 9.0]), score=np.array([0.9, 0.8]))
        >>> result = diagnose(found, truth, [20.0], [0.75])
        >>> [KINDS[kind] for kind in result.kind[:, 0]], result.missed[:, 0].tolist()
        (['true positive', 'localization'], [False, True])
    """
    thresholds = check_tious(tuple(map(float, tious)))
    length = np.asarray(ground_truth.end - ground_truth.start, dtype=np.float64)
    video = ground_truth.video
    share = length / np.asarray(durations, dtype=np.float64)[video]
    empty, beyond = length <= 0, (share > 1) & (coverage == "drop")
    keep = ~(empty | beyond)
    if not keep.any():
        raise UserError("No instance is left to diagnose. Choose another subset.")
    truth = _select(ground_truth, keep)
    matching = SharedMatching(detections, truth, thresholds)
    matched = matching.instances(PROTOCOLS["anet"])
    ranked = _Ranked(matching, matched)
    values = {"coverage": np.minimum(share, 1.0), "length": length, "instances": np.bincount(video)[video]}
    buckets = buckets_of({name: column[keep] for name, column in values.items()}, dataset)
    top = ranked.rank < SLABS * ranked.positives[ranked.label]
    kinds = _kinds(matching, matched)
    if as_released:
        _repeat_stale_ground_truth(kinds, matching, matched, top, ground_truth.label)
    kind = kinds[top]
    best = ranked.select(top)
    considered = best.normalized_ap()
    without = [best.normalized_ap(kind != number) for number in range(1, len(KINDS))]
    surviving = np.where(ranked.precision() <= SMALLEST_PRECISION, -1, matched)
    missed = np.ones((len(truth), len(thresholds)), dtype=bool)
    for column in range(len(thresholds)):
        found = surviving[:, column]
        missed[found[found >= 0], column] = False
    return Diagnosis(
        tious=thresholds,
        truth=truth,
        dropped={"empty": int(empty.sum()), "coverage": int((beyond & ~empty).sum())},
        detections=len(detections),
        instances_per_class=ranked.per_class,
        ap=ranked.ap(),
        normalized_ap=ranked.normalized_ap(),
        considered_normalized_ap=considered,
        kind=kind,
        slab=best.rank // best.positives[best.label],
        without_kind=np.stack([considered, *without]),
        missed=missed,
        buckets=buckets,
        bucket_ap={name: _bucket_ap(ranked, one, as_released) for name, one in buckets.items()},
    )


class _Ranked:
    """Detections class by class, best first, with their matches."""

    def __init__(self, matching: SharedMatching, matched: IntArray) -> None:
        truth = matching.ground_truth
        self.matched, self.hit = matched, matched >= 0
        self.instance_label = truth.label
        self.label = matching.label[matching.ranked]
        self.classes = len(truth.classes)
        self.positives = np.bincount(truth.label, minlength=self.classes)
        self.per_class = len(truth) / self.classes
        self._locate()
        self.rank = np.arange(len(self.label)) - self.bounds[self.label]

    def _locate(self) -> None:
        self.bounds = np.searchsorted(self.label, np.arange(self.classes + 1))

    def select(self, keep: Bools) -> _Ranked:
        chosen = object.__new__(_Ranked)
        chosen.__dict__ = {**self.__dict__}
        for name in ("matched", "hit", "label", "rank"):
            setattr(chosen, name, getattr(self, name)[keep])
        chosen._locate()
        return chosen

    def ap(self) -> Floats:
        """Return `[C, K]` average precision."""
        return self._over_classes(self.hit, None, self.positives, None)

    def normalized_ap(self, keep: Bools | None = None) -> Floats:
        """Return `[C, K]` average of the normalised precision, over the detections `[D, K]` to keep."""
        return self._over_classes(self.hit, keep, self.positives, self.per_class)

    def bucket_ap(self, inside: Bools, keep: Bools, positives: IntArray) -> Floats:
        """Return `[C, K]` normalised AP of a part of the instances, NaN for a class that has none of them."""
        ap = self._over_classes(inside, keep, positives, self.per_class)
        ap[positives == 0] = np.nan
        return ap

    def precision(self) -> Floats:
        """Return `[D, K]` normalised precision of the detections up to each rank of its class."""
        curve = np.zeros(self.hit.shape)
        for label in np.flatnonzero(self.positives):
            here = slice(self.bounds[label], self.bounds[label + 1])
            curve[here] = _precision(self.hit[here], None, self.positives[label], self.per_class)
        return curve

    def _over_classes(self, hit: Bools, keep: Bools | None, positives: IntArray, per_class: float | None) -> Floats:
        ap = np.zeros((self.classes, hit.shape[1]))
        for label in np.flatnonzero((positives > 0) & (self.bounds[1:] > self.bounds[:-1])):
            here = slice(self.bounds[label], self.bounds[label + 1])
            kept = None if keep is None else keep[here]
            curve = _precision(hit[here], kept, positives[label], per_class)
            curve = np.maximum.accumulate(curve[::-1], axis=0)[::-1]
            ap[label] = (curve * hit[here]).sum(axis=0) / positives[label]
        return ap


def _precision(hit: Bools, keep: Bools | None, positives: int, per_class: float | None) -> Floats:
    """Return `[N, K]` precision at each rank; normalised as if the class had `per_class` instances (Hoiem 2012)."""
    found = np.cumsum(hit, axis=0, dtype=np.float64)
    false = np.cumsum(~hit if keep is None else ~hit & keep, axis=0)
    if per_class is not None:
        found = found / positives * per_class
    return np.divide(found, found + false, out=np.zeros_like(found), where=found > 0)


def _bucket_ap(ranked: _Ranked, buckets: Buckets, as_released: bool) -> Floats:
    """Return `[buckets, K]` mean normalised AP of each bucket's instances."""
    label = ranked.instance_label
    rows = []
    for number in range(len(buckets.names)):
        inside = np.append(buckets.of == number, False)[ranked.matched]
        keep = inside | ~ranked.hit
        if as_released:  # a match outside the bucket at any threshold
            keep &= keep.all(axis=1, keepdims=True)
            inside &= keep
        positives = np.bincount(label[buckets.of == number], minlength=ranked.classes)
        if not positives.any():
            rows.append(np.full(ranked.hit.shape[1], np.nan))
            continue
        rows.append(np.nanmean(ranked.bucket_ap(inside, keep, positives), axis=0))
    return np.array(rows)


def _select(truth: GroundTruth, keep: Bools) -> GroundTruth:
    columns = ("video", "label", "start", "end")
    return replace(truth, **{name: getattr(truth, name)[keep] for name in columns})


def _kinds(matching: SharedMatching, matched: IntArray) -> IntArray:
    """Return `[D, K]` kind of each ranked detection, as an index into `KINDS`."""
    found, video = matching.detections.select(matching.ranked), matching.video[matching.ranked]
    nearest, overlap = _nearest(video, found, matching.ground_truth)
    own = np.append(matching.ground_truth.label, -1)[nearest] == matching.label[matching.ranked]
    columns = [_false_positives(own, overlap, threshold) for threshold in matching.tious]
    return np.where(matched >= 0, TRUE_POSITIVE, np.stack(columns, axis=1))


def _false_positives(own: Bools, overlap: Floats, threshold: float) -> IntArray:
    """Return the kind of false positives.

    Args:
        own: true where the nearest instance has the detection's class.
        overlap: tIoU with the nearest instance.
        threshold: tIoU of a hit.
    """
    near = np.where(own, LOCALIZATION, CONFUSION)
    return np.select(
        [overlap >= threshold, overlap >= SMALLEST_OVERLAP], [np.where(own, DOUBLE, WRONG_LABEL), near], BACKGROUND
    )


def _nearest(video: IntArray, found: Detections, truth: GroundTruth) -> tuple[IntArray, Floats]:
    """Return the instance that each detection overlaps most and its tIoU: of any class, of equals the first, or -1."""
    detections = Intervals(video + 1, found.start.astype(np.float64), found.end.astype(np.float64))
    instances = Intervals(truth.video + 1, truth.start.astype(np.float64), truth.end.astype(np.float64))
    row, column = meeting(detections, instances)
    shared = tiou(detections.start[row], detections.end[row], instances.start[column], instances.end[column])
    order = np.lexsort((column, -shared, row))
    row, column, shared = row[order], column[order], shared[order]
    first = np.append(True, row[1:] != row[:-1])[: len(row)]
    nearest, overlap = np.full(len(video), -1), np.zeros(len(video))
    nearest[row[first]], overlap[row[first]] = column[first], shared[first]
    return nearest, overlap


def _repeat_stale_ground_truth(
    kinds: IntArray, matching: SharedMatching, matched: IntArray, considered: Bools, labels: IntArray
) -> None:
    """Change kinds, in place, to those of the released code in videos without instances.

    It goes through the unmatched detections by video name. In such a video only the first one becomes background, the
    others meet the instances of the last video that has some.

    Args:
        kinds: `[D, K]` kind of each ranked detection.
        matching: of the detections.
        matched: `[D, K]` instance of each.
        considered: `[D]`, true for the best detections of each class.
        labels: of all instances, whose order gives the classes theirs.
    """
    truth, names = matching.ground_truth, np.array(matching.detections.videos, dtype=object)
    found = matching.detections.select(matching.ranked)
    video, label = matching.video[matching.ranked], matching.label[matching.ranked]
    filled = np.bincount(truth.video, minlength=len(truth.videos)) > 0
    appearance = np.full(len(truth.classes), len(labels))
    np.minimum.at(appearance, labels, np.arange(len(labels)))
    for column, threshold in enumerate(matching.tious):
        rows = np.flatnonzero(considered & (matched[:, column] < 0))
        rows = rows[np.argsort(appearance[label[rows]], kind="stable")]
        rows = rows[np.argsort(names[found.video[rows]], kind="quicksort")]  # unstable, as pandas sorts
        current, last, stale = None, -1, []
        for row in rows.tolist():
            here = int(video[row])
            if here >= 0 and filled[here]:
                last = here
            elif found.video[row] == current and last >= 0:
                stale.append((row, last))
            current = found.video[row]
        if stale:
            at = np.array(stale)
            nearest, overlap = _nearest(at[:, 1], found.select(at[:, 0]), truth)
            own = np.append(truth.label, -1)[nearest] == label[at[:, 0]]
            kinds[at[:, 0], column] = _false_positives(own, overlap, threshold)
