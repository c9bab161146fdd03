"""The localizer and its suppression against the plain loops, on as many videos as THUMOS14 tests on.

Gates are ratios within one run and ask for equal output. `pytest -s` prints them; `extra_info` stores them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests import localize_reference
from tests.localize_reference import ACM_THUMOS
from wstal.localize import Nms, hard_nms, localize, soft_nms
from wstal.types import Detections, SnippetScores

VIDEOS, CLASSES = 212, 20
NAMES = tuple(f"class {index}" for index in range(CLASSES))
ALL = ACM_THUMOS.model_copy(update={"nms": Nms()})  # proposals before suppression


@pytest.fixture(scope="module")
def scores() -> list[SnippetScores]:
    """Smooth random signals with the lengths of THUMOS14's test videos: median 250 rows, at most 750 after sampling."""
    rng = np.random.default_rng(0)
    videos = []
    for index in range(VIDEOS):
        rows = int(np.clip(250 * np.exp(0.8 * rng.normal()), 20, 750))
        noise = rng.normal(size=(rows + 8, CLASSES + 1)).cumsum(axis=0)
        smooth = (noise[8:] - noise[:-8]) / np.sqrt(8)  # a moving average of 8 rows, about 5 s
        p = np.full(CLASSES, 0.01)
        p[rng.choice(CLASSES, rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]), replace=False)] = 0.3
        signals = {
            "cas": 1 / (1 + np.exp(2 - 1.5 * smooth[:, :CLASSES])),
            "attention": 1 / (1 + np.exp(-2 * smooth[:, -1])),
        }
        videos.append(SnippetScores(f"video {index}", signals, p, 0.64))
    return videos


def seconds(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Best time of some runs, and the result."""
    best = np.inf
    for _ in range(repeats):
        begin = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - begin)
    return float(best), result


def report(benchmark: Any, name: str, ratio: float, **facts: float) -> None:
    benchmark.extra_info.update({"ratio": ratio, **facts})
    print(f"\n{name}: {ratio:.0f} times the plain loop's speed; " + ", ".join(f"{k} {v:.4g}" for k, v in facts.items()))


def by_group(group: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def usual_nms(columns: tuple[np.ndarray, ...]) -> np.ndarray:
    """Suppression as most code writes it: group after group, the best row against all that are left, in NumPy."""
    kept = []
    for group in by_group(columns[3]):
        start, end, score = (column[group] for column in columns[:3])
        left, length = np.argsort(-score, kind="stable"), end - start + 1.0
        while len(left):
            best, left = left[0], left[1:]
            kept.append(group[best])
            shared = np.maximum(np.minimum(end[best], end[left]) - np.maximum(start[best], start[left]) + 1.0, 0)
            left = left[shared / (length[best] + length[left] - shared) < 0.55]
    return np.array(kept)


def columns_of(proposed: Detections) -> tuple[np.ndarray, ...]:
    """Start, end, score and group, as suppression takes them."""
    return proposed.start, proposed.end, proposed.score, proposed.video * CLASSES + proposed.label


@pytest.mark.slow
def test_localize(benchmark: Any, scores: list[SnippetScores]) -> None:
    benchmark.pedantic(localize, args=(scores, ACM_THUMOS, NAMES), rounds=3)
    fast, found = seconds(lambda: localize(scores, ACM_THUMOS, NAMES), 3)
    slow, expected = seconds(lambda: localize_reference.localize(scores, ACM_THUMOS), 1)
    # A loop over runs with the usual NumPy suppression instead of the plain one: the strongest loop we know of.
    runs, _ = seconds(lambda: localize_reference.localize(scores, ALL), 1)
    columns = columns_of(localize(scores, ALL, NAMES))
    suppression, _ = seconds(lambda: usual_nms(columns), 1)

    rows = np.stack([found.video, found.label, found.score, found.start, found.end], axis=1)
    np.testing.assert_allclose(rows, np.array(expected), rtol=0, atol=1e-11)
    over_numpy = (runs + suppression) / fast
    report(benchmark, "localize", slow / fast, over_numpy_loop=over_numpy, ours_s=fast, detections=len(found))
    assert slow >= 15 * fast


@pytest.mark.slow
def test_hard_nms(benchmark: Any, scores: list[SnippetScores]) -> None:
    columns = columns_of(localize(scores[:100], ALL, NAMES))
    rows = [(0, 0, score, start, end) for start, end, score in np.stack(columns[:3], axis=1).tolist()]

    benchmark.pedantic(hard_nms, args=columns, kwargs={"threshold": 0.55, "plus": 1.0}, rounds=3)
    fast, kept = seconds(lambda: hard_nms(*columns, threshold=0.55, plus=1.0), 3)
    slow, plain = seconds(
        lambda: [
            row
            for group in by_group(columns[3])
            for row in localize_reference.hard_nms([rows[i] for i in group], 0.55, "iou", 1.0)
        ],
        1,
    )
    usual, looped = seconds(lambda: usual_nms(columns), 1)
    assert [rows[i] for i in kept] == plain
    np.testing.assert_array_equal(kept, looped)
    report(benchmark, "hard NMS", slow / fast, over_numpy_loop=usual / fast, ours_s=fast, proposals=len(rows))
    assert slow >= 15 * fast


@pytest.mark.slow
def test_soft_nms(benchmark: Any, scores: list[SnippetScores]) -> None:
    """On rows without interpolation, as the methods that use it do; 30 videos, since the loop takes its time."""
    spec = ALL.model_copy(update={"upsampling": 1})
    columns = columns_of(localize(scores[:30], spec, NAMES))
    rows = [(0, 0, score, start, end) for start, end, score in np.stack(columns[:3], axis=1).tolist()]

    benchmark.pedantic(soft_nms, args=columns, kwargs={"sigma": 0.3, "plus": 1.0}, rounds=3)
    fast, (taken, decayed) = seconds(lambda: soft_nms(*columns, sigma=0.3, plus=1.0), 3)
    slow, plain = seconds(
        lambda: [
            row
            for group in by_group(columns[3])
            for row in localize_reference.soft_nms([rows[i] for i in group], 0.3, "iou", 1.0)
        ],
        1,
    )
    np.testing.assert_allclose(
        np.stack([decayed, columns[0][taken], columns[1][taken]], axis=1),
        np.array([row[2:] for row in plain]),
        rtol=1e-12,
    )
    report(benchmark, "soft NMS", slow / fast, ours_s=fast, proposals=len(rows))
    assert slow >= 15 * fast
