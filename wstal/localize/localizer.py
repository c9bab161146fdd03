"""Localization of actions: snippet scores of a whole test set to detections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from wstal.errors import UserError
from wstal.localize import proposals
from wstal.localize.given import GivenProposals, classified
from wstal.localize.nms import Rows, hard_nms, soft_nms
from wstal.localize.proposals import Kept, keep_classes, propose
from wstal.localize.spec import TRUE_CLASSES, LocalizerSpec, Nms
from wstal.types import DETECTION_COLUMNS, Detections, FloatArray, IntArray, SnippetScores

FUSED = 256  # videos whose streams' detections are fused at once
_Columns = tuple[np.ndarray[Any, Any], ...]  # of `DETECTION_COLUMNS`
_NOTHING: _Columns = (*np.zeros((2, 0), dtype=np.int64), *np.zeros((3, 0)))


def localize(scores: Iterable[SnippetScores], spec: LocalizerSpec, classes: tuple[str, ...]) -> Detections:
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
    localizer = Localizer(spec, classes)
    for one in scores:
        localizer.add(one)
    return localizer.detections()


class Localizer:
    """Localizer of videos that come one after the other. It keeps their detections, and few scores at a time.

    Videos are laid out together until they have `CHUNK` samples, so what is found does not depend on how they come.

    Args:
        spec: the method's settings.
        classes: the C class names, in the order of the columns of signals and video scores.

    Example:
        >>> from wstal.localize import ProposalSource
        >>> source = ProposalSource(signal="cas", thresholds=(0.5,), score={"cas": 1.0})
        >>> localizer = Localizer(LocalizerSpec(class_threshold=0.1, sources=(source,)), ("jump",))
        >>> for name in ("v", "w"):
        ...     localizer.add(SnippetScores(name, {"cas": np.array([[0.1], [0.9]])}, np.array([0.9]), 0.5))
        >>> localizer.detections().start.tolist()
        [0.5, 0.5]
    """

    def __init__(self, spec: LocalizerSpec, classes: tuple[str, ...]) -> None:
        self.spec, self.classes = spec, tuple(classes)
        self._streams: dict[str, Localizer] = {}
        self._first: SnippetScores | None = None
        self._videos: dict[str, float] = {}  # seconds per row
        self._samples = 0
        self._waiting: list[tuple[int, SnippetScores, Kept]] = []
        self._chunk = 0  # of the waiting ones
        self._found = [_NOTHING]

    def add(self, scores: SnippetScores) -> None:
        """Take the scores of the next video.

        Args:
            scores: all its signals are `[T, C]` or `[T]`, finite, with the same T >= 1.

        Raises:
            UserError: as `localize`.
        """
        spec = self.spec
        self._first = self._first or scores
        if spec.fusion is not None:
            self._add_streams(scores)
            return
        _check(scores, spec, self._first, self.classes)
        number = self._enter(scores)
        if spec.given is not None:
            self._found.append(_given(number, scores, spec, spec.given))
            return
        kept = keep_classes(np.asarray(_class_scores(scores, spec), dtype=np.float64)[None], spec)
        self._samples += len(scores.signals[spec.signals[0]]) * spec.upsampling * (1 + len(kept.video))
        if not len(kept.video):
            return
        if self._waiting and self._chunk != self._samples // proposals.CHUNK:
            self._localize_waiting()
        self._chunk = self._samples // proposals.CHUNK
        self._waiting.append((number, scores, kept))

    def detections(self) -> Detections:
        """Return the detections of all videos so far, sorted as those of `localize`."""
        if self._streams:
            return self._fused()
        if self._waiting:
            self._localize_waiting()
        return Detections(tuple(self._videos), self.classes, *_joined(self._found))

    def _enter(self, scores: SnippetScores) -> int:
        """Return the number of a video that is new."""
        if scores.video in self._videos:
            raise UserError(
                f"Expected scores of each video once, got {scores.video!r} more than once. Remove the others."
            )
        self._videos[scores.video] = scores.seconds_per_snippet
        return len(self._videos) - 1

    def _localize_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        scores, spec = [one for _, one, _ in waiting], self.spec
        counts = [len(kept.video) for _, _, kept in waiting]
        video, label = np.repeat(np.arange(len(waiting)), counts), np.concatenate([kept.label for *_, kept in waiting])
        proposed = propose(scores, Kept(video, label, np.concatenate([kept.score for *_, kept in waiting])), spec)
        pair, score = proposed.pair, proposed.score
        video, label = video[pair], label[pair]
        seconds = np.array([one.seconds_per_snippet for one in scores], dtype=np.float64)[video]
        offset = np.array([one.offset for one in scores], dtype=np.float64)[video]
        start = offset + proposed.first * (seconds / spec.upsampling)
        end = offset + proposed.stop * (seconds / spec.upsampling)
        stays, kept_score = _suppress(spec.nms, start, end, score, pair, seconds)
        if spec.minimum_share is not None:
            best = np.full(len(pair) and pair.max() + 1, -np.inf)
            np.maximum.at(best, pair[stays], kept_score)
            enough = kept_score >= spec.minimum_share * best[pair[stays]]
            stays, kept_score = stays[enough], kept_score[enough]
        number = np.array([number for number, *_ in waiting])[video]
        self._found.append((number[stays], label[stays], start[stays], end[stays], kept_score))

    def _add_streams(self, scores: SnippetScores) -> None:
        number = self._enter(scores)
        if not number:
            names = [name for name in scores.class_scores if name.startswith("stream")]
            if not names:
                raise UserError(
                    f"The localizer settings fuse streams, but the scores of video {scores.video!r} have no class "
                    "scores named stream0, stream1, ... Unset `fusion`, or let the method output them."
                )
            alone = self.spec.model_copy(update={"fusion": None})
            assert self.spec.fusion is not None
            thresholds = [*self.spec.fusion.thresholds, *[None] * len(names)]
            self._streams = {
                name: Localizer(_with_thresholds(alone, own), self.classes)
                for name, own in zip(names, thresholds, strict=False)
            }
        for name, stream in self._streams.items():
            stream.add(_one_stream(scores, name))

    def _fused(self) -> Detections:
        """Return the streams' detections, suppressed together where several have some of a class in a video."""
        fusion = self.spec.fusion
        assert fusion is not None
        streams = [stream.detections() for stream in self._streams.values()]
        weights = [*fusion.weights, *[1.0] * len(streams)]
        seconds = np.array([*self._videos.values()], dtype=np.float64)
        found = [_NOTHING]
        for first in range(0, len(seconds), FUSED):
            bounds = [np.searchsorted(part.video, (first, first + FUSED)) for part in streams]
            parts = [part.select(np.arange(*bound)) for part, bound in zip(streams, bounds, strict=True)]
            weighed = [replace(part, score=part.score * weight) for part, weight in zip(parts, weights, strict=False)]
            found.append(_fuse(weighed, fusion.nms, seconds))
        return Detections(tuple(self._videos), self.classes, *_joined(found))


