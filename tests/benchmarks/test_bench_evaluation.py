"""The evaluator against the plain loop that published evaluators are, at the sizes that the field evaluates.

Values must be equal; ratios, within one run, have aims. `pytest -s` prints them; `extra_info` stores them.
"""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.comparisons.bootstrap import VideoBootstrap, _weights, paired_bootstrap, resampled_mean_ap
from harness.data.annotations import read_annotations
from harness.data.detections import read_detections
from harness.records.matches import RunMatches
from tests.benchmarks.detections import problem
from tests.benchmarks.measure import aim
from tests.helpers.oracles import reference_average_precision, reference_voc_ap
from wstal.evaluation import PROTOCOLS, THUMOS_TIOUS, EvaluationResult, evaluate, evaluate_all, protocols_for
from wstal.types import Detections, GroundTruth

AMBIGUOUS = np.array([[index, 5.0, 6.0] for index in range(100)])
APPLICABLE = [name for name, protocol in PROTOCOLS.items() if protocol.defined_on != "activitynet13"]


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


def released_style(detections: Detections, truth: GroundTruth, tious: tuple[float, ...]) -> list[float]:
    """mAP by the released ActivityNet evaluator's rule and in its manner: a look-up in pandas for every detection."""
    wanted = pd.DataFrame({"video": truth.video, "label": truth.label, "start": truth.start, "end": truth.end})
    place = {name: index for index, name in enumerate(truth.videos)}
    found = pd.DataFrame({
        "name": np.array(detections.videos, dtype=object)[detections.video],
        "video": np.array([place.get(name, -1) for name in detections.videos])[detections.video],
        "label": np.array([truth.classes.index(name) for name in detections.classes])[detections.label],
        "start": detections.start, "end": detections.end, "score": detections.score,
    }).sort_values(["score", "name", "start", "end"], ascending=[False, True, True, True])  # fmt: skip
    of_classes = []
    for label, instances in wanted.groupby("label"):
        instances = instances.reset_index(drop=True)
        of_video = instances.groupby("video")
        ranked = found[found["label"] == label].reset_index(drop=True)
        free = np.ones((len(tious), len(instances)), dtype=bool)
        hit = np.zeros((len(tious), len(ranked)), dtype=bool)
        for rank, detection in ranked.iterrows():
            try:
                here = of_video.get_group(detection["video"])
            except KeyError:
                continue
            here = here.reset_index()
            start, end = here["start"].to_numpy(), here["end"].to_numpy()
            shared = (np.minimum(end, detection["end"]) - np.maximum(start, detection["start"])).clip(0)
            tiou = shared / ((detection["end"] - detection["start"]) + (end - start) - shared)
            # long double, which numpy sorts alike on every processor
            best_first = tiou.astype(np.longdouble).argsort()[::-1]
            for column, threshold in enumerate(tious):
                for instance in best_first:
                    if tiou[instance] < threshold:
                        break
                    index = here.loc[instance]["index"].astype(int)
                    if free[column, index]:
                        free[column, index] = False
                        hit[column, rank] = True
                        break
        of_classes.append([reference_voc_ap(row.tolist(), len(instances)) for row in hit])
    return np.mean(of_classes, axis=0).tolist()


