"""Evaluation of detections against ground truth under one or several protocols."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from wstal.errors import UserError
from wstal.evaluation.average_precision import Weights, average_precision, hits_first
from wstal.evaluation.protocols import Protocol
from wstal.evaluation.result import DetectionMatches, EvaluationResult
from wstal.evaluation.sharing import SharedMatching, common_indices
from wstal.evaluation.tiou import check_tious
from wstal.types import Bools, Detections, Floats, GroundTruth, IntArray

BLOCK = 1 << 18  # detections that are matched at once (a few hundred bytes each), or those of one class


def evaluate(
    detections: Detections, ground_truth: GroundTruth, protocol: Protocol, tious: Sequence[float]
) -> EvaluationResult:
    """Evaluate detections under one protocol.

    Detections of a class are sorted by score, then by video name, start and end, so their order in a file has no
    effect. Under the THUMOS14 kit, hits come before misses of the same score, as in the kit itself.

    Args:
        detections: in any order. Classes are matched by name.
        ground_truth: all videos of the evaluated subset. Instances are in file order, which breaks ties.
        protocol: one of `PROTOCOLS`.
        tious: increasing thresholds in (0, 1], for example from `parse_tious`.

    Raises:
        UserError: the protocol does not fit the ground truth, no video or no class is shared, a time or score is not
            finite, or `tious` do not increase within (0, 1].

    Example:
        >>> from wstal.evaluation import PROTOCOLS, parse_tious
        >>> zero, start, end = np.array([0]), np.array([1.0]), np.array([3.0])
        >>> truth = GroundTruth(("v",), ("jump",), zero, zero, start, end, ambiguous=np.zeros((0, 3)))
        >>> found = Detections(("v",), ("jump",), zero, zero, start, end + 1, score=np.array([0.9]))
        >>> evaluate(found, truth, PROTOCOLS["anet"], parse_tious("0.5,0.7")).mean_ap
        {'0.5': 1.0, '0.7': 0.0}
    """
    return evaluate_all(detections, ground_truth, [protocol], tious)[protocol.name]


def evaluate_all(
    detections: Detections, ground_truth: GroundTruth, protocols: Iterable[Protocol], tious: Sequence[float]
) -> dict[str, EvaluationResult]:
    """Evaluate detections under several protocols, which share ranking and matching where their rules allow it.

    Args:
        detections: as for `evaluate`.
        ground_truth: as for `evaluate`.
        protocols: for example `protocols_for(ground_truth)`.
        tious: as for `evaluate`.

    Returns:
        The result of `evaluate` by name of the protocol.

    Raises:
        UserError: as `evaluate`, for any of the protocols.

    Example:
        >>> from wstal.evaluation import protocols_for
        >>> zero, start, end = np.array([0]), np.array([1.0]), np.array([3.0])
        >>> truth = GroundTruth(("v",), ("jump",), zero, zero, start, end, ambiguous=np.zeros((0, 3)))
        >>> found = Detections(("v",), ("jump",), zero, zero, start, end, score=np.array([0.9]))
        >>> results = evaluate_all(found, truth, protocols_for(truth), [0.5])
        >>> {name: result.mean_ap for name, result in results.items()}
        {'anet': {'0.5': 1.0}}
    """
    thresholds = check_tious(tuple(float(threshold) for threshold in tious))
    listed = {protocol: _listed(ground_truth, protocol) for protocol in protocols}
    video, label = common_indices(detections, ground_truth)
    for mask in listed.values():
        _check_overlap(detections, ground_truth, (video >= 0) & mask[video], mask)
    matches: dict[str, list[_Matches]] = {protocol.name: [] for protocol in listed}
    for rows, instances in _blocks_of_classes(label, ground_truth):
        # nothing matches across classes
        shared = SharedMatching(detections.select(rows), ground_truth.select(instances), thresholds)
        for protocol, mask in listed.items():
            matches[protocol.name].append(_match(shared, protocol, mask, rows))
    return {
        protocol.name: _result(matches.pop(protocol.name), ground_truth, protocol, thresholds, mask)
        for protocol, mask in listed.items()
    }


def _listed(ground_truth: GroundTruth, protocol: Protocol) -> Bools:
    """Return `[V]`, true for the videos of the ground truth that the protocol evaluates."""
    if (why := protocol.inapplicable(ground_truth)) is not None:
        raise UserError(f"Protocol {protocol.name} does not apply here: {why}. Choose another protocol.")
    listed = np.array([video not in protocol.excluded_videos for video in ground_truth.videos], dtype=bool)
    if not listed[ground_truth.video].any():
        raise UserError("The evaluated videos have no annotated instance. Choose another subset.")
    return listed


def _check_overlap(detections: Detections, ground_truth: GroundTruth, inside: Bools, listed: Bools) -> None:
    """Raise if there are detections, none of them `inside` a listed video."""
    if len(inside) and not inside.any():
        raise UserError(
            f"Not one of the {len(inside)} detections is in a video that is evaluated: they have "
            f"{detections.videos[detections.video[0]]}, evaluated is {ground_truth.videos[int(np.argmax(listed))]}. "
            "Choose the subset that the detections are for."
        )


def _blocks_of_classes(label: IntArray, ground_truth: GroundTruth) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the detections and the instances of a few classes at a time, in their order.

    `label`: `[N]` class of each detection.
    """
    number = np.bincount(label, minlength=len(ground_truth.classes))
    block = np.cumsum(number) // BLOCK  # of each class
    for one in np.unique(block):
        yield np.flatnonzero(block[label] == one), np.flatnonzero(block[ground_truth.label] == one)


