"""What an evaluation says: numbers by tIoU, and the flags behind them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wstal.evaluation.matching import Bools
from wstal.evaluation.protocols import Protocol
from wstal.evaluation.tiou import Floats, tiou_key
from wstal.types import IntArray

# The averages that papers print, by name: the thresholds that all have to be there.
AVERAGES: dict[str, tuple[str, ...]] = {
    f"0.{first}:0.{last}": tuple(f"0.{tenth}" for tenth in range(first, last + 1))
    for first, last in ((1, 5), (3, 7), (1, 7), (1, 9))
} | {"0.5:0.95": tuple(tiou_key(percent / 100) for percent in range(50, 100, 5))}


@dataclass(frozen=True, eq=False)
class DetectionMatches:
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
    flags: DetectionMatches

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
