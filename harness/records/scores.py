"""Snippet scores that a run stored, read video by video."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import safetensors
import safetensors.numpy

from harness.records.files import PSEUDO_LABELS, SCORES
from harness.records.run_folder import FinishedRun
from wstal.errors import StoreError, UserError
from wstal.types import PROPOSALS, FloatArray, SnippetScores

VIDEO_SCORES, CLASS_SCORES, CLOCK = "/video_scores", "class_scores/", "clock"


class StoredScores:
    """Snippet scores of a finished run.

    Args:
        run: the run.

    Raises:
        StoreError: the file is absent or damaged.
    """

    def __init__(self, run: FinishedRun) -> None:
        self._path = run.artefact(SCORES)

    @cached_property
    def videos(self) -> tuple[str, ...]:
        """Names of the videos, sorted."""
        return tuple(sorted(name.removesuffix(VIDEO_SCORES) for name in self._names if name.endswith(VIDEO_SCORES)))

    @cached_property
    def _names(self) -> frozenset[str]:
        try:
            with safetensors.safe_open(self._path, "np") as file:
                return frozenset(file.keys())
        except (safetensors.SafetensorError, OSError) as error:
            raise StoreError(f"{self._path} does not hold a run's scores: {error}. Do the run again.") from error

    def video(self, name: str) -> SnippetScores:
        """Read the scores of a video.

        Raises:
            UserError: the run did not score it.
        """
        if name + VIDEO_SCORES not in self._names:
            raise UserError(f"The run scored no video {name!r}. It has {len(self.videos)}, such as {self.videos[0]}.")
        values = _of_video(self._path, self._names, name)
        seconds, offset = values.pop(CLOCK).tolist()
        video_scores = values.pop(VIDEO_SCORES[1:])
        proposals = values.pop(PROPOSALS, None)
        signals = {part: value for part, value in values.items() if not part.startswith(CLASS_SCORES)}
        others = {part.removeprefix(CLASS_SCORES): value for part, value in values.items() if part not in signals}
        return SnippetScores(name, signals, video_scores, seconds, offset, others, proposals)


def pseudo_labels(run: FinishedRun, video: str) -> dict[str, FloatArray]:
    """Read the pseudo labels of a video, `[T, C]` by name; none for a run without.

    Args:
        run: a finished run.
        video: a video that it scored.

    Raises:
        StoreError: the file is absent or damaged.
    """
    if PSEUDO_LABELS not in run.record.artefacts:
        return {}
    path = run.artefact(PSEUDO_LABELS)
    with safetensors.safe_open(path, "np") as file:
        names = frozenset(file.keys())
    return _of_video(path, names, video)


def _of_video(path: Path, names: frozenset[str], video: str) -> dict[str, FloatArray]:
    parts = {key.removeprefix(f"{video}/"): key for key in names if key.startswith(f"{video}/")}
    with safetensors.safe_open(path, "np") as file:
        # a longer name may begin with this video's
        own = {part: key for part, key in parts.items() if "/" not in part.removeprefix(CLASS_SCORES)}
        return {part: file.get_tensor(key) for part, key in own.items()}
