"""Evaluation problems at the sizes of the field."""

from __future__ import annotations

import numpy as np

from wstal.evaluation.protocols import THUMOS14_CLASSES
from wstal.types import Detections, GroundTruth


def problem(videos: int, classes: int, instances: int, detections: int) -> tuple[GroundTruth, Detections]:
    """Random ground truth of one class a video, and detections of which half lie near an instance."""
    rng = np.random.default_rng(0)
    of_video = np.arange(videos) % classes
    video = np.sort(np.concatenate([np.arange(videos), rng.integers(0, videos, instances - videos)]))
    start = np.round(rng.uniform(0, 200, instances), 1)
    end = np.round(start + rng.exponential(4.0, instances) + 0.3, 1)
    names = tuple(f"video_test_{index:07d}" for index in range(videos))
    # 20 classes are THUMOS14's, whose protocols ask for them
    thumos14 = classes == len(THUMOS14_CLASSES)
    labels = tuple(sorted(THUMOS14_CLASSES)) if thumos14 else tuple(f"class {index:03d}" for index in range(classes))
    truth = GroundTruth(names, labels, video, of_video[video], start, end, ambiguous=np.zeros((0, 3)))
    near = rng.integers(0, instances, detections)
    length = end[near] - start[near]
    shift = np.where(
        rng.random(detections) < 0.5, rng.normal(0, 0.3, detections) * length, rng.normal(0, 60, detections)
    )
    first = np.maximum(start[near] + shift, 0)
    return truth, Detections(
        names,
        labels,
        video[near],
        np.where(rng.random(detections) < 0.8, of_video[video[near]], rng.integers(0, classes, detections)),
        first,
        first + length * np.exp(rng.normal(0, 0.4, detections)) + 0.05,
        score=rng.random(detections),
    )
