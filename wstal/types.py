"""Types of the field's vocabulary. Times are in seconds, tables are columns of equal length.

Training sees only `Video` and `Batch`, or `CountedVideo` and `CountedBatch` if the method declares that it needs counts
(`Method.supervision`). None of them has a temporal annotation, so no weakly supervised method can read one.
`SupervisedVideo` and `SupervisedBatch` have times. They are no kind of `Video` and `Batch`, so what takes those cannot
be handed them.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Supervision = Literal["weak", "weak+count", "full"]
Source = Literal["released code", "paper", "paper, partly", "ours"]
INSTANCE_COLUMNS = ("video", "label", "start", "end")
PROPOSALS = "proposals"  # what a file of scores calls them, so that no signal has this name
DETECTION_COLUMNS = (*INSTANCE_COLUMNS, "score")


@dataclass(frozen=True)
class Paper:
    """Publication of a method.

    Args:
        title: as printed.
        authors: names in order, given name first, separated by commas.
        venue: conference or journal.
        year: of publication.
        link: address of the paper.
    """

    title: str
    authors: str
    venue: str
    year: int
    link: str


@dataclass(frozen=True, eq=False)
class Video:
    """Untrimmed video as training may see it.

    Args:
        name: the video's id in the annotation file.
        source: `[T, D]` snippet features, float16 or float32, often memory-mapped, or a function that reads them.
        labels: sorted indices of the classes that occur in the video.
        seconds_per_snippet: stride / fps, the time from one row to the next.
        offset: seconds before the span of row 0 starts: (snippet_frames - stride) / (2 fps), so that a row represents
            the middle `stride` frames of its window. 0 where windows do not overlap.
    """

    name: str
    source: FloatArray | Callable[[], FloatArray]
    labels: tuple[int, ...]
    seconds_per_snippet: float
    offset: float = 0.0

    @property
    def features(self) -> FloatArray:
        """`[T, D]` snippet features, read where the source is a function."""
        return self.source() if callable(self.source) else self.source

    @property
    def length(self) -> int:
        """T, without a look at the features where their source has a length."""
        return len(self.source) if isinstance(self.source, Sized) else len(self.features)


@dataclass(frozen=True, eq=False, kw_only=True)
class CountedVideo(Video):
    """Training video whose instances were counted, for methods of the supervision `weak+count` alone.

    Args:
        counts: instances of each class of `labels`, in their order; 0 where a label has no annotated instance.
    """

    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.labels):
            raise ValueError(f"{self.name} has {len(self.counts)} counts for {len(self.labels)} labels.")


@dataclass(frozen=True, eq=False)
class SupervisedVideo:
    """Training video with its annotated instances, for methods of the supervision `full` alone.

    Args:
        video: the video as a weakly supervised method gets it.
        label: `[N]` class of each instance.
        start: `[N]` seconds.
        end: `[N]` seconds.
    """

    video: Video
    label: IntArray
    start: FloatArray
    end: FloatArray


@dataclass(frozen=True, eq=False)
class Batch:
    """Snippets of B videos sampled to one length.

    Args:
        features: `[B, T, D]` float32.
        labels: `[B, C]` multi-hot, float32.
        videos: the B video names, for messages.
        labels_on_host: the same labels in host memory, if the caller has them already.

    Example:
        >>> import torch
        >>> batch = Batch(torch.zeros(1, 5, 3), torch.tensor([[1.0, 0.0]]), ("v",))
        >>> batch.host_labels.tolist()
        [[1.0, 0.0]]
    """

    features: torch.Tensor
    labels: torch.Tensor
    videos: tuple[str, ...]
    labels_on_host: torch.Tensor | None = None

    @cached_property
    def host_labels(self) -> torch.Tensor:
        """Labels in host memory, for decisions made in Python. Reading `labels` itself would wait for a GPU."""
        return self.labels.cpu() if self.labels_on_host is None else self.labels_on_host


@dataclass(frozen=True, eq=False, kw_only=True)
class CountedBatch(Batch):
    """Batch with instance counts, for methods of the supervision `weak+count` alone.

    Args:
        counts: `[B, C]` instances of each class in the video, float32; 0 where the class is not labelled.
    """

    counts: torch.Tensor


@dataclass(frozen=True, eq=False)
class SupervisedBatch:
    """Windows of videos with targets made from times, for methods of the supervision `full` alone.

    Args:
        features: `[B, T, D]` float32.
        labels: `[B, C]` multi-hot classes of each window's video, float32.
        videos: the videos' names, for messages.
        targets: by name, `[B, ...]` of the method's choice.
    """

    features: torch.Tensor
    labels: torch.Tensor
    videos: tuple[str, ...]
    targets: dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Snippets:
    """Output of a method's network for B videos, before any loss.

    Args:
        embedded: `[B, T, D]` F, the snippet embeddings.
        attention: `[B, T, kinds]` W, attention weights in [0, 1].
        cas: `[B, T, C]` or, with background last, `[B, T, C + 1]` A, class logits.
    """

    embedded: torch.Tensor
    attention: torch.Tensor
    cas: torch.Tensor


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one video by a method, for localizers.

    Every method gives `cas` and `attention`, so that all methods can be localized in the same way. Signals that only
    the method's own localizer needs have names of the method's choice.

    Args:
        signals: `[T, C]` or `[T]` by name. `cas`: `[T, C]` probability of each class at each snippet, taking background
            into account where the method knows it. `attention`: `[T]` probability of foreground.
        video_scores: `[C]` class probabilities of the video.
        class_scores: `[C]` by name: other scores of the video's classes, as logits, or those of one stream.
        proposals: `[P, 4]` start and end in rows of the video (0 to T), score and class (-1: of no class), of a method
            that finds intervals itself.
    """

    signals: dict[str, torch.Tensor]
    video_scores: torch.Tensor
    class_scores: dict[str, torch.Tensor] = field(default_factory=dict)
    proposals: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Segments:
    """Labelled time intervals. Item i of each array belongs to interval i.

    Args:
        videos: names that `video` indexes, including those without any interval.
        classes: names that `label` indexes.
        video: `[N]` index into `videos`.
        label: `[N]` index into `classes`.
        start: `[N]` seconds.
        end: `[N]` seconds, not before `start`.
    """

    videos: tuple[str, ...]
    classes: tuple[str, ...]
    video: IntArray
    label: IntArray
    start: FloatArray
    end: FloatArray

    def __len__(self) -> int:
        return len(self.video)


