"""What methods of more than weak supervision get of training videos: counts of instances, or their times."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any

import numpy as np

from harness.data.source import DataSource
from wstal.errors import UserError
from wstal.types import CountedVideo, GroundTruth, SupervisedVideo, Supervision, Video


def training_videos(source: DataSource, supervision: Supervision) -> list[Video]:
    """Return the training videos with what a weakly supervised method declares that it needs, and no more.

    Args:
        source: the data set.
        supervision: `Method.supervision`.

    Raises:
        UserError: the data set cannot give it.
    """
    if supervision == "full":
        raise ValueError("A weakly supervised method gets no times: `supervised_videos` gives them to the others.")
    videos = source.videos("train")
    return videos if supervision == "weak" else list(counted(source, videos))


def supervised_videos(source: DataSource) -> list[SupervisedVideo]:
    """Return the training videos with the times of their instances, in the order of the annotation file.

    Raises:
        UserError: the annotations of the training videos have labels without times.
    """
    truth = _truth(source, "times")
    place = {name: number for number, name in enumerate(truth.videos)}
    found = []
    for video in source.videos("train"):
        own = np.flatnonzero(truth.video == place.get(video.name, -1))
        found.append(SupervisedVideo(video, truth.label[own], truth.start[own], truth.end[own]))
    return found


def counted(source: DataSource, videos: list[Video]) -> list[CountedVideo]:
    """Count the annotated instances of each label; their times go no further.

    An instance of a class that is not among a video's labels is not counted, and a label without one counts 0.

    Args:
        source: the data set.
        videos: its training videos.

    Raises:
        UserError: the annotations of the training videos have labels without times, so they do not tell how many
            instances there are.
    """
    truth = _truth(source, "counts of instances")
    found = Counter(zip((truth.videos[i] for i in truth.video.tolist()), truth.label.tolist(), strict=True))
    return [
        CountedVideo(**_fields(video), counts=tuple(found[video.name, label] for label in video.labels))
        for video in videos
    ]


def _truth(source: DataSource, what: str) -> GroundTruth:
    try:
        return source.ground_truth("train")
    except UserError as error:
        raise UserError(f"The method trains on {what}, which the annotations do not give: {error}") from error


def _fields(video: Video) -> dict[str, Any]:
    return {field.name: getattr(video, field.name) for field in fields(Video)}
