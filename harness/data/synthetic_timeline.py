"""Timelines of synthetic videos: durations, instances, phases, context and background, in seconds.

They are independent of features and rows. Published statistics of THUMOS14's 200 training and 212 test videos are
tables below; every video's duration, number of instances and covered fraction follow them jointly.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from harness.data.source import Subset
from harness.data.synthetic_spec import TimelineName
from wstal.types import FloatArray, IntArray


class Kind(IntEnum):
    """Content of a stretch of a video."""

    BACKGROUND = 0
    CONTEXT = 1
    NON_PROMINENT = 2
    PROMINENT = 3


@dataclass(frozen=True)
class SubsetStatistics:
    """Distributions over the videos of one subset.

    Args:
        duration: seconds, at `LEVELS`.
        instances: instances of a video, at `LEVELS`.
        covered: fraction of a video under any instance, at `LEVELS`.
        two_class_videos: share of the videos that show two classes.
        two_class_instances: fewest instances of such a video.
        rank_correlation: Spearman's, of duration, number of instances and covered fraction.
    """

    duration: tuple[float, ...]
    instances: tuple[float, ...]
    covered: tuple[float, ...]
    two_class_videos: float
    two_class_instances: int = 6
    # over all 412 videos of THUMOS14
    rank_correlation: tuple[tuple[float, ...], ...] = ((1.0, 0.65, 0.02), (0.65, 1.0, 0.38), (0.02, 0.38, 1.0))


LEVELS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)

# Source: the official temporal annotations of THUMOS14 (the 20 classes with instances). The one test video with
# three classes counts as two-class. `duration` is in seconds, `covered` the fraction of a video under any instance.
THUMOS14: dict[Subset, SubsetStatistics] = {
    "train": SubsetStatistics(
        duration=(8.8, 20.03, 30.67, 36.88, 81.07, 150.4, 228.59, 450.36, 600.75, 900.0, 1174.43),
        instances=(1, 1, 1, 2, 3, 8, 19, 38, 54.25, 95.07, 128),
        covered=(0.003, 0.0281, 0.0582, 0.0841, 0.16, 0.2253, 0.3744, 0.5804, 0.7605, 0.8986, 0.9986),
        two_class_videos=27 / 200,
    ),
    "test": SubsetStatistics(
        duration=(14.9, 20.4, 33.57, 47.68, 96.73, 161.52, 227.9, 412.74, 674.02, 1033.81, 1671.63),
        instances=(1, 1, 1, 2, 4, 9, 20.25, 35.8, 50.45, 83.12, 218),
        covered=(0.0113, 0.0183, 0.0391, 0.0642, 0.1371, 0.2563, 0.4105, 0.5697, 0.714, 0.9112, 0.9755),
        two_class_videos=34 / 212,
    ),
}
# The embedded data set's, made up: short videos of a few instances that several rows cover, most of it background.
EASY = SubsetStatistics(
    duration=(27.0, 27.5, 28.0, 29.0, 31.0, 35.0, 38.0, 40.0, 40.5, 40.9, 40.9),
    instances=(1, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4),
    covered=(0.1, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.35, 0.38, 0.4, 0.4),
    two_class_videos=0.1,
    two_class_instances=2,
)
TIMELINES: dict[TimelineName, dict[Subset, SubsetStatistics]] = {
    "thumos14": THUMOS14,
    "easy": {"train": EASY, "test": EASY},
}

# Mean over videos with at least five instances: log durations spread by 0.42 within a video, and the gaps'
# coefficient of variation is 1.02, which is that of independent exponential weights.
LOG_DURATION_SPREAD = 0.42
SHORTEST_INSTANCE = 0.2  # seconds, the shortest that THUMOS14 annotates
SHORTEST_MEAN_INSTANCE = 0.5  # seconds, its 1 % quantile
# Of the 61 two-class videos 25 label each instance with both classes (cliff diving is diving), in 28 one class's
# instance overlaps the end of the other's (the bowl, then the shot), in 8 the two classes keep apart. The smallest
# but four of these videos have six instances, and they have 23 on average against 15 overall.
TWO_CLASS_STYLES = ("same", "chain", "apart")
TWO_CLASS_SHARES = (25 / 61, 28 / 61, 8 / 61)
CHAIN_PAIRED = 0.6  # share of a chain video's instances that overlap another; measured 0.55
CHAIN_PART = 0.6  # each of a chained pair fills this much of their union, so that their IoU is 0.2

# No published figure says how much of an instance is prominent, or how much of a gap is context: ours.
PROMINENT_SHARE = (0.4, 0.8)
CONTEXT_RATE = 0.3  # chance of context on each side of an instance, and of a detached stretch in each gap
CONTEXT_LENGTH = (0.3, 1.0)  # of the neighbouring instance's length
CONTEXT_MAX_OF_GAP = 0.3  # each of the three places takes at most this much of its gap
BACKGROUND_SHOT = 10.0  # seconds


@dataclass(frozen=True, eq=False)
class Timeline:
    """Content of one video. Spans cover it without holes and overlap where two instances do.

    Args:
        duration: seconds.
        labels: sorted true classes.
        instance: `[N, 2]` start and end of each instance, seconds, by start.
        instance_label: `[N]` class of each instance.
        span: `[S, 2]` start and end, seconds.
        kind: `[S]` values of `Kind`.
        label: `[S]` class of the span of an instance or context, -1 of background.
        shot: `[S]` camera shot of each span: context beside an instance continues the instance's shot.
    """

    duration: float
    labels: tuple[int, ...]
    instance: FloatArray
    instance_label: IntArray
    span: FloatArray
    kind: IntArray
    label: IntArray
    shot: IntArray


@dataclass(frozen=True)
class VideoPlan:
    """Video before its instances are placed: seconds, counts, the fraction under instances, classes and style."""

    duration: float
    instances: int
    covered: float
    classes: tuple[int, ...]
    style: str


def plan_subset(
    rng: np.random.Generator, statistics: SubsetStatistics, videos: int, classes: int, max_instances: int
) -> list[VideoPlan]:
    """Draw durations, instance counts, covered fractions and classes of a subset's videos.

    A Gaussian copula carries the rank correlations. The margins are stratified (video with rank i gets the quantile
    at (i + 1/2) / videos), so that they follow the tables for every seed and not only on average. Classes are dealt
    in turn: each occurs in at least floor(videos / classes) videos.

    Args:
        rng: source of the draws.
        statistics: distributions to follow.
        videos: number of videos.
        classes: number of classes.
        max_instances: most instances of a video.
    """
    # Spearman to Pearson, exact for Gaussians
    correlation = 2 * np.sin(np.pi / 6 * np.array(statistics.rank_correlation))
    normal = rng.standard_normal((videos, 3)) @ np.linalg.cholesky(correlation).T
    level = (normal.argsort(axis=0).argsort(axis=0) + 0.5) / videos
    # Between published quantiles durations and covered fractions are closer to log-linear, counts to linear.
    duration = np.exp(np.interp(level[:, 0], LEVELS, np.log(statistics.duration)))
    covered = np.exp(np.interp(level[:, 2], LEVELS, np.log(statistics.covered)))
    instances = np.rint(np.interp(level[:, 1], LEVELS, statistics.instances)).astype(np.int64)
    longest = np.floor(covered * duration / SHORTEST_MEAN_INSTANCE).astype(np.int64)
    instances = np.clip(instances, 1, np.maximum(1, np.minimum(longest, max_instances)))

    first = rng.permutation(np.arange(videos) % classes)
    candidates = rng.permutation(np.flatnonzero(instances >= statistics.two_class_instances))
    two_class = candidates[: round(statistics.two_class_videos * videos)]
    styles = np.full(videos, "single", dtype="<U6")
    styles[two_class] = rng.choice(TWO_CLASS_STYLES, size=len(two_class), p=TWO_CLASS_SHARES)
    stranger = (first + 2 * rng.integers(1, max(2, classes // 2), size=videos)) % classes
    plans = []
    for i in range(videos):
        style, own = str(styles[i]), int(first[i])
        # else the class that looks like this one, in the pairs (0, 1), (2, 3), and so on
        other = {"single": (), "apart": (int(stranger[i]),)}.get(style, (own ^ 1,))
        plans.append(VideoPlan(float(duration[i]), int(instances[i]), float(covered[i]), (own, *other), style))
    return plans


def place(rng: np.random.Generator, plan: VideoPlan) -> Timeline:
    """Place a plan's instances in time and decide what each second shows.

    Args:
        rng: source of the draws.
        plan: the video.
    """
    slots = _slots(rng, plan)
    length = np.exp(LOG_DURATION_SPREAD * rng.standard_normal(len(slots)))
    length[[style == "chain" for style, _ in slots]] /= CHAIN_PART  # the union of two instances
    length *= plan.covered * plan.duration / length.sum()
    length = np.maximum(length, SHORTEST_INSTANCE)
    length *= min(1.0, 0.999 * plan.duration / length.sum())
    gap = rng.exponential(size=len(slots) + 1)
    gap *= (plan.duration - length.sum()) / gap.sum()
    start = np.cumsum(gap[:-1]) + np.r_[0.0, np.cumsum(length[:-1])]
    end = np.minimum(start + length, plan.duration)

    writer = _Writer(rng, plan.duration)
    for i, (style, labels) in enumerate(slots):
        writer.gap(end[i - 1] if i else 0.0, start[i], before=slots[i - 1][1][-1] if i else None, after=labels[0])
        writer.slot(start[i], end[i], style, labels)
    writer.gap(end[-1], plan.duration, before=slots[-1][1][-1], after=None)
    return writer.timeline()


def _slots(rng: np.random.Generator, plan: VideoPlan) -> list[tuple[str, tuple[int, ...]]]:
    """Order the video's disjoint stretches of action in time, each with its style and its one or two classes."""
    n, classes = plan.instances, plan.classes
    if plan.style == "single":
        return [("single", classes)] * n
    if plan.style == "apart":  # a block of each: one competition after the other
        cut = int(rng.integers(1, n))
        return [("single", classes[:1])] * cut + [("single", classes[1:])] * (n - cut)
    pairs = n // 2 if plan.style == "same" else max(1, round(CHAIN_PAIRED * n / 2))
    slots: list[tuple[str, tuple[int, ...]]] = [(plan.style, classes)] * pairs
    slots += [("single", (classes[i % 2],)) for i in range(n - 2 * pairs)]
    return [slots[i] for i in rng.permutation(len(slots))]


