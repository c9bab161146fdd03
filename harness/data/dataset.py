"""A data set on disk, opened: weak videos for training and scoring, and, separately, ground truth for the evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.data.annotations import Annotations, Interval
from harness.data.descriptor import DatasetDescriptor, VideoList, list_digest
from harness.data.digests import annotations_digest, file_digests
from harness.data.discovery import SUBSETS, Annotated, OfficialLabels
from harness.data.feature_layout import FeatureFolder, feature_root
from harness.data.features import FeatureFiles, StoredVideo, some
from harness.data.source import Subset
from harness.io.encoding import canonical_json, sha256
from wstal.errors import MissingDataError, UserError
from wstal.types import GroundTruth, Video

LabelSource = Literal["official", "annotations"]


@dataclass(frozen=True)
class SubsetFiles:
    """One subset: its annotated videos and the feature files that were found.

    Args:
        name: its name in the annotation file; None where the file has no such subset.
        annotated: annotated videos, sorted; of the training subset only those that have a label.
        features: where its files are, or None.
        stems: of the annotated videos that have files, the files' stem.
        unlabelled: training videos without any label, left out.
        extra: stems of files in the subset's folder that belong to no annotated video of it.
    """

    name: str | None
    annotated: tuple[str, ...]
    features: FeatureFolder | None
    stems: dict[str, str] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def available(self) -> tuple[str, ...]:
        """Annotated videos that have a file of every stream, sorted."""
        files = self.features.files if self.features else {}
        return tuple(video for video in self.annotated if self.stems.get(video) in files)


@dataclass(frozen=True, eq=False)
class Dataset:
    """An opened data set; it meets `harness.data.source.DataSource`. Make one with `open_dataset`.

    Args:
        data_dir: the folder given.
        descriptor: the facts that the files do not show.
        annotations: the annotation file's content.
        entries: the same by video, without the instances' times.
        classes: class names, sorted: the order of label indices.
        label_source: where the video-level labels come from.
        streams: feature streams in joining order, or `("joint",)`.
        width: columns D of the features.
        notes: what was assumed or left out, for people.
        allow_missing: videos without features may be left out of a list that has no name.
        official: official labels and duration in seconds (or None) by video, where the file exists.
        fps: frames a second by video, where the videos differ.
        ambiguous: intervals that some protocols excuse, or None to take those that the annotations came with.
        subsets: annotated videos and files.
        digest_cache: JSON file that remembers feature files' digests.
        columns: of joint files, the column range used.
        stream_widths: columns of each stream; of joint files whose streams' widths are not stated, all are one.
    """

    data_dir: Path
    descriptor: DatasetDescriptor
    annotations: Annotations
    entries: dict[str, Annotated]
    classes: tuple[str, ...]
    label_source: LabelSource
    streams: tuple[str, ...]
    width: int
    notes: tuple[str, ...]
    allow_missing: bool
    official: dict[str, OfficialLabels] | None
    fps: dict[str, float] | None
    ambiguous: tuple[Interval, ...] | None
    subsets: dict[Subset, SubsetFiles]
    digest_cache: Path | None = None
    columns: tuple[int, int] | None = None
    stream_widths: tuple[int, ...] = ()

    @property
    def synthetic(self) -> bool:
        """These are features of real video, as far as the harness knows."""
        return False

    @property
    def name(self) -> str:
        """The descriptor's name, the page that results stand on."""
        return self.descriptor.name

    @property
    def family(self) -> str:
        """The data set whose protocols and recipes apply."""
        return self.descriptor.family

    @property
    def headline(self) -> str:
        """Name of the protocol whose mAP ranks methods."""
        return self.descriptor.headline

    @property
    def schedule(self) -> str:
        """Name of the schedule that applies."""
        return self.descriptor.name

    @property
    def tious(self) -> tuple[float, ...]:
        """tIoU thresholds of the headline mAP."""
        return self.descriptor.thresholds

    @property
    def sample_length(self) -> int | None:
        """Snippets T that training samples from a video, where the descriptor states it."""
        return self.descriptor.sample_length

    def videos(self, subset: Subset) -> list[Video]:
        """The subset's predicted videos, sorted by name: features, video-level labels and the clock, nothing temporal.

        Features stay on disk until `Video.features` is read.

        Raises:
            MissingDataError: features that a list needs are not there.
            UserError: a feature file is broken or of another width, a label is unknown, a frame rate is missing.
        """
        return [self._video(subset, name) for name in self.predicted_list(subset).videos]

    def _video(self, subset: Subset, name: str) -> Video:
        files = self.files(subset, name)
        header = files.header()
        if header.width != self.width:
            raise UserError(
                f"{files.paths[0]} gives {header.width} columns, the other videos {self.width}. "
                "Extract all videos with the same network and streams."
            )
        seconds, offset = self.clock(name, header.rows)
        labels = tuple(sorted(self._class_index(label, name) for label in self.labels(name)))
        return StoredVideo(name, files, labels, seconds, offset)

    def ground_truth(self, subset: Subset, scored_only: bool = True) -> GroundTruth:
        """Annotated instances, with the ambiguous intervals where the data set has them: for the evaluator alone.

        Args:
            subset: which videos.
            scored_only: only the videos that the predicted list's `truth` names (else the predicted ones); else every
                annotated one, with features or without.

        Raises:
            MissingDataError: as `videos`, if `scored_only`.
        """
        name = self.subsets[subset].name
        if name is None:
            raise MissingDataError(self._missing(subset))
        truth = self.annotations.ground_truth(name, ambiguous=self.ambiguous)
        videos = self._lists(subset)[1] if scored_only else tuple(sorted(truth.videos))
        place = {video: index for index, video in enumerate(videos)}
        new_video = np.array([place.get(video, -1) for video in truth.videos], dtype=np.int64)
        new_label = np.array(
            [self._class_index(label, str(self.annotations.path)) for label in truth.classes], np.int64
        )
        keep = np.flatnonzero(new_video[truth.video] >= 0)
        keep = keep[np.argsort(new_video[truth.video[keep]], kind="stable")]
        excused = truth.ambiguous.copy()
        excused[:, 0] = new_video[truth.ambiguous[:, 0].astype(np.int64)]
        return GroundTruth(
            videos=videos,
            classes=self.classes,
            video=new_video[truth.video[keep]],
            label=new_label[truth.label[keep]],
            start=truth.start[keep],
            end=truth.end[keep],
            ambiguous=excused[excused[:, 0] >= 0],
        )

    def predicted_list(self, subset: Subset) -> VideoList:
        """The videos that runs train on or predict: `video_list` without videos that are known to be wrongly annotated.

        Raises:
            MissingDataError: as `video_list`.
        """
        return self._lists(subset)[0]

    def _lists(self, subset: Subset) -> tuple[VideoList, tuple[str, ...]]:
        """The predicted list, and the videos whose annotations are its ground truth."""
        rules, available = self._rules(subset), set(self.subsets[subset].available)
        for rule in self.descriptor.lists:
            if rule.name in rules and rule.truth in rules and available.issuperset(rules[rule.name]):
                return VideoList(rule.name, rules[rule.name]), rules[rule.truth]
        chosen = self.video_list(subset)
        return chosen, chosen.videos

    def video_list(self, subset: Subset) -> VideoList:
        """The videos that this data set has, under the list's name.

        All annotated videos, or those that a named list of the descriptor has; with `allow_missing` whichever have
        features, as `available-<count>-<digest>`.

        Raises:
            MissingDataError: the videos that have features are none of these, naming some that are missing.
        """
        files = self.subsets[subset]
        available = files.available
        named = next((n for n, videos in self._rules(subset).items() if videos == available), None)
        if named is not None:
            return VideoList(named, available)
        digest = list_digest(available)[:8]
        if available and available == files.annotated:
            return VideoList(f"{subset}-{len(available)}-{digest}", available)
        if available and self.allow_missing:
            return VideoList(f"available-{len(available)}-{digest}", available)
        raise MissingDataError(self._missing(subset))

    def _rules(self, subset: Subset) -> dict[str, tuple[str, ...]]:
        annotated = self.subsets[subset].annotated
        rules = {rule.name: rule.apply(annotated) for rule in self.descriptor.lists if rule.subset == subset}
        return {name: videos for name, videos in rules.items() if videos is not None}

    def _missing(self, subset: Subset) -> str:
        files = self.subsets[subset]
        if files.unlabelled and not files.annotated:
            said = self.descriptor.labels_file if self.label_source == "official" else self.annotations.path
            return (
                f"{said} gives none of the {len(files.unlabelled)} {subset} videos a label. State their classes there"
                + (", or take the annotations' with --labels annotations." if self.label_source == "official" else ".")
            )
        if files.name is None or not files.annotated:
            return f"{self.annotations.path} annotates no {subset} videos. State its subset names in dataset.toml."
        root = feature_root(self.data_dir)
        if files.features is None:
            folders = " or ".join(str(root / folder) for folder in self.descriptor.subset(subset).folders[:2])
            return f"No {subset} features: there is no {folders}, nor .npy files in {root}. Put them there."
        available = set(files.available)
        missing = [video for video in files.annotated if video not in available]
        halves = [video for video in missing if video in files.stems]
        lacking = sorted({stream for video in halves for stream in files.features.incomplete[files.stems[video]]})
        detail = f" ({len(halves)} of these lack the {' and '.join(lacking)} stream only)" if halves else ""
        lists = ", ".join(rule.name for rule in self.descriptor.lists if rule.subset == subset)
        return (
            f"{len(missing)} of {len(files.annotated)} annotated {subset} videos have no features in "
            f"{files.features.folder}{detail}: {some(missing)}. Add them, or pass --allow-missing"
            + (f"; what is there is none of the lists {lists}." if lists else ".")
        )

    def files(self, subset: Subset, video: str) -> FeatureFiles:
        """The feature files of an available video."""
        features = self.subsets[subset].features
        assert features is not None
        return FeatureFiles(features.files[self.subsets[subset].stems[video]], self.columns)

    def labels(self, video: str) -> tuple[str, ...]:
        """Class names of the actions somewhere in a video, sorted.

        Official labels may be of training videos alone, as a challenge gives them: another video's are then the
        annotations', which hold none where they are hidden.

        Raises:
            MissingDataError: the official labels lack a training video.
        """
        if self.label_source == "annotations" or self.official is None:
            return self.entries[video].labels
        if video in self.official:
            return self.official[video].labels
        if self.entries[video].subset == self.subsets["train"].name:
            raise MissingDataError(
                f"{self.descriptor.labels_file} has no labels of {video}. Add it, or take the annotations' labels with "
                "--labels annotations."
            )
        return self.entries[video].labels

    def _class_index(self, label: str, video: str) -> int:
        if label not in self.classes:
            raise UserError(f"{video} is labelled {label!r}, none of the {len(self.classes)} classes. Correct it.")
        return self.classes.index(label)

    def duration(self, video: str) -> float | None:
        """Seconds: the official labels' where they state it (THUMOS14's annotations count 30 frames a second even in
        videos that have 25), else the annotations'; None where neither does.
        """
        official = self.official.get(video) if self.official else None
        return (official and official.duration) or self.entries[video].duration or None

    def frame_rate(self, video: str) -> float:
        """Frames a second of a video as the extractor saw it.

        Raises:
            UserError: the frame-rate file lacks the video.
        """
        if self.fps is None:
            assert self.descriptor.fps is not None
            return self.descriptor.fps
        if video not in self.fps:
            raise UserError(f"{self.descriptor.fps_file} has no frame rate of {video}. Add it.")
        return self.fps[video]

    def clock(self, video: str, rows: int) -> tuple[float, float]:
        """Seconds that a row advances, and seconds before row 0's span starts.

        Raises:
            UserError: no frame rate, or for resampled features no duration, is known.
        """
        if self.descriptor.resampled:
            if not (duration := self.duration(video)):
                raise UserError(
                    f"{video} has no duration, and a row's length follows from it. Add it to the annotations."
                )
            return duration / rows, 0.0
        fps = self.frame_rate(video)
        return self.descriptor.stride / fps, (self.descriptor.snippet_frames - self.descriptor.stride) / (2 * fps)

    def excess_rows(self, video: str, rows: int) -> int | None:
        """By how many rows a file is too long (positive) or too short (negative) for the video's duration.

        A file may have one row a full window or one row a started stride; between the two is 0. None where the
        duration is unknown or the features were resampled.
        """
        duration = self.duration(video)
        if self.descriptor.resampled or not duration:
            return None
        frames = duration * self.frame_rate(video)
        fewest = int((frames - self.descriptor.snippet_frames) // self.descriptor.stride) + 1
        most = -int(-frames // self.descriptor.stride)
        return min(0, rows - max(fewest, 1)) or max(0, rows - max(most, 1))

    def digests(self, cache: Path | None = None, subsets: Sequence[Subset] = SUBSETS) -> dict[str, str]:
        """SHA-256 of what numbers rest on: `annotations`, `labels`, `clock`, and `train`, `test` features as available.

        None depends on key order in a file or on a folder's order. A subset's features digest is over one line
        `<file digest>  <video>/<stream>` a file, sorted.

        Args:
            cache: JSON file of earlier digests by path and file status; default: `digest_cache`.
            subsets: whose labels, clock and features count; the annotations do as a whole.
        """
        subsets = [subset for subset in SUBSETS if subset in subsets]
        listed = sorted({video for subset in subsets for video in self.subsets[subset].annotated})
        result = {
            "annotations": annotations_digest(self.annotations, self.ambiguous),
            "labels": sha256(canonical_json({video: self.labels(video) for video in listed})),
            "clock": sha256(canonical_json(self._clock_facts(listed))),
        }
        parts = {
            (subset, f"{video}/{stream}"): path
            for subset in subsets
            for video in self.subsets[subset].available
            for stream, path in zip(self.streams_of(subset), self.files(subset, video).paths, strict=True)
        }
        digests = file_digests(list(parts.values()), cache or self.digest_cache)
        for subset in subsets:
            lines = sorted(f"{digests[path]}  {name}" for (owner, name), path in parts.items() if owner == subset)
            if lines:
                result[subset] = sha256("\n".join([*lines, f"columns {self.columns or 'all'}"]).encode())
        return result

    def streams_of(self, subset: Subset) -> tuple[str, ...]:
        """What one subset's files are: stream names in joining order, or `("joint",)`."""
        features = self.subsets[subset].features
        return features.streams if features else ()

    def _clock_facts(self, videos: Sequence[str]) -> dict[str, Any]:
        facts = self.descriptor.model_dump(include={"fps", "snippet_frames", "stride", "resampled"})
        if self.descriptor.resampled:
            return facts | {"durations": {video: self.duration(video) for video in videos}}
        return facts | ({"rates": {v: self.fps[v] for v in videos if v in self.fps}} if self.fps else {})

    def describe(self, subsets: Sequence[Subset] = SUBSETS) -> dict[str, Any]:
        """What identifies the data in a record; JSON, the same for the same data.

        Args:
            subsets: what is listed and hashed: a run that never opens the test subset needs no test features.

        Raises:
            MissingDataError: as `video_list`, for a subset that has some features.
        """
        lists: dict[str, Any] = {}
        for subset in SUBSETS:
            if subset in subsets and self.subsets[subset].available:
                chosen = self.predicted_list(subset)
                lists[subset] = {"list": chosen.name, "videos": len(chosen.videos), "sha256": chosen.sha256}
        return {
            "name": self.name,
            "title": self.descriptor.title,
            "features": self.descriptor.extractor,
            "streams": list(self.streams),
            "width": self.width,
            **lists,
            "classes": len(self.classes),
            "labels": self.label_source,
            "digests": self.digests(subsets=subsets),
        }