@dataclass(frozen=True, eq=False)
class GroundTruth(Segments):
    """Annotated instances, in the order of the annotation file (a protocol may break ties by it).

    Args:
        ambiguous: `[M, 3]` rows (index into `videos`, start, end) of intervals that some protocols excuse. Empty where
            a data set has none.
    """

    ambiguous: FloatArray

    def select(self, keep: Bools | IntArray) -> GroundTruth:
        """Return the instances that a mask or an index array selects, with all names and Ambiguous intervals."""
        return replace(self, **{column: getattr(self, column)[keep] for column in INSTANCE_COLUMNS})


@dataclass(frozen=True, eq=False)
class Detections(Segments):
    """Scored intervals, in the order in which they were written.

    Args:
        score: `[N]` confidence on any scale, higher is better.
    """

    score: FloatArray

    def select(self, keep: Bools | IntArray) -> Detections:
        """Return the detections that a mask or an index array selects, with unchanged names."""
        return replace(self, **{column: getattr(self, column)[keep] for column in DETECTION_COLUMNS})


@dataclass(frozen=True, eq=False)
class SnippetScores:
    """`Scores` of one video with its clock, before any threshold. The localizer's input.

    Args:
        video: the video's name.
        signals: by name, `[T, C]` per-class or `[T]` class-free values in time order (for example `cas`, `attention`).
        video_scores: `[C]` class probabilities of the whole video.
        seconds_per_snippet: time from one *row of the signals* to the next. It is longer than the features' own where
            the video was sampled down to fewer rows.
        offset: as `Video.offset`.
        class_scores: as `Scores.class_scores`.
        proposals: as `Scores.proposals`.
    """

    video: str
    signals: dict[str, FloatArray]
    video_scores: FloatArray
    seconds_per_snippet: float
    offset: float = 0.0
    class_scores: dict[str, FloatArray] = field(default_factory=dict)
    proposals: FloatArray | None = None
