"""Paired comparison against brute force: one evaluation a replicate, and data sets that really are resampled."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.comparisons.bootstrap import (
    VideoBootstrap,
    paired_bootstrap,
    resampled_mean_ap,
    weighted_average_precision,
)
from harness.comparisons.runs import NO_VERDICT, check_comparable, compare_methods, compare_runs, comparison_table
from harness.data.detections import write_detections
from harness.io.encoding import pretty_json, sha256_file
from harness.records.files import DETECTIONS, MATCHES, RECORD
from harness.records.grouping import SystemKey, system_names
from harness.records.matches import RunMatches, matches_of, read_matches, save_matches
from harness.records.run_folder import FinishedRun
from harness.records.schema import Record, run_id
from tests.helpers.records import as_record, make_record, unchecked
from wstal.errors import StoreError, UserError
from wstal.evaluation import PROTOCOLS, THUMOS_TIOUS, class_average_precision, evaluate, to_json
from wstal.types import Detections, GroundTruth

CLASSES = ("Diving", "JavelinThrow", "Shotput")
VIDEOS = tuple(f"video_test_{number:07d}" for number in (270, 3, 4, 5, 6, 7, 8, 9))  # the first is a wrong one


def truth_of(seed: int = 0) -> GroundTruth:
    """Some 20 instances; the last video has none, the second class occurs in one video only."""
    rng = np.random.default_rng(seed)
    video = np.sort(rng.integers(0, len(VIDEOS) - 1, 20))
    label = np.where(video == 2, 1, rng.integers(0, 2, 20) * 2)
    start = rng.uniform(0, 90, 20).round(2)
    ambiguous = np.array([[3.0, 10.0, 30.0], [5.0, 40.0, 45.0]])
    return GroundTruth(VIDEOS, CLASSES, video, label, start, start + rng.uniform(1, 9, 20).round(2), ambiguous)


def found_in(truth: GroundTruth, seed: int, noise: float = 1.0) -> Detections:
    """Every instance thrice, moved; and as many at random, in all videos. No two scores are equal."""
    rng = np.random.default_rng(seed)
    source = np.tile(np.arange(len(truth.video)), 3)
    near = truth.start[source] + rng.normal(0, noise, len(source))
    video = np.concatenate([truth.video[source], rng.integers(0, len(VIDEOS), 60)])
    start = np.concatenate([near, rng.uniform(0, 90, 60)])
    length = np.concatenate([truth.end[source] - truth.start[source], rng.uniform(1, 9, 60)])
    label = np.concatenate([truth.label[source], rng.integers(0, 3, 60)])
    score = rng.permutation(120) / 120 + np.repeat([0.301, 0], 60)
    return Detections(VIDEOS, CLASSES, video, label, start, start + length, score)


def flags_from(detections: Detections, truth: GroundTruth, protocol: str = "anet") -> RunMatches:
    result = evaluate(detections, truth, PROTOCOLS[protocol], THUMOS_TIOUS)
    return RunMatches(result.protocol, result.tious, truth.classes, truth.videos, result.flags)


def mean_of(ap: np.ndarray[Any, Any]) -> float:
    """Mean mAP in percent of `[C, K]`, over the classes that have an instance."""
    return float(100 * ap[~np.isnan(ap[:, 0])].mean())


def bootstrap(
    a: Mapping[int, RunMatches], b: Mapping[int, RunMatches], replicates: int, seed: int = 0
) -> VideoBootstrap:
    return paired_bootstrap(a, b, functools.partial(resampled_mean_ap, replicates=replicates, seed=seed))


@pytest.mark.parametrize("protocol", [one.name for one in PROTOCOLS.values() if one.defined_on != "activitynet13"])
def test_every_replicate_equals_the_evaluators_own_weighting(protocol: str) -> None:
    truth = truth_of()
    run = flags_from(found_in(truth, 1), truth, protocol)
    rng = np.random.default_rng(7)
    weight = rng.multinomial(len(run.evaluated), [1 / len(run.evaluated)] * len(run.evaluated), size=40).T
    got = weighted_average_precision(run, run.evaluated, weight)
    assert got.shape == (3, 7, 40)
    assert np.isnan(got).any()
    whole = protocol in ("anet", "thumos14-kit-2014") or protocol.endswith("-212")
    assert (run.videos[0] in run.evaluated) == whole
    place = [run.evaluated.index(name) if name in run.evaluated else 0 for name in run.videos]
    for column in range(40):
        expected = class_average_precision(run.flags, 3, run.protocol, weight[place, column].astype(float))
        np.testing.assert_allclose(got[:, :, column], expected, rtol=0, atol=1e-12)


def resample(truth: GroundTruth, detections: Detections, times: Sequence[int]) -> tuple[GroundTruth, Detections]:
    """A data set in which each video stands as often as told, each copy under a name of its own."""
    copies = [(video, copy) for video, count in enumerate(times) for copy in range(count)]
    names = tuple(f"{VIDEOS[video]}-{copy}" for video, copy in copies)

    def rows(column: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        taken = [np.flatnonzero(column == video) for video, _ in copies]
        return np.concatenate(taken), np.repeat(np.arange(len(copies)), [len(one) for one in taken])

    (instance, where), (row, place) = rows(truth.video), rows(detections.video)
    again = GroundTruth(
        names, CLASSES, where, truth.label[instance], truth.start[instance], truth.end[instance], np.zeros((0, 3))
    )
    return again, replace(detections.select(row), videos=names, video=place)


def test_replicates_are_evaluations_of_resampled_data_sets() -> None:
    truth = truth_of()
    systems = [found_in(truth, 1), found_in(truth, 2, noise=3)]
    runs = [flags_from(detections, truth) for detections in systems]
    order = runs[0].evaluated
    drawn = np.random.default_rng(5).multinomial(8, [1 / 8] * 8, size=25)
    expected = []
    for counts in [[1] * 8, *drawn]:
        times = [counts[order.index(name)] for name in VIDEOS]
        both = [evaluate(*resample(truth, one, times)[::-1], PROTOCOLS["anet"], THUMOS_TIOUS) for one in systems]
        expected.append([100 * one.averages["0.1:0.7"] for one in both])
    for run, values in zip(runs, np.array(expected).T, strict=True):
        np.testing.assert_allclose(resampled_mean_ap(run, 25, seed=5), values, rtol=0, atol=1e-9)
    first, second = np.array(expected).T
    found = bootstrap({0: runs[0]}, {0: runs[1]}, 25, seed=5)
    assert found.difference == pytest.approx(first[0] - second[0])
    assert (found.low, found.high) == pytest.approx(np.percentile((first - second)[1:], [2.5, 97.5]).tolist())
    assert found.share == np.mean((first - second)[1:] <= 0)
    assert found.tious == "0.1:0.7"


def test_a_system_against_itself_never_differs_and_turned_round_changes_sign() -> None:
    truth = truth_of()
    one, other = flags_from(found_in(truth, 1), truth), flags_from(found_in(truth, 2), truth)
    same = bootstrap({3: one}, {3: one}, 50)
    assert (same.difference, same.low, same.high, same.share) == (0, 0, 0, 1)
    there, back = bootstrap({0: one}, {0: other}, 50), bootstrap({0: other}, {0: one}, 50)
    assert (there.difference, there.low, there.high) == pytest.approx((-back.difference, -back.high, -back.low))
    assert there == bootstrap({0: one}, {0: other}, 50)
    assert there != bootstrap({0: one}, {0: other}, 50, seed=1)


def test_seeds_are_paired_within_each_replicate() -> None:
    truth = truth_of()
    a, b = ({seed: flags_from(found_in(truth, 10 * k + seed), truth) for seed in range(4)} for k in range(2))
    found = bootstrap(a, {seed: b[seed] for seed in (1, 2)}, 60)
    each = [resampled_mean_ap(a[seed], 60) - resampled_mean_ap(b[seed], 60) for seed in (1, 2)]
    assert found.difference == pytest.approx((each[0][0] + each[1][0]) / 2)
    assert (found.low, found.high) == pytest.approx(np.percentile(np.mean(each, axis=0)[1:], [2.5, 97.5]).tolist())
    with pytest.raises(UserError, match=r"share no seed: \[0, 1, 2, 3\] against \[5\]"):
        bootstrap(a, {5: b[1]}, 10)


def test_resamples_without_an_instance_are_left_out() -> None:
    truth = truth_of()
    alone = replace(truth, video=np.full(20, 4), label=np.zeros(20, dtype=np.int64))
    one, other = (flags_from(found_in(alone, seed), alone) for seed in (1, 2))
    found = bootstrap({0: one}, {0: other}, 200, seed=2)
    lacking = np.isnan(resampled_mean_ap(one, 200, seed=2)).sum()
    # (7/8)^8 = 0.34 of the resamples miss the one video
    assert 40 < lacking < 100
    there = [np.isfinite(run) for run in (resampled_mean_ap(one, 200, seed=2), resampled_mean_ap(other, 200, seed=2))]
    moved = (resampled_mean_ap(one, 200, seed=2) - resampled_mean_ap(other, 200, seed=2))[there[0] & there[1]][1:]
    assert len(moved) == 200 - lacking
    assert (found.low, found.high) == pytest.approx(np.percentile(moved, [2.5, 97.5]).tolist())
    assert found.share == np.mean(moved <= 0)


def test_flags_of_other_evaluations_are_refused() -> None:
    truth = truth_of()
    one = flags_from(found_in(truth, 1), truth)
    with pytest.raises(UserError, match=r"DetectionMatches of anet at .* with those of anet-210"):
        bootstrap({0: one}, {0: flags_from(found_in(truth, 1), truth, "anet-210")}, 5)
    fewer = replace(truth, **{name: getattr(truth, name)[1:] for name in ("video", "label", "start", "end")})
    with pytest.raises(UserError, match="other test videos or other annotations"):
        bootstrap({0: one}, {0: flags_from(found_in(truth, 1), fewer)}, 5)
    with pytest.raises(UserError, match=r"tIoUs 0\.5 cover none of the usual ranges"):
        resampled_mean_ap(replace(one, tious=(0.5,)), 5)


def table(values: dict[str, list[float]]) -> dict[str, dict[int, float]]:
    return {method: dict(enumerate(row)) for method, row in values.items()}


def test_methods_are_compared_by_sign_flips_and_holm() -> None:
    noise = [0.0, 0.3, -0.2, 0.1, -0.4, 0.2, 0.05, -0.1]
    columns = {"a": [20 + x for x in noise], "b": [20.0] * 8, "c": [25 - x for x in noise], "d": [22.0, 21.0]}
    compared = compare_methods(table(columns))
    assert list(zip(compared["a"], compared["b"], strict=True)) == [
        ("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"),
    ]  # fmt: skip
    assert compared["seeds"].tolist() == [8, 8, 2, 8, 2, 2]
    by_pair = compared.set_index(["a", "b"])
    # all eight signs alike: 2 / 2^8; of the three pairs with the seeds for a verdict the two smallest p are multiplied
    # by 3 and 2, and must not fall
    assert by_pair.loc[("a", "c"), "p"] == by_pair.loc[("b", "c"), "p"] == 2 / 256
    assert by_pair.loc[("a", "c"), "p_holm"] == by_pair.loc[("b", "c"), "p_holm"] == pytest.approx(6 / 256)
    t = {
        pair: stats.ttest_rel(*(columns[name] for name in pair)).pvalue for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    }
    assert sorted(by_pair["p_t_holm"])[0] == pytest.approx(3 * min(t.values()))
    assert by_pair["p_holm"].isna().tolist() == by_pair["p_t_holm"].isna().tolist() == (by_pair["seeds"] < 6).tolist()
    assert t["a", "b"] > 0.5
    assert by_pair["verdict"].tolist() == [
        "not resolved", "worse", "too few seeds", "worse", "too few seeds", "too few seeds",
    ]  # fmt: skip
    low, high = stats.ttest_rel([20 + x for x in noise], [25 - x for x in noise]).confidence_interval()
    row = by_pair.loc[("a", "c")]
    assert (row["difference"] - row["half_width"], row["difference"] + row["half_width"]) == pytest.approx((low, high))


def test_a_table_with_more_pairs_asks_for_more() -> None:
    # six differences of one sign have p = 2 / 64 = 0.031, three times that among three pairs
    values = {"a": [2.0, 2.1, 1.9, 2.0, 2.2, 1.8], "b": [1.5, 1.9, 1.2, 1.6, 2.1, 1.1], "c": [0.0] * 6}
    alone = compare_methods(table({name: values[name] for name in ("a", "b")}))
    assert alone["p_holm"].tolist() == [2 / 64]
    t = stats.ttest_rel(values["a"], values["b"]).pvalue
    assert alone["p_t_holm"].tolist() == [pytest.approx(t)]
    assert alone["verdict"].tolist() == ["better"]
    three = compare_methods(table(values))
    assert three["p_holm"].tolist() == pytest.approx([6 / 64] * 3)
    # it is the largest of the three, so Holm leaves it alone
    assert three["p_t_holm"].max() == pytest.approx(t)
    few = compare_methods(table({name: column[:5] for name, column in values.items()}))
    assert few["verdict"].tolist() == ["too few seeds"] * 3


def test_methods_without_a_common_seed_make_no_row() -> None:
    assert compare_methods({"a": {0: 1.0}, "b": {1: 2.0}}).empty


def stored_run(
    store: Path,
    truth: GroundTruth,
    detections: Detections,
    seed: int,
    flags: bool = True,
    method: str = "acmnet",
    synthetic: bool = False,
) -> Path:
    """A finished run as the runner leaves it, without weights."""
    folder = store / "new"
    folder.mkdir(parents=True)
    write_detections(folder / DETECTIONS, detections)
    result = evaluate(detections, truth, PROTOCOLS["anet"], THUMOS_TIOUS)
    artefacts = {DETECTIONS: sha256_file(folder / DETECTIONS)}
    if flags:
        artefacts[MATCHES] = save_matches(folder / MATCHES, result, truth.videos)
    # the value gives each run a digest of its own
    record = make_record(method, seed, value=20.0 + len(list(store.iterdir())), synthetic=synthetic) | {
        "classes": list(CLASSES), "artefacts": artefacts,
    }  # fmt: skip
    metrics = to_json(result)
    by_class = metrics.pop("per_class")
    record |= {
        "metrics": {"anet": metrics},
        "per_class": [list(by_class[name].values()) if name in by_class else None for name in CLASSES],
    }
    (folder / RECORD).write_bytes(pretty_json(record))
    return folder.rename(store / record["id"])


def annotated(path: Path, truth: GroundTruth) -> Path:
    database: dict[str, Any] = {
        # file order and subsets differ from the run's
        name: {"subset": "test" if name != VIDEOS[0] else "other", "duration": 200.0, "annotations": []}
        for name in reversed(truth.videos)
    }
    for video, label, start, end in zip(truth.video, truth.label, truth.start, truth.end, strict=True):
        entry = {"label": CLASSES[label], "segment": [float(start), float(end)]}
        database[truth.videos[video]]["annotations"].append(entry)
    path.write_text(json.dumps({"database": database}))
    return path


def assert_same(one: RunMatches, other: RunMatches) -> None:
    for name, column in vars(one.flags).items():
        np.testing.assert_array_equal(column, getattr(other.flags, name))
        assert column.dtype == getattr(other.flags, name).dtype
    assert one.protocol is other.protocol
    assert (one.tious, one.classes) == (other.tious, other.classes)


def test_flags_come_back_as_they_were_in_few_bytes(tmp_path: Path) -> None:
    truth = truth_of()
    detections = found_in(truth, 1)
    run = stored_run(tmp_path, truth, detections, 0)
    assert_same(read_matches(FinishedRun.open(run)), flags_from(detections, truth))
    assert read_matches(FinishedRun.open(run)).videos == VIDEOS
    # one byte a small number: detection, video, label, excused, 7 hits and 8 of the score; twice 20 of instances
    data = (run / MATCHES).read_bytes()
    assert len(data) - 8 - int.from_bytes(data[:8], "little") == 120 * (4 + 7 + 8) + 2 * 20
    result = evaluate(detections, truth, PROTOCOLS["anet"], THUMOS_TIOUS)
    for _ in range(5):
        assert save_matches(tmp_path / "again", result, truth.videos) == sha256_file(run / MATCHES)


def test_flags_of_a_run_without_detections(tmp_path: Path) -> None:
    truth = truth_of()
    nothing = found_in(truth, 1).select(np.zeros(120, dtype=bool))
    run = stored_run(tmp_path, truth, nothing, 0)
    assert read_matches(FinishedRun.open(run)).flags.hit.shape == (0, 7)
    assert resampled_mean_ap(read_matches(FinishedRun.open(run)), 5).tolist() == [0] * 6


def test_an_older_run_makes_its_flags_again_from_its_detections(tmp_path: Path) -> None:
    truth = truth_of()
    detections = found_in(truth, 1)
    run = stored_run(tmp_path, truth, detections, 0, flags=False)
    with pytest.raises(UserError, match=r"stored no flags.safetensors.*--annotations"):
        matches_of(FinishedRun.open(run))
    with pytest.raises(StoreError, match=r"flags\.safetensors is absent"):
        read_matches(FinishedRun.open(run))
    annotations = annotated(tmp_path / "annotations.json", truth)
    again = matches_of(FinishedRun.open(run), annotations)
    assert again.videos == tuple(sorted(VIDEOS))
    np.testing.assert_allclose(resampled_mean_ap(again, 20), resampled_mean_ap(flags_from(detections, truth), 20))
    moved = annotated(tmp_path / "moved.json", replace(truth, end=truth.end + 5))
    with pytest.raises(UserError, match=r"moved\.json .* has other mAPs than its record says"):
        matches_of(FinishedRun.open(run), moved)


def test_damaged_files_are_refused_with_their_path(tmp_path: Path) -> None:
    truth = truth_of()
    run = stored_run(tmp_path, truth, found_in(truth, 1), 0)
    data = bytearray((run / MATCHES).read_bytes())
    data[-1] ^= 1
    (run / MATCHES).write_bytes(data)
    with pytest.raises(StoreError, match=r"flags\.safetensors is absent, or not the file that was written"):
        matches_of(FinishedRun.open(run))
    (run / MATCHES).unlink()
    with pytest.raises(StoreError, match=r"flags\.safetensors is absent"):
        read_matches(FinishedRun.open(run))
    with pytest.raises(UserError, match="holds no finished run"):
        matches_of(FinishedRun.open(tmp_path / "nowhere"))
    older = stored_run(tmp_path, truth, found_in(truth, 1), 1, flags=False)
    write_detections(older / DETECTIONS, found_in(truth, 2))
    with pytest.raises(StoreError, match=r"detections\.json\.gz is absent, or not"):
        matches_of(FinishedRun.open(older), annotated(tmp_path / "annotations.json", truth))


def test_runs_are_grouped_into_systems_and_compared(tmp_path: Path) -> None:
    truth = truth_of()
    good = [stored_run(tmp_path, truth, found_in(truth, seed, 0.3), seed) for seed in range(6)]
    # one of the other system's runs is from an older version
    bad = [
        stored_run(tmp_path, truth, found_in(truth, seed, 4), seed, flags=seed > 0, method="rmgcl-gksa")
        for seed in range(6)
    ]
    annotations = annotated(tmp_path / "annotations.json", truth)
    compared = compare_runs([*good, *bad], annotations, 100)
    (row,) = compared.to_dict("records")
    assert (row["a"], row["b"], row["seeds"], row["verdict"], row["tious"]) == (
        "ACMNET", "RMGCL-GKSA", 6, "better", "0.1:0.7",
    )  # fmt: skip
    expected = bootstrap(
        *(
            {seed: matches_of(FinishedRun.open(run), annotations) for seed, run in enumerate(runs)}
            for runs in (good, bad)
        ),
        100,
    )
    assert (row["difference"], row["low"], row["high"], row["share"]) == pytest.approx(
        (expected.difference, expected.low, expected.high, expected.share)
    )
    assert 0 < row["low"] < row["difference"] < row["high"]
    shown = comparison_table(compared)[0]
    assert shown["difference of mean mAP 0.1:0.7"] == f"{row['difference']:+.2f}"
    assert shown["over test videos (95 %)"] == f"{row['low']:+.2f} to {row['high']:+.2f}"
    assert shown["sign-flip p"] == shown["sign-flip p (Holm)"] == "0.031"
    assert shown["t-test p (Holm)"] == "below 0.001"
    assert not row["synthetic"]
    # one seed has no interval over seeds
    one = comparison_table(compare_runs([good[1], bad[1]], replicates=20))
    assert one[0]["± over seeds (95 %)"] == ""
    assert one[0]["first is"] == "too few seeds"


def test_synthetic_runs_get_their_numbers_and_no_verdict(tmp_path: Path) -> None:
    truth = truth_of()
    runs = [
        stored_run(tmp_path, truth, found_in(truth, seed, noise), seed, method=method, synthetic=True)
        for method, noise in (("acmnet", 0.3), ("rmgcl-gksa", 4))
        for seed in range(6)
    ]
    (row,) = compare_runs(runs, replicates=20).to_dict("records")
    # of real data these would be `better`
    assert (row["synthetic"], row["verdict"], row["p_holm"]) == (True, NO_VERDICT, 2 / 64)
    assert row["low"] < row["difference"] < row["high"]
    assert comparison_table(compare_runs(runs, replicates=20))[0]["first is"] == NO_VERDICT


def test_flags_that_do_not_give_the_records_numbers_are_refused(tmp_path: Path) -> None:
    truth = truth_of()
    good, other = (stored_run(tmp_path, truth, found_in(truth, seed), seed) for seed in range(2))
    record = json.loads((good / RECORD).read_bytes())
    # whole and of the record's digest, but another run's
    (good / MATCHES).write_bytes((other / MATCHES).read_bytes())
    record["artefacts"][MATCHES] = sha256_file(good / MATCHES)
    (good / RECORD).write_bytes(pretty_json(record))
    ours = stored_run(tmp_path, truth, found_in(truth, 3), 0, method="rmgcl-gksa")
    with pytest.raises(StoreError, match=rf"{good / MATCHES} gives mAP \d+\.\d+ at tIoU 0\.1, the run's record says"):
        compare_runs([good, ours], replicates=5)


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    truth = truth_of()
    first, second = (stored_run(tmp_path, truth, found_in(truth, seed), seed) for seed in range(2))
    with pytest.raises(UserError, match="All 2 runs are of one system, ACMNET"):
        compare_runs([first, second])
    ours = stored_run(tmp_path, truth, found_in(truth, 3), 3, method="rmgcl-gksa")
    with pytest.raises(UserError, match=r"ACMNET \(seeds \[0, 1\]\) and RMGCL-GKSA \(seeds \[3\]\) share no seed"):
        compare_runs([first, second, ours])
    with pytest.raises(UserError, match="are both seed 0 of ACMNET"):
        compare_runs([first, stored_run(tmp_path, truth, found_in(truth, 4), 0), ours])
    with pytest.raises(UserError, match="nowhere holds no finished run"):
        compare_runs([first, tmp_path / "nowhere"])
    record = json.loads((ours / RECORD).read_bytes())
    record["metrics"]["anet"]["averages"] = {}
    (ours / RECORD).write_bytes(pretty_json(record))
    with pytest.raises(UserError, match=rf"{ours}: it has none of the usual averages .*, by which runs are compared"):
        compare_runs([first, ours])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"headline": "anet-210"}, r"protocol \(anet against anet-210\)"),
        ({"data": {"labels": "annotations"}}, r"data\.labels \(official against annotations\)"),
        ({"data": {"test": {"list": "n", "videos": 2}}}, r"data\.test\.list \(m against n\)"),
        ({"metrics": {"anet": {"mAP": {"0.5": 1.0}}}}, r"tIoUs \(0\.1 0\.2 0\.3 0\.4 0\.5 against 0\.5\)"),
    ],
)
def test_runs_of_other_data_or_protocol_are_refused(changes: dict[str, Any], said: str) -> None:
    first = make_record()
    first["metrics"]["anet-210"] = first["metrics"]["anet"]
    titled = first | {"data": first["data"] | {"title": "other words"}}
    check_comparable(as_record(first), as_record(titled))
    other = first | changes | {"data": first["data"] | changes.get("data", {})}
    with pytest.raises(UserError, match=f"{first['id']} and .* cannot be compared: they differ in .*{said}"):
        check_comparable(as_record(first), unchecked(other))


def test_systems_are_named_by_what_was_set() -> None:
    def of(number: int, value: int = 1, **changes: Any) -> Record:
        recipe = {"method": {"a": value}}
        return as_record(make_record("rmgcl-gksa", number, title="Ours", recipe=recipe, **changes))

    plain, again, other = of(1), of(2), of(3, 3)
    row = of(4, 2, ablation={"schedule": {"t": 1}, "row": {"method.a": 2}})
    set_by_hand = of(5, 2, overrides={"method.a": 2})
    runs = [plain, row, again, other, set_by_hand]
    names = system_names(runs)
    assert [names[SystemKey.of(run)] for run in runs] == [
        "Ours", "Ours, method.a=2", "Ours", f"Ours ({other.id})", "Ours, method.a=2",
    ]  # fmt: skip


def test_runs_of_two_package_versions_are_two_systems(tmp_path: Path) -> None:
    truth = truth_of()
    runs = [stored_run(tmp_path, truth, found_in(truth, seed), seed) for seed in range(4)]
    for run in runs[2:]:
        record = json.loads((run / RECORD).read_bytes())
        record["environment"]["wstal-bench"] = "1"
        record |= {"seed": record["seed"] - 2}
        record["id"] = run_id(record["data"]["name"], record["method"], record["seed"], record["digest"])
        (run / RECORD).write_bytes(pretty_json(record))
    (row,) = compare_runs(runs, replicates=20).to_dict("records")
    assert (row["a"], row["b"], row["seeds"]) == ("ACMNET (0)", "ACMNET (1)", 2)
