"""The evaluator equals the plain reference on random problems, and keeps what an evaluator has to keep.

Times are multiples of 1/8 s from a small range, so that equal scores, equal tIoUs and empty segments are common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.oracles import (
    WRONG_VIDEOS,
    AmbiguousRow,
    DetectionRow,
    InstanceRow,
    reference_average_precision,
)
from wstal.evaluation import (
    PROTOCOLS,
    DetectionMatches,
    EvaluationResult,
    Protocol,
    class_average_precision,
    evaluate,
    evaluate_all,
)
from wstal.types import Detections, GroundTruth

VIDEOS = ("video_test_0000004", "video_test_0000006", "video_test_0000011", *WRONG_VIDEOS)
UNLISTED = "video_test_0000999"
CLASSES = ("Billiards", "Diving", "Shotput")
# on a few of THUMOS14's videos
APPLICABLE = {name: protocol for name, protocol in PROTOCOLS.items() if protocol.defined_on != "activitynet13"}
TIOUS = (0.1, 0.25, 0.3, 0.5, 0.75)

times = st.integers(0, 64).map(lambda eighths: eighths / 8)
lengths = st.integers(1, 24).map(lambda eighths: eighths / 8)


@st.composite
def instances(draw: st.DrawFn, at_most: int = 14) -> list[InstanceRow]:
    def one() -> InstanceRow:
        start = draw(times)
        # the first class has no instance in any problem; a length of 0 occurs in ActivityNet
        end = start + draw(st.one_of(lengths, st.just(0.0)))
        return draw(st.sampled_from(VIDEOS)), draw(st.sampled_from(CLASSES[1:])), start, end

    rows = [one() for _ in range(draw(st.integers(1, at_most)))]
    rows[0] = (VIDEOS[0], *rows[0][1:])
    return sorted(rows, key=lambda row: VIDEOS.index(row[0]))


@st.composite
def detections(draw: st.DrawFn, wanted: Sequence[InstanceRow], at_most: int = 20) -> list[DetectionRow]:
    rows: list[DetectionRow] = []
    for _ in range(draw(st.integers(1, at_most))):
        video, label, start, end = draw(st.sampled_from(wanted))
        if draw(st.booleans()):
            start = draw(times)
            end = start + draw(lengths)
        if draw(st.integers(0, 4)) == 0:
            video, label = draw(st.sampled_from((*VIDEOS, UNLISTED))), draw(st.sampled_from(CLASSES))
        rows.append((video, label, start, max(end, start + 0.125), draw(st.integers(-2, 5)) / 4))
    rows[0] = (VIDEOS[0], *rows[0][1:])
    return rows


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[InstanceRow], list[AmbiguousRow], list[DetectionRow]]:
    wanted = draw(instances())
    ambiguous = [
        (draw(st.sampled_from(VIDEOS)), start, start + draw(lengths))
        for start in draw(st.lists(times, min_size=1, max_size=3))
    ]
    return wanted, ambiguous, draw(detections(wanted))


def truth_of(rows: Sequence[InstanceRow], ambiguous: Sequence[AmbiguousRow] = ()) -> GroundTruth:
    return GroundTruth(
        videos=VIDEOS,
        classes=CLASSES,
        video=np.array([VIDEOS.index(row[0]) for row in rows], dtype=np.int64),
        label=np.array([CLASSES.index(row[1]) for row in rows], dtype=np.int64),
        start=np.array([row[2] for row in rows]),
        end=np.array([row[3] for row in rows]),
        ambiguous=np.array([(VIDEOS.index(v), s, e) for v, s, e in ambiguous], dtype=float).reshape(-1, 3),
    )


def detected(rows: Sequence[DetectionRow]) -> Detections:
    videos = tuple(dict.fromkeys(row[0] for row in rows))
    classes = tuple(dict.fromkeys(row[1] for row in rows))
    return Detections(
        videos=videos,
        classes=classes,
        video=np.array([videos.index(row[0]) for row in rows], dtype=np.int64),
        label=np.array([classes.index(row[1]) for row in rows], dtype=np.int64),
        start=np.array([row[2] for row in rows], dtype=float),
        end=np.array([row[3] for row in rows], dtype=float),
        score=np.array([row[4] for row in rows], dtype=float),
    )


def by_class(result: EvaluationResult) -> dict[str, list[float]]:
    return {
        name: row.tolist()
        for name, row, positives in zip(result.classes, result.ap, result.positives, strict=True)
        if positives
    }


@pytest.mark.parametrize("protocol", APPLICABLE)
@settings(max_examples=100)
@given(problem=problems())
def test_equals_the_plain_reference(
    protocol: str, problem: tuple[list[InstanceRow], list[AmbiguousRow], list[DetectionRow]]
) -> None:
    wanted, ambiguous, rows = problem

    result = evaluate(detected(rows), truth_of(wanted, ambiguous), PROTOCOLS[protocol], TIOUS)

    expected = reference_average_precision(protocol, rows, wanted, ambiguous, TIOUS, VIDEOS)
    assert by_class(result).keys() == expected.keys()
    for label, values in by_class(result).items():
        np.testing.assert_allclose(values, expected[label], rtol=0, atol=1e-12, err_msg=label)
        assert all(0 <= value <= 1 + 1e-12 for value in values)


@settings(max_examples=100)
@given(problem=problems(), order=st.permutations(list(APPLICABLE.values())))
def test_protocols_that_share_a_matching_leave_no_trace_in_each_other(
    problem: tuple[list[InstanceRow], list[AmbiguousRow], list[DetectionRow]], order: list[Protocol]
) -> None:
    wanted, ambiguous, rows = problem
    truth, found = truth_of(wanted, ambiguous), detected(rows)

    together = evaluate_all(found, truth, order, TIOUS)

    assert list(together) == [protocol.name for protocol in order]
    for protocol in order:
        shared, alone = together[protocol.name], evaluate(found, truth, protocol, TIOUS)
        assert counts(shared) == counts(alone)
        np.testing.assert_array_equal(shared.ap, alone.ap)
        for field in fields(DetectionMatches):
            np.testing.assert_array_equal(getattr(shared.flags, field.name), getattr(alone.flags, field.name))
        expected = reference_average_precision(protocol.name, rows, wanted, ambiguous, TIOUS, VIDEOS)
        for label, values in by_class(shared).items():
            np.testing.assert_allclose(values, expected[label], rtol=0, atol=1e-12, err_msg=label)


@settings(max_examples=50)
@given(problem=problems(), block=st.integers(1, 8))
def test_classes_matched_in_blocks_or_at_once_are_the_same(
    problem: tuple[list[InstanceRow], list[AmbiguousRow], list[DetectionRow]], block: int
) -> None:
    wanted, ambiguous, rows = problem
    truth, found = truth_of(wanted, ambiguous), detected(rows)

    at_once = evaluate_all(found, truth, APPLICABLE.values(), TIOUS)
    with mock.patch("wstal.evaluation.evaluate.BLOCK", block):
        in_blocks = evaluate_all(found, truth, APPLICABLE.values(), TIOUS)

    for name, one in at_once.items():
        other = in_blocks[name]
        assert counts(one) == counts(other)
        np.testing.assert_array_equal(one.ap, other.ap)
        np.testing.assert_array_equal(one.positives, other.positives)
        for field in fields(DetectionMatches):
            column = getattr(other.flags, field.name)
            assert column.dtype == getattr(one.flags, field.name).dtype
            np.testing.assert_array_equal(getattr(one.flags, field.name), column)


def counts(result: EvaluationResult) -> tuple[int, ...]:
    return result.videos, result.instances, result.detections, result.unlisted, result.dropped


@pytest.mark.parametrize("protocol", APPLICABLE)
@settings(max_examples=30)
@given(problem=problems())
def test_a_threshold_alone_gives_the_same_bits_as_among_others(
    protocol: str, problem: tuple[list[InstanceRow], list[AmbiguousRow], list[DetectionRow]]
) -> None:
    wanted, ambiguous, rows = problem
    truth, found = truth_of(wanted, ambiguous), detected(rows)
    among = evaluate(found, truth, PROTOCOLS[protocol], TIOUS).ap
    for column, tiou in enumerate(TIOUS):
        np.testing.assert_array_equal(evaluate(found, truth, PROTOCOLS[protocol], (tiou,)).ap[:, 0], among[:, column])


@settings(max_examples=40)
@given(data=st.data())
def test_equals_the_plain_reference_where_the_released_sort_is_unstable(data: st.DataObject) -> None:
    wanted = [(VIDEOS[0], CLASSES[1], s, s + length) for s, length in data.draw(many)]
    rows = data.draw(detections(wanted, at_most=40))

    result = evaluate(detected(rows), truth_of(wanted), PROTOCOLS["anet"], TIOUS)

    expected = reference_average_precision("anet", rows, wanted, [], TIOUS, VIDEOS)
    np.testing.assert_allclose(by_class(result)[CLASSES[1]], expected[CLASSES[1]], rtol=0, atol=1e-12)


many = st.lists(st.tuples(times, st.sampled_from([0.25, 0.5, 1.0])), min_size=17, max_size=60)


@pytest.mark.parametrize("protocol", APPLICABLE)
@settings(max_examples=30)
@given(problem=problems(), data=st.data())
def test_the_order_of_detections_decides_nothing(
    protocol: str, problem: tuple[list[InstanceRow], list[AmbiguousRow], list[DetectionRow]], data: st.DataObject
) -> None:
    wanted, ambiguous, rows = problem
    truth = truth_of(wanted, ambiguous)

    shuffled = data.draw(st.permutations(rows))

    np.testing.assert_array_equal(
        evaluate(detected(shuffled), truth, PROTOCOLS[protocol], TIOUS).ap,
        evaluate(detected(rows), truth, PROTOCOLS[protocol], TIOUS).ap,
    )


@given(wanted=instances())
def test_perfect_detections_give_one(wanted: list[InstanceRow]) -> None:
    wanted = [(video, label, start, max(end, start + 0.125)) for video, label, start, end in wanted]
    rows = [(*row, 0.5) for row in wanted]
    for name in ("anet", "anet-212", "thumos14-kit-2014"):
        ap = evaluate(detected(rows), truth_of(wanted, [(VIDEOS[2], 90.0, 91.0)]), PROTOCOLS[name], (0.5, 0.9)).ap
        np.testing.assert_allclose(ap[~np.isnan(ap)], 1.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("protocol", APPLICABLE)
@settings(max_examples=30)
@given(problem=problems(), data=st.data())
def test_a_false_detection_of_the_lowest_score_raises_nothing(
    protocol: str, problem: tuple[list[InstanceRow], list[AmbiguousRow], list[DetectionRow]], data: st.DataObject
) -> None:
    wanted, ambiguous, rows = problem
    truth = truth_of(wanted, ambiguous)
    before = evaluate(detected(rows), truth, PROTOCOLS[protocol], TIOUS).ap
    # far from every instance: it can only be false
    extra = (data.draw(st.sampled_from(VIDEOS)), data.draw(st.sampled_from(CLASSES)), 500.0, 501.0, -9.0)

    after = evaluate(detected([*rows, extra]), truth, PROTOCOLS[protocol], TIOUS).ap

    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)


@settings(max_examples=30)
@given(problem=problems())
def test_a_false_detection_of_the_highest_score_raises_nothing(
    problem: tuple[list[InstanceRow], list[AmbiguousRow], list[DetectionRow]],
) -> None:
    wanted, ambiguous, rows = problem
    truth = truth_of(wanted, ambiguous)
    for protocol in APPLICABLE.values():
        before = evaluate(detected(rows), truth, protocol, TIOUS).ap
        after = evaluate(detected([*rows, (VIDEOS[0], CLASSES[1], 500.0, 501.0, 9.0)]), truth, protocol, TIOUS).ap
        assert (np.nan_to_num(after) <= np.nan_to_num(before) + 1e-12).all()


@settings(max_examples=30)
@given(problem=problems(), shift=st.sampled_from([0.125, 16.0, 1024.0]), scale=st.sampled_from([0.25, 2.0, 64.0]))
def test_shift_and_scale_of_time_change_nothing(
    problem: tuple[list[InstanceRow], list[AmbiguousRow], list[DetectionRow]], shift: float, scale: float
) -> None:
    wanted, _, rows = problem
    truth, found = truth_of(wanted), detected(rows)

    moved = (
        replace(found, start=found.start * scale + shift, end=found.end * scale + shift),
        replace(truth, start=truth.start * scale + shift, end=truth.end * scale + shift),
    )

    np.testing.assert_array_equal(
        evaluate(*moved, PROTOCOLS["anet"], TIOUS).ap, evaluate(found, truth, PROTOCOLS["anet"], TIOUS).ap
    )


@pytest.mark.parametrize("protocol", APPLICABLE)
@settings(max_examples=30)
@given(problem=problems(), chosen=st.sets(st.sampled_from(VIDEOS[1:3])))
def test_flags_weighted_by_video_equal_an_evaluation_of_those_videos(
    protocol: str, problem: tuple[list[InstanceRow], list[AmbiguousRow], list[DetectionRow]], chosen: set[str]
) -> None:
    wanted, ambiguous, rows = problem
    keep = {VIDEOS[0], *chosen}
    rows = [row for row in rows if row[0] in set(VIDEOS) - PROTOCOLS[protocol].excluded_videos]
    result = evaluate(detected(rows), truth_of(wanted, ambiguous), PROTOCOLS[protocol], TIOUS)
    weight = np.array([float(video in keep) for video in VIDEOS])

    weighted = class_average_precision(result.flags, len(CLASSES), PROTOCOLS[protocol], weight)

    alone = evaluate(
        detected([row for row in rows if row[0] in keep]),
        truth_of([row for row in wanted if row[0] in keep], ambiguous),
        PROTOCOLS[protocol],
        TIOUS,
    )
    np.testing.assert_allclose(weighted, alone.ap, rtol=0, atol=1e-12)
