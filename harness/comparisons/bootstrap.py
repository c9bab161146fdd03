"""Paired bootstrap over test videos: the range of a difference of two systems over which videos are in the test set."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.records.matches import RunMatches
from harness.records.words import widest_average
from harness.seed_statistics import CONFIDENCE
from wstal.errors import UserError
from wstal.evaluation import tiou_key
from wstal.evaluation.average_precision import RECALL_POINTS, Precision, hits_first
from wstal.evaluation.result import AVERAGES
from wstal.types import Bools, Floats, IntArray

REPLICATES = 2_000
Resampled = Callable[[RunMatches], Floats]


@dataclass(frozen=True)
class VideoBootstrap:
    """The difference of two systems over resampled test videos, in mAP points.

    It says how far the difference depends on which videos are in the test set, for these trained weights; how far it
    depends on the training's random draws is for the seeds to say.

    Args:
        tious: range of the averaged thresholds, such as `0.1:0.7`.
        difference: on the videos as they are.
        low: 2.5 % percentile of the replicates.
        high: 97.5 % percentile.
        share: of replicates in which the first system is not better.
    """

    tious: str
    difference: float
    low: float
    high: float
    share: float


@dataclass(frozen=True)
class ClassBootstrap:
    """The difference of two systems in one class over resampled test videos, in points of mean AP (widest range).

    Args:
        label: the class.
        instances: number of its instances.
        difference: on the videos as they are.
        low: 2.5 % percentile of the replicates that hold an instance of the class, not corrected for several classes.
        high: 97.5 % percentile.
    """

    label: str
    instances: int
    difference: float
    low: float
    high: float


def resampled_class_ap(run: RunMatches, replicates: int = REPLICATES, seed: int = 0) -> Floats:
    """`[C, 1 + B]` mean AP of each class in percent (widest range) on the videos as they are and on B resamples.

    The resamples depend on the evaluated videos and the seed alone. NaN where there is no instance of the class.

    Raises:
        UserError: the thresholds cover no usual range.
    """
    videos, columns = run.evaluated, _widest_range(run.tious)[1]
    ap = weighted_average_precision(run, videos, _weights(len(videos), replicates, seed))[:, columns]
    return np.asarray(100 * ap.mean(axis=1))


def resampled_mean_ap(run: RunMatches, replicates: int = REPLICATES, seed: int = 0) -> Floats:
    """`[1 + B]` mean mAP in percent (widest range), as `resampled_class_ap`; NaN for a resample without an instance."""
    return mean_over_classes(resampled_class_ap(run, replicates, seed))


def mean_over_classes(ap: Floats) -> Floats:
    """Return the mean over the classes that have a value, of `[C, 1 + B]`; NaN where none has."""
    present = ~np.isnan(ap)
    total, count = np.where(present, ap, 0).sum(axis=0), present.sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))


@functools.lru_cache(maxsize=1)
def _weights(videos: int, replicates: int, seed: int) -> Floats:
    """`[V, 1 + B]` ones, then how often each video was drawn in each resample; every run of a comparison needs it."""
    weights = np.ones((videos, 1 + replicates))
    drawn = np.random.default_rng(seed).multinomial(videos, [1 / videos] * videos, size=replicates)
    weights[:, 1:] = drawn.T
    weights.flags.writeable = False
    return weights


def paired_bootstrap(
    a: Mapping[int, RunMatches], b: Mapping[int, RunMatches], resampled: Resampled = resampled_mean_ap
) -> VideoBootstrap:
    """Resample the test videos with replacement, the same for both systems, and weight the stored flags accordingly.

    No detection is matched again. Each replicate's difference is that of the mean mAP (widest range of tIoUs),
    averaged over the seeds that both systems have.

    Args:
        a: flags of the first system's runs, by seed.
        b: of the second's.
        resampled: `resampled_mean_ap`, or a form of it with other replicates or a memory of what it gave.

    Raises:
        UserError: no common seed, or flags of another protocol, thresholds, videos or instances.
    """
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        raise UserError(f"The two systems share no seed: {sorted(a)} against {sorted(b)}. Run both with one.")
    reference = a[seeds[0]]
    for seed in seeds:
        _check_flags(reference, a[seed])
        _check_flags(reference, b[seed])
    observed, *rest = np.mean([resampled(a[seed]) - resampled(b[seed]) for seed in seeds], axis=0)
    differences = np.array([value for value in rest if np.isfinite(value)])
    low = high = share = math.nan
    if len(differences):
        tail = 50 * (1 - CONFIDENCE)
        low, high = map(float, np.percentile(differences, [tail, 100 - tail]))
        share = float(np.mean(differences <= 0))
    return VideoBootstrap(_widest_range(reference.tious)[0], float(observed), low, high, share)


def bootstrap_by_class(
    a: Mapping[int, RunMatches], b: Mapping[int, RunMatches], resampled: Resampled = resampled_class_ap
) -> list[ClassBootstrap]:
    """Compare two systems class by class, as `paired_bootstrap` does for the mean; the largest loss of `a` first.

    Args:
        a: matches of the first system's runs, by seed.
        b: of the second's; both share a seed.
        resampled: `resampled_class_ap`, or a form of it with other replicates or a memory of what it gave.
    """
    seeds = sorted(a.keys() & b.keys())
    classes, flags = a[seeds[0]].classes, a[seeds[0]].flags
    positives = np.bincount(flags.instance_label, minlength=len(classes))
    differences = np.mean([resampled(a[seed]) - resampled(b[seed]) for seed in seeds], axis=0)
    tail = 50 * (1 - CONFIDENCE)
    found = []
    for label in np.flatnonzero(positives).tolist():
        observed, *rest = differences[label]
        known = np.array([value for value in rest if np.isfinite(value)])
        low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (math.nan, math.nan)
        found.append(ClassBootstrap(classes[label], int(positives[label]), float(observed), float(low), float(high)))
    return sorted(found, key=lambda one: one.difference)


def weighted_average_precision(run: RunMatches, videos: Sequence[str], weight: Floats) -> Floats:
    """AP of every class for many weightings of the videos at once.

    For each column of weights it is what `wstal.evaluation.class_average_precision` gives. Precision only matters at
    hits (it falls between them), so the rows between hits are only counted, by one matrix product a class.

    Args:
        run: flags of a run.
        videos: V names, all those that are evaluated.
        weight: `[V, B]` how often each video counts in each of B replicates.

    Returns:
        `[C, K, B]`, NaN for a class without (weight of) instances.
    """
    flags, classes, precision = run.flags, len(run.classes), run.protocol.precision
    row_of = {name: row for row, name in enumerate(videos)}
    # the last row is for what lies in no evaluated video and always counts once
    place = np.array([*(row_of.get(name, len(videos)) for name in run.videos), len(videos)], dtype=np.int64)
    # row by row in memory, as whole rows are gathered
    weight = np.vstack([np.ascontiguousarray(weight, dtype=np.float64), np.ones(weight.shape[1])])
    video, instance_video = place[flags.video], place[flags.instance_video]
    bounds = np.searchsorted(flags.label, np.arange(classes + 1))
    ap = np.full((classes, len(run.tious), weight.shape[1]), np.nan)
    for label in range(classes):
        positives = weight[instance_video[flags.instance_label == label]].sum(axis=0)
        here = slice(bounds[label], bounds[label + 1])
        hit, counted = flags.hit[here], np.ones(here.stop - here.start, dtype=bool)
        if precision == "eleven-point":
            for column in range(hit.shape[1]):
                order = hits_first(flags.score[here], hit[:, column])
                one = hit[order, column]
                counted = one | ~flags.excused[here][order]
                ap[label, column] = _replicated(one[:, None], counted, video[here][order], weight, positives, precision)
        else:
            ap[label] = _replicated(hit, counted, video[here], weight, positives, precision)
        ap[label][:, positives <= 0] = np.nan
    return ap


def _check_flags(first: RunMatches, second: RunMatches) -> None:
    if (first.protocol.name, first.tious) != (second.protocol.name, second.tious):
        raise UserError(
            f"DetectionMatches of {first.protocol.name} at {list(first.tious)} cannot be compared with those of "
            f"{second.protocol.name} at {list(second.tious)}."
        )
    if first.evaluated != second.evaluated or _instances(first) != _instances(second):
        raise UserError("The runs were scored on other test videos or other annotations, so they cannot be paired.")


def _instances(run: RunMatches) -> list[tuple[str, str]]:
    flags = run.flags
    pairs = zip(flags.instance_video.tolist(), flags.instance_label.tolist(), strict=True)
    return sorted((run.videos[video], run.classes[label]) for video, label in pairs)


def _widest_range(tious: tuple[float, ...]) -> tuple[str, list[int]]:
    """Return the widest of the usual ranges that the thresholds cover, and its columns."""
    keys = [tiou_key(tiou) for tiou in tious]
    covered = {name: 0.0 for name, wanted in AVERAGES.items() if set(wanted) <= set(keys)}
    if not covered:
        raise UserError(f"The tIoUs {', '.join(keys)} cover none of the usual ranges {', '.join(AVERAGES)}.")
    name = widest_average(covered)
    return name, [keys.index(key) for key in AVERAGES[name]]


def _replicated(
    hit: Bools, counted: Bools, video: IntArray, weight: Floats, positives: Floats, precision: Precision
) -> Floats:
    """`[K, B]` AP of one class: `average_precision` with B weightings.

    Args:
        hit: `[N, K]`, best score first.
        counted: `[N]` whether a detection is a hit or a miss, not excused.
        video: `[N]` row of `weight`.
        weight: `[V, B]`.
        positives: `[B]` weight of the instances; where it is 0 the result means nothing.
        precision: as of a protocol.
    """
    ap = np.zeros((hit.shape[1], weight.shape[1]))
    rows = np.flatnonzero(hit.any(axis=1))
    if not len(rows):
        return ap
    positives = np.where(positives > 0, positives, 1)
    # [hits, videos] counted detections of each video up to each hit, whose weights are what was seen there
    present, column = np.unique(video, return_inverse=True)
    first_hit = np.searchsorted(rows, np.flatnonzero(counted))
    cells = np.bincount(first_hit * len(present) + column[counted], minlength=(len(rows) + 1) * len(present))
    count = np.cumsum(cells.reshape(len(rows) + 1, len(present))[:-1], axis=0, dtype=np.float64)
    seen = count @ weight[present]
    seen[seen <= 0] = 1  # nothing was found there either
    for threshold in range(hit.shape[1]):
        at = np.flatnonzero(hit[rows, threshold])
        if not len(at):
            continue
        gained = weight[video[rows[at]]]
        found = _accumulated(np.add, gained.copy())
        curve = found / seen[at]
        if precision != "raw":
            _accumulated(np.maximum, curve[::-1])
        if precision != "eleven-point":
            ap[threshold] = (curve * gained).sum(axis=0) / positives
            continue
        recall = found / positives
        for point in RECALL_POINTS:
            reached = (recall < point).sum(axis=0)
            best = np.take_along_axis(curve, np.minimum(reached, len(at) - 1)[None], axis=0)[0]
            ap[threshold] += np.where(reached < len(at), best, 0) / len(RECALL_POINTS)
    return ap


def _accumulated(step: np.ufunc, rows: Floats) -> Floats:
    """`step.accumulate(rows, axis=0)` in place, 4 times as fast: numpy's goes down column by column."""
    for above, below in itertools.pairwise(rows):
        step(above, below, out=below)
    return rows
