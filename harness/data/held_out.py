"""Held-out training videos, scored in place of the test set to choose schedules and options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

from harness.data.annotations import select_videos
from harness.data.source import SUBSETS, DataSource, Subset
from harness.data.video_list import VideoList
from harness.random_streams import numpy_stream
from wstal.errors import UserError
from wstal.types import GroundTruth, Video

SUFFIX = "-held-out"
PARTS: dict[Subset, str] = {"train": "kept", "test": "held-out"}


def is_held_out(name: str) -> bool:
    """Return whether a data set of this name scores held-out training videos in place of its test set."""
    return name.endswith(SUFFIX)


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldOutSource(DataSource):
    """Training videos of another source, split once and for all: most train and the others are scored.

    The split depends on the list of training videos and the share alone, not on a run's seed. Scoring reads the
    temporal annotations of the held-out videos, so options chosen this way have used those of some training videos,
    which a report must state.

    Args:
        source: the data set, whose test subset is never opened.
        parts: the training videos that train and those that are held out.
    """

    source: DataSource
    parts: dict[Subset, list[Video]]

    @classmethod
    def of(cls, source: DataSource, share: float) -> Self:
        """Hold out a share of a source's training videos.

        Args:
            source: the data set.
            share: share of the training videos to hold out, within (0, 1).

        Raises:
            UserError: the share leaves no video on one side.
        """
        videos = source.videos("train")
        count = round(share * len(videos)) if 0 < share < 1 else 0
        if not 0 < count < len(videos):
            raise UserError(
                f"Expected a held-out share that leaves videos on both sides, got {share:g} of {len(videos)}."
            )
        order = numpy_stream(0, "held-out").permutation(len(videos))
        facts = {field.name: getattr(source, field.name) for field in fields(DataSource)}
        facts["name"] += SUFFIX
        facts["headline"] = "anet"
        facts["notes"] += (f"{count} of {len(videos)} training videos are held out and scored.",)
        places: dict[Subset, list[int]] = {"train": sorted(order[count:]), "test": sorted(order[:count])}
        parts = {subset: [videos[index] for index in chosen] for subset, chosen in places.items()}
        return cls(source=source, parts=parts, **facts)

    def videos(self, subset: Subset) -> list[Video]:
        """Return the videos that train, or those that are held out."""
        return self.parts[subset]

    @cached_property
    def training_rows(self) -> tuple[int, ...]:
        """Feature rows of the source's training videos, so that what is chosen here is for training on all of them."""
        return self.source.training_rows

    def _names(self, subset: Subset) -> tuple[str, ...]:
        return tuple(video.name for video in self.parts[subset])

    def ground_truth(self, subset: Subset) -> GroundTruth:
        """Return the instances of the subset's videos, without ambiguous intervals."""
        truth = select_videos(self.source.ground_truth("train"), self._names(subset))
        return replace(truth, ambiguous=truth.ambiguous[:0])

    def durations(self, videos: Sequence[str]) -> dict[str, float | None]:
        """Return the seconds of training videos."""
        return self.source.durations(videos)

    def describe(self, subsets: Sequence[Subset] = SUBSETS) -> dict[str, Any]:
        """Describe the source's training subset, with the two parts in place of subsets."""
        described = self.source.describe(("train",))
        title = f"{described['title']}, held-out part of the training videos"
        lists: dict[str, Any] = {
            subset: VideoList(f"{part} part of {described['train']['list']}", self._names(subset)).describe()
            for subset, part in PARTS.items()
        }
        return described | {"name": self.name, "title": title, **lists}
