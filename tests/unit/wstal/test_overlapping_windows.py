"""Windows that overlap: where they begin, which instances they keep, and what is suppressed where they meet."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wstal.localize.nms import Rows, suppress_where_windows_meet
from wstal.windows import covering_starts, kept_instances


@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 60))
def test_windows_cover_a_video_with_none_to_spare(length: int, rows: int, stride: int) -> None:
    starts = covering_starts(length, rows, stride)
    assert starts == [number * stride for number in range(len(starts))]
    assert starts[-1] + rows >= length
    assert len(starts) == 1 or starts[-2] + rows < length


def test_an_instance_needs_its_share_inside() -> None:
    instances = np.array([[2.0, 6.0], [-1.0, 3.0], [-1.1, 2.9], [7.0, 11.0], [20.0, 24.0], [-5.0, 15.0], [3.0, 3.0]])
    kept, segments = kept_instances(instances, rows=10, share=0.75)
    assert kept.tolist() == [0, 1, 3]
    np.testing.assert_allclose(segments, [[0.4, 0.4], [0.15, 0.3], [0.85, 0.3]])
    assert kept_instances(instances, rows=10, share=0.5)[0].tolist() == [0, 1, 2, 3, 5]


def test_only_what_meets_where_windows_overlap_is_suppressed() -> None:
    # windows 0 to 10 and 8 to 18: the second interval meets 8 to 10 and loses to the third; the others touch it at most
    start = np.array([0.0, 6.0, 6.5, 10.0, 10.5, 0.5])
    end = np.array([5.0, 9.0, 9.5, 12.0, 12.5, 5.5])
    score = np.array([0.9, 0.4, 0.5, 0.8, 0.7, 0.6])
    group = np.zeros(6, dtype=np.int64)
    rows = Rows(start, end, score, group, np.zeros(6))
    kept = suppress_where_windows_meet(rows, np.array([0.0, 8.0]), np.array([10.0, 18.0]), 0.4)
    assert kept.tolist() == [0, 2, 3, 4, 5]
    other = rows._replace(group=np.array([0, 1, 0, 0, 0, 0]))
    assert len(suppress_where_windows_meet(other, np.array([0.0, 8.0]), np.array([10.0, 18.0]), 0.4)) == 6


@given(st.lists(st.tuples(st.floats(0, 28), st.floats(0.5, 12), st.floats(0.01, 1), st.integers(0, 1)), max_size=20))
def test_suppression_where_windows_meet_equals_a_loop(intervals: list[tuple[float, float, float, int]]) -> None:
    windows = [(0.0, 12.0), (9.0, 21.0), (18.0, 30.0)]
    rows = [(a, a + width, score, label) for a, width, score, label in intervals]
    free, kept = set(range(len(rows))), set()
    for (low, _), (_, high) in zip(windows[1:], windows[:-1], strict=True):
        inside = [i for i, row in enumerate(rows) if min(row[1], high) - max(row[0], low) > 0]
        free -= set(inside)
        stays: list[int] = []
        for i in sorted(inside, key=lambda i: (-rows[i][2], rows[i][0], rows[i][1], i)):
            overlaps = []
            for j in stays:
                shared = max(0.0, min(rows[i][1], rows[j][1]) - max(rows[i][0], rows[j][0]))
                union = rows[i][1] - rows[i][0] + rows[j][1] - rows[j][0] - shared
                overlaps.append(rows[i][3] == rows[j][3] and shared / union >= 0.4)
            if not any(overlaps):
                stays.append(i)
        kept |= set(stays)
    columns = [np.array([row[k] for row in rows], dtype=np.float64) for k in range(3)]
    group = np.array([row[3] for row in rows], dtype=np.int64)
    starts, ends = (np.array(edges) for edges in zip(*windows, strict=True))
    found = suppress_where_windows_meet(
        Rows(columns[0], columns[1], columns[2], group, np.zeros(len(rows))), starts, ends, 0.4
    )
    assert {rows[i] for i in found} == {rows[i] for i in free | kept}  # of equal ones another may stay
