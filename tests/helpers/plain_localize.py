"""The localizer written as plainly as possible: one video, class, threshold and run at a time.

Nothing is shared with `wstal.localize` but the settings; the two agree or one of them is wrong. With float32 signals
this reproduces the released ACM-Net code to 1e-15. Beside it, the settings of methods whose released post-processing
was recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from wstal.localize import LocalizerSpec, Nms, ProposalSource
from wstal.types import SnippetScores

Row = tuple[int, int, float, float, float]  # video, class, score, start, end

ACM_THUMOS = LocalizerSpec(
    class_threshold=0.25,
    upsampling=20,
    sources=(
        ProposalSource(signal="cas", thresholds=(0.15, 0.20), score={"cas": 1.0}, masked=True),
        ProposalSource(
            signal="attention", thresholds=tuple(percent / 100 for percent in range(15, 100, 5)), score={"cas": 1.0}
        ),
    ),
    margin=0.2,
    minimum_run=2,
    nms=Nms(kind="hard", threshold=0.55, plus_one="second"),
)

_ACTIVITYNET_MIX = {"cas": 0.7, "attention": 0.3}
ACM_ACTIVITYNET = LocalizerSpec(
    class_threshold=0.10,
    upsampling=20,
    sources=(
        ProposalSource(signal="cas", thresholds=(0.005, 0.010, 0.015, 0.020), score=_ACTIVITYNET_MIX, masked=True),
        ProposalSource(
            signal="attention",
            thresholds=(0.005, 0.010, 0.015, 0.020),
            score=_ACTIVITYNET_MIX,
            masked=True,
            video_score_weight=0.25,
        ),
    ),
    margin=0.15,
    minimum_run=2,
    nms=Nms(kind="hard", threshold=0.90, plus_one="second"),
)

# The class score is 0 or 1 by the time that BaS-Net localizes, so its 0.2 adds the same to every detection.
BASNET = LocalizerSpec(
    class_threshold=0.25,
    class_threshold_inclusive=True,
    fallback_to_argmax=False,
    upsampling=24,
    sources=(
        ProposalSource(
            signal="cas", thresholds=(0.0,), strict=True, score={"cas": 1.0}, masked=True, video_score_weight=0.2
        ),
        ProposalSource(
            signal="cas",
            thresholds=tuple(mille / 1000 for mille in range(25, 250, 25)),
            score={"cas": 1.0},
            masked=True,
            video_score_weight=0.2,
        ),
    ),
    margin=0.25,
    skip_lone_first_sample=True,
    nms=Nms(kind="hard", threshold=0.70, plus_one="second"),
)


def upsample(signal: np.ndarray, factor: int) -> np.ndarray:
    """Linear interpolation at 0, 1/factor, ...; past the last row the last slope goes on.

    As in released code, neighbouring rows are subtracted in the signal's own precision, all else is float64, and a
    sample that falls on a row is reached from the row before.
    """
    rows = len(signal)
    at = np.arange(rows * factor) / factor
    row = np.clip(np.ceil(at).astype(int) - 1, 0, max(rows - 2, 0))
    step = signal[row + 1] - signal[row] if rows > 1 else np.zeros(len(at))
    samples: np.ndarray = step.astype(np.float64) * (at - row) + signal[row]
    return samples


def runs(active: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each stretch of True."""
    indices = np.flatnonzero(active)
    if not len(indices):
        return []
    return [(int(part[0]), int(part[-1])) for part in np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)]


def dilation(active: np.ndarray, width: int) -> np.ndarray:
    """As scikit-image dilates a column by a box: it fills a box of even width up to an odd one."""
    if width == 0:
        return active
    box = np.append(np.ones(width, dtype=int), np.zeros(1 - width % 2, dtype=int))
    grown: np.ndarray = ndimage.grey_dilation(active.astype(int), footprint=box, mode="constant") > 0
    return grown


