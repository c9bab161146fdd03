"""The synthetic data set: how close its statistics are to the published ones, and what each dial moves."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from harness.data.source import Subset
from harness.data.synthetic import SyntheticData, generate
from harness.data.synthetic_features import MARGIN_LEVELS, MARGIN_MEAN, MARGIN_STD, World
from harness.data.synthetic_spec import SyntheticSpec
from harness.data.synthetic_timeline import LEVELS, THUMOS14, Kind
from wstal.types import Video

SUBSETS: tuple[Subset, ...] = ("train", "test")
Table = dict[str, tuple[float, float]]

# Name: target, allowed difference. Targets are THUMOS14's, as published by its annotations, over both subsets.
# Durations, counts and covered fractions are stratified, so their allowance is rounding and interpolation between
# quantiles. Instances and gaps follow from them: three standard deviations over seeds (measured over 12) plus 10 %
# of the target for the shape of the model.
TIMELINES: Table = {
    "video duration, median s": (154.4, 3.0),
    "video duration, mean s": (207.5, 4.0),
    "instances a video, median": (8.0, 1.0),
    "instances a video, mean": (15.45, 1.0),
    "covered fraction, median": (0.2357, 0.01),
    "covered fraction, mean": (0.2929, 0.01),
    "two-class share": (61 / 412, 0.003),
    "instance, 25 % quantile s": (1.6, 0.45),
    "instance, median s": (3.0, 0.6),
    "instance, 75 % quantile s": (5.9, 1.2),
    "instance, mean s": (4.27, 0.8),
    "instance over video, median": (0.011, 0.003),
    "instance over video, mean": (0.0205, 0.003),
    "gap, median s": (2.5, 0.9),
    "gap, 75 % quantile s": (7.8, 2.0),
    "gap, mean s": (6.91, 1.2),
    "gaps below zero": (537 / 5953, 0.05),
}
# The default's rows allow 16 instances a video: the mean that the annotations have with counts cut there.
TIMELINES_AT_128_ROWS: Table = {
    name: TIMELINES[name]
    for name in TIMELINES
    if name.startswith(("video", "covered", "two-class")) or name == "instances a video, median"
} | {"instances a video, mean": (9.05, 0.5)}

# I3D RGB features of UCF101 clips. Allowed: three standard deviations over 8 seeds at width 128, plus for cosines
# 0.01 (centred 0.03), for shares 0.03 and for the rest 5 % of the target, because fewer dimensions, more classes (20
# against 9) and shorter clips (6 rows against 8) shift them.
GEOMETRY: Table = {
    "value, mean": (0.3512, 0.03),
    "value, median": (0.3088, 0.03),
    "value, 99 % quantile": (1.2236, 0.11),
    "exact zeros": (0.0132, 0.009),
    "dimension, mean std": (0.2156, 0.018),
    "norm, mean": (13.669, 1.1),
    "norm, std": (2.347, 0.42),
    "share of class": (0.229, 0.051),
    "share of video": (0.277, 0.05),
    "share of clip": (0.176, 0.038),
    "share of snippet": (0.318, 0.045),
    "cosine, consecutive": (0.933, 0.013),
    "cosine, same clip": (0.908, 0.016),
    "cosine, same video": (0.869, 0.014),
    "cosine, same class": (0.813, 0.018),
    "cosine, other class": (0.754, 0.018),
    "centred, consecutive": (0.728, 0.039),
    "centred, same clip": (0.611, 0.05),
    "centred, same video": (0.451, 0.059),
    "centred, same class": (0.2145, 0.052),
    "centred, other class": (-0.028, 0.033),
}


@pytest.fixture(scope="module")
def default() -> SyntheticData:
    return generate(SyntheticSpec())


@pytest.fixture(scope="module")
def base() -> SyntheticData:
    return generate(SMALL)


SMALL = SyntheticSpec(seed=3, train_videos=30, test_videos=24, classes=6, width=32, max_length=64)


def timeline_statistics(data: SyntheticData) -> dict[str, float]:
    duration, count, covered, gaps, lengths, relative, two_class = [], [], [], [], [], [], []
    for subset in SUBSETS:
        truth = data.truth[subset]
        for i, name in enumerate(truth.videos):
            mine = np.flatnonzero(truth.video == i)
            order = mine[np.argsort(truth.start[mine], kind="stable")]
            start, end = truth.start[order], truth.end[order]
            reached = np.maximum.accumulate(end)
            overlap = np.maximum(0, np.r_[0, reached[:-1]] - start)
            duration.append(data.durations[name])
            count.append(len(mine))
            covered.append(float(np.maximum(end - start - overlap, 0).sum()) / duration[-1])
            two_class.append(len(set(truth.label[mine])) == 2)
            gaps.append(start[1:] - end[:-1])
            lengths.append(end - start)
            relative.append((end - start) / duration[-1])
    gap, length, part = np.concatenate(gaps), np.concatenate(lengths), np.concatenate(relative)
    return {
        "video duration, median s": float(np.median(duration)),
        "video duration, mean s": float(np.mean(duration)),
        "instances a video, median": float(np.median(count)),
        "instances a video, mean": float(np.mean(count)),
        "covered fraction, median": float(np.median(covered)),
        "covered fraction, mean": float(np.mean(covered)),
        "two-class share": float(np.mean(two_class)),
        "instance, 25 % quantile s": float(np.quantile(length, 0.25)),
        "instance, median s": float(np.median(length)),
        "instance, 75 % quantile s": float(np.quantile(length, 0.75)),
        "instance, mean s": float(length.mean()),
        "instance over video, median": float(np.median(part)),
        "instance over video, mean": float(part.mean()),
        "gap, median s": float(np.median(gap)),
        "gap, 75 % quantile s": float(np.quantile(gap, 0.75)),
        "gap, mean s": float(gap.mean()),
        "gaps below zero": float((gap < 0).mean()),
    }


def clips(data: SyntheticData) -> tuple[Any, Any, Any, Any]:
    """Rows inside exactly one instance, of instances with three such rows: features, class, video, instance."""
    features, label, video, clip = [], [], [], []
    for subset in SUBSETS:
        truth = data.truth[subset]
        for i, one in enumerate(data.videos[subset]):
            mine = np.flatnonzero(truth.video == i)
            left = np.arange(len(one.features))[:, None] * one.seconds_per_snippet
            right = left + one.seconds_per_snippet
            touched = (left < truth.end[mine]) & (right > truth.start[mine])
            inside = (
                (left >= truth.start[mine]) & (right <= truth.end[mine]) & (touched.sum(axis=1, keepdims=True) == 1)
            )
            for column, instance in enumerate(mine):
                rows = np.flatnonzero(inside[:, column])
                if len(rows) >= 3:
                    features.append(one.features[rows].astype(np.float32))
                    label += [truth.label[instance]] * len(rows)
                    video += [SUBSETS.index(subset) * 10_000 + i] * len(rows)
                    clip += [len(features)] * len(rows)
    return np.concatenate(features), np.array(label), np.array(video), np.array(clip)


def geometry_statistics(data: SyntheticData) -> dict[str, float]:
    features, label, video, clip = clips(data)
    centred = features - features.mean(axis=0)

    def means(key: Any) -> Any:
        _, index, size = np.unique(key, return_inverse=True, return_counts=True)
        total = np.zeros((len(size), features.shape[1]))
        np.add.at(total, index, centred)
        return (total / size[:, None])[index]

    by_class, by_video, by_clip = means(label), means(video * 1000 + label), means(clip)
    total = (centred**2).sum()
    norms = np.linalg.norm(features, axis=1) * np.sqrt(1024 / features.shape[1])
    rng = np.random.default_rng(0)
    i, j = rng.integers(len(features), size=(2, 400_000))
    step = np.flatnonzero(clip[1:] == clip[:-1])
    same_label, same_video, same_clip = label[i] == label[j], video[i] == video[j], clip[i] == clip[j]
    across = same_label & same_video & ~same_clip
    apart = [np.flatnonzero(clip[lag:] == clip[:-lag]) for lag in range(2, 9)]
    pairs = {
        "consecutive": (step, step + 1),
        "same clip": (np.concatenate(apart), np.concatenate([at + lag for lag, at in enumerate(apart, start=2)])),
        "same video": (i[across], j[across]),
        "same class": (i[same_label & ~same_video][:20_000], j[same_label & ~same_video][:20_000]),
        "other class": (i[~same_label & ~same_video][:20_000], j[~same_label & ~same_video][:20_000]),
    }

    def cosine(values: Any, a: Any, b: Any) -> float:
        unit = values / np.linalg.norm(values, axis=1, keepdims=True)
        return float((unit[a] * unit[b]).sum(axis=1).mean())

    return {
        "value, mean": float(features.mean()),
        "value, median": float(np.median(features)),
        "value, 99 % quantile": float(np.quantile(features, 0.99)),
        "exact zeros": float((features == 0).mean()),
        "dimension, mean std": float(features.std(axis=0).mean()),
        "norm, mean": float(norms.mean()),
        "norm, std": float(norms.std()),
        "share of class": float((by_class**2).sum() / total),
        "share of video": float(((by_video - by_class) ** 2).sum() / total),
        "share of clip": float(((by_clip - by_video) ** 2).sum() / total),
        "share of snippet": float(((centred - by_clip) ** 2).sum() / total),
        **{f"cosine, {name}": cosine(features, *pair) for name, pair in pairs.items()},
        **{f"centred, {name}": cosine(centred, *pair) for name, pair in pairs.items()},
    }


def check(table: Table, measured: dict[str, float]) -> None:
    """Print target, measured and allowed (`pytest -s` shows them) and fail naming every row out of bounds."""
    print()
    for name, (target, allowed) in table.items():
        print(f"{name:28s} target {target:9.4f}  measured {measured[name]:9.4f}  allowed {allowed:.4f}")
    far = [name for name, (target, allowed) in table.items() if abs(measured[name] - target) > allowed]
    assert not far, {name: (measured[name], table[name]) for name in far}


def test_timelines_at_full_length_are_close_to_thumos14() -> None:
    check(TIMELINES, timeline_statistics(generate(SyntheticSpec.full_size(width=8))))


def test_default_timelines_are_close_to_thumos14(default: SyntheticData) -> None:
    check(TIMELINES_AT_128_ROWS, timeline_statistics(default))


def test_default_geometry_is_close_to_i3d(default: SyntheticData) -> None:
    check(GEOMETRY, geometry_statistics(default))


@pytest.mark.slow
def test_geometry_at_1024_dimensions_is_close_to_i3d() -> None:
    check(GEOMETRY, geometry_statistics(generate(SyntheticSpec.full_size(width=1024))))


@pytest.mark.shared
def test_tables_are_those_of_the_annotations(shared: Path) -> None:
    subsets = json.loads((shared / "data/thumos14/stats.json").read_text())["subsets"]
    keys = [f"q{round(100 * level):02d}" for level in LEVELS]
    for subset, name in (("train", "validation"), ("test", "test")):
        published, table = subsets[name], THUMOS14[subset]  # type: ignore[index]
        for column, key in (
            ("duration", "video_duration_s"),
            ("instances", "instances_per_video"),
            ("covered", "covered_fraction_per_video"),
        ):
            np.testing.assert_allclose(getattr(table, column), [published[key][k] for k in keys], atol=0.006)
    both = subsets["ALL"]
    for name, (key, quantile) in {
        "instance, median s": ("instance_duration_s", "q50"),
        "instance, mean s": ("instance_duration_s", "mean"),
        "instance over video, median": ("instance_duration_over_video", "q50"),
        "gap, median s": ("gap_between_consecutive_instances_s", "q50"),
        "gap, mean s": ("gap_between_consecutive_instances_s", "mean"),
        "covered fraction, mean": ("covered_fraction_per_video", "mean"),
    }.items():
        assert TIMELINES[name][0] == pytest.approx(both[key][quantile], rel=0.01)


@pytest.mark.shared
def test_geometry_targets_are_the_measured_ones(shared: Path) -> None:
    measured = json.loads((shared / "data/feature_stats.json").read_text())
    keys = ["min", "p1", "p5", "p25", "p50", "p75", "p95", "p99", "max"]
    assert len(keys) == len(MARGIN_LEVELS)
    for table, name in ((MARGIN_MEAN, "mean"), (MARGIN_STD, "std")):
        np.testing.assert_allclose(table, [measured["per_dimension"][name][key] for key in keys], atol=1e-4)
    kinds = {
        "consecutive": "consecutive_same_clip",
        "same clip": "same_clip_not_consecutive",
        "same video": "same_group_same_class_other_clip",
        "same class": "same_class_other_group",
        "other class": "different_class",
    }
    for ours, theirs in kinds.items():
        assert GEOMETRY[f"cosine, {ours}"][0] == pytest.approx(measured["cosine"][theirs]["mean"], abs=1e-3)
        assert GEOMETRY[f"centred, {ours}"][0] == pytest.approx(measured["cosine_centred"][theirs]["mean"], abs=1e-3)
    assert GEOMETRY["norm, mean"][0] == pytest.approx(measured["l2_norm"]["mean"], abs=1e-3)
    assert GEOMETRY["share of class"][0] == pytest.approx(measured["variance_shares"]["between_class"], abs=1e-3)


def test_rows_keep_some_autocorrelation_within_an_instance(default: SyntheticData) -> None:
    features, _, _, clip = clips(default)
    centred = features - features.mean(axis=0)
    variance = (centred**2).sum(axis=1).mean()
    at = [np.flatnonzero(clip[lag:] == clip[:-lag]) for lag in (1, 4)]
    first, fourth = (
        float((centred[i] * centred[i + lag]).sum(axis=1).mean() / variance) for i, lag in zip(at, (1, 4), strict=True)
    )
    assert first == pytest.approx(0.759, abs=0.06)  # measured on UCF101 clips, as the next
    assert fourth == pytest.approx(0.657, abs=0.1)


def test_classes_are_learnable_but_not_trivial(default: SyntheticData) -> None:
    """Nearest class centroid, training to test videos, by centred cosine: 94 % on nine UCF101 classes."""
    features, label, video, _ = clips(default)
    centred = features - features.mean(axis=0)
    train = video < 10_000
    centroids = np.stack([centred[train & (label == c)].mean(axis=0) for c in range(20)])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    accuracy = float(((centred[~train] @ centroids.T).argmax(axis=1) == label[~train]).mean())
    assert 0.85 < accuracy < 0.98


def test_a_video_is_weak() -> None:
    """Training sees what `Video` has, and nothing in it is a time of an instance."""
    assert {field.name for field in dataclasses.fields(Video)} == {
        "name",
        "source",
        "labels",
        "seconds_per_snippet",
        "offset",
    }


def test_labels_are_true_but_for_the_label_noise(default: SyntheticData) -> None:
    wrong = {subset: differing(default, subset) for subset in SUBSETS}
    assert len(wrong["train"]) == 8
    assert not wrong["test"]
    for subset in SUBSETS:
        assert {label for video in default.videos[subset] for label in video.labels} == set(range(20))
        assert set(default.truth[subset].label.tolist()) == set(range(20))
    for video, true in wrong["train"]:
        assert len(video.labels) == (1 if len(true) == 2 else 2)
        assert set(video.labels) < set(true) or set(true) < set(video.labels)


def differing(data: SyntheticData, subset: Subset) -> list[tuple[Video, tuple[int, ...]]]:
    truth = data.truth[subset]
    true = [tuple(sorted(set(truth.label[truth.video == i].tolist()))) for i in range(len(truth.videos))]
    return [(v, t) for v, t in zip(data.videos[subset], true, strict=True) if v.labels != t]


def test_default_fits_its_rows_and_full_size_keeps_real_ones(default: SyntheticData) -> None:
    for video in default.videos["train"] + default.videos["test"]:
        assert video.features.shape[0] <= 128
        assert video.features.shape[0] * video.seconds_per_snippet <= default.durations[video.name] + 1e-6
    real = generate(SyntheticSpec.full_size(width=8))
    videos = real.videos["train"] + real.videos["test"]
    assert {video.seconds_per_snippet for video in videos} == {0.64}
    assert {str(video.features.dtype) for video in videos} == {"float16"}
    assert 2000 < max(len(video.features) for video in videos) <= 2612  # THUMOS14's longest video


def rows(data: SyntheticData) -> list[Any]:
    return [video.features for video in data.videos["train"] + data.videos["test"]]


def changed_rows(first: SyntheticData, second: SyntheticData) -> Any:
    return np.concatenate([(a != b).any(axis=1) for a, b in zip(rows(first), rows(second), strict=True)])


def covered_rows(data: SyntheticData, whole: bool) -> Any:
    """Which rows lie whole, or with any part, under instances of the ground truth."""
    flags = []
    for subset in SUBSETS:
        truth = data.truth[subset]
        for i, video in enumerate(data.videos[subset]):
            mine = truth.video == i
            left = np.arange(len(video.features))[:, None] * video.seconds_per_snippet
            right = left + video.seconds_per_snippet
            inside = (left >= truth.start[mine]) & (right <= truth.end[mine])
            touched = (left < truth.end[mine] - 1e-9) & (right > truth.start[mine] + 1e-9)
            flags.append((inside if whole else touched).any(axis=1))
    return np.concatenate(flags)


@pytest.mark.parametrize(
    "dial",
    [
        "label_noise",
        "context_strength",
        "class_similarity",
        "phase_similarity",
        "recurring_background",
        "snippet_noise",
        "scene_noise",
        "content_strength",
    ],
)
def test_a_dial_leaves_instances_and_videos_alone(base: SyntheticData, dial: str) -> None:
    turned = generate(SMALL.model_copy(update={dial: 0.9}))
    for subset in SUBSETS:
        for column in ("video", "label", "start", "end"):
            np.testing.assert_array_equal(getattr(base.truth[subset], column), getattr(turned.truth[subset], column))
        assert [v.seconds_per_snippet for v in base.videos[subset]] == [
            v.seconds_per_snippet for v in turned.videos[subset]
        ]
    assert (dial == "label_noise") == (
        [v.labels for v in base.videos["train"]] != [v.labels for v in turned.videos["train"]]
    )
    assert [v.labels for v in base.videos["test"]] == [v.labels for v in turned.videos["test"]]


def test_label_noise_moves_labels_only_and_adds_to_itself(base: SyntheticData) -> None:
    some, more = (generate(SMALL.model_copy(update={"label_noise": noise})) for noise in (0.2, 0.5))
    assert not changed_rows(base, more).any()
    wrong = [{video.name: video.labels for video, _ in differing(data, "train")} for data in (some, more)]
    assert [len(names) for names in wrong] == [6, 15]
    assert wrong[0].items() <= wrong[1].items()


@pytest.mark.parametrize(
    ("dial", "untouched"),
    [
        ("context_strength", lambda data: covered_rows(data, whole=True)),
        ("recurring_background", lambda data: covered_rows(data, whole=True)),
        ("class_similarity", lambda data: ~covered_rows(data, whole=False)),
        ("phase_similarity", lambda data: ~covered_rows(data, whole=False)),
    ],
)
def test_a_dial_moves_the_rows_that_it_names(
    base: SyntheticData, dial: str, untouched: Callable[[SyntheticData], Any]
) -> None:
    changed = changed_rows(base, generate(SMALL.model_copy(update={dial: 0.9})))
    assert not changed[untouched(base)].any()
    assert changed.mean() > 0.1


def similarity(data: SyntheticData, first: Any, second: Any) -> float:
    """Centred cosine of the mean features of two sets of rows."""
    features = np.concatenate(rows(data)).astype(np.float64)
    a, b = (features[rows_].mean(axis=0) - features.mean(axis=0) for rows_ in (first, second))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_context_strength_makes_what_it_changes_look_like_action(base: SyntheticData) -> None:
    weak, strong = (generate(SMALL.model_copy(update={"context_strength": s})) for s in (0.0, 1.0))
    context = changed_rows(weak, strong) & ~covered_rows(base, whole=False)
    label = np.concatenate([np.full(len(v.features), v.labels[0]) for v in base.videos["train"] + base.videos["test"]])
    action = covered_rows(base, whole=True)
    gain = [
        similarity(data, context & (label == c), action & (label == c)) for data in (weak, strong) for c in range(6)
    ]
    assert np.mean(gain[6:]) > np.mean(gain[:6]) + 0.2


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_similarity_dials_are_the_correlations_that_they_state(value: float) -> None:
    """Mean over 20 classes or 10 pairs of 2048 dimensions: the standard error is at most 0.007."""
    spec = SyntheticSpec.full_size(context_strength=value, class_similarity=value)
    phases = World.of(spec).phases.astype(np.float64)

    def correlation(first: Any, second: Any) -> float:
        return float((first * second).mean() / np.sqrt((first**2).mean() * (second**2).mean()))

    non_prominent = phases[Kind.NON_PROMINENT]
    assert correlation(phases[Kind.CONTEXT], phases[Kind.PROMINENT]) == pytest.approx(value, abs=0.03)
    assert correlation(non_prominent[::2], non_prominent[1::2]) == pytest.approx(value, abs=0.03)
    assert correlation(non_prominent, np.roll(non_prominent, 2, axis=0)) == pytest.approx(0, abs=0.03)

    spec = SyntheticSpec.full_size(phase_similarity=value, class_similarity=0)
    phases = World.of(spec).phases.astype(np.float64)
    assert correlation(phases[Kind.NON_PROMINENT], phases[Kind.PROMINENT]) == pytest.approx(value, abs=0.03)


def test_recurring_background_repeats_across_videos() -> None:
    def nearest(share: float) -> float:
        """How close a background row's most similar background row of another video is, noise off."""
        data = generate(SMALL.model_copy(update={"recurring_background": share, "snippet_noise": 0.0}))
        video = np.repeat(np.arange(54), [len(v.features) for v in data.videos["train"] + data.videos["test"]])
        keep = ~covered_rows(data, whole=False)
        features = np.concatenate(rows(data))[keep]
        centred = features - features.mean(axis=0)
        centred /= np.linalg.norm(centred, axis=1, keepdims=True)
        cosine = np.where(video[keep][:, None] == video[keep], -1, centred @ centred.T)
        return float(cosine.max(axis=1).mean())

    assert nearest(1.0) > nearest(0.0) + 0.03


