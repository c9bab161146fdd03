"""Detections from proposals that a method gives itself: soft suppression of a whole video's, then their classes."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from wstal.spec import Count, Spec
from wstal.types import FloatArray, Floats, IntArray


class SoftSuppression(Spec):
    """Decay of the scores of proposals that overlap a better one by exp(-IoU^2 / sigma).

    Example:
        >>> SoftSuppression(sigma=0.4, low=0.5, high=0.9).kind
        'width'
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    sigma: float = Field(gt=0)
    """Width of the decay."""
    low: float | None = Field(default=None, ge=0, le=1)
    """Decay only above an IoU of low + (high - low) times the better one's share of the video (BSN, BMN). None: any
    overlap decays (G-TAD)."""
    high: float | None = Field(default=None, ge=0, le=1)
    """IoU above which only a better proposal as long as the video lets others decay."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError("Expected `low` and `high` to be set together, got one of them")
        return self

    @property
    def kind(self) -> Literal["gaussian", "width"]:
        """Rule: of any overlap, or of one above a threshold by width."""
        return "gaussian" if self.low is None else "width"


class GivenProposals(Spec):
    """Settings of proposals that a method gives itself (`Scores.proposals`).

    Example:
        >>> GivenProposals(classes=1).keep
        200
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    suppression: SoftSuppression | None = None
    """Suppression of a video's proposals of any class, before they get classes. None: they stay as the method gives
    them."""
    keep: Count = 200
    """Proposals of a video that stay, the best ones."""
    classes: int = Field(default=2, ge=0, le=100)
    """Best classes of the video that each proposal of no class is reported with, each weighed by the class's score. 0:
    the method gives every proposal its class."""


def soft_suppression(
    start: FloatArray, end: FloatArray, score: FloatArray, rule: SoftSuppression, keep: int, length: float = 1.0
) -> tuple[IntArray, Floats]:
    """Take the best proposal, let the scores of those that overlap it decay, then take the best of these, and so on.

    Args:
        start: `[P]`.
        end: `[P]`.
        score: `[P]`, not below 0. A proposal whose score is 0 is never taken.
        rule: which scores decay.
        keep: proposals to take.
        length: of the video, in the unit of start and end.

    Returns:
        `[K]` indices in the order in which they were taken, and `[K]` their decayed scores, highest first.

    Example:
        >>> start, end, score = np.array([0.0, 0.5, 5.0]), np.array([2.0, 2.0, 6.0]), np.array([0.6, 0.9, 0.3])
        >>> index, left = soft_suppression(start, end, score, SoftSuppression(sigma=0.3), keep=2)
        >>> index.tolist(), left.round(3).tolist()
        ([1, 2], [0.9, 0.3])
    """
    # equal scores: the earlier start, then the earlier end
    order = np.lexsort((end, start))
    start, end, left = (np.asarray(column, dtype=np.float64)[order] for column in (start, end, score))
    left = left.copy()
    taken: list[int] = []
    scores: list[float] = []
    while len(taken) < keep and len(left):
        best = int(left.argmax())
        if left[best] <= 0:
            break
        taken.append(best)
        scores.append(left[best])
        left[best] = 0
        shared = np.maximum(np.minimum(end, end[best]) - np.maximum(start, start[best]), 0.0)
        iou = shared / np.maximum((end - start) - shared + end[best] - start[best], np.finfo(np.float64).tiny)
        bound = 0.0
        if rule.low is not None and rule.high is not None:
            bound = rule.low + (rule.high - rule.low) * ((end[best] - start[best]) / length)
        hit = np.flatnonzero(iou > bound)
        left[hit] *= np.exp(-np.square(iou[hit]) / rule.sigma)
    return order[np.array(taken, dtype=np.int64)], np.array(scores, dtype=np.float64)


def classified(
    proposals: FloatArray, class_scores: FloatArray, spec: GivenProposals, length: float
) -> tuple[IntArray, Floats, Floats, Floats]:
    """Return label, start, end and score of a video's detections.

    Args:
        proposals: `[P, 4]` as `Scores.proposals`.
        class_scores: `[C]` of the video.
        spec: the settings.
        length: rows of the video.

    Example:
        >>> found = classified(np.array([[1.0, 3.0, 0.5, -1.0]]), np.array([0.2, 0.8]), GivenProposals(classes=1), 9.0)
        >>> [column.tolist() for column in found]
        [[1], [1.0], [3.0], [0.4]]
    """
    start, end, score, label = np.asarray(proposals, dtype=np.float64).T
    if spec.suppression is None:
        order = np.lexsort((end, start, -score))[: spec.keep]
        score = score[order]
    else:
        order, score = soft_suppression(start, end, score, spec.suppression, spec.keep, length)
    start, end, label = start[order], end[order], label[order].astype(np.int64)
    known, free = np.flatnonzero(label >= 0), np.flatnonzero(label < 0)
    best = np.argsort(-class_scores, kind="stable")[: spec.classes]
    best = best[class_scores[best] > 0]
    rows = np.concatenate([known, np.repeat(free, len(best))])
    labels = np.concatenate([label[known], np.tile(best, len(free))])
    weight = np.concatenate([np.ones(len(known)), np.tile(class_scores[best], len(free))])
    return labels, start[rows], end[rows], score[rows] * weight
