"""The evaluator against the plain loop that published evaluators are, at the sizes that the field evaluates.

Gates are ratios within one run and ask for equal values. `pytest -s` prints them; `extra_info` stores them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.oracles import reference_average_precision, reference_voc_ap
from wstal.evaluation import PROTOCOLS, THUMOS_TIOUS, evaluate
from wstal.types import Detections, GroundTruth


def problem(videos: int, classes: int, instances: int, detections: int) -> tuple[GroundTruth, Detections]:
    """Random ground truth of one class a video, and detections of which half lie near an instance."""
    rng = np.random.default_rng(0)
    of_video = np.arange(videos) % classes
    video = np.sort(np.concatenate([np.arange(videos), rng.integers(0, videos, instances - videos)]))
    start = np.round(rng.uniform(0, 200, instances), 1)
    end = np.round(start + rng.exponential(4.0, instances) + 0.3, 1)
    names = tuple(f"video_test_{index:07d}" for index in range(videos))
    labels = tuple(f"class {index:03d}" for index in range(classes))
    truth = GroundTruth(names, labels, video, of_video[video], start, end, ambiguous=np.zeros((0, 3)))
    near = rng.integers(0, instances, detections)
    length = end[near] - start[near]
    shift = np.where(
        rng.random(detections) < 0.5, rng.normal(0, 0.3, detections) * length, rng.normal(0, 60, detections)
    )
    first = np.maximum(start[near] + shift, 0)
    return truth, Detections(
        names,
        labels,
        video[near],
        np.where(rng.random(detections) < 0.8, of_video[video[near]], rng.integers(0, classes, detections)),
        first,
        first + length * np.exp(rng.normal(0, 0.4, detections)) + 0.05,
        score=rng.random(detections),
    )


def one_detection_at_a_time(detections: Detections, truth: GroundTruth, tious: tuple[float, ...]) -> np.ndarray:
    """mAP as the field's evaluators compute it: one detection after the other against its video's instances."""
    found = []
    for label in np.unique(truth.label):
        chosen = np.flatnonzero(detections.label == label)
        chosen = chosen[np.argsort(-detections.score[chosen], kind="stable")]
        instances = {
            video: np.flatnonzero((truth.video == video) & (truth.label == label))
            for video in np.unique(truth.video[truth.label == label])
        }
        free = {video: np.ones((len(tious), len(members)), dtype=bool) for video, members in instances.items()}
        hit = np.zeros((len(tious), len(chosen)), dtype=bool)
        for rank, row in enumerate(chosen):
            video = detections.video[row]
            if video not in instances:
                continue
            start, end = truth.start[instances[video]], truth.end[instances[video]]
            shared = (np.minimum(end, detections.end[row]) - np.maximum(start, detections.start[row])).clip(0)
            tiou = shared / ((detections.end[row] - detections.start[row]) + (end - start) - shared)
            best_first = tiou.argsort()[::-1]
            for column, threshold in enumerate(tious):
                for instance in best_first:
                    if tiou[instance] < threshold:
                        break
                    if free[video][column, instance]:
                        free[video][column, instance] = False
                        hit[column, rank] = True
                        break
        positives = int((truth.label == label).sum())
        found.append([reference_voc_ap(row.tolist(), positives) for row in hit])
    return np.array(found).mean(axis=0)


def seconds(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Best processor time of some runs, and the result."""
    best, result = np.inf, None
    for _ in range(repeats):
        begin = time.process_time()
        result = function()
        best = min(best, time.process_time() - begin)
    return float(best), result


@pytest.fixture(scope="module")
def thumos() -> tuple[GroundTruth, Detections]:
    return problem(videos=212, classes=20, instances=3358, detections=200_000)


@pytest.mark.slow
@pytest.mark.benchmark(group="evaluation: 200,000 THUMOS14-like detections, 7 tIoUs")
def test_evaluate_is_25_times_the_plain_loop(benchmark: Any, thumos: tuple[GroundTruth, Detections]) -> None:
    truth, detections = thumos
    names = np.array(truth.videos, dtype=object), np.array(truth.classes, dtype=object)
    columns = (detections.start.tolist(), detections.end.tolist(), detections.score.tolist())
    rows = list(zip(names[0][detections.video], names[1][detections.label], *columns, strict=True))
    wanted = list(
        zip(names[0][truth.video], names[1][truth.label], truth.start.tolist(), truth.end.tolist(), strict=True)
    )

    fast, result = seconds(lambda: evaluate(detections, truth, PROTOCOLS["anet"], THUMOS_TIOUS), 5)
    benchmark.pedantic(evaluate, args=(detections, truth, PROTOCOLS["anet"], THUMOS_TIOUS), rounds=1)
    plain, reference = seconds(
        lambda: reference_average_precision("anet", rows, wanted, [], THUMOS_TIOUS, truth.videos), 1
    )
    array_loop, array_means = seconds(lambda: one_detection_at_a_time(detections, truth, THUMOS_TIOUS), 1)

    means = list(result.mean_ap.values())
    np.testing.assert_allclose(means, np.mean(list(reference.values()), axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(means, array_means, rtol=0, atol=1e-12)
    benchmark.extra_info.update({"ratio": plain / fast, "ratio_to_array_loop": array_loop / fast})
    print(
        f"\nevaluate: {plain / fast:.0f} times the plain loop's speed, {array_loop / fast:.0f} times that of "
        f"a numpy loop over detections ({fast:.2f} s, {plain:.1f} s, {array_loop:.1f} s)"
    )
    assert plain / fast >= 25


@pytest.mark.benchmark(group="evaluation: every protocol, 200,000 THUMOS14-like detections, 7 tIoUs")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol(benchmark: Any, thumos: tuple[GroundTruth, Detections], protocol: str) -> None:
    truth, detections = thumos
    truth = replace(truth, ambiguous=np.array([[index, 5.0, 6.0] for index in range(100)]))
    result = benchmark.pedantic(evaluate, args=(detections, truth, PROTOCOLS[protocol], THUMOS_TIOUS), rounds=2)
    assert result.detections + result.dropped == 200_000


# The peak is the process's own (VmHWM): ru_maxrss of a child begins at its parent's, which the benchmarks before fill.
MILLION = """
import re, time
from pathlib import Path
from tests.benchmarks.test_bench_evaluation import problem
from wstal.evaluation import ACTIVITYNET_TIOUS, PROTOCOLS, evaluate
truth, detections = problem(videos=4926, classes=200, instances=7654, detections=1_000_000)
begin = time.perf_counter()
result = evaluate(detections, truth, PROTOCOLS["anet"], ACTIVITYNET_TIOUS)
taken = time.perf_counter() - begin
peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
print(result.detections, taken, peak / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc/self/status")
@pytest.mark.benchmark(group="evaluation: 1,000,000 ActivityNet-like detections, 10 tIoUs")
def test_a_million_detections_fit_in_two_gigabytes(benchmark: Any) -> None:
    root = Path(__file__).parents[2]

    def fresh_process() -> list[float]:
        done = subprocess.run([sys.executable, "-c", MILLION], cwd=root, capture_output=True, text=True, check=True)
        return [float(word) for word in done.stdout.split()]

    detections, taken, gigabytes = benchmark.pedantic(fresh_process, rounds=1)

    benchmark.extra_info.update({"seconds": taken, "peak_gigabytes": gigabytes})
    print(f"\n{detections:.0f} detections: {taken:.1f} s, {gigabytes:.2f} GB at most")
    assert detections == 1_000_000
    assert gigabytes < 2
