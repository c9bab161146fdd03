"""Localization of actions: snippet scores of a whole test set to detections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wstal.errors import UserError
from wstal.localize.nms import Rows, hard_nms, soft_nms
from wstal.localize.proposals import keep_classes, propose
from wstal.localize.spec import LocalizerSpec, Nms, StreamFusion
from wstal.types import DETECTION_COLUMNS, Detections, FloatArray, IntArray, SnippetScores


def localize(scores: Sequence[SnippetScores], spec: LocalizerSpec, classes: tuple[str, ...]) -> Detections:
    """Localize the actions of all videos.

    A run of samples [first, last] spans offset + [first, last + 1) * seconds_per_snippet / upsampling.

    Args:
        scores: one entry per video. All its signals are `[T, C]` or `[T]`, finite, with the same T >= 1.
        spec: the method's settings.
        classes: the C class names, in the order of the columns of signals and video scores.

    Returns:
        Detections sorted by video (in the given order), class, score (highest first), start and end, in seconds.

    Raises:
        UserError: a video occurs twice, or a signal or class score that `spec` names is missing, empty, not finite or
            of the wrong shape.

    Example:
        >>> from wstal.localize import ProposalSource
        >>> source = ProposalSource(signal="cas", thresholds=(0.5,), score={"cas": 1.0})
        >>> spec = LocalizerSpec(class_threshold=0.1, sources=(source,))
        >>> cas = np.array([[0.1], [0.9], [0.7], [0.2]])
        >>> scores = SnippetScores("v", {"cas": cas}, np.array([0.9]), seconds_per_snippet=0.5)
        >>> found = localize([scores], spec, ("jump",))
        >>> found.start.tolist(), found.end.tolist(), found.score.round(2).tolist()
        ([0.5], [1.5], [0.8])
    """
    if spec.fusion is not None:
        return _localize_streams(scores, spec, spec.fusion, classes)
    for one in scores:
        _check(one, spec, scores[0], classes)
    videos = tuple(one.video for one in scores)
    repeated = sorted(name for name, count in Counter(videos).items() if count > 1)
    if repeated:
        raise UserError(f"Expected scores of each video once, got {repeated[0]!r} more than once. Remove the others.")

    seconds = np.array([one.seconds_per_snippet for one in scores], dtype=np.float64)
    offset = np.array([one.offset for one in scores], dtype=np.float64)
    class_scores = np.array([_class_scores(one, spec) for one in scores], dtype=np.float64)
    kept = keep_classes(class_scores.reshape(len(scores), len(classes)), spec)
    proposals = propose(scores, kept, spec)
    pair, score = proposals.pair, proposals.score
    video = kept.video[pair]
    start = offset[video] + proposals.first * (seconds / spec.upsampling)[video]
    end = offset[video] + proposals.stop * (seconds / spec.upsampling)[video]

    stays, kept_score = _suppress(spec.nms, start, end, score, pair, seconds[video])
    proposed = Detections(videos, tuple(classes), video, kept.label[pair], start, end, score)
    return replace(proposed.select(stays), score=kept_score)


def _suppress(
    nms: Nms, start: FloatArray, end: FloatArray, score: FloatArray, group: IntArray, seconds: FloatArray
) -> tuple[IntArray, FloatArray]:
    """Return the rows that stay, sorted by group and score, and their scores.

    `seconds`: `[N]` duration of a row of the signals.
    """
    plus = {"no": np.zeros(len(group)), "second": np.ones(len(group)), "snippet": seconds}[nms.plus_one]
    stays = np.arange(len(group))
    rows = Rows(start, end, score, group, plus)
    if nms.threshold is not None:
        stays, score = hard_nms(rows, nms.threshold, nms.overlap, nms.sigma)
    elif nms.sigma is not None:
        stays, score = soft_nms(rows, nms.sigma, nms.overlap)
    order = np.lexsort((end[stays], start[stays], -score, group[stays]))
    return stays[order], score[order]


def _localize_streams(
    scores: Sequence[SnippetScores], spec: LocalizerSpec, fusion: StreamFusion, classes: tuple[str, ...]
) -> Detections:
    """Localize each stream, then suppress together where several streams have detections of a class in a video."""
    streams = [name for name in (scores[0].class_scores if scores else {}) if name.startswith("stream")]
    if scores and not streams:
        raise UserError(
            f"The localizer settings fuse streams, but the scores of video {scores[0].video!r} have no class scores "
            "named stream0, stream1, ... Unset `fusion`, or let the method output them."
        )
    found, stream = [], []
    for number, name in enumerate(streams):
        own = [_one_stream(one, name) for one in scores]
        part = localize(own, spec.model_copy(update={"fusion": None}), classes)
        weight = fusion.weights[number] if number < len(fusion.weights) else 1.0
        found.append(replace(part, score=part.score * weight))
        stream.append(np.full(len(part), number))
    if not found:
        return localize(scores, spec.model_copy(update={"fusion": None}), classes)
    columns = (np.concatenate([getattr(part, name) for part in found]) for name in DETECTION_COLUMNS)
    joined = Detections(found[0].videos, found[0].classes, *columns)
    source, group = np.concatenate(stream), joined.video * len(classes) + joined.label
    # number of streams of each group
    of_streams = np.bincount(np.unique(group * len(streams) + source) // len(streams))
    several = of_streams[group] > 1
    seconds = np.array([one.seconds_per_snippet for one in scores])[joined.video]
    some = joined.select(several)
    stays, kept_score = _suppress(fusion.nms, some.start, some.end, some.score, group[several], seconds[several])
    rows = np.concatenate([np.flatnonzero(several)[stays], np.flatnonzero(~several)])
    final = replace(joined.select(rows), score=np.concatenate([kept_score, joined.score[~several]]))
    return final.select(np.lexsort((final.end, final.start, -final.score, group[rows])))


def _one_stream(scores: SnippetScores, stream: str) -> SnippetScores:
    prefix = f"{stream}/"
    signals = {name.removeprefix(prefix): s for name, s in scores.signals.items() if name.startswith(prefix)}
    if stream not in scores.class_scores:
        raise UserError(f"The scores of video {scores.video!r} lack the class scores {stream!r}, which others have.")
    return replace(scores, signals=signals, video_scores=scores.class_scores[stream])


def _class_scores(scores: SnippetScores, spec: LocalizerSpec) -> FloatArray:
    return scores.video_scores if spec.class_score is None else scores.class_scores[spec.class_score]


def _check(one: SnippetScores, spec: LocalizerSpec, model: SnippetScores, classes: tuple[str, ...]) -> None:
    """Raise if the input would give wrong detections. `model`: scores whose signals set the number of axes."""
    who = f"scores of video {one.video!r}"
    if not (np.isfinite(one.seconds_per_snippet) and one.seconds_per_snippet > 0):
        raise UserError(f"Expected `seconds_per_snippet` of the {who} to be positive, got {one.seconds_per_snippet}.")
    if not np.isfinite(one.offset):
        raise UserError(f"Expected `offset` of the {who} to be finite, got {one.offset}.")
    if spec.class_score is not None and spec.class_score not in one.class_scores:
        raise UserError(
            f"The localizer settings name class score {spec.class_score!r}, but the {who} have "
            f"{sorted(one.class_scores)}. Name one of these in `class_score`, or unset it."
        )
    name, values = spec.class_score or "video_scores", _class_scores(one, spec)
    if values.shape != (len(classes),):
        raise UserError(f"Expected `{name}` of the {who} to be of shape {(len(classes),)}, got {values.shape}.")
    if not np.isfinite(values).all():
        raise UserError(f"`{name}` of the {who} are not finite: check its features and checkpoint.")
    rows: int | None = None
    for name in spec.signals:
        signal = one.signals.get(name)
        if signal is None:
            raise UserError(
                f"The localizer settings name signal {name!r}, but the {who} have {sorted(one.signals)}. "
                f"Name one of these in `sources`, or let the method output {name!r}."
            )
        rows = len(signal) if rows is None else rows
        expected = (rows,) if model.signals[name].ndim == 1 else (rows, len(classes))
        if len(signal) == 0:
            raise UserError(f"Signal {name!r} in the {who} has no rows: were its features read?")
        if signal.shape != expected:
            raise UserError(f"Expected signal {name!r} in the {who} to be of shape {expected}, got {signal.shape}.")
        if not np.isfinite(signal).all():
            row = np.argwhere(~np.isfinite(signal))[0][0]
            raise UserError(
                f"Signal {name!r} in the {who} is not finite at row {row}: check its features and checkpoint."
            )