class _Writer:
    """Collector of spans and instances in time order."""

    def __init__(self, rng: np.random.Generator, duration: float) -> None:
        self.rng = rng
        self.duration = duration
        self.shots = 0
        self.spans: list[tuple[float, float, Kind, int, int]] = []
        self.instances: list[tuple[float, float, int]] = []
        self.last_length = 0.0

    def slot(self, start: float, end: float, style: str, labels: tuple[int, ...]) -> None:
        """Write one stretch of action, in the shot that the gap before opened."""
        part = (end - start) * CHAIN_PART
        bounds = [(start, start + part), (end - part, end)] if style == "chain" else [(start, end)] * len(labels)
        for (t_start, t_end), label in zip(bounds, labels, strict=True):
            self.instances.append((t_start, t_end, label))
            prominent = self.rng.uniform(*PROMINENT_SHARE) * (t_end - t_start)
            onset = t_start + self.rng.uniform() * (t_end - t_start - prominent)
            self._span(t_start, onset, Kind.NON_PROMINENT, label)
            self._span(onset, onset + prominent, Kind.PROMINENT, label)
            self._span(onset + prominent, t_end, Kind.NON_PROMINENT, label)
        self.last_length = end - start

    def gap(self, start: float, end: float, before: int | None, after: int | None) -> None:
        """Write context after the last instance, background, detached context, background, context before the next."""
        present = self.rng.uniform(size=3) < CONTEXT_RATE
        length = self.rng.uniform(*CONTEXT_LENGTH, size=3) * (self.last_length or np.inf)
        length = np.minimum(length, CONTEXT_MAX_OF_GAP * (end - start)) * present
        where = self.rng.uniform(0.2, 0.8)
        after_end = start + (length[0] if before is not None else 0.0)
        before_start = end - (length[2] if after is not None else 0.0)
        middle = after_end + where * (before_start - after_end - length[1])
        label = after if before is None else before
        if before is not None:
            self._span(start, after_end, Kind.CONTEXT, before)
        self._background(after_end, middle)
        if label is not None:
            self.shots += 1
            self._span(middle, middle + length[1], Kind.CONTEXT, label)
        self._background(middle + length[1], before_start)
        self.shots += 1
        if after is not None:
            self._span(before_start, end, Kind.CONTEXT, after)

    def _background(self, start: float, end: float) -> None:
        for edge in np.linspace(start, end, max(1, round((end - start) / BACKGROUND_SHOT)) + 1)[1:]:
            self.shots += 1
            self._span(start, edge, Kind.BACKGROUND, -1)
            start = edge

    def _span(self, start: float, end: float, kind: Kind, label: int) -> None:
        if end > start:
            self.spans.append((start, end, kind, label, self.shots))

    def timeline(self) -> Timeline:
        """Return what was written, as arrays."""
        *times, classes = map(np.array, zip(*sorted(self.instances), strict=True))
        start, end, kind, label, shot = map(np.array, zip(*self.spans, strict=True))
        labels = tuple(sorted(set(classes.tolist())))
        instance, span = np.column_stack(times), np.column_stack([start, end])
        return Timeline(self.duration, labels, instance, classes, span, kind, label, shot)
