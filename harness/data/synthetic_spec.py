"""Identity of a synthetic data set, and its random streams."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from harness.data.source import SUBSETS, Subset
from wstal.spec import Spec

TimelineName = Literal["thumos14", "easy", "activitynet13", "fineaction"]
PHASE_SIMILARITY = 0.6


class SyntheticSpec(Spec):
    """Identity of a synthetic data set: two equal specifications give the same bits on one machine.

    The fields from `label_noise` to `content_strength` are dials. Each draws from its own random streams, so that
    changing one keeps the timelines and every feature row and label that the dial does not concern.

    The defaults are calibrated to THUMOS14 and I3D. `embedded` is the small, easy set that the main job uses.

    Args:
        seed: root of every random stream.
        train_videos: training videos, at least one a class.
        test_videos: test videos, at least one a class.
        classes: classes, which come in look-alike pairs.
        width: feature dimensions D.
        streams: feature streams of equal width, which together have D columns.
        max_length: most rows of a video. A longer one is compressed in time.
        dtype: storage of the features.
        timelines: statistics that durations and instances follow.
        scale: factor of all values. Norms of features grow with their width, and steps of training with the norm.
        label_noise: fraction of training videos with a wrong label set: one label missing where there are two, one
            extra elsewhere. In THUMOS14 two official lists disagree on 8 of 200.
        context_strength: latent correlation of an action's prominent phase with the context that occurs beside it but
            is not it: 0 unlike, 1 identical.
        class_similarity: latent correlation of the non-prominent phases of two look-alike classes: 0 unlike, 1
            identical.
        phase_similarity: latent correlation of a class's prominent and other phase, before a look-alike class takes its
            share.
        recurring_background: share of background shots drawn from a pool that all videos of both subsets have in
            common.
        snippet_noise: standard deviation of what varies from row to row, relative to the calibrated one.
        scene_noise: the same of what varies from video to video and from shot to shot.
        content_strength: the same of what is shown: action, context or background.
        resampled: every video has `max_length` rows, whatever its duration.
        coarse: number of classes of each coarse class, in the order of label indices; empty where there are none. The
            prominent phases of its classes are as alike as `class_similarity` says.
    """

    seed: int = Field(default=0, ge=0)
    train_videos: int = Field(default=200, ge=1)
    test_videos: int = Field(default=212, ge=1)
    classes: int = Field(default=20, ge=2, multiple_of=2)
    width: int = Field(default=128, ge=8)
    streams: int = Field(default=1, ge=1)
    max_length: int = Field(default=128, ge=16)
    dtype: Literal["float32", "float16"] = "float32"
    timelines: TimelineName = "thumos14"
    scale: float = Field(default=1.0, gt=0)
    label_noise: float = Field(default=0.04, ge=0, le=1)
    context_strength: float = Field(default=0.5, ge=0, le=1)
    class_similarity: float = Field(default=0.5, ge=0, le=1)
    phase_similarity: float = Field(
        default=PHASE_SIMILARITY, ge=0, le=1, exclude_if=lambda value: value == PHASE_SIMILARITY
    )
    recurring_background: float = Field(default=0.5, ge=0, le=1)
    snippet_noise: float = Field(default=1.0, ge=0, le=4)
    scene_noise: float = Field(default=1.0, ge=0, le=4)
    content_strength: float = Field(default=1.0, ge=0, le=4)
    resampled: bool = False
    coarse: tuple[int, ...] = ()

    @classmethod
    def full_size(cls, **changes: Any) -> Self:
        """Return a specification of real size: 2048 dimensions, 0.64 s per row, up to about 2,300 rows, 0.6 GB.

        Args:
            changes: other fields to set.
        """
        return cls(**{"width": 2048, "max_length": 2700, "dtype": "float16", **changes})

    @classmethod
    def embedded(cls, **changes: Any) -> Self:
        """Return a specification that every method learns in seconds: two streams, 60 + 60 videos of 42 to 64 rows.

        What is shown stands out from the scene, backgrounds recur, and values are scaled to norms of 1,024 columns.

        Args:
            changes: other fields to set.
        """
        easy = {"train_videos": 60, "test_videos": 60, "classes": 10, "width": 64, "streams": 2, "max_length": 64}
        clear = {"scale": 4.0, "snippet_noise": 0.3, "scene_noise": 0.3, "content_strength": 2.0}
        apart = {"label_noise": 0.0, "context_strength": 0.2, "class_similarity": 0.2, "recurring_background": 0.8}
        return cls(**{"timelines": "easy", **easy, **clear, **apart, **changes})

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of label indices."""
        digits = max(2, len(str(self.classes - 1)))
        return tuple(f"SynthAction{c:0{digits}d}" for c in range(self.classes))

    @property
    def coarse_classes(self) -> tuple[int, ...]:
        """Index of each class's coarse class; empty where there are none."""
        return tuple(index for index, size in enumerate(self.coarse) for _ in range(size))

    @model_validator(mode="after")
    def _every_class_occurs(self) -> Self:
        fewest = min(self.train_videos, self.test_videos)
        if fewest < self.classes:
            raise ValueError(f"Expected at least one video a class in each subset, got {fewest} for {self.classes}")
        if self.coarse and sum(self.coarse) != self.classes:
            raise ValueError(f"Expected coarse classes of {self.classes} classes together, got {sum(self.coarse)}")
        return self

    @model_validator(mode="after")
    def _streams_are_of_equal_width(self) -> Self:
        if self.width % self.streams:
            raise ValueError(f"Expected streams of equal width, got {self.width} columns in {self.streams} streams")
        return self


class Purpose(IntEnum):
    """Purposes of random streams, one each, so that a dial changes no draw but its own.

    The numbers are part of the data's identity.
    """

    WORLD = 0
    PLAN = 1
    TIMELINE = 2
    LABEL_NOISE = 3
    SCENE = 4
    BACKGROUND = 5
    SNIPPET = 6


def stream(spec: SyntheticSpec, purpose: Purpose, subset: Subset = "train", video: int = 0) -> np.random.Generator:
    """Return the random stream of one purpose and video.

    Args:
        spec: the data set.
        purpose: what the draws decide.
        subset: subset of the video, if the purpose concerns one.
        video: index of the video in its subset.
    """
    key = (int(purpose), SUBSETS.index(subset), video)
    return np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=key))
