"""Where the classes of proposals come from that have none: a file, or the annotations as an oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from harness.data.source import DataSource
from wstal.errors import UserError
from wstal.localize import LocalizerSpec
from wstal.localize.spec import FILE_CLASSES, TRUE_CLASSES
from wstal.types import Floats, SnippetScores


def class_source(spec: LocalizerSpec, source: DataSource) -> Callable[[SnippetScores], SnippetScores]:
    """Return what adds the class scores that a localizer names and that no method gives.

    Args:
        spec: the localizer's settings.
        source: the data set.

    Raises:
        UserError: it has no such scores.
    """
    if spec.given is None or spec.class_score not in (FILE_CLASSES, TRUE_CLASSES):
        return lambda scores: scores
    name = spec.class_score
    known = source.class_scores() if name == FILE_CLASSES else _true_classes(source)
    none = np.zeros(len(source.classes))
    return lambda scores: replace(scores, class_scores={**scores.class_scores, name: known.get(scores.video, none)})


def _true_classes(source: DataSource) -> dict[str, Floats]:
    """Return 1 for each class that is annotated in a test video, 0 for the others."""
    truth = source.ground_truth("test")
    if not len(truth):
        raise UserError("localizer.class_score=true takes the classes of the ground truth, which the test videos lack.")
    found = np.zeros((len(truth.videos), len(source.classes)))
    found[truth.video, truth.label] = 1
    return dict(zip(truth.videos, found, strict=True))
