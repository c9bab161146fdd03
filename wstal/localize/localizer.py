"""Snippet scores of a whole test set -> detections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from wstal.errors import UserError
from wstal.localize.nms import hard_nms, soft_nms
from wstal.localize.proposals import keep_classes, propose
from wstal.localize.spec import LocalizerSpec
from wstal.types import Detections, FloatArray, SnippetScores


def localize(scores: Sequence[SnippetScores], spec: LocalizerSpec, classes: tuple[str, ...]) -> Detections:
    """Localize the actions of all videos.

    Args:
        scores: one entry a video; its signals are `[T, C]` or `[T]`, finite, of one T >= 1.
        spec: the method's settings.
        classes: the C class names that the columns of signals and video scores follow.

    Returns:
        Detections by video (in the order given), class, score (highest first), start and end. A run of samples
        [first, last] spans offset + [first, last + 1) * seconds_per_snippet / upsampling.

    Raises:
        UserError: a video comes twice; a signal that `spec` names is missing, empty, not finite or of the wrong shape.
    """
    for one in scores:
        _check(one, spec, scores[0], classes)
    videos = tuple(one.video for one in scores)
    repeated = sorted(name for name, count in Counter(videos).items() if count > 1)
    if repeated:
        raise UserError(f"Expected scores of each video once, got {repeated[0]!r} more than once. Remove the others.")

    seconds = np.array([one.seconds_per_snippet for one in scores], dtype=np.float64)
    offset = np.array([one.offset for one in scores], dtype=np.float64)
    video_scores = np.array([one.video_scores for one in scores], dtype=np.float64).reshape(len(scores), len(classes))

    kept = keep_classes(video_scores, spec)
    proposals = propose(scores, kept, spec)
    pair, score = proposals.pair, proposals.score
    video = kept.video[pair]
    start = offset[video] + proposals.first * (seconds / spec.upsampling)[video]
    end = offset[video] + proposals.stop * (seconds / spec.upsampling)[video]

    nms = spec.nms
    plus = {"no": np.zeros(len(pair)), "second": np.ones(len(pair)), "snippet": seconds[video]}[nms.plus_one]
    if nms.threshold is not None:  # hard
        stays = hard_nms(start, end, score, pair, threshold=nms.threshold, kind=nms.overlap, plus=plus)
        score = score[stays]
    else:
        stays = np.arange(len(pair))
        if nms.sigma is not None:  # soft
            stays, score = soft_nms(start, end, score, pair, sigma=nms.sigma, kind=nms.overlap, plus=plus)
        order = np.lexsort((end[stays], start[stays], -score, pair[stays]))
        stays, score = stays[order], score[order]
    return Detections(
        videos=videos,
        classes=tuple(classes),
        video=video[stays],
        label=kept.label[pair[stays]],
        start=start[stays],
        end=end[stays],
        score=score,
    )


def _check(one: SnippetScores, spec: LocalizerSpec, model: SnippetScores, classes: tuple[str, ...]) -> None:
    """Raise for what would otherwise become wrong detections. `model`: scores whose signals set the number of axes."""
    who = f"scores of video {one.video!r}"
    if not (np.isfinite(one.seconds_per_snippet) and one.seconds_per_snippet > 0):
        raise UserError(f"Expected `seconds_per_snippet` of the {who} to be positive, got {one.seconds_per_snippet}.")
    if not np.isfinite(one.offset):
        raise UserError(f"Expected `offset` of the {who} to be finite, got {one.offset}.")
    if one.video_scores.shape != (len(classes),):
        raise UserError(
            f"Expected `video_scores` of the {who} to be of shape {(len(classes),)}, got {one.video_scores.shape}."
        )
    if not np.isfinite(one.video_scores).all():
        raise UserError(f"`video_scores` of the {who} are not finite: check its features and checkpoint.")
    rows: int | None = None
    for name in spec.signals:
        signal = one.signals.get(name)
        if signal is None:
            raise UserError(
                f"The localizer settings name signal {name!r}, but the {who} have {sorted(one.signals)}. "
                f"Name one of these in `sources`, or let the method output {name!r}."
            )
        rows = len(signal) if rows is None else rows
        _check_signal(name, signal, rows, model.signals[name].ndim, len(classes), who)


def _check_signal(name: str, signal: FloatArray, rows: int, axes: int, classes: int, who: str) -> None:
    expected = (rows,) if axes == 1 else (rows, classes)
    if len(signal) == 0:
        raise UserError(f"Signal {name!r} in the {who} has no rows: were its features read?")
    if signal.shape != expected:
        raise UserError(f"Expected signal {name!r} in the {who} to be of shape {expected}, got {signal.shape}.")
    if not np.isfinite(signal).all():
        row = int(np.argwhere(~np.isfinite(signal))[0][0])
        raise UserError(f"Signal {name!r} in the {who} is not finite at row {row}: check its features and checkpoint.")
