"""Timelines of finished runs: what each run made of a video, beside its ground truth."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.charts.timeline import Bars, Curve, Pictures, Timeline, Track
from harness.data.annotations import select_videos
from harness.data.detections import read_detections
from harness.records.files import DETECTIONS
from harness.records.ground_truth import ScoredTruth, scored_truth
from harness.records.run_folder import FinishedRun
from harness.records.scores import StoredScores, pseudo_labels
from harness.videos.key_frames import key_frames_file, read_key_frames
from wstal.errors import UserError
from wstal.evaluation import PROTOCOLS
from wstal.evaluation.sharing import SharedMatching
from wstal.types import Detections, GroundTruth, SnippetScores

MOST_DETECTIONS = 20  # of a class in a video; the best are shown
MOST_CLASSES = 6  # with detections but without an instance


@dataclass(frozen=True, eq=False)
class ShownRun:
    """Finished run with the files that a timeline needs, each read when it is first needed.

    Args:
        run: the run.
        annotations: ground truth, for a run that stored none.
        data: folder of features that `data extract` made, whose key frames are shown.
    """

    run: FinishedRun
    annotations: Path | None = None
    data: Path | None = None

    @cached_property
    def scores(self) -> StoredScores:
        """Snippet scores."""
        return StoredScores(self.run)

    @cached_property
    def truth(self) -> ScoredTruth:
        """Ground truth of the scored videos."""
        return scored_truth(self.run, self.annotations)

    @cached_property
    def detections(self) -> Detections:
        """Detections in all videos."""
        return read_detections(self.run.artefact(DETECTIONS), tuple(self.run.record.classes), allow_empty=True)

    @property
    def title(self) -> str:
        """Name of the run for people."""
        return f"{self.run.record.title}, seed {self.run.record.seed}"

    def pictures(self, video: str) -> Pictures | None:
        """Return the key frames of a video, None where there are none."""
        path = None if self.data is None else key_frames_file(self.data, video)
        if path is None or not os.path.isfile(path):
            return None
        images, step = read_key_frames(path)
        return Pictures(images, step)

    def in_video(self, video: str) -> Detections:
        """Return the detections in a video."""
        if video not in self.detections.videos:
            return self.detections.select(np.zeros(len(self.detections), dtype=bool))
        return self.detections.select(self.detections.video == self.detections.videos.index(video))


def timeline(
    runs: Sequence[ShownRun],
    video: str,
    *,
    tiou: float = 0.5,
    start: float = 0.0,
    end: float | None = None,
) -> Timeline:
    """Return the timeline of a video under several runs of one data set.

    Args:
        runs: one or more.
        video: a video that all of them scored.
        tiou: of a hit.
        start: first second to show.
        end: last second to show (default: the end of the video).

    Raises:
        UserError: a run did not score the video, or there is nothing between `start` and `end`.
        StoreError: a file of a run is damaged.
    """
    first = runs[0].truth
    scored = [run.scores.video(video) for run in runs]
    place = first.truth.videos.index(video) if video in first.truth.videos else None
    truth = select_videos(first.truth, [video])
    last = max(one.offset + one.seconds_per_snippet * len(one.signals["attention"]) for one in scored)
    stated = np.nan if place is None else first.durations[place]
    last = max([last, *truth.end.tolist()]) if np.isnan(stated) else float(stated)
    last = last if end is None else end
    if not start < last:
        raise UserError(f"{video}: there is nothing from {start:g} to {last:g} s. Choose --from below --to.")
    shown = {truth.classes[label] for label in truth.label.tolist()}
    instances = {
        label: _bars(truth, truth.label == truth.classes.index(label), np.ones(len(truth), dtype=bool))
        for label in truth.classes
        if label in shown
    }
    tracks = [_track(run, one, truth, tiou) for run, one in zip(runs, scored, strict=True)]
    synthetic = any(run.run.record.synthetic for run in runs)
    judged = len(first.truth) > 0
    return Timeline(video, instances, tracks, start, last, tiou, synthetic, runs[0].pictures(video), judged)


def _track(run: ShownRun, scores: SnippetScores, truth: GroundTruth, tiou: float) -> Track:
    found = run.in_video(truth.videos[0])
    hit = np.zeros(len(found), dtype=bool)
    if len(found) and len(truth):
        matching = SharedMatching(found, truth, (tiou,))
        hit[matching.ranked] = matching.instances(PROTOCOLS["anet"])[:, 0] >= 0
    classes = run.run.record.classes
    labelled = [classes[label] for label in np.unique(truth.label).tolist()]
    best = {classes[label]: float(found.score[found.label == label].max()) for label in np.unique(found.label).tolist()}
    others = sorted(best.keys() - labelled, key=lambda label: -best[label])[:MOST_CLASSES]
    detections = {
        label: _bars(found, _best(found, classes.index(label)), hit) for label in (*labelled, *others) if label in best
    }
    length = len(scores.signals["cas"])
    time = np.float64(scores.offset) + scores.seconds_per_snippet * (np.arange(length, dtype=np.float64) + 0.5)
    attention = scores.signals.get("attention")
    taught = pseudo_labels(run.run, truth.videos[0]).get("auxiliary")
    return Track(
        title=run.title,
        detections=detections,
        attention=None if attention is None else Curve(time, attention.astype(np.float64)),
        pseudo_labels={
            label: Curve(time, taught[:, classes.index(label)].astype(np.float64)) for label in (*labelled, *others)
        }
        if taught is not None
        else {},
        cas={
            label: Curve(time, scores.signals["cas"][:, classes.index(label)].astype(np.float64))
            for label in (*labelled, *others)
        },
    )


def _best(found: Detections, label: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    rows = np.flatnonzero(found.label == label)
    return rows[np.argsort(-found.score[rows], kind="stable")[:MOST_DETECTIONS]]


def _bars(segments: Detections | GroundTruth, rows: np.ndarray, hit: np.ndarray) -> Bars:
    start, end = segments.start[rows].astype(np.float64), segments.end[rows].astype(np.float64)
    if not isinstance(segments, Detections):
        return Bars(start, end, np.ones(len(start)), np.ones(len(start), dtype=bool))
    score = segments.score[rows].astype(np.float64)
    low, high = segments.score.min(), segments.score.max()
    return Bars(start, end, (score - low) / (high - low) if high > low else np.ones(len(score)), hit[rows])
