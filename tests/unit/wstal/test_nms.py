"""Suppression worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.localizing import hard_decayed_nms, hard_nms, soft_nms
from wstal.localize.nms import overlap

A = np.array


@pytest.mark.parametrize(
    ("kind", "plus", "expected"),
    [
        ("iou", 0.0, [2 / 8, 0.0, 1.0, 0.0]),
        ("iou", 1.0, [3 / 9, 1 / 10, 1.0, 0.0]),  # touching intervals share the second that is added
        ("own", 0.0, [2 / 4, 0.0, 1.0, 0.0]),
        ("own", 1.0, [3 / 5, 1 / 4, 1.0, 0.0]),
    ],
)
def test_overlap_conventions(kind: str, plus: float, expected: list[float]) -> None:
    start, end = A([4.0, 6.0, 0.0, 20.0]), A([8.0, 9.0, 6.0, 21.0])
    better_start, better_end = np.zeros(4), np.full(4, 6.0)
    found = overlap(start, end, better_start, better_end, kind, plus)
    assert found.tolist() == pytest.approx(expected)


def test_overlap_of_instants_is_zero() -> None:
    assert overlap(A([1.0]), A([1.0]), A([1.0]), A([1.0])).tolist() == [0.0]


def test_hard_keeps_what_only_a_removed_row_overlaps() -> None:
    # 0 beats 1 (IoU 1/2), which would have beaten 2; 0 and 2 are apart (IoU 1/5).
    start, end, score = A([0.0, 1.0, 2.0]), A([3.0, 4.0, 5.0]), A([0.9, 0.8, 0.7])
    assert hard_nms(start, end, score, np.zeros(3, int), threshold=0.5).tolist() == [0, 2]


def test_hard_removes_at_the_threshold_itself() -> None:
    start, end, score, group = A([0.0, 5.0]), A([10.0, 10.0]), A([0.1, 0.2]), np.zeros(2, int)
    assert hard_nms(start, end, score, group, threshold=0.5).tolist() == [1]
    assert hard_nms(start, end, score, group, threshold=np.nextafter(0.5, 1)).tolist() == [1, 0]


def test_what_hard_removes_comes_back_decayed_by_the_best_that_removed_it() -> None:
    # 0 (score 3) removes 1 (IoU 4/6) and 2 is removed by 0 (IoU 1/2) before 3 (IoU 3/4) is; 3 stays (IoU 1/4 with 0)
    start, end, score = A([0.0, 1.0, 0.0, 3.0]), A([5.0, 6.0, 10.0, 10.0]), A([3.0, 2.0, 1.0, 1.5])
    rows, decayed = hard_decayed_nms(start, end, score, np.zeros(4, int), threshold=0.5, sigma=0.35)
    values = dict(zip(rows.tolist(), decayed.tolist(), strict=True))
    assert values[0] == 3.0
    assert values[3] == 1.5
    assert values[1] == pytest.approx(2 * np.exp(-((4 / 6) ** 2) / 0.35))
    assert values[2] == pytest.approx(np.exp(-(0.5**2) / 0.35))


def test_own_overlap_depends_on_who_is_better() -> None:
    start, end, group = A([0.0, 4.0]), A([10.0, 6.0]), np.zeros(2, int)
    assert hard_nms(start, end, A([2.0, 1.0]), group, threshold=0.5, kind="own").tolist() == [0]
    assert hard_nms(start, end, A([1.0, 2.0]), group, threshold=0.5, kind="own").tolist() == [1, 0]


def test_ties_go_to_the_earlier_start_and_then_to_the_earlier_end() -> None:
    start, end = A([1.0, 0.0, 0.0]), A([5.0, 5.0, 4.0])
    assert hard_nms(start, end, np.ones(3), np.zeros(3, int), threshold=0.3).tolist() == [2]
    assert hard_nms(start, end, np.ones(3), np.zeros(3, int), threshold=1.0).tolist() == [2, 1, 0]


def test_groups_do_not_meet() -> None:
    start, end, score, group = np.zeros(4), np.ones(4), A([0.1, 0.2, 0.3, 0.4]), A([7, 2, 7, 2])
    assert hard_nms(start, end, score, group, threshold=0.5).tolist() == [3, 2]
    taken, decayed = soft_nms(start, end, score, group, sigma=0.5)
    assert taken.tolist() == [3, 1, 2, 0]
    assert decayed == pytest.approx([0.4, 0.2 * np.exp(-2), 0.3, 0.1 * np.exp(-2)])


def test_soft_takes_the_best_of_what_has_decayed() -> None:
    # 1 lies on 0 and falls below 2, which is apart from both.
    start, end, score = A([0.0, 0.0, 9.0]), A([2.0, 2.0, 10.0]), A([1.0, 0.9, 0.5])
    taken, decayed = soft_nms(start, end, score, np.zeros(3, int), sigma=0.3)
    assert taken.tolist() == [0, 2, 1]
    assert decayed == pytest.approx([1.0, 0.5, 0.9 * np.exp(-1 / 0.3)])


def test_nothing_in_nothing_out() -> None:
    none, group = np.zeros(0), np.zeros(0, int)
    assert hard_nms(none, none, none, group, threshold=0.5).tolist() == []
    assert [array.tolist() for array in soft_nms(none, none, none, group, sigma=0.3)] == [[], []]


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_threshold_must_be_positive(threshold: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        hard_nms(np.zeros(1), np.ones(1), np.ones(1), np.zeros(1, int), threshold=threshold)


@pytest.mark.parametrize(("far", "apart"), [(0.0, 1), (1e9, 1), (0.0, 10**15), (1e9, -(10**15))])
def test_groups_far_apart_and_late_starts_are_ordered_exactly(far: float, apart: int) -> None:
    """Where starts of all groups do not fit into one float side by side."""
    start, score = A([0.0, 0.25, 0.125, 0.25, 8.0, 0.125]) + far, A([1.0, 2.0, 2.0, 1.0, 1.0, 1.0])
    group = A([0, 0, 0, 1, 1, 1]) * apart
    end = start + 1.0
    expected = [2, 5, 4] if apart > 0 else [5, 4, 2]
    assert hard_nms(start, end, score, group, threshold=0.5).tolist() == expected


def test_of_equal_scores_the_earlier_start_then_the_earlier_end_is_better() -> None:
    start, end, group = A([0.0, 0.0, 1.0]), A([9.0, 8.0, 9.0]), np.zeros(3, int)
    assert hard_nms(start, end, np.ones(3), group, threshold=0.5).tolist() == [1]
    rows, decayed = hard_decayed_nms(start, end, np.ones(3), group, threshold=0.5, sigma=0.5)
    assert dict(zip(rows.tolist(), decayed.tolist(), strict=True)) == {
        1: 1.0,
        0: pytest.approx(np.exp(-((8 / 9) ** 2) / 0.5)),
        2: pytest.approx(np.exp(-((7 / 9) ** 2) / 0.5)),
    }
    assert soft_nms(start, end, np.ones(3), group, sigma=0.5)[0].tolist()[0] == 1


def test_of_equal_rows_that_removed_a_row_the_one_that_ends_first_decays_it() -> None:
    # 0 and 1 stay (IoU 1/5); 2 goes for both, with IoU 1/2 and 2/5
    start, end, score = np.zeros(3), A([10.0, 2.0, 5.0]), A([2.0, 2.0, 1.0])
    rows, decayed = hard_decayed_nms(start, end, score, np.zeros(3, int), threshold=0.25, sigma=0.5)
    values = dict(zip(rows.tolist(), decayed.tolist(), strict=True))
    assert values == {0: 2.0, 1: 2.0, 2: pytest.approx(np.exp(-((2 / 5) ** 2) / 0.5))}
