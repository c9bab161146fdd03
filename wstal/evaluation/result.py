"""Results of an evaluation: mAP by tIoU, and the matches behind it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wstal.evaluation.protocols import Protocol
from wstal.evaluation.tiou import tiou_key
from wstal.types import Bools, Floats, IntArray

# Averages that papers print, with the thresholds that each one needs.
AVERAGES: dict[str, tuple[str, ...]] = {
    f"0.{first}:0.{last}": tuple(f"0.{tenth}" for tenth in range(first, last + 1))
    for first, last in ((1, 5), (3, 7), (1, 7), (1, 9))
} | {"0.5:0.95": tuple(tiou_key(percent / 100) for percent in range(50, 100, 5))}


@dataclass(frozen=True, eq=False)
class DetectionMatches:
    """Match of each detection, so that a bootstrap over videos needs no second matching.

    Args:
        detection: `[N]` row in the given detections, sorted class by class, best score first.
        video: `[N]` index into the ground truth's videos, -1 for a video that is not evaluated.
        label: `[N]` index into the ground truth's classes.
        score: `[N]` confidence.
        hit: `[N, K]`, true where the detection is a true positive at each of K tIoU thresholds.
        excused: `[N]`, true where the detection is not counted unless it is a hit.
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
    """Result of one set of detections under one protocol, in fractions (not percent).

    Args:
        protocol: the protocol that was applied.
        tious: K thresholds.
        classes: C class names of the ground truth.
        ap: `[C, K]` average precision, NaN for a class without instance.
        positives: `[C]` number of instances of each class.
        videos: number of evaluated videos, including those without instance.
        instances: number of evaluated instances.
        detections: number of detections that were ranked.
        unlisted: number of detections in videos that are not evaluated: false positives under `anet`, otherwise
            removed.
        dropped: number of detections removed because they overlap an Ambiguous interval.
        flags: matches of the detections.
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
    flags: DetectionMatches

    @cached_property
    def mean_ap(self) -> dict[str, float]:
        """Mean AP over the classes that have an instance, by tIoU threshold (`0.5`)."""
        means = self.ap[self.positives > 0].mean(axis=0)
        return {tiou_key(threshold): float(mean) for threshold, mean in zip(self.tious, means, strict=True)}

    @cached_property
    def averages(self) -> dict[str, float]:
        """Mean mAP by range of thresholds (`0.1:0.7`), for each usual range that was evaluated completely."""
        return {
            name: sum(self.mean_ap[key] for key in keys) / len(keys)
            for name, keys in AVERAGES.items()
            if all(key in self.mean_ap for key in keys)
        }


def to_json(result: EvaluationResult) -> dict[str, Any]:
    """Convert an evaluation to JSON values in percent: mAP, averages, and AP of the classes that have instances.

    Example:
        >>> import numpy as np
        >>> from wstal.evaluation import PROTOCOLS, evaluate
        >>> from wstal.types import Detections, GroundTruth
        >>> zero, start, end = np.array([0]), np.array([1.0]), np.array([3.0])
        >>> truth = GroundTruth(("v",), ("jump",), zero, zero, start, end, ambiguous=np.zeros((0, 3)))
        >>> found = Detections(("v",), ("jump",), zero, zero, start, end, score=np.array([0.9]))
        >>> to_json(evaluate(found, truth, PROTOCOLS["anet"], [0.5]))["per_class"]
        {'jump': {'0.5': 100.0}}
    """
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
