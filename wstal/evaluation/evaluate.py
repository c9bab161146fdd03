"""Evaluate detections against ground truth under one protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from wstal.errors import UserError
from wstal.evaluation.average_precision import average_precision, hits_first
from wstal.evaluation.matching import Bools, Intervals, detections_choose, instances_choose, match
from wstal.evaluation.protocols import Protocol
from wstal.evaluation.tiou import Floats, check_tious, intersection, tiou_key
from wstal.types import Detections, GroundTruth, IntArray

# The averages that papers print, by name: the thresholds that all have to be there.
AVERAGES: dict[str, tuple[str, ...]] = {
    f"0.{first}:0.{last}": tuple(f"0.{tenth}" for tenth in range(first, last + 1))
    for first, last in ((1, 5), (3, 7), (1, 7), (1, 9))
} | {"0.5:0.95": tuple(tiou_key(percent / 100) for percent in range(50, 100, 5))}


@dataclass(frozen=True, eq=False)
class Flags:
    """What each detection turned out to be, so that resampled videos need no second matching.

    Args:
        detection: `[N]` row in the detections as given, ranked: class by class, best score first.
        video: `[N]` index into the ground truth's videos, -1 for a video that is not listed.
        label: `[N]` index into the ground truth's classes.
        score: `[N]`.
        hit: `[N, K]` true positive at each of K tIoUs.
        excused: `[N]` not counted where it is not a hit.
        instance_video: `[M]` index into the ground truth's videos, of each evaluated instance.
        instance_label: `[M]` index into the ground truth's classes.
    """

    detection: IntArray
    video: IntArray
    label: IntArray
    score: Floats
    hit: Bools
    excused: Bools
    instance_video: IntArray
    instance_label: IntArray


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """The numbers of one set of detections under one protocol. Fractions, not percent.

    Args:
        protocol: what was done.
        tious: K thresholds.
        classes: C names, those of the ground truth.
        ap: `[C, K]` average precision, NaN for a class without instance.
        positives: `[C]` instances of each class.
        videos: number of evaluated videos, also those without instance.
        instances: number of evaluated instances.
        detections: number of detections that were ranked.
        unlisted: detections given for videos that are not evaluated: false positives under `anet`, else removed.
        dropped: detections removed because they overlap an Ambiguous interval.
        flags: the matching behind the numbers.
    """

    protocol: Protocol
    tious: tuple[float, ...]
    classes: tuple[str, ...]
    ap: Floats
    positives: IntArray
    videos: int
    instances: int
    detections: int
    unlisted: int
    dropped: int
    flags: Flags

    @cached_property
    def mean_ap(self) -> dict[str, float]:
        """mAP by tIoU (`0.5`): the mean over the classes that have an instance."""
        means = self.ap[self.positives > 0].mean(axis=0)
        return {tiou_key(threshold): float(mean) for threshold, mean in zip(self.tious, means, strict=True)}

    @cached_property
    def averages(self) -> dict[str, float]:
        """Mean mAP by range (`0.1:0.7`), for every usual range whose thresholds were all evaluated."""
        return {
            name: sum(self.mean_ap[key] for key in keys) / len(keys)
            for name, keys in AVERAGES.items()
            if all(key in self.mean_ap for key in keys)
        }


def evaluate(
    detections: Detections, ground_truth: GroundTruth, protocol: Protocol, tious: Sequence[float]
) -> EvaluationResult:
    """Evaluate detections under one protocol.

    Detections are ranked class by class: higher score, then video name, start and end, so their order in a file
    decides nothing. (Under the THUMOS14 kit hits precede misses of the same score, as there.)

    Args:
        detections: in any order; classes are matched by name.
        ground_truth: all videos of the evaluated subset; instances in file order, which breaks ties.
        protocol: one of `PROTOCOLS`.
        tious: increasing thresholds in (0, 1], as `parse_tious` makes them.

    Raises:
        UserError: the protocol does not fit the ground truth, no video or no class is shared, a time or score is not
            finite, or `tious` do not increase within (0, 1].

    Example:
        >>> result = evaluate(detections, ground_truth, PROTOCOLS["anet"], parse_tious("0.1:0.1:0.7"))
        >>> result.mean_ap["0.5"], result.averages["0.1:0.7"]
    """
    thresholds = check_tious(tuple(float(threshold) for threshold in tious))
    if (why := protocol.inapplicable(ground_truth)) is not None:
        raise UserError(f"Protocol {protocol.name} does not apply here: {why}. Choose another protocol.")
    listed = np.array([video not in protocol.excluded_videos for video in ground_truth.videos], dtype=bool)
    instance = np.flatnonzero(listed[ground_truth.video])
    if not len(instance):
        raise UserError("The evaluated videos have no annotated instance. Choose another subset.")
    video, label = _common_indices(detections, ground_truth, listed)
    considered = video >= 0 if protocol.drops_unlisted else np.ones(len(detections), dtype=bool)
    in_ambiguous = np.zeros(len(detections), dtype=bool)
    if protocol.ambiguous != "count":
        in_ambiguous = _overlaps_ambiguous(detections, video, ground_truth, protocol)
    kept = considered & ~in_ambiguous if protocol.ambiguous == "drop" else considered
    row = _rank(detections, label, np.flatnonzero(kept))
    score = detections.score[row].astype(np.float64)
    hit = _hits(detections, ground_truth, row, instance, video, label, protocol, thresholds)
    excused = in_ambiguous[row]
    flags = Flags(
        row, video[row], label[row], score, hit, excused, ground_truth.video[instance], ground_truth.label[instance]
    )
    return EvaluationResult(
        protocol=protocol,
        tious=thresholds,
        classes=ground_truth.classes,
        ap=class_average_precision(flags, len(ground_truth.classes), protocol),
        positives=np.bincount(flags.instance_label, minlength=len(ground_truth.classes)),
        videos=int(listed.sum()),
        instances=len(instance),
        detections=len(row),
        unlisted=int((video < 0).sum()),
        dropped=int((considered & ~kept).sum()),
        flags=flags,
    )


def class_average_precision(
    flags: Flags, classes: int, protocol: Protocol, video_weight: npt.NDArray[np.floating] | None = None
) -> Floats:
    """AP of every class from stored flags.

    Args:
        flags: of an evaluation.
        classes: C.
        protocol: the one that the flags were made under.
        video_weight: `[V]` how often each video of the ground truth counts, for a bootstrap over videos; once if
            absent. Detections in videos that are not listed count once.

    Returns:
        `[C, K]`, NaN for a class without (weight of) instances.
    """
    weight = None
    instance_weight = None
    if video_weight is not None:
        weight = np.append(video_weight, 1.0)[flags.video]
        instance_weight = video_weight[flags.instance_video]
    positives = np.bincount(flags.instance_label, instance_weight, minlength=classes)
    bounds = np.searchsorted(flags.label, np.arange(classes + 1))
    ap = np.full((classes, flags.hit.shape[1]), np.nan)
    for label in np.flatnonzero(positives > 0):
        here = slice(bounds[label], bounds[label + 1])
        hit, excused = flags.hit[here], flags.excused[here]
        here_weight = None if weight is None else weight[here]
        if protocol.precision != "eleven-point":
            ap[label] = average_precision(hit, np.ones_like(hit), positives[label], protocol.precision, here_weight)
            continue
        for column in range(hit.shape[1]):
            order = hits_first(flags.score[here], hit[:, column])
            one = hit[order, column, None]
            ap[label, column] = average_precision(
                one,
                one | ~excused[order, None],
                positives[label],
                protocol.precision,
                None if here_weight is None else here_weight[order],
            )[0]
    return ap


def to_json(result: EvaluationResult) -> dict[str, Any]:
    """An evaluation as JSON values: mAP, averages and AP of the classes that have instances, in percent."""
    keys = [tiou_key(threshold) for threshold in result.tious]
    return {
        "mAP": {key: 100 * value for key, value in result.mean_ap.items()},
        "averages": {name: 100 * value for name, value in result.averages.items()},
        "per_class": {
            name: {key: 100 * float(value) for key, value in zip(keys, row, strict=True)}
            for name, row, positives in zip(result.classes, result.ap, result.positives, strict=True)
            if positives
        },
        "videos": result.videos,
        "instances": result.instances,
        "detections": result.detections,
    }


def _common_indices(detections: Detections, ground_truth: GroundTruth, listed: Bools) -> tuple[IntArray, IntArray]:
    """`[N]` video and `[N]` class of each detection as indices of the ground truth; -1 for a video not listed."""
    columns = (detections.start, detections.end, detections.score)
    bad = ~np.logical_and.reduce([np.isfinite(column) for column in columns])
    if bad.any():
        name = detections.videos[detections.video[np.argmax(bad)]]
        raise UserError(f"{bad.sum()} detections have a time or score that is not finite, the first in {name}.")
    videos = {name: i for i, name in enumerate(ground_truth.videos) if listed[i]}
    classes = {name: i for i, name in enumerate(ground_truth.classes)}
    video = np.array([videos.get(name, -1) for name in detections.videos], dtype=np.int64)[detections.video]
    label = np.array([classes.get(name, -1) for name in detections.classes], dtype=np.int64)[detections.label]
    if (label < 0).any():
        name = detections.classes[detections.label[np.argmin(label)]]
        raise UserError(f"The ground truth has no class {name!r}, which detections have. Use one set of class names.")
    if len(video) and (video < 0).all():
        raise UserError(
            f"Not one of the {len(video)} detections is in a video that is evaluated: they have "
            f"{detections.videos[detections.video[0]]}, evaluated is {ground_truth.videos[int(np.argmax(listed))]}. "
            "Choose the subset that the detections are for."
        )
    return video, label


def _rank(detections: Detections, label: IntArray, row: IntArray) -> IntArray:
    """Rows class by class, best score first; the rest of the key is content, so that equal scores have an order."""
    name_rank = np.empty(len(detections.videos), dtype=np.int64)
    name_rank[sorted(range(len(detections.videos)), key=detections.videos.__getitem__)] = np.arange(len(name_rank))
    key = (
        detections.end[row],
        detections.start[row],
        name_rank[detections.video[row]],
        -detections.score[row],
        label[row],
    )
    return row[np.lexsort(key)]


def _times(start: npt.ArrayLike, end: npt.ArrayLike, protocol: Protocol) -> tuple[Floats, Floats]:
    """Seconds, or whole segments (rounded half to even, as Python and numpy do) where the protocol counts in them."""
    first, last = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    if protocol.segments_per_second is None:
        return first, last
    return np.rint(first * protocol.segments_per_second), np.rint(last * protocol.segments_per_second)


def _overlaps_ambiguous(
    detections: Detections, video: IntArray, ground_truth: GroundTruth, protocol: Protocol
) -> Bools:
    """`[N]` whether a detection shares time with an Ambiguous interval of its video."""
    start, end = _times(detections.start, detections.end, protocol)
    touched = np.zeros(len(detections), dtype=bool)
    for where, first, last in ground_truth.ambiguous:
        here = np.flatnonzero(video == int(where))
        first, last = _times(first, last, protocol)
        touched[here] |= intersection(start[here], end[here], first, last) > 0
    return touched


def _hits(
    detections: Detections,
    ground_truth: GroundTruth,
    row: IntArray,
    instance: IntArray,
    video: IntArray,
    label: IntArray,
    protocol: Protocol,
    tious: tuple[float, ...],
) -> Bools:
    """`[N, K]` whether each ranked detection is matched at each threshold."""
    classes = len(ground_truth.classes)
    # unlisted videos are group < 0, where no instance is
    ranked = Intervals(
        video[row] * classes + label[row], *_times(detections.start[row], detections.end[row], protocol)
    )
    wanted = Intervals(
        ground_truth.video[instance] * classes + ground_truth.label[instance],
        *_times(ground_truth.start[instance], ground_truth.end[instance], protocol),
    )
    if protocol.matching == "instances":
        pairs = instances_choose(ranked, wanted, tious[0])
        choosers, options = len(wanted), len(ranked)
    else:
        pairs = detections_choose(ranked, wanted, tious[0], protocol.matching, protocol.ties)
        choosers, options = len(ranked), len(wanted)
    hit = np.zeros((len(ranked), len(tious)), dtype=bool)
    for column, threshold in enumerate(tious):
        enough = pairs.overlap > threshold if protocol.strict else pairs.overlap >= threshold
        chosen, taken = match(pairs.select(enough), choosers, options)
        hit[:, column] = taken if protocol.matching == "instances" else chosen
    return hit