def contrast(signal: np.ndarray, first: int, last: int, spec: LocalizerSpec, worth: str) -> float:
    """Mean (or largest) inside a run minus the weighted mean of the two margins beside it."""
    reach = spec.margin * (last - first + 1)
    if spec.sides:
        whole = max(int(reach) + spec.sides.plus, 1)
        around = [signal[max(0, first - whole) : first], signal[last + 1 : min(len(signal), last + 1 + whole)]]
        inside = signal[first : last + 1]
        means = [spec.outer_weight * np.sum(side) / len(side) for side in around if len(side)]
        outer = sum(means) / (max(len(means), 1) if spec.sides.join == "mean" else 1)
        return float((np.max(inside) if worth == "max" else np.mean(inside)) - outer)
    left = signal[max(0, int(first - reach)) : first]
    if spec.past_end:
        inside = signal[first : last + 2]
        right = signal[last + 2 : min(len(signal) - 1, int(last + 1 + reach + 1))]
    else:
        inside = signal[first : last + 1]
        right = signal[last + 1 : min(len(signal) - 1, int(last + reach)) + 1]
    outside = np.concatenate([left, right])
    value = np.max(inside) if worth == "max" else np.mean(inside)
    return float(value - spec.outer_weight * (np.mean(outside) if len(outside) else 0.0))


def overlap(a: tuple[float, float], better: tuple[float, float], kind: str, plus: float) -> float:
    shared = max(0.0, min(a[1], better[1]) - max(a[0], better[0]) + plus)
    length, other = a[1] - a[0] + plus, better[1] - better[0] + plus
    whole = length if kind == "own" else length + other - shared
    return shared / whole if whole > 0 else 0.0


def hard_nms(rows: list[Row], threshold: float, kind: str, plus: float) -> list[Row]:
    kept: list[Row] = []
    for row in sorted(rows, key=lambda r: (-r[2], r[3], r[4])):
        if all(overlap(row[3:], other[3:], kind, plus) < threshold for other in kept):
            kept.append(row)
    return kept


def hard_decayed_nms(rows: list[Row], threshold: float, sigma: float, kind: str, plus: float) -> list[Row]:
    rest, done = sorted(rows, key=lambda r: (-r[2], r[3], r[4])), []
    while rest:
        best, others, rest = rest[0], rest[1:], []
        done.append(best)
        for row in others:
            shared = overlap(row[3:], best[3:], kind, plus)
            if shared < threshold:
                rest.append(row)
            else:
                done.append((row[0], row[1], row[2] * float(np.exp(-(shared**2) / sigma)), row[3], row[4]))
    return done


def soft_nms(rows: list[Row], sigma: float, kind: str, plus: float) -> list[Row]:
    taken: list[Row] = []
    rest = list(rows)
    while rest:
        best = min(rest, key=lambda r: (-r[2], r[3], r[4]))
        rest.remove(best)
        taken.append(best)
        rest = [
            (v, c, score * float(np.exp(-(overlap((start, end), best[3:], kind, plus) ** 2) / sigma)), start, end)
            for v, c, score, start, end in rest
        ]
    return taken


def suppress(rows: list[Row], nms: Nms, seconds_per_snippet: float) -> list[Row]:
    plus = {"no": 0.0, "second": 1.0, "snippet": seconds_per_snippet}[nms.plus_one]
    if nms.kind == "hard":
        assert nms.threshold is not None
        rows = hard_nms(rows, nms.threshold, nms.overlap, plus)
    elif nms.kind == "soft-gaussian":
        assert nms.sigma is not None
        rows = soft_nms(rows, nms.sigma, nms.overlap, plus)
    elif nms.kind == "hard-decayed":
        assert nms.threshold is not None
        assert nms.sigma is not None
        rows = hard_decayed_nms(rows, nms.threshold, nms.sigma, nms.overlap, plus)
    return rows