def test_snippet_noise_scales_the_change_from_row_to_row() -> None:
    def steps(noise: float) -> float:
        data = generate(SMALL.model_copy(update={"snippet_noise": noise}))
        return float(np.mean([np.abs(np.diff(features, axis=0)).mean() for features in rows(data)]))

    still, calibrated, loud = steps(0.0), steps(1.0), steps(2.0)
    assert still < 0.6 * calibrated
    assert loud > 1.5 * calibrated


@pytest.mark.parametrize("dial", ["scene_noise", "content_strength"])
def test_variation_grows_with_what_makes_it(dial: str) -> None:
    def spread(value: float) -> float:
        return float(np.concatenate(rows(generate(SMALL.model_copy(update={dial: value})))).std(axis=0).mean())

    assert spread(0.0) < spread(1.0) < spread(2.0)


def test_two_class_videos_overlap_only_there(default: SyntheticData) -> None:
    for subset in SUBSETS:
        truth = default.truth[subset]
        for i in range(len(truth.videos)):
            mine = truth.video == i
            for label in set(truth.label[mine].tolist()):
                own = mine & (truth.label == label)
                order = np.argsort(truth.start[own])
                assert (truth.start[own][order][1:] >= truth.end[own][order][:-1] - 1e-9).all()


def test_the_embedded_set_is_short_videos_of_a_few_long_instances_and_mostly_background() -> None:
    spec = SyntheticSpec.embedded()
    data = generate(spec)
    for subset in SUBSETS:
        truth, videos = data.truth[subset], data.videos[subset]
        assert len(videos) == 60
        assert {label for video in videos for label in video.labels} == set(range(10))
        assert sum(len(video.labels) == 2 for video in videos) == 6
        assert all(42 <= len(video.features) <= 64 for video in videos)
        count = np.bincount(truth.video, minlength=60)
        assert 1 <= count.min() <= count.max() <= 4
        rows_of = (truth.end - truth.start) / 0.64
        assert np.quantile(rows_of, 0.1) > 2
    covered = covered_rows(data, whole=False).mean()
    assert 0.2 < covered < 0.45
    norms = np.linalg.norm(np.concatenate(rows(data)), axis=1)
    assert 10 < norms.mean() < 25  # as of 1,024 columns of I3D: 13.7


