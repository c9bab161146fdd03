"""Proposals: thresholds, runs of active samples, and outer-inner-contrast scores, for many videos at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wstal.localize.spec import LocalizerSpec, ProposalSource
from wstal.localize.tracks import Tracks, lay_out
from wstal.types import FloatArray, Floats, IntArray, SnippetScores

# samples laid out at once (4 MiB a signal): bounds memory; 2^15 to 2^22 take the same time within a third
CHUNK = 1 << 19


class Kept(NamedTuple):
    """The P (video, class) pairs that get proposals, sorted by video and class.

    Args:
        video: `[P]` index into the videos.
        label: `[P]` index into the classes.
        score: `[P]` the video's score of the class.
    """

    video: IntArray
    label: IntArray
    score: Floats


class Proposals(NamedTuple):
    """Scored runs of samples.

    Args:
        pair: `[N]` index into the kept pairs.
        first: `[N]` first sample of the run, counted from the start of the video, or the start that a signal gives.
        stop: `[N]` one past the last sample, as it is reported, or the end that a signal gives.
        score: `[N]` contrast plus the weighted class probability.
    """

    pair: IntArray
    first: FloatArray | IntArray
    stop: FloatArray | IntArray
    score: Floats


def keep_classes(video_scores: Floats, spec: LocalizerSpec) -> Kept:
    """Return the classes of each video that pass the class threshold.

    Args:
        video_scores: `[V, C]` class probabilities of the videos.
        spec: the method's settings.

    Example:
        >>> source = ProposalSource(signal="cas", thresholds=(0.5,), score={"cas": 1.0})
        >>> spec = LocalizerSpec(class_threshold=0.5, sources=(source,))
        >>> kept = keep_classes(np.array([[0.7, 0.2], [0.1, 0.3]]), spec)
        >>> kept.video.tolist(), kept.label.tolist()  # the second video falls back to its best class
        ([0, 1], [0, 1])
    """
    threshold = spec.class_threshold
    keep = video_scores >= threshold if spec.class_threshold_inclusive else video_scores > threshold
    if spec.fallback_to_argmax:
        none = np.flatnonzero(~keep.any(axis=1))
        keep[none, video_scores[none].argmax(axis=1)] = True
    video, label = np.nonzero(keep)
    return Kept(video, label, video_scores[keep])


def propose(scores: Sequence[SnippetScores], kept: Kept, spec: LocalizerSpec) -> Proposals:
    """Return all proposals of the kept pairs, from every source and threshold, before suppression.

    Args:
        scores: the videos that `kept.video` indexes, already checked. All are laid out together.
        kept: the pairs that get proposals.
        spec: the method's settings.

    Example:
        >>> source = ProposalSource(signal="cas", thresholds=(0.5,), score={"cas": 1.0})
        >>> spec = LocalizerSpec(class_threshold=0.1, sources=(source,))
        >>> cas = np.array([[0.1], [0.9], [0.7]])
        >>> scores = SnippetScores("v", {"cas": cas}, np.array([0.9]), seconds_per_snippet=0.5)
        >>> found = propose([scores], keep_classes(scores.video_scores[None], spec), spec)
        >>> found.first.tolist(), found.stop.tolist()
        ([1], [3])
    """
    names = spec.signals
    shared = {name for name in names if scores[0].signals[name].ndim == 1}
    videos, owner = np.unique(kept.video, return_inverse=True)
    tracks = {
        name: lay_out(
            [scores[v].signals[name] for v in videos]
            if name in shared
            else [scores[v].signals[name][:, c] for v, c in zip(kept.video, kept.label, strict=True)],
            spec.upsampling,
        )
        for name in names
    }
    origin = {name: track.first[owner] if name in shared else track.first for name, track in tracks.items()}
    samples = np.array([len(scores[v].signals[names[0]]) for v in kept.video]) * spec.upsampling
    sums = {name: tracks[name].prefix_sums() for name in {name for source in spec.sources for name in source.score}}
    found = []
    for source in spec.sources:
        track = tracks[source.signal]
        for threshold in source.thresholds:
            pair, first, stop = _runs(source, threshold, track, spec)
            if source.bounds is not None:
                pair, first = np.repeat(pair, stop - first), _each_sample(first, stop)
                stop = first + 1
            if source.signal in shared:
                pair, first, stop = _for_every_class(pair, first, stop, owner)
            left, right = _margins(first, stop, samples[pair], spec)
            end = stop
            if spec.past_end:
                end = stop + 1
                stop = np.minimum(end, samples[pair])
            # of all samples outside, or of either side
            beside = np.stack([first - left, right - stop]) if spec.sides else (first - left + (right - stop))[None]
            inside, outside = np.zeros(len(pair)), np.zeros(beside.shape)
            for name, weight in source.score.items():
                masked = source.masked and name == source.signal
                prefix = track.prefix_sums(track.active(threshold, source.strict)) if masked else sums[name]
                at = origin[name][pair]
                at_first, at_stop = prefix[at + first], prefix[at + stop]
                inside += weight * (at_stop - at_first)
                before, after = at_first - prefix[at + left], prefix[at + right] - at_stop
                outside += weight * (np.stack([before, after]) if spec.sides else before + after)
            inside /= stop - first
            if source.inside == "max":
                ((name, weight),) = source.score.items()
                inside = _maxima(weight * tracks[name].samples, origin[name][pair] + first, origin[name][pair] + stop)
            outer = (spec.outer_weight * outside / np.maximum(beside, 1)).sum(axis=0)  # what is empty counts 0
            if spec.sides and spec.sides.join == "mean":
                outer /= np.maximum((beside > 0).sum(axis=0), 1)
            score = inside - outer
            score += source.video_score_weight * kept.score[pair]
            if source.bounds is None:
                found.append(Proposals(pair, first, end, score))
                continue
            # in rows, but samples are counted
            start, end = (
                tracks[bound].samples.reshape(-1)[origin[bound][pair] + first] * spec.upsampling
                for bound in source.bounds
            )
            found.append(Proposals(pair, start, end, score))
    return Proposals(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _runs(source: ProposalSource, threshold: float, track: Tracks, spec: LocalizerSpec) -> tuple[IntArray, ...]:
    """Return the track of each run, its first sample and one past its last, counted from the start of the track."""
    first, stop = track.edges(threshold, source.strict)
    index = np.searchsorted(track.first, first, side="right") - 1
    if spec.dilation and len(first):
        index, first, stop = _dilated(index, first, stop, track, spec.dilation)
    keep = stop - first >= spec.minimum_run
    if spec.skip_lone_first_sample:
        alone = np.bincount(index, minlength=1)[index] == 1
        keep &= ~(alone & (first == track.first[index]) & (stop - first == 1))
    index, first, stop = index[keep], first[keep], stop[keep]
    return index, first - track.first[index], stop - track.first[index]


def _each_sample(first: IntArray, stop: IntArray) -> IntArray:
    """Return the samples of all runs, in order."""
    length = stop - first
    return np.repeat(first - (np.cumsum(length) - length), length) + np.arange(length.sum())


def _dilated(
    index: IntArray, first: IntArray, stop: IntArray, track: Tracks, width: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Dilate one run or more by a box, within their tracks. All grow alike, so only neighbours can touch."""
    first = np.maximum(first - width // 2, track.first[index])
    stop = np.minimum(stop + (width - 1) // 2, track.gap[index] * track.upsampling)
    apart = (first[1:] > stop[:-1]) | (index[1:] != index[:-1])
    begins = np.append(True, apart)
    return index[begins], first[begins], stop[np.append(apart, True)]


def _for_every_class(
    video: IntArray, first: IntArray, stop: IntArray, owner: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Repeat the runs of a class-free signal for each kept pair of their video.

    `owner`: `[P]` video of each pair, sorted.
    """
    classes = np.bincount(owner)
    copies = classes[video]
    nth = np.arange(copies.sum()) - np.repeat(np.cumsum(copies) - copies, copies)
    pair = np.repeat((np.cumsum(classes) - classes)[video], copies) + nth
    return pair, np.repeat(first, copies), np.repeat(stop, copies)


def _maxima(values: Floats, first: IntArray, stop: IntArray) -> Floats:
    """Return the maximum of values[first:stop] for each pair of indices into the flat values. No run is empty."""
    edges = np.stack([first, stop], axis=1).reshape(-1)
    return np.maximum.reduceat(values.reshape(-1), edges)[::2] if len(edges) else np.zeros(0)


def _margins(first: IntArray, stop: IntArray, samples: IntArray, spec: LocalizerSpec) -> tuple[IntArray, IntArray]:
    """Return the bounds of the outside [left, first) and [stop, right) of each run.

    For n samples in the run, left = max(0, trunc(first - margin n)) and right = min(samples - 1, trunc(stop - 1 +
    margin n)) + 1, the index rule of the released code of BaS-Net and ACM-Net. With `past_end` the outside begins at
    stop + 1 and right = min(samples - 1, trunc(stop + 1 + margin n)), the rule of FAC-Net and RSKP. See `Sides` for
    theirs.
    """
    reach = spec.margin * (stop - first)
    if spec.sides:
        whole = np.maximum(reach.astype(np.int64) + spec.sides.plus, 1)
        return np.maximum(first - whole, 0), np.minimum(stop + whole, samples)
    left = np.maximum(first - reach, 0.0).astype(np.int64)
    if spec.past_end:
        right = np.minimum((stop + 1 + reach).astype(np.int64), samples - 1)
        return left, np.maximum(right, np.minimum(stop + 1, samples))
    right = np.minimum((stop - 1 + reach).astype(np.int64), samples - 1) + 1
    return left, right