def seconds(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median processor time of some runs, and the result."""
    taken, result = [], None
    for _ in range(repeats):
        begin = time.process_time()
        result = function()
        taken.append(time.process_time() - begin)
    return statistics.median(taken), result


@pytest.fixture(scope="module")
def thumos() -> tuple[GroundTruth, Detections]:
    return problem(videos=209, classes=20, instances=3300, detections=200_000)


@pytest.mark.slow
@pytest.mark.benchmark(group="evaluation: 200,000 THUMOS14-like detections, 7 tIoUs")
def test_evaluate_beside_the_plain_loop(benchmark: Any, thumos: tuple[GroundTruth, Detections]) -> None:
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
    aim(benchmark, "ratio", plain / fast, at_least=25)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.benchmark(group="evaluation: P-MIL's 31,587 detections, 7 tIoUs")
def test_evaluate_beside_the_released_style(benchmark: Any, shared: Path) -> None:
    truth = read_annotations(shared / "data" / "thumos14").ground_truth()
    detections = read_detections(shared / "data" / "detections" / "thumos14_pmil_base.json", truth.classes)

    def ours() -> EvaluationResult:
        return evaluate(detections, truth, PROTOCOLS["anet-212"], THUMOS_TIOUS)

    fast, result = seconds(ours, 15)
    benchmark.pedantic(ours, rounds=5)
    slow, expected = seconds(lambda: released_style(detections, truth, THUMOS_TIOUS), 1)

    np.testing.assert_allclose(list(result.mean_ap.values()), expected, rtol=0, atol=1e-12)
    benchmark.extra_info.update({"ratio": slow / fast, "seconds": fast, "seconds_released_style": slow})
    print(f"\nP-MIL: {slow / fast:.0f} times the speed of a pandas look-up a detection ({fast:.3f} s, {slow:.1f} s)")
    aim(benchmark, "ratio", slow / fast, at_least=60)


@pytest.mark.benchmark(group="evaluation: every protocol, 200,000 THUMOS14-like detections, 7 tIoUs")
@pytest.mark.parametrize("protocol", APPLICABLE)
def test_every_protocol(benchmark: Any, thumos: tuple[GroundTruth, Detections], protocol: str) -> None:
    truth, detections = thumos
    truth = replace(truth, ambiguous=AMBIGUOUS)
    result = benchmark.pedantic(evaluate, args=(detections, truth, PROTOCOLS[protocol], THUMOS_TIOUS), rounds=2)
    assert result.detections + result.dropped == 200_000


@pytest.mark.benchmark(group="evaluation: nine protocols at once, 40,000 THUMOS14-like detections, 7 tIoUs")
def test_protocols_together_beside_one_by_one(benchmark: Any) -> None:
    truth, detections = problem(videos=209, classes=20, instances=3300, detections=40_000)
    truth = replace(truth, ambiguous=AMBIGUOUS)
    protocols = protocols_for(truth)

    def together() -> dict[str, EvaluationResult]:
        return evaluate_all(detections, truth, protocols, THUMOS_TIOUS)

    fast, at_once = seconds(together, 9)
    benchmark.pedantic(together, rounds=5)
    slow, alone = seconds(lambda: [evaluate(detections, truth, one, THUMOS_TIOUS) for one in protocols], 5)

    assert [one.protocol.name for one in alone] == list(at_once) == APPLICABLE
    for one in alone:
        np.testing.assert_array_equal(at_once[one.protocol.name].ap, one.ap)
    benchmark.extra_info.update({"ratio": slow / fast, "seconds": fast})
    print(f"\nnine protocols at once: {slow / fast:.2f} times as fast as one by one ({fast:.3f} s, {slow:.3f} s)")
    aim(benchmark, "ratio", slow / fast, at_least=1.3)


@pytest.mark.slow
@pytest.mark.benchmark(group="evaluation: 1e3 to 1e6 THUMOS14-like detections, 7 tIoUs")
def test_growth_with_the_number_of_detections(benchmark: Any) -> None:
    sizes = [1_000, 10_000, 100_000, 1_000_000]
    taken = []
    for size in sizes:
        truth, detections = problem(videos=209, classes=20, instances=3300, detections=size)
        run = functools.partial(evaluate, detections, truth, PROTOCOLS["anet"], THUMOS_TIOUS)
        taken.append(seconds(run, 5)[0])
    benchmark.pedantic(run, rounds=1)

    fitted = float(np.polyfit(np.log(sizes), np.log(taken), 1)[0])
    steepest = float(np.max(np.diff(np.log10(taken))))  # of a decade: small sizes cost calls, not detections
    benchmark.extra_info.update({"seconds": dict(zip(sizes, taken, strict=True)), "exponent": fitted})
    print("\n" + "\n".join(f"{size:>9,} detections: {one:.4f} s" for size, one in zip(sizes, taken, strict=True)))
    print(f"time grows with detections to the {fitted:.2f}, at most {steepest:.2f} from one size to the next")
    aim(benchmark, "exponent", fitted, at_most=1.3)
    aim(benchmark, "steepest decade", steepest, at_most=1.3)


def resampled(truth: GroundTruth, detections: Detections, times: np.ndarray) -> tuple[Detections, GroundTruth]:
    """A data set in which each video stands as often as told, each copy under a name of its own."""
    source = np.repeat(np.arange(len(times)), times)
    names = tuple(f"{truth.videos[video]}-{copy}" for copy, video in enumerate(source))

    def rows(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        by_video = [np.flatnonzero(column == video) for video in range(len(times))]
        taken = [by_video[video] for video in source]
        return np.concatenate(taken), np.repeat(np.arange(len(source)), [len(one) for one in taken])

    (instance, where), (row, place) = rows(truth.video), rows(detections.video)
    columns = {name: getattr(truth, name)[instance] for name in ("label", "start", "end")}
    return (
        replace(detections.select(row), videos=names, video=place),
        replace(truth, videos=names, video=where, **columns),
    )


@pytest.mark.benchmark(group="bootstrap: two methods, 1,000 resamples of 210 videos, 30,000 detections each, 7 tIoUs")
def test_the_bootstrap_beside_matching_each_resample(benchmark: Any) -> None:
    truth, one = problem(videos=210, classes=20, instances=3311, detections=30_000)
    rng = np.random.default_rng(1)
    two = replace(one, score=one.score + rng.normal(0, 0.1, len(one)))
    protocol, replicates, matched = PROTOCOLS["anet"], 1_000, 5

    def flags(detections: Detections) -> RunMatches:
        result = evaluate(detections, truth, protocol, THUMOS_TIOUS)
        return RunMatches(protocol, result.tious, truth.classes, truth.videos, result.flags)

    runs = {0: flags(one)}, {0: flags(two)}
    times = np.random.default_rng(0).multinomial(210, [1 / 210] * 210, size=replicates)[:matched]

    def bootstrap() -> VideoBootstrap:
        _weights.cache_clear()
        return paired_bootstrap(*runs, functools.partial(resampled_mean_ap, replicates=replicates))

    def matching() -> list[list[float]]:
        return [
            [
                100 * evaluate(*resampled(truth, each, drawn), protocol, THUMOS_TIOUS).averages["0.1:0.7"]
                for drawn in times
            ]
            for each in (one, two)
        ]

    fast, _ = seconds(bootstrap, 5)
    benchmark.pedantic(bootstrap, rounds=1)
    slow, expected = seconds(matching, 1)
    slow *= replicates / matched

    for run, values in zip(runs, expected, strict=True):
        found = resampled_mean_ap(run[0], replicates)[1 : 1 + matched]
        np.testing.assert_allclose(found, values, rtol=0, atol=1e-9)
    benchmark.extra_info.update({"ratio": slow / fast, "seconds": fast, "resamples_matched": matched})
    print(
        f"\n1,000 paired resamples: {slow / fast:.0f} times as fast as matching each ({fast:.2f} s; {slow:.0f} s, "
        f"scaled up from {matched} resamples)"
    )
    aim(benchmark, "ratio", slow / fast, at_least=50)


# The peak is the process's own (VmHWM): ru_maxrss of a child begins at its parent's, which the benchmarks before fill.
MILLION = """
import re, time
from pathlib import Path
from tests.benchmarks.detections import problem
from wstal.evaluation import ACTIVITYNET_TIOUS, PROTOCOLS, evaluate
truth, detections = problem(videos=4926, classes=200, instances=7654, detections=1_000_000)
begin = time.perf_counter()
result = evaluate(detections, truth, PROTOCOLS["anet"], ACTIVITYNET_TIOUS)
taken = time.perf_counter() - begin
peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
print(result.detections, taken, peak / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc/self/status")
@pytest.mark.benchmark(group="evaluation: 1,000,000 ActivityNet-like detections, 10 tIoUs")
def test_a_million_detections_fit_in_one_gigabyte(benchmark: Any) -> None:
    root = Path(__file__).parents[2]

    def fresh_process() -> list[float]:
        done = subprocess.run([sys.executable, "-c", MILLION], cwd=root, capture_output=True, text=True, check=True)
        return [float(word) for word in done.stdout.split()]

    detections, taken, gigabytes = benchmark.pedantic(fresh_process, rounds=1)

    benchmark.extra_info.update({"seconds": taken, "peak_gigabytes": gigabytes})
    print(f"\n{detections:.0f} detections: {taken:.1f} s, {gigabytes:.2f} GB at most")
    assert detections == 1_000_000
    assert gigabytes < 1
