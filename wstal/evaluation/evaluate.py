"""Evaluate detections against ground truth under one protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from wstal.errors import UserError
from wstal.evaluation.average_precision import Weights, average_precision, hits_first
from wstal.evaluation.matching import Bools, Intervals, detections_choose, instances_choose, match, stable_order
from wstal.evaluation.protocols import Protocol
from wstal.evaluation.result import EvaluationResult, Flags
from wstal.evaluation.tiou import Floats, check_tious, intersection
from wstal.types import Detections, GroundTruth, IntArray


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
    flags: Flags, classes: int, protocol: Protocol, video_weight: Weights | None = None
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
            ap[label] = average_precision(hit, None, positives[label], protocol.precision, here_weight)
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
    score = detections.score[row]
    order = np.argsort(-score)
    order = order[stable_order(label[row][order])]
    row, score = row[order], score[order]
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
    # videos that are not listed (-1) make the first groups, where no instance is
    ranked = Intervals(
        (video[row] + 1) * classes + label[row], *_times(detections.start[row], detections.end[row], protocol)
    )
    wanted = Intervals(
        (ground_truth.video[instance] + 1) * classes + ground_truth.label[instance],
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
