"""Data set on disk, opened: videos for training and scoring and, separately, ground truth for the evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.data.annotations import Annotations, instances_by_video, select_videos
from harness.data.descriptor import DatasetDescriptor, list_digest
from harness.data.digests import annotations_digest, file_digests
from harness.data.discovery import Columns
from harness.data.feature_layout import FeatureFolder, feature_root
from harness.data.features import FeatureFiles, StoredFeatures, some
from harness.data.source import SUBSETS, DataSource, Subset
from harness.data.video_facts import Clock, VideoFacts
from harness.data.video_list import VideoList
from harness.io.encoding import canonical_json, sha256
from wstal.errors import MissingDataError, UserError
from wstal.types import GroundTruth, Video

LabelSource = Literal["official", "annotations"]


@dataclass(frozen=True)
class SubsetFiles:
    """Annotated videos of one subset and their feature files.

    Args:
        name: its name in the annotation file, None where the file has no such subset.
        annotated: annotated videos, sorted, without the training videos that have no label.
        features: its feature files, or None.
        stems: stem of the files of each annotated video that has files.
        unlabelled: training videos without any label, which are left out.
        extra: stems of files in the subset's folder that belong to none of its annotated videos.
    """

    name: str | None
    annotated: tuple[str, ...]
    features: FeatureFolder | None
    stems: dict[str, str] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def available(self) -> tuple[str, ...]:
        """Annotated videos with a file of every stream, sorted."""
        files = self.features.files if self.features else {}
        return tuple(video for video in self.annotated if self.stems.get(video) in files)

    @property
    def lacking(self) -> dict[str, tuple[str, ...]]:
        """Annotated videos that are not available, with the missing streams of those that have some stream."""
        incomplete = self.features.incomplete if self.features else {}
        missing = sorted(set(self.annotated).difference(self.available))
        return {video: incomplete.get(self.stems.get(video, ""), ()) for video in missing}

    def paths(self, video: str) -> tuple[Path, ...]:
        """Return the feature files of an available video, one per stream."""
        assert self.features is not None
        return self.features.files[self.stems[video]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(DataSource):
    """Data set on disk. Make one with `harness.data.opening.open_dataset`.

    Args:
        data_dir: folder that was given.
        descriptor: facts that the files do not show.
        annotations: content of the annotation file.
        entries: the same by video, without the times of instances.
        facts: labels of the chosen source, official duration if there is one, and subset of each video.
        label_source: origin of the video-level labels.
        columns: feature streams and their columns.
        allow_missing: whether videos without features may be left out of a list that has no name.
        official: official labels by video, where their file exists.
        clock: time of each feature row.
        subsets: annotated videos and feature files by subset.
        digest_cache: JSON file that remembers digests of feature files.
    """

    data_dir: Path
    descriptor: DatasetDescriptor
    annotations: Annotations
    entries: dict[str, VideoFacts]
    facts: dict[str, VideoFacts]
    label_source: LabelSource
    columns: Columns
    allow_missing: bool
    official: dict[str, VideoFacts] | None
    clock: Clock
    subsets: dict[Subset, SubsetFiles]
    digest_cache: Path | None = None

    def videos(self, subset: Subset) -> list[Video]:
        """Return the subset's predicted videos, sorted by name, without any annotated time.

        Their features stay on disk until `Video.features` is read.

        Raises:
            MissingDataError: features that a list needs are not there.
            UserError: a feature file is broken or of another width, a label is unknown, a frame rate is missing.
        """
        names, videos = self.predicted_list(subset).videos, []
        for number, name in enumerate(names, 1):
            videos.append(self._video(subset, name))
            self.on_progress("headers", number, len(names), f"{subset} videos")
        return videos

    def _video(self, subset: Subset, name: str) -> Video:
        files = self.files(subset, name)
        header = files.header()
        if header.width != self.columns.width:
            raise UserError(
                f"{files.paths[0]} gives {header.width} columns, the other videos {self.columns.width}. "
                "Extract all videos with the same network and streams."
            )
        seconds, offset = self.clock.row_time(name, header.rows)
        labels = tuple(sorted(self._class_index(label, name) for label in self.labels(name)))
        return Video(name, StoredFeatures(name, files), labels, seconds, offset)

    def ground_truth(self, subset: Subset) -> GroundTruth:
        """Return the annotated instances and the ambiguous intervals of a subset, for the evaluator alone.

        They are those of the videos that the predicted list's `truth` names, or else of the predicted ones. Test videos
        of which no label has times have no ground truth: no instance.

        Raises:
            MissingDataError: as `videos`.
        """
        name = self.subsets[subset].name
        if name is None:
            raise MissingDataError(self._missing(subset))
        content = self.annotations
        if subset == "test" and not any(content.subset[video] == name for video in np.unique(content.video)):
            content = replace(content, untimed=())
        truth, scored = content.ground_truth(name), self.predicted_list(subset)
        chosen = select_videos(truth, scored.truth or scored.videos)
        labels = [self._class_index(label, str(self.annotations.path)) for label in truth.classes]
        return replace(chosen, classes=self.classes, label=np.array(labels, dtype=np.int64)[chosen.label])

    def durations(self, videos: Sequence[str]) -> dict[str, float | None]:
        """Return the seconds of videos: the official ones where they are stated, else the annotations'."""
        return {video: self.clock.durations.get(video) for video in videos}

    def predicted_list(self, subset: Subset) -> VideoList:
        """Return the videos that runs train on or predict: `video_list` without those known to be wrongly annotated.

        Raises:
            MissingDataError: as `video_list`.
        """
        rules, available = self._rules(subset), set(self.subsets[subset].available)
        for rule in self.descriptor.lists:
            if rule.name in rules and rule.truth in rules and available.issuperset(rules[rule.name]):
                return VideoList(rule.name, rules[rule.name], rules[rule.truth])
        return self.video_list(subset)

    def video_list(self, subset: Subset) -> VideoList:
        """Return the videos that this data set has, under the list's name.

        They are all annotated videos or those of a named list of the descriptor, or with `allow_missing` all that have
        features, named `available-<count>-<digest>`.

        Raises:
            MissingDataError: the videos that have features are none of these. The message names some missing ones.
        """
        files = self.subsets[subset]
        available = files.available
        counts, digest = instances_by_video(self.annotations), list_digest(available)
        for rule in self.descriptor.lists:
            if rule.subset == subset and rule.sha256 == digest and rule.counts(available, counts):
                return VideoList(rule.name, available, self._rules(subset).get(rule.truth or ""))
        if available and (self.allow_missing or available == files.annotated):
            kind = subset if available == files.annotated else "available"
            return VideoList(f"{kind}-{len(available)}-{list_digest(available)[:8]}", available)
        raise MissingDataError(self._missing(subset))

    def _rules(self, subset: Subset) -> dict[str, tuple[str, ...]]:
        annotated, rules = self.subsets[subset].annotated, [r for r in self.descriptor.lists if r.subset == subset]
        counts = instances_by_video(self.annotations)
        return {rule.name: videos for rule in rules if (videos := rule.apply(annotated, counts)) is not None}

    def _missing(self, subset: Subset) -> str:
        files = self.subsets[subset]
        if files.unlabelled and not files.annotated:
            file = self.descriptor.labels_file if self.label_source == "official" else self.annotations.path
            return (
                f"{file} gives none of the {len(files.unlabelled)} {subset} videos a label. State their classes there"
                + (", or take the annotations' with --labels annotations." if self.label_source == "official" else ".")
            )
        if files.name is None or not files.annotated:
            return f"{self.annotations.path} lists no {subset} videos. State its subset names in dataset.toml" + (
                ', or list them with `"subset": "test"`; no annotations are needed.' if subset == "test" else "."
            )
        root = feature_root(self.data_dir)
        if files.features is None:
            folders = " or ".join(str(root / folder) for folder in self.descriptor.subset(subset).folders[:2])
            return f"No {subset} features: there is no {folders}, nor .npy files in {root}. Put them there."
        missing, halves = list(files.lacking), [streams for streams in files.lacking.values() if streams]
        lacking = sorted({stream for streams in halves for stream in streams})
        detail = f" ({len(halves)} of these lack the {' and '.join(lacking)} stream only)" if halves else ""
        lists = ", ".join(dict.fromkeys(rule.name for rule in self.descriptor.lists if rule.subset == subset))
        return (
            f"{len(missing)} of {len(files.annotated)} annotated {subset} videos have no features in "
            f"{files.features.folder}{detail}: {some(missing)}. Add them, or pass --allow-missing"
            + (f"; what is there is none of the lists {lists}." if lists else ".")
        )

    def files(self, subset: Subset, video: str) -> FeatureFiles:
        """Return the feature files of an available video.

        Args:
            subset: the video's subset.
            video: its name.
        """
        return FeatureFiles(self.subsets[subset].paths(video), self.columns.range, self.descriptor.cut_streams)

    def labels(self, video: str) -> tuple[str, ...]:
        """Return the sorted names of the classes that occur in a video.

        A challenge may publish official labels of training videos only. Other videos then have the annotations'
        labels, which are empty where the annotations are hidden.

        Raises:
            MissingDataError: the official labels lack a training video.
        """
        official, facts = self.official or {}, self.facts[video]
        if self.label_source == "official" and video not in official and facts.subset == self.subsets["train"].name:
            raise MissingDataError(
                f"{self.descriptor.labels_file} has no labels of {video}. Add it, or take the annotations' labels with "
                "--labels annotations."
            )
        return facts.labels

    def _class_index(self, label: str, video: str) -> int:
        if label not in self.classes:
            raise UserError(f"{video} is labelled {label!r}, none of the {len(self.classes)} classes. Correct it.")
        return self.classes.index(label)

    def digests(self, cache: Path | None = None, subsets: Sequence[Subset] = SUBSETS) -> dict[str, str]:
        """Return SHA-256 digests of `annotations`, `labels`, `clock`, and of `train` and `test` features if available.

        They do not depend on the order of keys in a file or of files in a folder. The digest of a subset's features is
        that of sorted lines `<file digest>  <video>/<stream>`, one per file.

        Args:
            cache: JSON file of earlier digests by path and file status (by default `digest_cache`).
            subsets: subsets whose labels, clock and features count, while the annotations count as a whole.
        """
        subsets = [subset for subset in SUBSETS if subset in subsets]
        listed = sorted({video for subset in subsets for video in self.subsets[subset].annotated})
        result = {
            "annotations": annotations_digest(self.annotations),
            "labels": sha256(canonical_json({video: self.labels(video) for video in listed})),
            "clock": sha256(canonical_json(self.clock.facts(listed))),
        }
        parts = {
            (subset, f"{video}/{stream}"): path
            for subset in subsets
            if (features := self.subsets[subset].features)
            for video in self.subsets[subset].available
            for stream, path in zip(features.streams, self.files(subset, video).paths, strict=True)
        }
        digests = file_digests(list(parts.values()), cache or self.digest_cache, self.on_progress)
        for subset in subsets:
            lines = sorted(f"{digests[path]}  {name}" for (owner, name), path in parts.items() if owner == subset)
            if lines:
                result[subset] = sha256("\n".join([*lines, f"columns {self.columns.range or 'all'}"]).encode())
        return result

    def describe(self, subsets: Sequence[Subset] = SUBSETS) -> dict[str, Any]:
        """Identify the data for a record, as JSON values that are equal for equal data.

        Args:
            subsets: subsets to list and hash, because a run that never opens the test subset needs no test features.

        Raises:
            MissingDataError: as `video_list`, for a subset that has some features.
        """
        listed = [subset for subset in SUBSETS if subset in subsets and self.subsets[subset].available]
        return {
            "name": self.name,
            "title": self.descriptor.title,
            "features": self.descriptor.extractor,
            "streams": list(self.columns.streams),
            "width": self.columns.width,
            **{subset: self.predicted_list(subset).describe() for subset in listed},
            "classes": len(self.classes),
            "labels": self.label_source,
            "digests": self.digests(subsets=subsets),
        }