class _Matches(NamedTuple):
    """Columns of `DetectionMatches` for some classes, and how many detections were removed."""

    detection: IntArray
    video: IntArray
    label: IntArray
    score: Floats
    hit: Bools
    excused: Bools
    unlisted: int
    dropped: int


def _match(shared: SharedMatching, protocol: Protocol, listed: Bools, rows: IntArray) -> _Matches:
    """Match the detections of some classes. `rows`: their rows among all."""
    inside = (shared.video >= 0) & listed[shared.video]
    considered = inside if protocol.drops_unlisted else np.ones(len(inside), dtype=bool)
    in_ambiguous = np.zeros(len(inside), dtype=bool)
    if protocol.ambiguous != "count":
        in_ambiguous = shared.ambiguous(protocol.segments_per_second) & inside
    kept = considered & ~in_ambiguous if protocol.ambiguous == "drop" else considered
    place = np.flatnonzero(kept[shared.ranked])
    row = shared.ranked[place]
    return _Matches(
        detection=rows[row],
        video=np.where(inside[row], shared.video[row], -1),
        label=shared.label[row],
        score=shared.detections.score[row].astype(np.float64),
        hit=shared.hits(protocol)[place] & inside[row, None],
        excused=in_ambiguous[row],
        unlisted=int((~inside).sum()),
        dropped=int((considered & ~kept).sum()),
    )


def _result(
    parts: list[_Matches], ground_truth: GroundTruth, protocol: Protocol, tious: tuple[float, ...], listed: Bools
) -> EvaluationResult:
    instance = np.flatnonzero(listed[ground_truth.video])
    detection, video, label, score, hit, excused, unlisted, dropped = zip(*parts, strict=True)
    flags = DetectionMatches(
        detection=np.concatenate(detection),
        video=np.concatenate(video),
        label=np.concatenate(label),
        score=np.concatenate(score),
        hit=np.concatenate(hit),
        excused=np.concatenate(excused),
        instance_video=ground_truth.video[instance],
        instance_label=ground_truth.label[instance],
    )
    return EvaluationResult(
        protocol=protocol,
        tious=tious,
        classes=ground_truth.classes,
        ap=class_average_precision(flags, len(ground_truth.classes), protocol),
        positives=np.bincount(flags.instance_label, minlength=len(ground_truth.classes)),
        videos=int(listed.sum()),
        instances=len(instance),
        detections=len(flags.detection),
        unlisted=sum(unlisted),
        dropped=sum(dropped),
        flags=flags,
    )


def class_average_precision(
    flags: DetectionMatches, classes: int, protocol: Protocol, video_weight: Weights | None = None
) -> Floats:
    """Compute the average precision of every class from the matches of an evaluation.

    Args:
        flags: matches of the detections, `EvaluationResult.flags`.
        classes: C, number of classes.
        protocol: the protocol that the matches were made under.
        video_weight: `[V]`, how often each video of the ground truth counts, for a bootstrap over videos. None: once.
            Detections in videos that are not evaluated count once.

    Returns:
        `[C, K]` fractions, NaN for a class whose instances have no weight.

    Example:
        >>> from wstal.evaluation import PROTOCOLS
        >>> zero = np.array([0])
        >>> flags = DetectionMatches(
        ...     detection=zero, video=zero, label=zero, score=np.ones(1), hit=np.array([[True, False]]),
        ...     excused=np.array([False]), instance_video=zero, instance_label=zero,
        ... )
        >>> class_average_precision(flags, 1, PROTOCOLS["anet"]).tolist()
        [[1.0, 0.0]]
    """
    weight, instance_weight = np.ones(len(flags.video)), None
    if video_weight is not None:
        weight, instance_weight = np.append(video_weight, 1.0)[flags.video], video_weight[flags.instance_video]
    positives = np.bincount(flags.instance_label, instance_weight, minlength=classes)
    bounds = np.searchsorted(flags.label, np.arange(classes + 1))
    ap = np.full((classes, flags.hit.shape[1]), np.nan)
    for label in np.flatnonzero(positives > 0):
        here = slice(bounds[label], bounds[label + 1])
        hit, excused = flags.hit[here], flags.excused[here]
        if protocol.precision != "eleven-point":
            ap[label] = average_precision(hit, None, positives[label], protocol.precision, weight[here])
            continue
        for column in range(hit.shape[1]):
            order = hits_first(flags.score[here], hit[:, column])
            one, counted = hit[order, column, None], hit[order, column, None] | ~excused[order, None]
            ap[label, column] = average_precision(
                one, counted, positives[label], protocol.precision, weight[here][order]
            )[0]
    return ap
