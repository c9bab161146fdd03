"""Counts of instances in training videos, for methods of the supervision `weak+count` alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any

from harness.data.source import DataSource
from wstal.errors import UserError
from wstal.types import CountedVideo, Supervision, Video


def training_videos(source: DataSource, supervision: Supervision) -> list[Video]:
    """Return the training videos with what a method declares that it needs, and no more.

    Args:
        source: the data set.
        supervision: `Method.supervision`.

    Raises:
        UserError: the data set cannot give it.
    """
    if supervision == "full":
        raise UserError("The method trains on times (supervision full), which no run hands out. Take a weak method.")
    videos = source.videos("train")
    return videos if supervision == "weak" else list(counted(source, videos))


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
    try:
        truth = source.ground_truth("train")
    except UserError as error:
        raise UserError(
            f"The method trains on counts of instances, which the annotations do not give: {error}"
        ) from error
    found = Counter(zip((truth.videos[i] for i in truth.video.tolist()), truth.label.tolist(), strict=True))
    return [
        CountedVideo(**_fields(video), counts=tuple(found[video.name, label] for label in video.labels))
        for video in videos
    ]


def _fields(video: Video) -> dict[str, Any]:
    return {field.name: getattr(video, field.name) for field in fields(Video)}
