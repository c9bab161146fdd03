"""Embedded default data set, generated from a seed and calibrated to THUMOS14's timelines and I3D's geometry.

Its numbers belong to no published benchmark. It lets the harness run without data, and it can vary one property of
weakly supervised localization (wrong labels, look-alike context, shared phases, recurring backgrounds, noise) while
all others keep their bits.

Real THUMOS14 I3D features advance 16 frames at 25 fps, 0.64 s a row. A video that would need more than
`max_length` rows is compressed instead of cut: its rows advance duration / max_length seconds. So durations in
seconds and everything relative to the video (covered fraction, number of instances, gaps against instances) keep
THUMOS14's distributions at every scale. Rows do limit one thing: a row cannot tell two instances inside it apart.
At the default 128 rows THUMOS14's annotations themselves, read back from row coverage, reach only 69 mean mAP over
tIoU 0.1:0.7 (92 at 0.64 s), so a video gets at most one instance per `ROWS_PER_INSTANCE` rows of `max_length`,
which holds back three videos in ten and lengthens their instances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.data.source import SUBSETS, Subset
from harness.data.synthetic_features import World, features
from harness.data.synthetic_spec import Purpose, SyntheticSpec, stream
from harness.data.synthetic_timeline import THUMOS14, Timeline, place, plan_subset
from wstal.types import GroundTruth, Video

SECONDS_PER_SNIPPET = 0.64  # 16 frames at 25 fps
ROWS_PER_INSTANCE = 8


@dataclass(frozen=True, eq=False)
class SyntheticData:
    """Generated data set.

    Args:
        train: training videos, labels as `label_noise` left them.
        test: test videos with their true labels.
        durations: seconds of every video, by name.
        segments: true instances of each subset.
    """

    train: list[Video]
    test: list[Video]
    durations: Mapping[str, float]
    segments: Mapping[Subset, GroundTruth]

    def ground_truth(self, subset: Subset) -> GroundTruth:
        """Return the true instances of a subset in seconds, for evaluation and diagnosis and never for training."""
        return self.segments[subset]


def generate(spec: SyntheticSpec) -> SyntheticData:
    """Generate the data set of a specification, which takes about a second for the default."""
    world = World.of(spec)
    videos: dict[Subset, list[Video]] = {}
    segments: dict[Subset, GroundTruth] = {}
    durations: dict[str, float] = {}
    for subset in SUBSETS:
        timelines = _timelines(spec, subset)
        names = [f"synth_{subset}_{i:04d}" for i in range(len(timelines))]
        labels = [timeline.labels for timeline in timelines]
        if subset == "train":
            labels = _noisy_labels(spec, labels)
        videos[subset] = []
        for i, (name, timeline) in enumerate(zip(names, timelines, strict=True)):
            seconds = max(SECONDS_PER_SNIPPET, timeline.duration / spec.max_length)
            rows = features(spec, world, timeline, subset, i, seconds)
            videos[subset].append(Video(name, rows, labels[i], seconds))
            durations[name] = timeline.duration
        instance = np.concatenate([timeline.instance for timeline in timelines])
        segments[subset] = GroundTruth(
            videos=tuple(names),
            classes=spec.class_names,
            video=np.repeat(np.arange(len(names)), [len(timeline.instance) for timeline in timelines]),
            label=np.concatenate([timeline.instance_label for timeline in timelines]),
            start=instance[:, 0],
            end=instance[:, 1],
            ambiguous=np.empty((0, 3)),
        )
    return SyntheticData(videos["train"], videos["test"], durations, segments)


def _timelines(spec: SyntheticSpec, subset: Subset) -> list[Timeline]:
    videos = spec.train_videos if subset == "train" else spec.test_videos
    rng = stream(spec, Purpose.PLAN, subset)
    plans = plan_subset(rng, THUMOS14[subset], videos, spec.classes, spec.max_length // ROWS_PER_INSTANCE)
    return [place(stream(spec, Purpose.TIMELINE, subset, i), plan) for i, plan in enumerate(plans)]


def _noisy_labels(spec: SyntheticSpec, labels: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Replace labels of the first round(label_noise * videos) videos of a fixed random order.

    More noise keeps the wrong labels of less noise and adds others.
    """
    rng = stream(spec, Purpose.LABEL_NOISE)
    order = rng.permutation(len(labels))
    dropped = rng.integers(0, 2, size=len(labels))
    added = rng.integers(1, spec.classes, size=len(labels))
    noisy = list(labels)
    for i in order[: round(spec.label_noise * len(labels))]:
        true = labels[i]
        if len(true) > 1:
            noisy[i] = (true[dropped[i]],)
        else:
            noisy[i] = tuple(sorted((true[0], (true[0] + int(added[i])) % spec.classes)))
    return noisy