def proposals(scores: SnippetScores, video: int, label: int, spec: LocalizerSpec) -> list[Row]:
    signals = {
        name: upsample(values if values.ndim == 1 else values[:, label], spec.upsampling)
        for name, values in scores.signals.items()
    }
    per_sample = scores.seconds_per_snippet / spec.upsampling
    rows: list[Row] = []
    for source in spec.sources:
        for threshold in source.thresholds:
            signal = signals[source.signal]
            active = signal > threshold if source.strict else signal >= threshold
            grown = dilation(active, spec.dilation)
            if spec.skip_lone_first_sample and grown[0] and grown.sum() == 1:
                continue
            mix = np.zeros(len(signal))
            for name, weight in source.score.items():
                masked = source.masked and name == source.signal
                mix = mix + weight * (np.where(active, signals[name], 0.0) if masked else signals[name])
            for first, last in runs(grown):
                if last - first + 1 < spec.minimum_run:
                    continue
                score = contrast(mix, first, last, spec, source.inside)
                score += source.video_score_weight * float(class_scores(scores, spec)[label])
                start, end = first * per_sample, (last + (2 if spec.past_end else 1)) * per_sample
                rows.append((video, label, score, scores.offset + start, scores.offset + end))
    return rows


def class_scores(scores: SnippetScores, spec: LocalizerSpec) -> np.ndarray:
    return scores.video_scores if spec.class_score is None else scores.class_scores[spec.class_score]


def localize(scores: Sequence[SnippetScores], spec: LocalizerSpec) -> list[Row]:
    """Rows by video, class, score (highest first), start and end."""
    found = localize_streams(scores, spec) if spec.fusion else localize_one(scores, spec)
    return sorted(found, key=lambda row: (row[0], row[1], -row[2], row[3], row[4]))


def localize_streams(scores: Sequence[SnippetScores], spec: LocalizerSpec) -> list[Row]:
    assert spec.fusion is not None
    found: list[Row] = []
    for video, one in enumerate(scores):
        by_class: dict[int, list[list[Row]]] = {}
        for number in range(len(one.class_scores)):
            own = {
                name.split("/")[1]: signal
                for name, signal in one.signals.items()
                if name.startswith(f"stream{number}/")
            }
            alone = replace(one, signals=own, video_scores=one.class_scores[f"stream{number}"])
            weight = ([*spec.fusion.weights, 1.0, 1.0, 1.0])[number]
            rows = localize_one([alone], own_thresholds(spec, number))
            for label in {row[1] for row in rows}:
                mine = [(video, label, row[2] * weight, row[3], row[4]) for row in rows if row[1] == label]
                by_class.setdefault(label, []).append(mine)
        for streams in by_class.values():
            rows = [row for stream in streams for row in stream]
            found += rows if len(streams) == 1 else suppress(rows, spec.fusion.nms, one.seconds_per_snippet)
    return found


def own_thresholds(spec: LocalizerSpec, number: int) -> LocalizerSpec:
    assert spec.fusion is not None
    if number >= len(spec.fusion.thresholds):
        return spec
    own = {"thresholds": spec.fusion.thresholds[number]}
    return spec.model_copy(update={"sources": tuple(source.model_copy(update=own) for source in spec.sources)})


def localize_one(scores: Sequence[SnippetScores], spec: LocalizerSpec) -> list[Row]:
    found: list[Row] = []
    for video, one in enumerate(scores):
        p = class_scores(one, spec)
        kept = [
            c
            for c in range(len(p))
            if (p[c] >= spec.class_threshold if spec.class_threshold_inclusive else p[c] > spec.class_threshold)
        ]
        if not kept and spec.fallback_to_argmax:
            kept = [int(np.argmax(p))]
        for label in kept:
            rows = suppress(proposals(one, video, label, spec), spec.nms, one.seconds_per_snippet)
            if spec.minimum_share is not None and rows:
                least = spec.minimum_share * max(row[2] for row in rows)
                rows = [row for row in rows if row[2] >= least]
            found += rows
    return found
