"""Scores of the test videos' classes from a file, for proposals that have no class of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from harness.data.features import some
from harness.data.source import SUBSETS, DataSource, Subset
from harness.io.encoding import sha256_file
from wstal.errors import MissingDataError, UserError
from wstal.types import Floats, GroundTruth, Video

DIGEST = "class_scores"  # name of the file's digest among a record's
FORM = "Save `videos` (names), `scores` [videos, classes] and, unless sorted by name, `classes` with numpy.savez."


@dataclass(frozen=True, eq=False, kw_only=True)
class WithClassScores(DataSource):
    """Data set with scores of its test videos' classes from a file, whose digest is part of its description.

    Args:
        source: the data set.
        path: the file.
        scores: `[C]` by test video.
    """

    source: DataSource
    path: Path
    scores: dict[str, Floats]

    @classmethod
    def of(cls, source: DataSource, path: Path) -> Self:
        """Add the scores of a file to a data set.

        Args:
            source: the data set.
            path: an .npz file of `videos`, `scores` and perhaps `classes`.

        Raises:
            MissingDataError: the file is not there.
            UserError: it is of another form, or does not have all classes and test videos.
        """
        facts = {field.name: getattr(source, field.name) for field in fields(DataSource)}
        return cls(source=source, path=path, scores=_read(path, source), **facts)

    def videos(self, subset: Subset) -> list[Video]:
        """Return the source's videos."""
        return self.source.videos(subset)

    def ground_truth(self, subset: Subset) -> GroundTruth:
        """Return the source's instances."""
        return self.source.ground_truth(subset)

    def durations(self, videos: Sequence[str]) -> dict[str, float | None]:
        """Return the seconds of the source's videos."""
        return self.source.durations(videos)

    def class_scores(self) -> dict[str, Floats]:
        """Return the file's scores."""
        return self.scores

    def describe(self, subsets: Sequence[Subset] = SUBSETS) -> dict[str, Any]:
        """Describe the source, with the file's digest."""
        described = self.source.describe(subsets)
        return described | {"digests": (described.get("digests") or {}) | {DIGEST: sha256_file(self.path)}}


def _read(path: Path, source: DataSource) -> dict[str, Floats]:
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        videos, scores = stored["videos"].astype(str).tolist(), stored["scores"].astype(np.float64)
        named = stored["classes"].astype(str).tolist() if "classes" in stored else [*source.classes]
    except FileNotFoundError as error:
        raise MissingDataError(f"{path} is not there. Give an .npz file of class scores.") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} holds no class scores: {error}. {FORM}") from error
    if scores.shape != (len(videos), len(named)):
        raise UserError(f"{path}: `scores` are {scores.shape}, not {(len(videos), len(named))}. {FORM}")
    if not np.isfinite(scores).all() or (scores < 0).any():
        raise UserError(f"{path}: `scores` are not all finite and at least 0. Give probabilities.")
    if lacking := sorted(set(source.classes).difference(named)):
        raise UserError(f"{path} lacks classes of the data set: {some(lacking)}. {FORM}")
    wanted = {video.name for video in source.videos("test")}
    if lacking := sorted(wanted.difference(videos)):
        raise UserError(f"{path} lacks {len(lacking)} of {len(wanted)} test videos: {some(lacking)}.")
    columns = [named.index(name) for name in source.classes]
    return {video: row for video, row in zip(videos, scores[:, columns], strict=True) if video in wanted}
