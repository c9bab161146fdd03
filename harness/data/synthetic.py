"""Generated data sets, from a seed: one calibrated to THUMOS14's timelines and I3D's geometry, one small and easy.

Their numbers belong to no published benchmark. The easy one is embedded: it lets the harness run without data, and
every method learns it in seconds. Any set can vary one property of weakly supervised localization (wrong labels,
look-alike context, shared phases, recurring backgrounds, noise) while all others keep their bits.

Real THUMOS14 I3D features advance 16 frames at 25 fps, 0.64 s a row. A video that would need more than
`max_length` rows is compressed instead of cut: its rows advance duration / max_length seconds. So durations in
seconds and everything relative to the video (covered fraction, number of instances, gaps against instances) keep
THUMOS14's distributions at every scale. Rows do limit one thing: a row cannot tell two instances inside it apart.
At 128 rows THUMOS14's annotations themselves, read back from row coverage, reach only 69 mean mAP over
tIoU 0.1:0.7 (92 at 0.64 s), so a video gets at most one instance per `ROWS_PER_INSTANCE` rows of `max_length`,
which holds back three videos in ten and lengthens their instances.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import numpy as np
from threadpoolctl import threadpool_limits

from harness.data.source import SUBSETS, DataSource, Subset
from harness.data.synthetic_families import FAMILIES, STATISTICS
from harness.data.synthetic_features import World, features
from harness.data.synthetic_spec import Purpose, SyntheticSpec, stream
from harness.data.synthetic_timeline import Timeline, place, plan_subset
from wstal.errors import MissingDataError
from wstal.evaluation import THUMOS_TIOUS, default_tious
from wstal.types import GroundTruth, Video

NOTE = (
    "SYNTHETIC DATA: no --data was given, so features are generated. The numbers show that everything works and say "
    "nothing about real video. To use real features: --data DIR with DIR/features/{train,test}/{rgb,flow}/VIDEO.npy "
    "and annotations.json."
)
SECONDS_PER_SNIPPET = 0.64  # 16 frames at 25 fps
ROWS_PER_INSTANCE = 8
TITLES = {"easy": "Synthetic data set, small and easy"}  # others are named after what they are calibrated to


@dataclass(frozen=True, eq=False)
class SyntheticData:
    """Generated data set.

    Args:
        videos: videos of each subset. Labels of training videos are as `label_noise` left them.
        truth: true instances of each subset, for evaluation and diagnosis and never for training.
        durations: seconds of every video, by name.
    """

    videos: dict[Subset, list[Video]] = field(default_factory=dict)
    truth: dict[Subset, GroundTruth] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)


def generate(spec: SyntheticSpec) -> SyntheticData:
    """Generate the data set of a specification, in a tenth of a second for the embedded one.

    On one thread: the products of a video with hundreds of instances would be rounded otherwise on several.
    """
    with threadpool_limits(1):
        return _generate(spec)


def _generate(spec: SyntheticSpec) -> SyntheticData:
    world, data = World.of(spec), SyntheticData()
    for subset in SUBSETS:
        timelines = _timelines(spec, subset)
        names = [f"synth_{subset}_{i:04d}" for i in range(len(timelines))]
        labels = [timeline.labels for timeline in timelines]
        if subset == "train":
            labels = _noisy_labels(spec, labels)
        data.videos[subset] = []
        for i, (name, timeline) in enumerate(zip(names, timelines, strict=True)):
            seconds = timeline.duration / spec.max_length
            seconds = seconds if spec.resampled else max(SECONDS_PER_SNIPPET, seconds)
            rows = features(spec, world, timeline, subset, i, seconds)
            data.videos[subset].append(Video(name, rows, labels[i], seconds))
            data.durations[name] = timeline.duration
        instance = np.concatenate([timeline.instance for timeline in timelines])
        data.truth[subset] = GroundTruth(
            videos=tuple(names),
            classes=spec.class_names,
            video=np.repeat(np.arange(len(names)), [len(timeline.instance) for timeline in timelines]),
            label=np.concatenate([timeline.instance_label for timeline in timelines]),
            start=instance[:, 0],
            end=instance[:, 1],
            ambiguous=np.empty((0, 3)),
        )
    return data


def _timelines(spec: SyntheticSpec, subset: Subset) -> list[Timeline]:
    videos = spec.train_videos if subset == "train" else spec.test_videos
    rng = stream(spec, Purpose.PLAN, subset)
    statistics = STATISTICS[spec.timelines][subset]
    plans = plan_subset(rng, statistics, videos, spec.classes, spec.max_length // ROWS_PER_INSTANCE)
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
        both = tuple(sorted((true[0], (true[0] + int(added[i])) % spec.classes)))
        noisy[i] = (true[dropped[i]],) if len(true) > 1 else both
    return noisy


# once for all sources of a process and the runs that are forked from it
_generated = lru_cache(maxsize=1)(generate)


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbeddedSource(DataSource):
    """Embedded default data set, made in seconds from a seed without any file.

    Args:
        spec: identity of the generated data.
    """

    spec: SyntheticSpec

    @classmethod
    def of(cls, spec: SyntheticSpec, name: str = "synthetic") -> Self:
        """Return the data set of a specification.

        Args:
            spec: identity of the generated data.
            name: name of the data set and its schedule.
        """
        family = FAMILIES.get(spec.timelines)
        return cls(
            name=name,
            family=spec.timelines if family else "synthetic",
            schedule=name,
            classes=spec.class_names,
            coarse_classes=spec.coarse_classes,
            stream_widths=(spec.width // spec.streams,) * spec.streams,
            tious=default_tious(spec.timelines) if family else THUMOS_TIOUS,
            synthetic=True,
            notes=(NOTE,),
            spec=spec,
        )

    def videos(self, subset: Subset) -> list[Video]:
        """Return the videos of a subset, whose training labels carry the label noise of the specification."""
        return _generated(self.spec).videos[subset]

    def ground_truth(self, subset: Subset) -> GroundTruth:
        """Return the instances that the features were generated from."""
        return _generated(self.spec).truth[subset]

    def durations(self, videos: Sequence[str]) -> dict[str, float | None]:
        """Return the seconds of generated videos."""
        return {video: _generated(self.spec).durations[video] for video in videos}

    @property
    def _title(self) -> str:
        family = FAMILIES.get(self.spec.timelines)
        like = f"Synthetic data set calibrated to {family.title if family else 'THUMOS14'}"
        return TITLES.get(self.spec.timelines, like)

    def describe(self, subsets: Sequence[Subset] = SUBSETS) -> dict[str, Any]:
        """Return the specification and the digest of the generated bytes, always of both subsets."""
        digest, truth = hashlib.sha256(), self.ground_truth("test")
        features = [video.features for subset in SUBSETS for video in self.videos(subset)]
        for column in (*features, truth.video, truth.label, truth.start, truth.end):
            digest.update(np.ascontiguousarray(column).tobytes())
        rows = max(len(video.features) for video in self.videos("train"))
        return {
            "name": self.name,
            "title": self._title,
            "features": f"generated, {self.spec.width} columns, up to {rows} rows a video",
            "width": self.spec.width,
            "train": {"list": "generated", "videos": self.spec.train_videos},
            "test": {"list": "generated", "videos": self.spec.test_videos},
            "labels": "generated",
            "generator": self.spec.model_dump(mode="json"),
            "sha256": digest.hexdigest(),
        }


def embedded_source(full_size: bool, family: str = "thumos14") -> EmbeddedSource:
    """Return an embedded data set.

    Args:
        full_size: with the field's 2048 columns and T = 750, which THUMOS14's alone has.
        family: of data sets that it stands for.

    Raises:
        MissingDataError: no data set stands for the family, or none of that size.
    """
    if family != "thumos14":
        if full_size or family not in FAMILIES:
            known = ", ".join(("thumos14", *(() if full_size else FAMILIES)))
            what = "synthetic stand-in of full size" if full_size else "synthetic stand-in"
            raise MissingDataError(
                f"{family} has no {what}, only {known}: give --data DIR with DIR/features/ and annotations.json."
            )
        return EmbeddedSource.of(FAMILIES[family].spec, f"synthetic-{family}")
    spec = SyntheticSpec.full_size() if full_size else SyntheticSpec.embedded()
    return EmbeddedSource.of(spec, "synthetic-full-size" if full_size else "synthetic")
