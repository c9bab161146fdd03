"""Choose schedules and options without the test set: a part of the training videos is scored in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.data.descriptor import list_digest
from harness.data.source import DataSource, Subset
from harness.random_streams import numpy_stream
from wstal.errors import UserError
from wstal.types import GroundTruth, Video

SUFFIX = "-held-out"


def is_held_out(name: str) -> bool:
    """Whether a data set of this name scores held-out training videos in place of its test set."""
    return name.endswith(SUFFIX)


class HeldOutSource:
    """Another source's training videos, split once and for all: most train, the others are scored.

    The split depends on the list of training videos and the fraction alone, not on a run's seed. Scoring reads the
    held-out videos' temporal annotations, so what is chosen by it has seen those of some training videos: say so.

    Args:
        source: the data set; its test subset is never opened.
        fraction: share of the training videos to hold out, within (0, 1).

    Raises:
        UserError: the fraction leaves no video on one side.
    """

    headline = "anet"

    def __init__(self, source: DataSource, fraction: float) -> None:
        videos = source.videos("train")
        count = round(fraction * len(videos)) if 0 < fraction < 1 else 0
        if not 0 < count < len(videos):
            raise UserError(
                f"Expected a held-out share that leaves videos on both sides, got {fraction:g} of {len(videos)}."
            )
        order = numpy_stream(0, "held-out").permutation(len(videos))
        self._source = source
        self._videos: dict[Subset, list[Video]] = {
            "train": [videos[index] for index in sorted(order[count:])],
            "test": [videos[index] for index in sorted(order[:count])],
        }
        self.name = f"{source.name}{SUFFIX}"
        self.schedule = source.schedule
        self.tious = source.tious
        self.sample_length = source.sample_length
        self.stream_widths = source.stream_widths
        self.family = source.family
        self.synthetic = source.synthetic
        self.classes = source.classes
        self.notes = (*source.notes, f"{count} of {len(videos)} training videos are held out and scored.")

    def videos(self, subset: Subset) -> list[Video]:
        """The videos that train, or those held out."""
        return self._videos[subset]

    def ground_truth(self, subset: Subset) -> GroundTruth:
        """Instances of the subset's videos, from the source's training annotations."""
        truth = self._source.ground_truth("train")
        kept = np.isin(
            np.array(truth.videos, dtype=object)[truth.video], [video.name for video in self._videos[subset]]
        )
        names = tuple(video.name for video in self._videos[subset])
        position = {name: index for index, name in enumerate(names)}
        return replace(
            truth,
            videos=names,
            video=np.array([position[truth.videos[index]] for index in truth.video[kept]], dtype=np.int64),
            label=truth.label[kept],
            start=truth.start[kept],
            end=truth.end[kept],
            ambiguous=truth.ambiguous[:0],
        )

    def describe(self, subsets: Sequence[Subset] = ("train", "test")) -> dict[str, Any]:
        """The description of the source's training subset, with the two parts in place of subsets."""
        described = self._source.describe(("train",))
        train, test = (
            {
                "list": f"{part} part of {described['train']['list']}",
                "videos": len(videos),
                "sha256": list_digest(video.name for video in videos),
            }
            for part, videos in (("kept", self._videos["train"]), ("held-out", self._videos["test"]))
        )
        title = f"{described['title']}, held-out part of the training videos"
        return described | {"name": self.name, "title": title, "train": train, "test": test}
