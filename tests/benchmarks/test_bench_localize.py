"""The localizer and its suppression against the plain loops, on as many videos as THUMOS14 tests on.

Output must be equal; ratios of medians of 5, within one run, have aims. `pytest -s` prints them; `extra_info` stores
them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from harness.registry import load_method, weak_methods
from tests.benchmarks.measure import aim
from tests.helpers import plain_localize as localize_reference
from tests.helpers.localizing import hard_decayed_nms, hard_nms, soft_nms
from tests.helpers.plain_localize import ACM_THUMOS
from wstal.localize import LocalizerSpec, Nms, localize
from wstal.types import Detections, SnippetScores

VIDEOS, CLASSES = 212, 20
NAMES = tuple(f"class {index}" for index in range(CLASSES))
ALL = ACM_THUMOS.model_copy(update={"nms": Nms()})  # proposals before suppression


def smooth(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """`[rows, columns]` moving averages of 8 rows, about 5 s, of random walks."""
    walk = rng.normal(size=(rows + 8, columns)).cumsum(axis=0)
    return (walk[8:] - walk[:-8]) / np.sqrt(8)


def videos(spec: LocalizerSpec, lengths: Sequence[int]) -> list[SnippetScores]:
    """Smooth random signals of the names that `spec` reads, with 1 to 3 of 20 classes a video; `attention` is free of
    classes.
    """
    rng = np.random.default_rng(0)
    found = []
    streams = ("stream0", "stream1") if spec.fusion else ()
    for index, rows in enumerate(lengths):
        present = np.zeros(CLASSES, dtype=bool)
        present[rng.choice(CLASSES, rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]), replace=False)] = True
        signals = {}
        for name in [f"{stream}/{name}" for stream in streams for name in spec.signals] or spec.signals:
            if name.endswith("attention"):
                signals[name] = 1 / (1 + np.exp(-2 * smooth(rng, rows, 1)[:, 0]))
            elif name in ("logit", "above_midpoint"):
                signals[name] = 1.5 * smooth(rng, rows, CLASSES) - 1
            else:
                signals[name] = 1 / (1 + np.exp(2 - 1.5 * smooth(rng, rows, CLASSES)))
        p = np.where(present, 0.3, 0.01)
        named = dict.fromkeys(streams, p) | ({spec.class_score: 2 * present - 1.0} if spec.class_score else {})
        found.append(SnippetScores(f"video {index}", signals, p, 0.64, 0.0, named))
    return found


def thumos_lengths(count: int = VIDEOS) -> list[int]:
    """Rows of THUMOS14's test videos: median 250, at most 750 after sampling."""
    return np.clip(250 * np.exp(0.8 * np.random.default_rng(1).normal(size=count)), 20, 750).astype(int).tolist()


@pytest.fixture(scope="module")
def scores() -> list[SnippetScores]:
    return videos(ACM_THUMOS, thumos_lengths())


def seconds(function: Callable[[], Any], repeats: int = 5) -> tuple[float, Any]:
    """Median of some runs' processor time, which other processes stretch least, and the result."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        result = function()
        times.append(time.process_time() - begin)
    return statistics.median(times), result


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


def as_rows(columns: tuple[np.ndarray, ...]) -> list[localize_reference.Row]:
    return [(0, 0, score, start, end) for start, end, score in np.stack(columns[:3], axis=1).tolist()]


def loop(columns: tuple[np.ndarray, ...], suppress: Callable[..., Any], *settings: Any) -> list[localize_reference.Row]:
    """What the plain loop leaves, group after group."""
    rows = as_rows(columns)
    return [row for group in by_group(columns[3]) for row in suppress([rows[i] for i in group], *settings)]


@pytest.mark.slow
def test_localize(benchmark: Any, scores: list[SnippetScores]) -> None:
    """On 40 of the 212 videos, since the loop takes its time."""
    scores = scores[:40]
    benchmark.pedantic(localize, args=(scores, ACM_THUMOS, NAMES), rounds=5)
    fast, found = seconds(lambda: localize(scores, ACM_THUMOS, NAMES))
    slow, expected = seconds(lambda: localize_reference.localize(scores, ACM_THUMOS))
    # A loop over runs with the usual NumPy suppression instead of the plain one: the strongest loop we know of.
    runs, _ = seconds(lambda: localize_reference.localize(scores, ALL))
    columns = columns_of(localize(scores, ALL, NAMES))
    suppression, _ = seconds(lambda: usual_nms(columns))

    rows = np.stack([found.video, found.label, found.score, found.start, found.end], axis=1)
    np.testing.assert_allclose(rows, np.array(expected), rtol=0, atol=1e-11)
    over_numpy = (runs + suppression) / fast
    report(benchmark, "localize", slow / fast, over_numpy_loop=over_numpy, ours_s=fast, detections=len(found))
    aim(benchmark, "ratio", slow / fast, at_least=15)


@pytest.mark.slow
def test_hard_nms(benchmark: Any, scores: list[SnippetScores]) -> None:
    columns = columns_of(localize(scores[:50], ALL, NAMES))
    rows = as_rows(columns)
    benchmark.pedantic(hard_nms, args=columns, kwargs={"threshold": 0.55, "plus": 1.0}, rounds=5)
    fast, kept = seconds(lambda: hard_nms(*columns, threshold=0.55, plus=1.0))
    slow, plain = seconds(lambda: loop(columns, localize_reference.hard_nms, 0.55, "iou", 1.0))
    usual, looped = seconds(lambda: usual_nms(columns))
    assert [rows[i] for i in kept] == plain
    np.testing.assert_array_equal(kept, looped)
    report(benchmark, "hard NMS", slow / fast, over_numpy_loop=usual / fast, ours_s=fast, proposals=len(rows))
    aim(benchmark, "ratio", slow / fast, at_least=15)


@pytest.mark.slow
def test_hard_decayed_nms(benchmark: Any, scores: list[SnippetScores]) -> None:
    """With ASL's settings."""
    columns = columns_of(localize(scores[:50], ALL, NAMES))
    settings = {"threshold": 0.4, "sigma": 0.35, "plus": 1.0}
    benchmark.pedantic(hard_decayed_nms, args=columns, kwargs=settings, rounds=5)
    fast, (index, decayed) = seconds(lambda: hard_decayed_nms(*columns, **settings))
    slow, plain = seconds(lambda: loop(columns, localize_reference.hard_decayed_nms, 0.4, 0.35, "iou", 1.0))
    found = np.stack([columns[3][index], columns[0][index], columns[1][index], decayed], axis=1)
    by = np.lexsort(found.T[::-1])
    expected = np.array([(group, *row[3:], row[2]) for group, row in zip(np.sort(columns[3]), plain, strict=True)])
    np.testing.assert_allclose(found[by], expected[np.lexsort(expected.T[::-1])], rtol=1e-12)
    report(benchmark, "hard, decayed NMS", slow / fast, ours_s=fast, proposals=len(index))
    aim(benchmark, "ratio", slow / fast, at_least=10)