def test_classes_of_the_embedded_set_stand_out() -> None:
    """Nearest class centroid, training to test videos, by centred cosine; the calibrated set has 0.85 to 0.98."""
    features, label, video, _ = clips(generate(SyntheticSpec.embedded()))
    centred = features - features.mean(axis=0)
    train = video < 10_000
    centroids = np.stack([centred[train & (label == c)].mean(axis=0) for c in range(10)])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    assert ((centred[~train] @ centroids.T).argmax(axis=1) == label[~train]).mean() > 0.97


def test_scale_is_a_factor_of_all_values(base: SyntheticData) -> None:
    for one, other in zip(rows(base), rows(generate(SMALL.model_copy(update={"scale": 4.0}))), strict=True):
        np.testing.assert_allclose(4 * one, other, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": 5}, "multiple of 2"),
        ({"width": 10, "streams": 3}, "streams of equal width"),
        ({"timelines": "mine"}, "thumos14"),
        ({"scale": 0.0}, "greater than 0"),
        ({"train_videos": 10}, "at least one video a class"),
        ({"label_noise": 1.5}, "less than or equal to 1"),
        ({"context_strength": float("nan")}, "finite"),
        ({"snippet_noise": -1.0}, "greater than or equal to 0"),
        ({"dtype": "int8"}, "float32"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_bad_values_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SyntheticSpec(**changes)
    with pytest.raises(ValidationError, match=words):
        SyntheticSpec.full_size(**changes)
