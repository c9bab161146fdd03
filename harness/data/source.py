"""Interface of a data set for runs, whether it is read from files or generated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from harness.io.console import OnProgress
from wstal.errors import UserError
from wstal.types import Floats, GroundTruth, Video

Subset = Literal["train", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "test")


@dataclass(frozen=True, eq=False, kw_only=True)
class DataSource(ABC):
    """Data set as a run sees it.

    Args:
        name: name of the page that shows its results, for example `thumos14-r2plus1d`.
        family: data set whose protocols and recipes apply, for example `thumos14`.
        schedule: name of the training schedule that applies (`harness.runs.schedules`).
        classes: class names in the order of label indices.
        stream_widths: columns of each feature stream, in joining order.
        coarse_classes: index of each class's coarse class; empty where the data set states none.
        tious: tIoU thresholds of the evaluation.
        headline: name of the protocol whose mAP ranks methods.
        sample_length: rows that training samples from a video (T), where the data set states it.
        synthetic: whether results say nothing about real video.
        notes: assumptions and omissions, for people.
        on_progress: called as many files are read.
    """

    name: str
    family: str
    schedule: str
    classes: tuple[str, ...]
    stream_widths: tuple[int, ...]
    tious: tuple[float, ...]
    headline: str = "anet"
    coarse_classes: tuple[int, ...] = ()
    sample_length: int | None = None
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    on_progress: OnProgress = lambda *_: None

    @abstractmethod
    def videos(self, subset: Subset) -> list[Video]:
        """Return the videos of a subset with video-level labels only, in a fixed order."""

    @cached_property
    def training_rows(self) -> tuple[int, ...]:
        """Feature rows of each training video."""
        return tuple(video.length for video in self.videos("train"))

    @abstractmethod
    def ground_truth(self, subset: Subset) -> GroundTruth:
        """Return the annotated instances of the scored videos, for the evaluator alone."""

    @abstractmethod
    def durations(self, videos: Sequence[str]) -> dict[str, float | None]:
        """Return the seconds of videos by name, None where unknown."""

    def class_scores(self) -> dict[str, Floats]:
        """Return `[C]` scores of each test video's classes from a file.

        Raises:
            UserError: no file was given.
        """
        raise UserError("localizer.class_score=file takes the classes of a score file: give it with --class-scores.")

    @abstractmethod
    def describe(self, subsets: Sequence[Subset] = SUBSETS) -> dict[str, Any]:
        """Identify these subsets for a record by names, lists and digests, as JSON values equal for equal data."""
