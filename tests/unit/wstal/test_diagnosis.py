"""Diagnosis of detections: values of the released tool on real files, and what must hold for any detections."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.annotations import read_annotations, select_videos
from harness.data.detections import read_detections
from wstal.errors import UserError
from wstal.evaluation import PROTOCOLS, evaluate
from wstal.evaluation.diagnosis import KINDS, SLABS, Diagnosis, diagnose
from wstal.types import Detections, GroundTruth

TOLERANCE = 1e-9
NAMES = dict(zip(KINDS, ("True Positive", *(f"{kind} Err" for kind in (
    "Double Detection", "Wrong Label", "Localization", "Confusion", "Background"
))), strict=True))  # fmt: skip
CHARACTERISTICS = {"coverage": "coverage", "length": "length", "num-instances": "instances"}
FILES = (
    "thumos14_stpn.210", "thumos14_stpn.212", "thumos14_pmil_base.210", "thumos14_pmil_base.212",
    "activitynet13_imatge.clip", "activitynet13_imatge.drop",
)  # fmt: skip


def released(shared: Path, name: str, as_released: bool) -> tuple[dict[str, Any], Diagnosis]:
    wanted: dict[str, Any] = json.loads((shared / "fixtures" / "diagnosis" / f"{name}.json").read_text())
    about = wanted["ground_truth_file"]
    known = read_annotations(shared / "data" / about["name"])
    truth = known.ground_truth(about["subset"])
    if f"anet-{about['variant']}" in PROTOCOLS:
        excluded = PROTOCOLS[f"anet-{about['variant']}"].excluded_videos
        truth = select_videos(truth, [video for video in truth.videos if video not in excluded])
    stated = dict(zip(known.videos, known.duration.tolist(), strict=True))
    detections = read_detections(shared / "data" / "detections" / wanted["detections_file"]["name"], truth.classes)
    result = diagnose(
        detections, truth, [stated[video] for video in truth.videos], wanted["settings"]["tious"],
        dataset=name.partition("_")[0], coverage="drop" if about["variant"] == "drop" else "clip",
        as_released=as_released,
    )  # fmt: skip
    return wanted, result


def by_tiou(values: dict[str, float], result: Diagnosis) -> list[float]:
    return [values[f"{tiou:.6g}"] for tiou in result.tious]


@pytest.mark.parametrize("as_released", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_equals_the_released_tool(shared: Path, name: str, as_released: bool) -> None:
    wanted, result = released(shared, name, as_released)
    assert len(result.truth) == wanted["ground_truth_file"]["instances_evaluated"]
    assert result.instances_per_class == pytest.approx(wanted["ground_truth_file"]["N"], abs=TOLERANCE)
    assert result.ap.mean(axis=0) == pytest.approx(by_tiou(wanted["mAP"], result), abs=TOLERANCE)
    assert result.normalized_ap.mean(axis=0) == pytest.approx(by_tiou(wanted["mAP_N"], result), abs=TOLERANCE)
    # the tool's fault has no effect on some files, which then have one set of values only
    keys = ("false_positives", "false_positives_corrected")
    profile = wanted.get(keys[not as_released]) or wanted.get(keys[as_released])
    assert len(result.kind) == profile["detections_considered"]
    considered = result.considered_normalized_ap.mean(axis=0)
    assert considered == pytest.approx(by_tiou(profile["mAP_N"], result), abs=TOLERANCE)
    for number, (kind, label) in enumerate(NAMES.items()):
        assert result.counts[:, number].sum(axis=0).tolist() == by_tiou(profile["all"]["counts"][label], result), kind
        for slab, stated in enumerate(profile["slabs"]):
            assert result.counts[slab, number].tolist() == by_tiou(stated["counts"][label], result), (kind, slab)
        if number:
            gains = by_tiou(profile["removing_gain"][label], result)
            assert result.gains[number] == pytest.approx(gains, abs=TOLERANCE), kind
    missed = wanted["false_negatives"]
    assert result.missed.mean(axis=0) == pytest.approx(by_tiou(missed["overall_rate"], result), abs=TOLERANCE)
    for theirs, ours in CHARACTERISTICS.items():
        buckets = result.buckets[ours]
        for bucket, stated in missed["buckets"][theirs].items():
            place = buckets.names.index(bucket)
            assert buckets.sizes[place] == stated["instances"]
            rates = by_tiou(stated["rate"], result)
            assert result.missed_share(ours)[place] == pytest.approx(rates, abs=TOLERANCE)
        for bucket, stated in wanted["sensitivity"]["buckets"][theirs].items():
            found, ap = result.bucket_ap[ours][buckets.names.index(bucket)], stated["mAP_N"]
            if as_released:
                assert found.mean() == pytest.approx(ap["average_as_released"], abs=TOLERANCE)
            else:
                assert found == pytest.approx(by_tiou(ap, result), abs=TOLERANCE)


def intervals(*rows: tuple[int, int, float, float]) -> dict[str, Any]:
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return {
        "videos": ("u", "v"), "classes": ("jump", "run"),
        "video": columns[0].astype(np.int64), "label": columns[1].astype(np.int64),
        "start": columns[2], "end": columns[3],
    }  # fmt: skip


def truth_of(*rows: tuple[int, int, float, float]) -> GroundTruth:
    return GroundTruth(**intervals(*rows), ambiguous=np.zeros((0, 3)))


def found_of(*rows: tuple[int, int, float, float], score: list[float] | None = None) -> Detections:
    scores = np.linspace(0.9, 0.1, len(rows)) if score is None else np.array(score)
    return Detections(**intervals(*rows), score=scores)


def test_kinds_by_hand() -> None:
    truth = truth_of((0, 0, 0, 10), (0, 1, 20, 30), (0, 0, 40, 50))
    cases = {
        (0, 0, 0.0, 10.0): "true positive",
        (0, 0, 0.0, 9.0): "double detection",
        (0, 0, 20.0, 30.0): "wrong label",
        (0, 0, 40.0, 44.0): "localization",  # tIoU 0.4
        (0, 0, 20.0, 24.0): "confusion",
        (0, 0, 40.0, 40.5): "background",  # tIoU 0.05
        (1, 0, 0.0, 10.0): "background",  # in a video without instances
    }
    # 10 G are 20 detections of the class: all of them count
    result = diagnose(found_of(*cases), truth, [60, 60], [0.5])
    assert [KINDS[kind] for kind in result.kind[:, 0]] == list(cases.values())
    assert result.missed[:, 0].tolist() == [False, True, True]


def test_the_first_of_equally_near_instances_decides() -> None:
    # as CliffDiving and Diving in THUMOS14: one segment, two labels
    truth = truth_of((0, 0, 0, 10), (0, 1, 0, 10))
    result = diagnose(found_of((0, 1, 0, 10), (0, 1, 0, 9)), truth, [60, 60], [0.5])
    assert [KINDS[kind] for kind in result.kind[:, 0]] == ["true positive", "wrong label"]


def test_normalised_precision_by_hand() -> None:
    # 3 instances of class 0 and 1 of class 1: N = 2; of class 0 a hit, then a miss, then a hit
    truth = truth_of((0, 0, 0, 1), (0, 0, 2, 3), (0, 0, 4, 5), (0, 1, 6, 7))
    result = diagnose(found_of((0, 0, 0, 1), (0, 0, 8, 9), (0, 0, 2, 3)), truth, [60, 60], [0.5])
    # R N / (R N + F): (1/3 2) / (2/3 + 0) = 1, then (2/3 2) / (4/3 + 1) = 4/7
    assert result.normalized_ap[:, 0].tolist() == pytest.approx([(1 + 4 / 7) / 3, 0.0])
    # without the background detection the second hit has precision 1 too
    assert result.gains[KINDS.index("background"), 0] == pytest.approx((2 - 1 - 4 / 7) / 3 / 2)


def test_a_hit_of_little_precision_finds_no_instance() -> None:
    misses = [(1, 0, 2.0 * place, 2.0 * place + 1) for place in range(40)]
    result = diagnose(found_of(*misses, (0, 0, 0, 1)), truth_of((0, 0, 0, 1)), [60, 90], [0.5])
    # N = 1/2: (1 / 2) / (1 / 2 + 40) is below 0.05, so the match is void; AP counts it all the same
    assert result.missed.tolist() == [[True]]
    assert result.ap[0, 0] == pytest.approx(1 / 41)


def test_instances_without_length_or_longer_than_the_video_are_left_out() -> None:
    truth = truth_of((0, 0, 0, 10), (0, 0, 5, 5), (1, 0, 0, 12))
    clipped = diagnose(found_of((0, 0, 0, 10)), truth, [60, 10], [0.5])
    assert (clipped.dropped, len(clipped.truth)) == ({"empty": 1, "coverage": 0}, 2)
    assert clipped.buckets["coverage"].of.tolist() == [4, 4]
    # the number of instances in a video counts those that were left out
    dropped = diagnose(found_of((0, 0, 0, 10)), truth, [60, 10], [0.5], coverage="drop")
    assert (dropped.dropped, len(dropped.truth)) == ({"empty": 1, "coverage": 1}, 1)
    assert dropped.buckets["instances"].names[dropped.buckets["instances"].of[0]] == "S"
    with pytest.raises(UserError, match="No instance is left"):
        diagnose(found_of((0, 0, 0, 10)), truth_of((0, 0, 5, 5)), [60, 10], [0.5])


def test_without_a_duration_there_is_no_coverage() -> None:
    result = diagnose(found_of((0, 0, 0, 10)), truth_of((0, 0, 0, 10)), [np.nan, 10], [0.5])
    assert list(result.buckets) == ["length", "instances"]


times = st.integers(0, 30).flatmap(lambda start: st.tuples(st.just(start), st.integers(start + 1, start + 20)))
rows = st.tuples(st.integers(0, 1), st.integers(0, 1), times).map(lambda row: (row[0], row[1], *map(float, row[2])))


@settings(max_examples=60)
@given(st.lists(rows, min_size=1, max_size=8), st.lists(rows, max_size=30), st.randoms())
def test_invariants(instances: list[Any], found: list[Any], random: Any) -> None:
    truth, detections = truth_of(*instances), found_of(*found)
    result = diagnose(detections, truth, [60, 60], [0.3, 0.5, 0.7])
    # each considered detection is in one slab, each slab counts every detection once at each tIoU
    assert (result.counts.sum(axis=(0, 1)) == len(result.kind)).all()
    assert (result.counts[:, 0].sum(axis=0) == (result.kind == 0).sum(axis=0)).all()
    assert (result.gains >= -1e-12).all()
    for buckets in result.buckets.values():
        assert sum(buckets.sizes) == len(truth)
    for name, buckets in result.buckets.items():
        shares = np.nan_to_num(result.missed_share(name)) * np.array(buckets.sizes)[:, None]
        assert shares.sum(axis=0) == pytest.approx(result.missed.sum(axis=0))
    # AP is the evaluator's
    if len(found):
        evaluated = evaluate(detections, truth, PROTOCOLS["anet"], [0.3, 0.5, 0.7])
        present = np.unique(truth.label)
        assert result.ap[present] == pytest.approx(evaluated.ap[present], abs=1e-12)
    # their order in the file changes nothing
    order = list(range(len(found)))
    random.shuffle(order)
    again = diagnose(detections.select(np.array(order, dtype=np.int64)), truth, [60, 60], [0.3, 0.5, 0.7])
    assert (again.kind == result.kind).all()
    assert (again.missed == result.missed).all()


@given(st.lists(rows, min_size=1, max_size=8, unique_by=lambda row: row[0] * 100 + row[2]))
def test_the_ground_truth_as_detections_has_no_error(instances: list[Any]) -> None:
    truth = truth_of(*instances)
    same = Detections(**{name: getattr(truth, name) for name in intervals()}, score=np.ones(len(truth)))
    result = diagnose(same, truth, [60, 60], [0.5, 0.9])
    assert (result.kind == 0).all()
    assert not result.missed.any()
    assert not result.gains.any()
    twice = found_of(*instances, *instances, score=[0.9] * len(instances) + [0.1] * len(instances))
    doubled = diagnose(twice, truth, [60, 60], [0.5, 0.9])
    assert (doubled.kind == 0).sum(axis=0).tolist() == [len(instances)] * 2
    assert set(np.unique(doubled.kind)) <= {0, KINDS.index("double detection"), KINDS.index("wrong label")}
    assert len(doubled.kind) <= SLABS * len(truth)


def test_equal_class_sizes_need_no_normalisation() -> None:
    truth = truth_of((0, 0, 0, 10), (0, 1, 20, 30))
    found = found_of((0, 0, 0, 9), (0, 1, 40, 50), (0, 1, 20, 28), (1, 0, 0, 9))
    result = diagnose(found, truth, [60, 60], [0.5])
    assert result.normalized_ap.tolist() == pytest.approx(result.ap)
    assert replace(result).gains.shape == (len(KINDS), 1)
