"""The embedded default data set: made on the fly from a seed, calibrated to THUMOS14's timelines and I3D's geometry.

Its numbers belong to no published benchmark. It exists so that the harness runs where no data are, and so that one
property of weakly supervised localization (wrong labels, look-alike context, shared phases, recurring backgrounds,
noise) can be turned while all others keep their bits.

**Time.** Real THUMOS14 I3D features advance 16 frames at 25 fps, 0.64 s a row. A video that would need more than
`max_length` rows is compressed instead of cut: its rows advance duration / max_length seconds. So durations in
seconds and everything relative to the video (covered fraction, number of instances, gaps against instances) keep
THUMOS14's distributions at every scale. Rows do limit one thing: a row cannot tell two instances inside it apart.
At the default 128 rows THUMOS14's annotations themselves, read back from row coverage, reach only 69 mean mAP over
tIoU 0.1:0.7 (92 at 0.64 s), so a video gets at most one instance per `ROWS_PER_INSTANCE` rows of `max_length`,
which holds back three videos in ten and lengthens their instances.

**Features.** A row is a Gaussian latent per dimension, the sum of what is shown (class phase, context, background),
the video, the shot and the snippet, mapped to a gamma margin. Margins and variance shares are those of I3D RGB
features of UCF101 clips. Per-dimension scale does not depend on the width, so norms scale with sqrt(width / 1024).

**Limits.** The flow half of real features has the same statistics as the RGB half. Margins are less skewed than real
ones (1.4 against 2.1), and at 1024 dimensions classes lie further apart (99 % nearest to their centroid).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.data.synthetic_timeline import THUMOS14, Kind, Plan, Subset, Timeline, place, plan_subset
from wstal.types import FloatArray, GroundTruth, Video

Latent = npt.NDArray[np.float32]

SECONDS_PER_SNIPPET = 0.64  # 16 frames at 25 fps
ROWS_PER_INSTANCE = 8
SUBSETS: tuple[Subset, ...] = ("train", "test")


class SyntheticSpec(BaseModel):
    """What identifies a synthetic data set: two equal specs give the same bits on one machine.

    The last five fields are dials. Each draws from its own random streams: turning one leaves timelines, and every
    feature row and label that the dial does not name, as they were.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(default=0, ge=0, description="Root of every random stream.")
    train_videos: int = Field(default=200, ge=1, description="Training videos; at least one a class.")
    test_videos: int = Field(default=212, ge=1, description="Test videos; at least one a class.")
    classes: int = Field(default=20, ge=2, multiple_of=2, description="Classes; they come in look-alike pairs.")
    width: int = Field(default=128, ge=8, description="Feature dimensions D.")
    max_length: int = Field(default=128, ge=16, description="Most rows of a video; a longer one is compressed in time.")
    dtype: Literal["float32", "float16"] = Field(default="float32", description="Storage of the features.")
    label_noise: float = Field(
        default=0.04,
        ge=0,
        le=1,
        description="Fraction of training videos with a wrong label set: one label missing where there are two, one "
        "extra elsewhere. In THUMOS14 two official lists disagree on 8 of 200.",
    )
    context_strength: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Latent correlation of an action's prominent phase with the context that occurs beside it but is "
        "not it: 0 unlike, 1 identical.",
    )
    class_similarity: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Latent correlation of the non-prominent phases of two look-alike classes: 0 unlike, 1 identical.",
    )
    recurring_background: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of background shots drawn from a pool that all videos of both subsets have in common.",
    )
    snippet_noise: float = Field(
        default=1.0,
        ge=0,
        le=4,
        description="Standard deviation of what varies from row to row, relative to the calibrated one.",
    )

    @classmethod
    def full_size(cls, **changes: Any) -> Self:
        """Real width and lengths: 2048 dimensions, 0.64 s a row, up to about 2,300 rows, float16 (0.6 GB).

        Args:
            changes: fields to set on top.
        """
        return cls(**{"width": 2048, "max_length": 2700, "dtype": "float16", **changes})

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of label indices."""
        return tuple(f"SynthAction{c:02d}" for c in range(self.classes))

    @model_validator(mode="after")
    def _every_class_occurs(self) -> Self:
        fewest = min(self.train_videos, self.test_videos)
        if fewest < self.classes:
            raise ValueError(f"Expected at least one video a class in each subset, got {fewest} for {self.classes}")
        return self


@dataclass(frozen=True, eq=False)
class SyntheticData:
    """A generated data set.

    Args:
        classes: names, indexed by `Video.labels`.
        train: training videos, labels as `label_noise` left them.
        test: test videos with their true labels.
        durations: seconds of every video, by name.
        segments: true instances of each subset; `ground_truth` reads them.
    """

    classes: tuple[str, ...]
    train: list[Video]
    test: list[Video]
    durations: Mapping[str, float]
    segments: Mapping[Subset, GroundTruth]

    def ground_truth(self, subset: Subset) -> GroundTruth:
        """The true instances of a subset, in seconds: for evaluation and diagnosis, never for training."""
        return self.segments[subset]


def generate(spec: SyntheticSpec) -> SyntheticData:
    """Make the data set that a spec identifies.

    Args:
        spec: what to make; the default takes about a second.
    """
    world = _World.of(spec)
    videos: dict[Subset, list[Video]] = {}
    segments: dict[Subset, GroundTruth] = {}
    durations: dict[str, float] = {}
    for subset in SUBSETS:
        plans = _plans(spec, subset)
        timelines = [place(_stream(spec, _Purpose.TIMELINE, subset, i), plan) for i, plan in enumerate(plans)]
        names = [f"synth_{subset}_{i:04d}" for i in range(len(timelines))]
        labels = [timeline.labels for timeline in timelines]
        if subset == "train":
            labels = _noisy_labels(spec, labels)
        videos[subset] = []
        for i, (name, timeline) in enumerate(zip(names, timelines, strict=True)):
            seconds = max(SECONDS_PER_SNIPPET, timeline.duration / spec.max_length)
            features = _features(spec, world, timeline, subset, i, seconds)
            videos[subset].append(Video(name, features, labels[i], seconds))
            durations[name] = timeline.duration
        segments[subset] = _ground_truth(names, spec.class_names, timelines)
    return SyntheticData(spec.class_names, videos["train"], videos["test"], durations, segments)


class _Purpose(IntEnum):
    """One random stream each, so that a dial moves no draw but its own. The numbers are part of the data's identity."""

    WORLD = 0
    PLAN = 1
    TIMELINE = 2
    LABEL_NOISE = 3
    SCENE = 4
    BACKGROUND = 5
    SNIPPET = 6