def _given(number: int, scores: SnippetScores, spec: LocalizerSpec, given: GivenProposals) -> _Columns:
    """Return the columns of a video whose proposals the method gives."""
    assert scores.proposals is not None
    if spec.class_score == TRUE_CLASSES:  # an oracle knows all classes
        given = given.model_copy(update={"classes": len(scores.video_scores)})
    rows = len(next(iter(scores.signals.values())))
    label, first, last, score = classified(scores.proposals, _class_scores(scores, spec), given, float(rows))
    start, end = (scores.offset + edge * scores.seconds_per_snippet for edge in (first, last))
    order = np.lexsort((end, start, -score, label))
    return np.full(len(order), number), label[order], start[order], end[order], score[order]


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


def _fuse(streams: Sequence[Detections], nms: Nms, seconds: FloatArray) -> _Columns:
    """Return the columns of all streams' detections, suppressed together where several have some of a class in a video.

    `seconds`: `[V]` duration of a row of the signals.
    """
    columns = _joined([tuple(getattr(part, name) for name in DETECTION_COLUMNS) for part in streams])
    joined = Detections(streams[0].videos, streams[0].classes, *columns)
    source = np.repeat(np.arange(len(streams)), [len(part) for part in streams])
    group = joined.video * len(joined.classes) + joined.label
    # number of streams of each group
    of_streams = np.bincount(np.unique(group * len(streams) + source) // len(streams))
    several = of_streams[group] > 1
    some = joined.select(several)
    stays, kept_score = _suppress(nms, some.start, some.end, some.score, group[several], seconds[some.video])
    rows = np.concatenate([np.flatnonzero(several)[stays], np.flatnonzero(~several)])
    final = replace(joined.select(rows), score=np.concatenate([kept_score, joined.score[~several]]))
    final = final.select(np.lexsort((final.end, final.start, -final.score, group[rows])))
    return tuple(getattr(final, name) for name in DETECTION_COLUMNS)


def _joined(parts: Sequence[_Columns]) -> _Columns:
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _with_thresholds(spec: LocalizerSpec, thresholds: tuple[float, ...] | None) -> LocalizerSpec:
    if thresholds is None:
        return spec
    own = tuple(source.model_copy(update={"thresholds": thresholds}) for source in spec.sources)
    return spec.model_copy(update={"sources": own})


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
    if spec.given is not None:
        _check_given(one)
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


def _check_given(one: SnippetScores) -> None:
    if one.proposals is None:
        raise UserError(
            f"The localizer settings take proposals that the method gives (`given`), but the scores of video "
            f"{one.video!r} have none. Name signals in `sources` instead."
        )
    if one.proposals.ndim != 2 or one.proposals.shape[1] != 4:
        raise UserError(f"Expected `proposals` of video {one.video!r} to be [P, 4], got {one.proposals.shape}.")
    if not np.isfinite(one.proposals).all():
        raise UserError(f"Proposals of video {one.video!r} are not finite: check its features and checkpoint.")
