"""Suppression: what must hold of any input. Times and scores are quarters, so that ties occur and are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import plain_localize as localize_reference
from tests.helpers.localizing import hard_nms, soft_nms
from wstal.localize.nms import overlap

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@st.composite
def intervals(draw: st.DrawFn) -> Columns:
    """Start, end, score and group of up to 40 rows in up to 3 groups."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.integers(0, 40))
    start = rng.integers(-8, draw(st.sampled_from([-4, 12, 60])), rows) / 4
    length = rng.integers(1, draw(st.sampled_from([3, 12, 40])), rows) / 4
    score = rng.integers(-2, draw(st.sampled_from([2, 30])), rows) / 4
    return start, start + length, score, rng.integers(0, 3, rows)


conventions = st.fixed_dictionaries({"kind": st.sampled_from(["iou", "own"]), "plus": st.sampled_from([0.0, 0.5, 1.0])})
thresholds = st.sampled_from([0.05, 0.25, 1 / 3, 0.5, 0.55, 0.75, 0.9, 1.0, 1.5])


def rows_of(columns: Columns, index: np.ndarray, score: np.ndarray | None = None) -> list[tuple[float, ...]]:
    """(group, score, start, end) of the indexed rows, in their order."""
    start, end, own_score, group = (column[index] for column in columns)
    return list(zip(group, own_score if score is None else score, start, end, strict=True))


def loop(columns: Columns, suppress: Any, *settings: Any) -> list[tuple[float, ...]]:
    """(group, score, start, end) by the plain loop, one group after the other."""
    start, end, score, group = columns
    found = []
    for one in np.unique(group):
        rows = [(0, 0, float(score[i]), float(start[i]), float(end[i])) for i in np.flatnonzero(group == one)]
        found += [(one, *row[2:]) for row in suppress(rows, *settings)]
    return found


@given(intervals(), thresholds, conventions)
def test_hard_equals_the_greedy_loop(columns: Columns, threshold: float, convention: dict[str, Any]) -> None:
    kept = hard_nms(*columns, threshold=threshold, **convention)
    expected = loop(columns, localize_reference.hard_nms, threshold, convention["kind"], convention["plus"])
    assert rows_of(columns, kept) == expected


@given(intervals(), thresholds, conventions)
def test_hard_twice_changes_nothing(columns: Columns, threshold: float, convention: dict[str, Any]) -> None:
    kept = hard_nms(*columns, threshold=threshold, **convention)
    again = hard_nms(*(column[kept] for column in columns), threshold=threshold, **convention)
    np.testing.assert_array_equal(again, np.arange(len(kept)))


@given(intervals(), thresholds, conventions)
def test_who_stays_and_who_goes(columns: Columns, threshold: float, convention: dict[str, Any]) -> None:
    """Rows that stay are apart from each other; a row that goes overlaps a better one that stays."""
    start, end, score, group = columns
    kept = hard_nms(*columns, threshold=threshold, **convention)
    assert len(set(kept.tolist())) == len(kept)
    for row in range(len(start)):
        place = np.flatnonzero(kept == row)
        better = kept[: place[0]] if len(place) else kept[score[kept] >= score[row]]
        better = better[group[better] == group[row]]
        shared = overlap(start[[row]], end[[row]], start[better], end[better], **convention)
        assert (shared >= threshold).any() == (not len(place))


@given(intervals(), thresholds, conventions, st.randoms(use_true_random=False))
def test_order_of_rows_changes_nothing(columns: Columns, threshold: float, convention: Any, random: Any) -> None:
    order = np.array(random.sample(range(len(columns[0])), len(columns[0])), dtype=int)
    shuffled: Columns = tuple(column[order] for column in columns)
    assert rows_of(shuffled, hard_nms(*shuffled, threshold=threshold, **convention)) == rows_of(
        columns, hard_nms(*columns, threshold=threshold, **convention)
    )
    index, score = soft_nms(*columns, sigma=0.3, **convention)
    other_index, other_score = soft_nms(*shuffled, sigma=0.3, **convention)
    assert rows_of(shuffled, other_index, other_score) == rows_of(columns, index, score)


@given(intervals(), st.sampled_from([0.1, 0.3, 0.5]), conventions)
def test_soft_equals_the_loop(columns: Columns, sigma: float, convention: dict[str, Any]) -> None:
    index, score = soft_nms(*columns, sigma=sigma, **convention)
    assert sorted(index.tolist()) == list(range(len(columns[0])))
    expected = loop(columns, localize_reference.soft_nms, sigma, convention["kind"], convention["plus"])
    assert rows_of(columns, index, score) == [pytest.approx(row, rel=1e-12, abs=1e-300) for row in expected]


@given(intervals(), conventions)
def test_soft_only_lowers_what_overlaps(columns: Columns, convention: dict[str, Any]) -> None:
    start, end, score, group = columns
    score = np.abs(score)
    index, decayed = soft_nms(start, end, score, group, sigma=0.3, **convention)
    assert (decayed <= score[index]).all()
    assert (decayed >= 0).all()
    first = np.append(True, group[index][1:] != group[index][:-1]) if len(index) else np.zeros(0, dtype=bool)
    np.testing.assert_array_equal(decayed[first], score[index][first])
    assert (np.diff(decayed)[~first[1:]] <= 0).all()