def _stream(spec: SyntheticSpec, purpose: _Purpose, subset: Subset = "train", video: int = 0) -> np.random.Generator:
    key = (int(purpose), SUBSETS.index(subset), video)
    return np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=key))


def _plans(spec: SyntheticSpec, subset: Subset) -> list[Plan]:
    videos = spec.train_videos if subset == "train" else spec.test_videos
    rng = _stream(spec, _Purpose.PLAN, subset)
    return plan_subset(rng, THUMOS14[subset], videos, spec.classes, spec.max_length // ROWS_PER_INSTANCE)


def _noisy_labels(spec: SyntheticSpec, labels: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Spoil the first round(label_noise * videos) videos of a fixed random order: more noise only adds wrong ones."""
    rng = _stream(spec, _Purpose.LABEL_NOISE)
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


def _ground_truth(names: Sequence[str], classes: tuple[str, ...], timelines: Sequence[Timeline]) -> GroundTruth:
    instance = np.concatenate([timeline.instance for timeline in timelines])
    return GroundTruth(
        videos=tuple(names),
        classes=classes,
        video=np.repeat(np.arange(len(names)), [len(timeline.instance) for timeline in timelines]),
        label=np.concatenate([timeline.instance_label for timeline in timelines]),
        start=instance[:, 0],
        end=instance[:, 1],
        ambiguous=np.empty((0, 3)),
    )


# Margins over 1024 dimensions of I3D RGB features (Kinetics-400 weights, 16-frame snippets at 25 fps) of 1,214 UCF101
# clips: quantiles over dimensions of a dimension's mean and standard deviation (their correlation is 0.09: none here).
MARGIN_LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
MARGIN_MEAN = (0.0743, 0.1314, 0.1657, 0.2535, 0.3489, 0.4468, 0.5371, 0.5942, 0.6984)
MARGIN_STD = (0.0916, 0.1116, 0.1318, 0.169, 0.2076, 0.2522, 0.3355, 0.4076, 0.494)

# Latent variances. Measured there: class 0.23, group of clips from one source 0.28, clip 0.18, snippet 0.32. Content's
# variance is above the class share because an instance's two phases differ: that part counts as snippet.
CONTENT_VARIANCE = 0.3
VIDEO_VARIANCE = 0.28
SHOT_VARIANCE = 0.14
SNIPPET_VARIANCE = 0.28
SNIPPET_SMOOTHING = np.array([1.0, 0.2, 0.1], dtype=np.float32)  # moving average over rows
PHASE_CORRELATION = 0.6  # of a class's two phases, before a look-alike class takes its share
RECURRING_BACKGROUNDS = 40
# What varies between and within videos lies mostly along few directions, one of them the overall level of all
# dimensions: this gives norms and cosines their measured spread. What is shown does not: drawn along the same few
# directions at width 128, it left 70 % of test snippets nearest to their class's training centroid (90 % now; measured
# 94 % for nine classes), and a supervised model at 38 mean mAP (55 now).
DIRECTIONS = 64
DIRECTION_DECAY = 0.35
DIRECTED_SHARE = 0.75
LEVEL_SHARE = 0.14


@dataclass(frozen=True, eq=False)
class _World:
    """What all videos share.

    Args:
        directions: `[K, D]` common latent directions, scaled so that draws have unit variance in each dimension.
        mean: `[D]` margins' means.
        shape: `[D]` margins' gamma shapes.
        phases: `[4, C, D]` latents by `Kind` and class; background's row is unused.
        backgrounds: `[R, D]` latents of recurring backgrounds.
    """

    directions: Latent
    mean: Latent
    shape: Latent
    phases: Latent
    backgrounds: Latent

    @classmethod
    def of(cls, spec: SyntheticSpec) -> _World:
        rng = _stream(spec, _Purpose.WORLD)
        level = (np.arange(spec.width) + 0.5) / spec.width
        mean = rng.permutation(np.interp(level, MARGIN_LEVELS, MARGIN_MEAN))
        std = rng.permutation(np.interp(level, MARGIN_LEVELS, MARGIN_STD))
        count = min(DIRECTIONS, spec.width // 2)
        directions = rng.standard_normal((count, spec.width)) * np.arange(1, count + 1)[:, None] ** -DIRECTION_DECAY
        directions *= np.sqrt((DIRECTED_SHARE - LEVEL_SHARE) / (directions[1:] ** 2).sum(axis=0))
        directions[0] = math.sqrt(LEVEL_SHARE)
        directions32 = directions.astype(np.float32)

        own = [_independent(rng, spec.classes, spec.width) for _ in Kind]
        pair = np.repeat(_independent(rng, spec.classes // 2, spec.width), 2, axis=0)
        phases = np.zeros((len(Kind), spec.classes, spec.width), dtype=np.float32)
        prominent = phases[Kind.PROMINENT] = own[Kind.PROMINENT]
        phases[Kind.CONTEXT] = _blend(prominent, own[Kind.CONTEXT], spec.context_strength)
        alone = _blend(prominent, own[Kind.NON_PROMINENT], PHASE_CORRELATION)
        phases[Kind.NON_PROMINENT] = _blend(pair, alone, spec.class_similarity**0.5)
        return cls(
            directions=directions32,
            mean=mean.astype(np.float32),
            shape=((mean / std) ** 2).astype(np.float32),
            phases=phases,
            backgrounds=_independent(rng, RECURRING_BACKGROUNDS, spec.width),
        )


def _independent(rng: np.random.Generator, count: int, width: int) -> Latent:
    """`[count, D]` standard normal latents, independent by dimension: what is shown."""
    return rng.standard_normal((count, width), dtype=np.float32)


def _draw(rng: np.random.Generator, directions: Latent, count: int) -> Latent:
    """`[count, D]` unit-variance latents of videos, shots and snippets: mostly along the common directions."""
    latents = _independent(rng, count, directions.shape[1])
    latents *= math.sqrt(1 - DIRECTED_SHARE)
    latents += _independent(rng, count, len(directions)) @ directions
    return latents


def _blend(first: Latent, second: Latent, correlation: float) -> Latent:
    """Independent unit-variance latents mixed to the given correlation with the first."""
    return correlation * first + math.sqrt(1 - correlation**2) * second


def _features(
    spec: SyntheticSpec, world: _World, timeline: Timeline, subset: Subset, video: int, seconds: float
) -> FloatArray:
    """`[T, D]` features of one video, a row every `seconds`; an end shorter than a row has none."""
    rows = max(1, int(timeline.duration / seconds + 1e-9))
    content = world.phases[timeline.kind, timeline.label]
    background = timeline.kind == Kind.BACKGROUND
    content[background] = _backgrounds(spec, world, int(background.sum()), subset, video)

    rng = _stream(spec, _Purpose.SCENE, subset, video)
    scene = _draw(rng, world.directions, int(timeline.shot.max()) + 2)
    weight = _overlaps(timeline.span, rows, seconds)
    total = weight.sum(axis=1, keepdims=True)
    latent = _snippets(spec, world, rows, subset, video)
    latent *= spec.snippet_noise
    latent += math.sqrt(VIDEO_VARIANCE) * scene[-1]
    # A row's contents average over time; two at once add up and keep their variance.
    latent += (weight * np.sqrt(CONTENT_VARIANCE / total)) @ content
    latent += (weight * (math.sqrt(SHOT_VARIANCE) / total)) @ scene[timeline.shot]
    return _gamma(latent, world.mean, world.shape).astype(spec.dtype, copy=False)


def _backgrounds(spec: SyntheticSpec, world: _World, shots: int, subset: Subset, video: int) -> Latent:
    """`[shots, D]` latents, recurring or the video's own; both are drawn, so that the dial only chooses."""
    rng = _stream(spec, _Purpose.BACKGROUND, subset, video)
    recurring = rng.uniform(size=shots) < spec.recurring_background
    pool = world.backgrounds[rng.integers(len(world.backgrounds), size=shots)]
    return np.where(recurring[:, None], pool, _independent(rng, shots, spec.width))


def _snippets(spec: SyntheticSpec, world: _World, rows: int, subset: Subset, video: int) -> Latent:
    """`[rows, D]` noise that neighbouring rows share in part."""
    rng = _stream(spec, _Purpose.SNIPPET, subset, video)
    taps = SNIPPET_SMOOTHING * math.sqrt(SNIPPET_VARIANCE / (SNIPPET_SMOOTHING**2).sum())
    white = _draw(rng, world.directions, rows + len(taps) - 1)
    smooth: Latent = taps[0] * white[:rows]
    for lag, tap in enumerate(taps[1:], start=1):
        smooth += tap * white[lag : lag + rows]
    return smooth


def _overlaps(span: FloatArray, rows: int, seconds: float) -> Latent:
    """`[rows, S]` fraction of each row that each span covers."""
    start, end = span.T / seconds
    row = np.arange(rows)[:, None]
    overlap = np.minimum(end, row + 1) - np.maximum(start, row)
    fraction: Latent = np.maximum(overlap, 0).astype(np.float32)
    return fraction


def _gamma(latent: Latent, mean: Latent, shape: Latent) -> Latent:
    """Standard normal latents to gamma margins, by Wilson and Hilferty's cube (PNAS 1931); below its zero, zero."""
    cube = latent / (3 * np.sqrt(shape))
    cube += 1 - 1 / (9 * shape)
    np.maximum(cube, 0, out=cube)
    result: Latent = cube * cube
    result *= cube
    result *= mean
    return result
