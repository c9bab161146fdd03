"""The warp of time, and the choice of proposals that it is made from, by hand and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wstal.localize.intervals import best_share, covered, outermost, whole_rows
from wstal.localize.time_warp import TimeWarp, interpolate, stretch

intervals = st.lists(st.tuples(st.integers(0, 18), st.integers(1, 8)), max_size=5).map(
    lambda pairs: np.array([(first, min(first + n, 20)) for first, n in pairs], dtype=np.int64).reshape(-1, 2)
)


def test_a_short_interval_is_stretched_to_the_rows() -> None:
    warp = stretch(10, np.array([[2, 4]]), 12.0)
    assert np.diff(warp.edges).tolist() == [1, 1, 6, 6, 1, 1, 1, 1, 1, 1]
    assert warp.length == 20
    # positions 1..W on the ends of rows: within row 2, whose end is 8, from row 1, whose end is 2
    assert warp.positions()[:9].tolist() == pytest.approx([0, 1, 7 / 6, 8 / 6, 9 / 6, 10 / 6, 11 / 6, 2, 13 / 6])


def test_long_intervals_and_none_change_nothing() -> None:
    for given_intervals in (np.array([[0, 5]]), np.zeros((0, 2), np.int64)):
        warp = stretch(5, given_intervals, 4.0)
        assert warp.edges.tolist() == [0, 1, 2, 3, 4, 5]
        assert warp.positions().tolist() == [0, 1, 2, 3, 4]


def test_the_larger_weight_counts_and_sums_are_whole() -> None:
    # 5 / 3 for rows 0-2, 5 / 2 for rows 2-3: together 3 1/3 + 5, scaled to 8
    weights = np.diff(stretch(6, np.array([[0, 3], [2, 4]]), 5.0).edges)
    assert weights == pytest.approx(np.array([5 / 3, 5 / 3, 5 / 2, 5 / 2, 25 / 24, 25 / 24]) * 24 / 25)


@given(chosen=intervals, rows=st.sampled_from([3.0, 8.0, 12.0]))
def test_a_warp_keeps_order_and_goes_back(chosen: np.ndarray, rows: float) -> None:
    warp = stretch(20, chosen, rows)
    assert warp.edges[-1] == pytest.approx(warp.length)
    assert (np.diff(warp.edges) > 0.5).all()
    times = np.linspace(0, 20, 57)
    assert warp.unwarped(warp.warped(times)) == pytest.approx(times)
    positions = warp.positions()
    assert len(positions) == warp.length
    assert (np.diff(positions) >= 0).all()
    assert (positions[0], positions[-1]) == (0, pytest.approx(19))


def test_interpolation_between_rows_and_past_the_last() -> None:
    values = torch.tensor([[[0.0, 10.0], [2.0, 20.0], [8.0, 0.0]]])
    found = interpolate(values, torch.tensor([[0.0, 0.5, 1.25, 2.0, 9.0]]))
    assert found.tolist() == [[[0, 10], [1, 15], [3.5, 15], [8, 0], [8, 0]]]
    assert interpolate(values[:, :1], torch.tensor([[0.0, 3.0]])).tolist() == [[[0, 10], [0, 10]]]
    warp = TimeWarp(np.array([0.0, 1.0, 3.0, 4.0]))
    assert interpolate(values, torch.from_numpy(warp.positions())[None])[0, :, 0].tolist() == [0, 1, 2, 8]


@given(scores=st.lists(st.integers(-5, 40), min_size=1, max_size=8), share=st.sampled_from([0.3, 0.7, 1.0]))
def test_the_leading_share_of_scores(scores: list[int], share: float) -> None:
    given_scores = np.array(scores) / 8  # sums without rounding
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    total, expected = 0.0, []
    for index in order:
        total += given_scores[index]
        if total > share * given_scores.sum():
            break
        expected.append(index)
    # the same scores as another class's change nothing
    both = np.tile(given_scores, 2)
    found = best_share(np.repeat([3, 1], len(scores)), both, share)
    assert found.tolist() == [index + len(scores) for index in expected] + expected


def test_one_proposal_of_its_class_is_not_kept_below_a_whole_share() -> None:
    assert best_share(np.array([0]), np.array([0.8]), 0.7).tolist() == []
    assert best_share(np.zeros(0, np.int64), np.zeros(0), 0.7).tolist() == []


def test_contained_and_equal_proposals_go() -> None:
    times = np.array([[5.0, 9.0], [0.0, 4.0], [1.0, 3.0], [0.0, 4.0], [3.0, 6.0], [0.0, 2.0]])
    assert outermost(times).tolist() == [1, 4, 0]
    assert outermost(times[:0]).tolist() == []


def test_whole_rows_stay_in_the_video() -> None:
    times = np.array([[-3.0, 1.4], [2.6, 2.7], [8.7, 12.0], [11.0, 12.0]])
    assert whole_rows(times, 10).tolist() == [[0, 1], [3, 4], [9, 10], [9, 10]]
    assert covered(times, 20, 10).sum(axis=1).tolist() == [1, 1, 2, 1]
    assert covered(np.zeros((0, 2)), 20, 10).shape == (0, 10)
