"""What a run needs of a data set, be it files or generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from wstal.types import GroundTruth, Video

Subset = Literal["train", "test"]


class DataSource(Protocol):
    """A data set as the runner sees it.

    Attributes:
        name: the page its results stand on, for example `thumos14-r2plus1d`.
        family: the data set whose protocols and recipes apply, for example `thumos14`.
        synthetic: results say nothing about real video.
        classes: class names in the order of label indices.
        schedule: name of the schedule that applies (`harness.runs.schedules`).
        tious: thresholds that detections are evaluated at.
        sample_length: rows that training samples from a video (T), where the data set states it.
        stream_widths: columns of each feature stream, in joining order.
        headline: name of the protocol whose mAP ranks methods.
        notes: what was assumed or left out, for people.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def family(self) -> str: ...  # noqa: D102
    @property
    def synthetic(self) -> bool: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def schedule(self) -> str: ...  # noqa: D102
    @property
    def tious(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def sample_length(self) -> int | None: ...  # noqa: D102
    @property
    def stream_widths(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def headline(self) -> str: ...  # noqa: D102
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102

    def videos(self, subset: Subset) -> list[Video]:
        """Videos of a subset, weakly labelled, in a fixed order."""

    def ground_truth(self, subset: Subset) -> GroundTruth:
        """Annotated instances of the scored videos: for the evaluator alone."""

    def describe(self, subsets: Sequence[Subset] = ("train", "test")) -> dict[str, Any]:
        """What identifies these subsets in a record: names, lists, digests; JSON, the same for the same data."""