@pytest.mark.slow
def test_soft_nms(benchmark: Any, scores: list[SnippetScores]) -> None:
    """On rows without interpolation, as the methods that use it do; 20 videos, since the loop takes its time."""
    columns = columns_of(localize(scores[:20], ALL.model_copy(update={"upsampling": 1}), NAMES))
    benchmark.pedantic(soft_nms, args=columns, kwargs={"sigma": 0.3, "plus": 1.0}, rounds=5)
    fast, (taken, decayed) = seconds(lambda: soft_nms(*columns, sigma=0.3, plus=1.0))
    slow, plain = seconds(lambda: loop(columns, localize_reference.soft_nms, 0.3, "iou", 1.0))
    np.testing.assert_allclose(
        np.stack([decayed, columns[0][taken], columns[1][taken]], axis=1),
        np.array([row[2:] for row in plain]),
        rtol=1e-12,
    )
    report(benchmark, "soft NMS", slow / fast, ours_s=fast, proposals=len(taken))
    aim(benchmark, "ratio", slow / fast, at_least=15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "sizes"), [("videos", (10, 50, 200, 1000, 5000)), ("T", (100, 300, 1000, 3000))], ids=["videos", "rows"]
)
def test_growth(benchmark: Any, what: str, sizes: tuple[int, ...]) -> None:
    """ACM-Net's settings: videos of 100 rows, and 20 videos of T rows."""
    taken = []
    for size in sizes:
        distinct = videos(ACM_THUMOS, [100] * min(size, 200) if what == "videos" else [size] * 20)
        count = size if what == "videos" else 20
        many = [replace(distinct[i % len(distinct)], video=f"video {i}") for i in range(count)]
        taken.append(seconds(partial(localize, many, ACM_THUMOS, NAMES))[0])
    exponent = float(np.polyfit(np.log(sizes), np.log(taken), 1)[0])
    benchmark.extra_info.update({"exponent": exponent, "seconds": dict(zip(map(str, sizes), taken, strict=True))})
    table = ", ".join(f"{size}: {time:.3g} s" for size, time in zip(sizes, taken, strict=True))
    print(f"\nlocalize by {what}: {table}; exponent {exponent:.2f}")
    benchmark.pedantic(localize, args=(many[:10], ACM_THUMOS, NAMES), rounds=5)
    aim(benchmark, "exponent", exponent, at_most=1.3)


@pytest.mark.slow
def test_every_method_by_its_own_settings(benchmark: Any) -> None:
    """Seconds for 212 videos; six of them by the plain loop too, which also has to find the same."""
    ratios = []
    for method in weak_methods():
        spec = load_method(method).recipe("thumos14").localizer
        scores = videos(spec, thumos_lengths())
        benchmark.extra_info[method], _ = seconds(partial(localize, scores, spec, NAMES))
        fast, found = seconds(partial(localize, scores[:6], spec, NAMES))
        slow, expected = seconds(partial(localize_reference.localize, scores[:6], spec))
        ratios.append(slow / fast)
        rows = np.stack([found.video, found.label, found.score, found.start, found.end], axis=1)
        # by time: runs whose scores would be equal but for rounding come in one order
        by_time = [r[np.lexsort((r[:, 2], r[:, 4], r[:, 3], r[:, 1], r[:, 0]))] for r in (rows, np.array(expected))]
        np.testing.assert_allclose(*by_time, rtol=0, atol=1e-11)
        print(f"\n{method}: {benchmark.extra_info[method]:.3f} s for {VIDEOS} videos; {ratios[-1]:.1f} times the loop")
    benchmark.pedantic(localize, args=(scores, spec, NAMES), rounds=5)
    aim(benchmark, "median ratio", statistics.median(ratios), at_least=2)
