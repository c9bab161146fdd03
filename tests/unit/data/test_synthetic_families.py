"""Synthetic data sets that stand for ActivityNet 1.3 and FineAction: their statistics, classes and clock."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from harness.data.descriptor import shipped_descriptors
from harness.data.source import SUBSETS
from harness.data.synthetic import embedded_source, generate
from harness.data.synthetic_families import FAMILIES, STATISTICS
from harness.data.synthetic_features import World
from harness.data.synthetic_spec import SyntheticSpec
from harness.data.synthetic_timeline import LEVELS, Kind
from wstal.errors import MissingDataError
from wstal.evaluation import ACTIVITYNET_TIOUS
from wstal.types import GroundTruth

NAMES = ("activitynet13", "fineaction")


def covered(truth: GroundTruth, video: int, duration: float) -> float:
    """Fraction of a video under any instance, on a grid of a thousandth."""
    here = truth.video == video
    at = (np.arange(1000) + 0.5) / 1000 * duration
    return float(((truth.start[here, None] <= at) & (at < truth.end[here, None])).any(axis=0).mean())


@pytest.mark.parametrize(("name", "classes", "rows"), [("activitynet13", 200, 75), ("fineaction", 106, 100)])
def test_every_video_has_the_family_s_rows_and_every_class_occurs(name: str, classes: int, rows: int) -> None:
    source = embedded_source(False, name)
    assert (source.name, source.family, source.synthetic) == (f"synthetic-{name}", name, True)
    assert (len(source.classes), len(set(source.classes)), source.tious) == (classes, classes, ACTIVITYNET_TIOUS)
    assert source.classes == tuple(sorted(source.classes))
    for subset in SUBSETS:
        videos = source.videos(subset)
        assert {len(video.features) for video in videos} == {rows}
        assert {label for video in videos for label in video.labels} == set(range(classes))
        durations = source.durations([video.name for video in videos])
        assert [video.seconds_per_snippet * rows for video in videos] == pytest.approx(list(durations.values()))
    assert "SYNTHETIC" in source.notes[0]
    assert "ynthetic" in source.describe()["title"]


@pytest.mark.parametrize("name", NAMES)
def test_coarse_classes_are_the_family_s(name: str) -> None:
    coarse = embedded_source(False, name).coarse_classes
    sizes = np.bincount(coarse).tolist()
    if name == "fineaction":  # official names and HAAN's numbers stand side by side there
        groups = shipped_descriptors()[name].coarse_classes.values()
        assert sizes == [sum(label.startswith("fine-") for label in group) for group in groups]
    assert (len(sizes), sum(sizes)) == ((7, 200) if name == "activitynet13" else (14, 106))


@pytest.mark.parametrize("name", FAMILIES)
def test_equal_bits_on_any_number_of_threads(name: str) -> None:
    made = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            made.append(generate(FAMILIES[name].spec))
    for subset in SUBSETS:
        for first, second in zip(*(data.videos[subset] for data in made), strict=True):
            assert first.features.tobytes() == second.features.tobytes(), first.name


def test_classes_of_one_coarse_class_look_more_alike() -> None:
    spec = SyntheticSpec(classes=8, train_videos=8, test_videos=8, width=4096, coarse=(4, 4), class_similarity=0.5)
    alike = np.corrcoef(World.of(spec).phases[Kind.PROMINENT])
    same = np.equal.outer(spec.coarse_classes, spec.coarse_classes) & ~np.eye(8, dtype=bool)
    assert alike[same] == pytest.approx(0.5, abs=0.06)
    assert alike[~same & ~np.eye(8, dtype=bool)] == pytest.approx(0, abs=0.06)
    with pytest.raises(ValueError, match="coarse classes of 8 classes together, got 6"):
        SyntheticSpec(classes=8, coarse=(3, 3))


@pytest.mark.parametrize("name", NAMES)
def test_durations_counts_and_coverage_are_the_annotations(name: str) -> None:
    source, published = embedded_source(False, name), STATISTICS[name]["test"]  # type: ignore[index]
    truth = source.ground_truth("test")
    durations = np.array(list(source.durations(truth.videos).values()), dtype=float)
    counts = np.bincount(truth.video, minlength=len(durations))
    share = [covered(truth, video, duration) for video, duration in enumerate(durations)]
    for level in (0.25, 0.5, 0.75, 0.9):
        expected = {
            key: np.interp(level, LEVELS, getattr(published, key)) for key in ("duration", "instances", "covered")
        }
        assert np.quantile(durations, level) == pytest.approx(expected["duration"], rel=0.05)
        # at most one instance every eight rows
        assert np.quantile(counts, level) == pytest.approx(
            min(expected["instances"], source.spec.max_length // 8), abs=1
        )
        assert np.quantile(share, level) == pytest.approx(expected["covered"], abs=0.03)


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_the_statistics_are_those_of_the_annotations(shared: Path, name: str) -> None:
    subsets = json.loads((shared / "data" / name / "stats.json").read_text())["subsets"]
    keys = ("q00", "q01", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99", "q100")
    for subset, own in (("train", "training"), ("test", "validation")):
        ours, measured = STATISTICS[name][subset], subsets[own]  # type: ignore[index]
        for field, wanted in (
            (ours.duration, "video_duration_s"),
            (ours.instances, "instances_per_video"),
            (ours.covered, "covered_fraction_per_video"),
        ):
            # of no coverage at all there is no logarithm
            np.testing.assert_allclose(field[1:], [measured[wanted][key] for key in keys[1:]], rtol=1e-3, atol=5e-3)
        several = sum(count for number, count in measured["classes_per_video_hist"].items() if number != "1")
        assert ours.two_class_videos == several / measured["videos"]


def test_other_families_and_sizes_are_refused() -> None:
    with pytest.raises(
        MissingDataError, match=r"activitynet12 has no synthetic stand-in, only thumos14, activitynet13, f"
    ):
        embedded_source(False, "activitynet12")
    with pytest.raises(MissingDataError, match=r"fineaction has no .* stand-in of full size, only thumos14: give"):
        embedded_source(True, "fineaction")


def test_each_family_is_of_a_table_of_the_paper() -> None:
    assert {name: family.table for name, family in FAMILIES.items()} == {"activitynet13": "II", "fineaction": "III"}
