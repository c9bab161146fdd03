"""Settings of a localizer: class threshold, proposal sources, scoring and suppression."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from wstal.localize.given import GivenProposals
from wstal.spec import Spec

# `class_score` of proposals of no class, and how titles call it
FILE_CLASSES, TRUE_CLASSES = "file", "true"
CLASS_SOURCES = {
    "": "own video classifier",
    FILE_CLASSES: "classes of a score file",
    TRUE_CLASSES: "true classes (oracle)",
}


class ProposalSource(Spec):
    """Source of proposals: threshold one signal, and score each run of active samples on a mix of signals.

    Args:
        signal: name of the signal that is thresholded. Runs of a class-free signal are used for every kept class.
        thresholds: each gives its own proposals. Suppression sees all of them together.
        strict: a sample is active where its value is `>` the threshold, instead of `>=`.
        score: weight of each signal in the scored mix, by name.
        masked: within the mix, set the thresholded signal to zero where it is not active, which lowers the outside.
        video_score_weight: weight of the video's class score, which is added to the proposal's score.
        inside: value of a run before its outside is subtracted: the mean or the maximum of the mix over it.
        bounds: names of two signals, in rows, with the start and the end of each row's own proposal. Every active
            sample is then a proposal, scored as a run of one sample. None: runs of active samples are proposals.

    Example:
        >>> ProposalSource(signal="cas", thresholds=(0.1, 0.2), score={"cas": 0.7, "attention": 0.3}).strict
        False
    """

    signal: str
    thresholds: tuple[float, ...] = Field(min_length=1)
    strict: bool = False
    score: dict[str, float] = Field(min_length=1)
    masked: bool = False
    video_score_weight: float = 0.0
    inside: Literal["mean", "max"] = Field("mean", exclude_if=lambda inside: inside == "mean")
    bounds: tuple[str, str] | None = Field(None, exclude_if=lambda bounds: bounds is None)

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals that are thresholded, scored or read for bounds."""
        return (self.signal, *self.score, *(self.bounds or ()))

    @model_validator(mode="after")
    def _masks_what_it_scores(self) -> Self:
        if self.masked and self.signal not in self.score:
            raise ValueError(
                f"Expected `score` to weigh the thresholded signal {self.signal!r} because `masked` is set, "
                f"got weights for {sorted(self.score)}"
            )
        if self.inside == "max" and (len(self.score) != 1 or self.masked):
            raise ValueError(
                f"Expected `score` to weigh one signal, not masked, because `inside` is max, got {sorted(self.score)}"
                + (", masked" if self.masked else "")
            )
        return self


class Nms(Spec):
    """Suppression of overlapping detections of one class in one video.

    Args:
        kind: `none`. `hard`: a detection stays while its overlap with every better one that stays is `<` `threshold`.
            `soft-gaussian`: all stay, and scores decay by exp(-overlap^2 / sigma) for every better one. `hard-decayed`:
            `hard`, but removed detections are put back with a score that decays once, for the detection that caused the
            removal (ASL).
        threshold: for the hard kinds.
        sigma: for the kinds that decay.
        overlap: `iou`, or `own` for the intersection over the length of the lower-scored detection.
        plus_one: what released code adds to every length and intersection, a pixel convention applied to time: one
            second, one row of the signals, or nothing. It decides which short detections are merged.

    Example:
        >>> Nms(kind="hard", threshold=0.5).overlap
        'iou'
    """

    kind: Literal["none", "hard", "soft-gaussian", "hard-decayed"] = "none"
    threshold: float | None = Field(default=None, gt=0)
    sigma: float | None = Field(default=None, gt=0)
    overlap: Literal["iou", "own"] = "iou"
    plus_one: Literal["no", "second", "snippet"] = "no"

    @model_validator(mode="after")
    def _has_its_number(self) -> Self:
        kinds = {"sigma": ("soft-gaussian", "hard-decayed"), "threshold": ("hard", "hard-decayed")}
        given = [name for name in kinds if getattr(self, name) is not None]
        expected = [name for name in kinds if self.kind in kinds[name]]
        if given != expected:
            raise ValueError(
                f"Expected {self.kind!r} suppression to set {expected or 'neither `threshold` nor `sigma`'}, "
                f"got {given}"
            )
        return self


class StreamFusion(Spec):
    """Fusion of the detections of separately localized streams into one list (STPN, FAC-Net).

    Stream i has the signals `stream<i>/NAME`, which the localizer's sources name without the prefix, and the class
    scores `stream<i>`.

    Args:
        weights: weights of the streams' detection scores, in order. Further streams have weight 1.
        nms: suppression where several streams have detections of one class in one video. Detections of a single stream
            stay.
        thresholds: each stream's own thresholds, in order, in place of those of all sources.

    Example:
        >>> StreamFusion(weights=(0.1, 1.0), nms=Nms(kind="hard", threshold=0.5)).weights
        (0.1, 1.0)
    """

    weights: tuple[float, ...] = Field((), description="weights of the streams' detection scores, in joining order")
    nms: Nms = Field(description="suppression where several streams have detections")
    thresholds: tuple[Annotated[tuple[float, ...], Field(min_length=1)], ...] = Field(
        (), exclude_if=lambda thresholds: not thresholds, description="each stream's own thresholds, for all sources"
    )


