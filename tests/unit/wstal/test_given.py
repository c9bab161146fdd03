"""Proposals that a method gives, beside a plain loop; their classes; and what localizers refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from wstal.errors import UserError
from wstal.localize import GivenProposals, LocalizerSpec, Nms, ProposalSource, SoftSuppression, localize
from wstal.localize.given import soft_suppression
from wstal.localize.nms import Rows, soft_nms
from wstal.types import SnippetScores

RNG = np.random.default_rng(0)
GAUSSIAN, WIDTH = SoftSuppression(sigma=0.4), SoftSuppression(sigma=0.4, low=0.5, high=0.9)


def plain(rows: list[tuple[float, float, float]], rule: SoftSuppression, keep: int, length: float) -> list[list[float]]:
    """The rule, one proposal after the other."""
    left = [list(row) for row in rows]
    taken: list[list[float]] = []
    while left and len(taken) < keep:
        best = max(left, key=lambda row: row[2])
        left.remove(best)
        taken.append(best)
        for row in left:
            shared = max(0.0, min(row[1], best[1]) - max(row[0], best[0]))
            iou = shared / (row[1] - row[0] + best[1] - best[0] - shared)
            bound = 0.0 if rule.low is None else rule.low + (rule.high - rule.low) * (best[1] - best[0]) / length
            if iou > bound:
                row[2] *= math.exp(-(iou**2) / rule.sigma)
    return taken


@pytest.mark.parametrize("rule", [GAUSSIAN, WIDTH], ids=lambda rule: rule.kind)
@pytest.mark.parametrize("keep", [7, 100])
def test_suppression_is_the_plain_loop(rule: SoftSuppression, keep: int) -> None:
    start = RNG.random(40) * 50
    end, score = start + 1 + RNG.random(40) * 20, RNG.random(40) + 0.01
    index, left = soft_suppression(start, end, score, rule, keep, length=70.0)
    expected = plain(list(zip(start, end, score, strict=True)), rule, keep, 70.0)
    np.testing.assert_allclose(np.column_stack([start[index], end[index], left]), expected, rtol=1e-12)


def test_the_gaussian_rule_is_the_localizers_soft_nms_without_a_limit() -> None:
    start = RNG.random(30) * 20
    end, score, none = start + 1 + RNG.random(30) * 9, RNG.random(30), np.zeros(30, dtype=np.int64)
    index, left = soft_suppression(start, end, score, GAUSSIAN, keep=30)
    expected = soft_nms(Rows(start, end, score, none, np.zeros(30)), sigma=0.4)
    np.testing.assert_array_equal(index, expected[0])
    np.testing.assert_allclose(left, expected[1], rtol=1e-12)


def test_scores_of_0_are_never_taken() -> None:
    index, left = soft_suppression(np.zeros(3), np.ones(3), np.zeros(3), GAUSSIAN, keep=3)
    assert (len(index), len(left)) == (0, 0)


def found(proposals: np.ndarray, given: GivenProposals, class_score: str | None = None, **scores: np.ndarray):
    spec = LocalizerSpec(class_threshold=0.0, given=given, class_score=class_score)
    one = SnippetScores(
        "v", {"cas": np.zeros((10, 3))}, np.array([0.2, 0.7, 0.1]), 0.5, 0.25, scores, proposals=proposals
    )
    detections = localize([one], spec, ("a", "b", "c"))
    columns = (detections.label, detections.start, detections.end, detections.score)
    return [tuple(np.round(row, 6).tolist()) for row in zip(*columns, strict=True)]


FREE = np.array([[2.0, 6.0, 0.5, -1]])


def test_proposals_of_no_class_get_the_best_classes_of_the_video() -> None:
    times = (0.25 + 1.0, 0.25 + 3.0)
    assert found(FREE, GivenProposals()) == [(0, *times, 0.1), (1, *times, 0.35)]
    assert found(FREE, GivenProposals(classes=1)) == [(1, *times, 0.35)]
    other = {"file": np.array([0.0, 0.0, 1.8])}
    assert found(FREE, GivenProposals(), "file", **other) == [(2, *times, 0.9)]  # no copy of a class that scores 0


def test_an_oracle_knows_all_classes() -> None:
    true = {"true": np.array([1.0, 1.0, 1.0])}
    assert [row[0] for row in found(FREE, GivenProposals(classes=1), "true", **true)] == [0, 1, 2]


def test_proposals_of_a_class_keep_it_and_the_best_stay() -> None:
    own = np.array([[0.0, 2.0, 0.5, 2], [4.0, 6.0, 0.9, 0], [7.0, 8.0, 0.1, 1]])
    rows = found(own, GivenProposals(classes=0, keep=2))
    assert [(row[0], row[3]) for row in rows] == [(0, 0.9), (2, 0.5)]


def test_the_title_names_the_source_of_classes() -> None:
    def note(class_score: str | None, classes: int = 2) -> str:
        given = GivenProposals(classes=classes)
        return LocalizerSpec(class_threshold=0.0, given=given, class_score=class_score).title_note

    assert note(None) == ", own video classifier"
    assert note("file") == ", classes of a score file"
    assert note("true") == ", true classes (oracle)"
    assert note("stream0") == ", class scores 'stream0'"
    assert note(None, classes=0) == ""
    source = ProposalSource(signal="cas", thresholds=(0.5,), score={"cas": 1.0})
    assert LocalizerSpec(class_threshold=0.0, sources=(source,), nms=Nms()).title_note == ""


def test_settings_take_sources_or_given_proposals() -> None:
    source = ProposalSource(signal="cas", thresholds=(0.5,), score={"cas": 1.0})
    for settings in ({}, {"sources": (source,), "given": GivenProposals()}):
        with pytest.raises(ValidationError, match="Expected `sources`, or `given`"):
            LocalizerSpec(class_threshold=0.0, **settings)
    with pytest.raises(ValidationError, match="to be set together"):
        SoftSuppression(sigma=0.4, low=0.5)


@pytest.mark.parametrize(
    ("proposals", "message"),
    [
        (None, "the scores of video 'v' have none"),
        (np.zeros((2, 3)), r"to be \[P, 4\], got \(2, 3\)"),
        (np.full((1, 4), np.nan), "Proposals of video 'v' are not finite"),
    ],
)
def test_bad_proposals_are_a_message(proposals: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        found(proposals, GivenProposals())
