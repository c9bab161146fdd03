"""The localizer written as plainly as possible: one video, class, threshold and run at a time.

Nothing here is shared with `wstal.localize`; the two agree or one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wstal.localize import LocalizerSpec, Nms
from wstal.types import SnippetScores

Row = tuple[int, int, float, float, float]  # video, class, score, start, end


def upsample(signal: np.ndarray, factor: int) -> np.ndarray:
    """Linear interpolation at 0, 1/factor, ...; past the last row the last slope goes on."""
    rows = len(signal)
    at = np.arange(rows * factor) / factor
    samples = np.interp(at, np.arange(rows), signal)
    if rows > 1:
        past = at > rows - 1
        samples[past] = signal[-1] + (signal[-1] - signal[-2]) * (at[past] - (rows - 1))
    return samples


def runs(active: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each stretch of True."""
    indices = np.flatnonzero(active)
    if not len(indices):
        return []
    return [(int(part[0]), int(part[-1])) for part in np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)]


def contrast(signal: np.ndarray, first: int, last: int, margin: float) -> float:
    """Mean inside a run minus mean of the two margins beside it."""
    reach = margin * (last - first + 1)
    left = signal[max(0, int(first - reach)) : first]
    right = signal[last + 1 : min(len(signal) - 1, int(last + reach)) + 1]
    outside = np.concatenate([left, right])
    return float(np.mean(signal[first : last + 1]) - (np.mean(outside) if len(outside) else 0.0))


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
    return rows


def proposals(scores: SnippetScores, video: int, label: int, spec: LocalizerSpec) -> list[Row]:
    signals = {
        name: upsample(values if values.ndim == 1 else values[:, label], spec.upsampling)
        for name in spec.signals
        for values in [np.asarray(scores.signals[name], dtype=np.float64)]
    }
    per_sample = scores.seconds_per_snippet / spec.upsampling
    rows: list[Row] = []
    for source in spec.sources:
        for threshold in source.thresholds:
            signal = signals[source.signal]
            active = signal > threshold if source.strict else signal >= threshold
            if spec.skip_lone_first_sample and active[0] and active.sum() == 1:
                continue
            mix = np.zeros(len(signal))
            for name, weight in source.score.items():
                masked = source.masked and name == source.signal
                mix = mix + weight * (np.where(active, signals[name], 0.0) if masked else signals[name])
            for first, last in runs(active):
                if last - first + 1 < spec.minimum_run:
                    continue
                score = contrast(mix, first, last, spec.margin)
                score += source.video_score_weight * float(scores.video_scores[label])
                start, end = first * per_sample, (last + 1) * per_sample
                rows.append((video, label, score, scores.offset + start, scores.offset + end))
    return rows


def localize(scores: Sequence[SnippetScores], spec: LocalizerSpec) -> list[Row]:
    """Rows by video, class, score (highest first), start and end."""
    found: list[Row] = []
    for video, one in enumerate(scores):
        p = one.video_scores
        kept = [c for c in range(len(p)) if (p[c] >= spec.class_threshold if spec.class_threshold_inclusive
                                             else p[c] > spec.class_threshold)]
        if not kept and spec.fallback_to_argmax:
            kept = [int(np.argmax(p))]
        for label in kept:
            found += suppress(proposals(one, video, label, spec), spec.nms, one.seconds_per_snippet)
    return sorted(found, key=lambda row: (row[0], row[1], -row[2], row[3], row[4]))