class Sides(Spec):
    """Outside of a run as two sides with a mean each (D2-Net, DGAM), instead of all its samples together.

    For n samples in the run a side has max(trunc(margin n) + plus, 1) samples, as far as the video has them.

    Args:
        join: `mean` of the sides that have samples, or `sum`.
        plus: samples that a side has beside trunc(margin n).

    Example:
        >>> Sides(join="mean").plus
        0
    """

    join: Literal["mean", "sum"]
    plus: int = Field(0, ge=0, le=1000)


class LocalizerSpec(Spec):
    """All settings between a method's snippet scores and its detections.

    Example:
        >>> source = ProposalSource(signal="cas", thresholds=(0.5,), score={"attention": 1.0})
        >>> LocalizerSpec(class_threshold=0.2, sources=(source,)).signals
        ('attention', 'cas')
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    class_threshold: float
    """A class is kept if its score in the video is above this."""
    class_threshold_inclusive: bool = False
    """A class is also kept if its score equals `class_threshold`."""
    fallback_to_argmax: bool = True
    """Keep the best class of a video if no class passes. False: such a video has no detections."""
    upsampling: int = Field(default=1, ge=1, le=1000)
    """Samples per row, by linear interpolation. Runs, margins and scores count these samples."""
    sources: tuple[ProposalSource, ...] = ()
    """Sources of proposals. Suppression sees the proposals of all sources together."""
    given: GivenProposals | None = Field(default=None, exclude_if=lambda given: given is None)
    """The method gives proposals itself, which take the place of sources; of the other settings only `class_score` then
    counts."""
    margin: float = Field(default=0.0, ge=0)
    """The outside of a run of n samples extends margin * n samples to either side. 0: no outside."""
    minimum_run: int = Field(default=1, ge=1)
    """Shorter runs of active samples are dropped."""
    skip_lone_first_sample: bool = False
    """Drop a run that is the only one at its threshold and consists of sample 0 alone, as released code does by testing
    a list of indices for a nonzero one. No effect if `minimum_run` is above 1."""
    nms: Nms = Nms()
    """Suppression, per video and class."""
    class_score: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """Name of the class scores that choose a video's classes and are added to scores. None: class probabilities."""
    outer_weight: float = Field(default=1.0, exclude_if=lambda weight: weight == 1)
    """Weight of the mean outside a run, which is subtracted from the score of the run."""
    dilation: int = Field(default=0, ge=0, exclude_if=lambda width: width == 0)
    """Extend each run by `dilation // 2` samples before it and `(dilation - 1) // 2` after it, within the video, and
    join runs that then touch: a dilation by a box of so many samples (CMCS). `minimum_run` counts the samples with
    it."""
    past_end: bool = Field(default=False, exclude_if=lambda past: not past)
    """Report a run one sample longer than it is, even past the video's end, and count the sample as inside. `margin`
    counts the samples without it (FAC-Net, RSKP)."""
    sides: Sides | None = Field(default=None, exclude_if=lambda sides: sides is None)
    """What is outside of a run, as two sides. None: all samples within `margin` of the run together."""
    minimum_share: float | None = Field(default=None, ge=0, le=1, exclude_if=lambda share: share is None)
    """After suppression, detections below this share of the best score of their class in the video are dropped."""
    fusion: StreamFusion | None = Field(default=None, exclude_if=lambda fusion: fusion is None)
    """Localize each stream separately with these settings, then fuse the detections."""

    @property
    def title_note(self) -> str:
        """Where the classes of proposals of no class come from."""
        if self.given is None or not self.given.classes:
            return ""
        source = CLASS_SOURCES.get(self.class_score or "", f"class scores {self.class_score!r}")
        return f", {source}"

    @model_validator(mode="after")
    def _sources_or_given(self) -> Self:
        if bool(self.sources) == (self.given is not None):
            raise ValueError("Expected `sources`, or `given` for a method that gives proposals itself")
        return self

    @model_validator(mode="after")
    def _one_rule_of_margins(self) -> Self:
        if self.sides is not None and self.past_end:
            raise ValueError("Expected `past_end` or `sides`, got both: each is a rule of what is outside of a run")
        return self

    @property
    def signals(self) -> tuple[str, ...]:
        """Sorted names of all signals that the sources read."""
        return tuple(sorted({name for source in self.sources for name in source.signals}))
