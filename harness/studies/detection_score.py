"""Score of a detection file against an annotation file, as `evaluate` prints it and with `--keep` stores it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.data.annotations import Annotations, instances_by_video, read_annotations
from harness.data.descriptor import DatasetDescriptor, list_digest, shipped_descriptors, with_classes
from harness.data.detections import read_detections
from harness.records.files import DETECTIONS
from harness.records.ground_truth import stored_truth
from harness.records.run_folder import FinishedRun
from wstal import evaluation
from wstal.errors import UserError
from wstal.types import Detections, GroundTruth

SUSPICIOUS = 0.25  # share of times beyond a video's end or within its first second; released files have below 0.02


@dataclass(frozen=True, eq=False)
class ScoredFile:
    """Numbers of a detection file, with the data that they are over.

    Args:
        detections: as read.
        annotations: as read.
        subset: the evaluated one.
        truth: its videos and instances.
        known_as: the shipped data set with the annotations' classes, where there is one.
        results: by protocol.
        left_out: the reason for each protocol that cannot judge these videos, if all were asked for.
        notes: what the readers took although it is unusual.
    """

    detections: Detections
    annotations: Annotations
    subset: str
    truth: GroundTruth
    known_as: DatasetDescriptor | None
    results: dict[str, evaluation.EvaluationResult]
    left_out: dict[str, str]
    notes: tuple[str, ...]

    def known_list(self, family: str, prefix: str = "") -> str | None:
        """Return the name of the family's test list that the evaluated videos are; None if they are none.

        Args:
            family: as of a descriptor.
            prefix: omitted by the annotations at the beginning of the videos' names.
        """
        names = [prefix + video for video in self.truth.videos]
        shipped = [known for known in shipped_descriptors().values() if known.family == family]
        rules = [rule for known in shipped for rule in known.lists if rule.subset == "test"]
        counts = {prefix + video: count for video, count in instances_by_video(self.truth).items()}
        exact = (rule.name for rule in rules if rule.sha256 == list_digest(names) and rule.counts(names, counts))
        # with a video that no list holds, since nothing is annotated in it
        return next(exact, None) or next((rule.name for rule in rules if rule.apply(names, counts)), None)

    @property
    def found_videos(self) -> int:
        """Number of the subset's videos that have a detection."""
        return len(set(self.truth.videos) & {self.detections.videos[i] for i in set(self.detections.video.tolist())})

    @property
    def remarks(self) -> list[str]:
        """Reasons why the numbers may differ from published ones: silent videos, another list, detections elsewhere."""
        lines = list(self.notes)
        if silent := len(self.truth.videos) - self.found_videos:
            lines.append(f"{silent} of the {len(self.truth.videos)} videos of subset {self.subset!r} have no detection")
        for name, result in self.results.items():
            expected = result.protocol.expected_videos
            if expected not in (None, result.videos):
                lines.append(f"{name}: {result.videos} videos, where published numbers have {expected}")
            if result.unlisted:
                fate = "were left out" if result.protocol.drops_unlisted else "count as false positives"
                lines.append(f"{name}: {result.unlisted} detections in videos that are not evaluated {fate}")
        lines += self._units()
        for reason in dict.fromkeys(self.left_out.values()):
            names = ", ".join(name for name, why in self.left_out.items() if why == reason)
            lines.append(f"{names} left out: {reason}")
        return lines

    def _units(self) -> list[str]:
        """Return the remark on times that seem to be in frames or fractions of the video, if they do."""
        stated = dict(zip(self.annotations.videos, self.annotations.duration.tolist(), strict=True))
        durations = np.array([stated.get(video, np.nan) for video in self.detections.videos])[self.detections.video]
        known = ~np.isnan(durations)
        late = float(np.mean(self.detections.start[known] > durations[known])) if known.any() else 0.0
        early = float(np.mean(self.detections.end <= 1.01)) if len(self.detections) else 0.0
        if late > SUSPICIOUS:
            return [f"{late:.0%} of the detections start after their video ends: are the times frames?"]
        if early > SUSPICIOUS and float(np.mean(self.truth.end <= 1.01)) < SUSPICIOUS:
            return [f"{early:.0%} of the detections end within 1.01 s: are the times fractions of the video?"]
        return []


def score_file(
    detections: Path,
    annotations: Path,
    subset: str | None = None,
    protocols: Sequence[str] | None = None,
    tious: str | None = None,
    strip_prefix: str = "",
    classes: Sequence[str] | None = None,
) -> ScoredFile:
    """Score a detection file.

    Args:
        detections: ActivityNet-style.
        annotations: file, or folder with `annotations.json`.
        subset: of the annotations; their test subset if absent.
        protocols: names; all that apply if absent.
        tious: as `parse_tious` reads them; those of the data set, recognised by its classes, if absent.
        strip_prefix: beginning of the videos' names that is left off, in each file where at least half of them have it.
        classes: of a run, which may have found nothing, or classes that no annotated instance has.

    Raises:
        MissingDataError: a file is not there.
        UserError: a file, an option, or the two files together cannot be used; the message names the file.
    """
    known = read_annotations(annotations)
    known = known if classes is None else _with_classes(known, classes)
    notes = list(known.notes)
    found = read_detections(detections, known.classes, allow_empty=classes is not None, notes=notes)
    return score(found, known, subset, protocols, tious, strip_prefix, name=detections, notes=notes)


def score(
    found: Detections,
    known: Annotations,
    subset: str | None = None,
    protocols: Sequence[str] | None = None,
    tious: str | None = None,
    strip_prefix: str = "",
    *,
    name: Path,
    notes: Sequence[str] = (),
) -> ScoredFile:
    """Score detections.

    Args:
        found: the detections.
        known: annotations.
        subset: as of `score_file`.
        protocols: as of `score_file`.
        tious: as of `score_file`.
        strip_prefix: as of `score_file`.
        name: of the detections, in messages.
        notes: of the readers.

    Raises:
        UserError: an option, or detections and annotations together cannot be used.
    """
    subset = known.default_test_subset() if subset is None else subset
    truth = known.ground_truth(subset)
    truth = replace(truth, videos=_stripped(truth.videos, strip_prefix, known.path))
    chosen = evaluation.protocols_for(truth) if protocols is None else tuple(map(evaluation.get_protocol, protocols))
    known_as = next(iter(with_classes(known.classes)), None)
    family = known_as.family if known_as else ""
    # of a known data set, protocols of another one go without saying
    near = [one for one in evaluation.PROTOCOLS.values() if not family or one.defined_on in ("", family)]
    rules = near if protocols is None else []
    left_out = {protocol.name: why for protocol in rules if (why := protocol.inapplicable(truth))}
    thresholds = evaluation.default_tious(family) if tious is None else evaluation.parse_tious(tious)
    found = replace(found, videos=_stripped(found.videos, strip_prefix, name))
    if prefix := _common_prefix(found.videos, truth.videos):
        raise UserError(
            f"{name} against {known.path}: the videos differ by {prefix!r} before their names, as in "
            f"{found.videos[0]}. Leave it off with --strip-prefix {prefix}."
        )
    try:
        results = evaluation.evaluate_all(found, truth, chosen, thresholds)
    except UserError as error:
        raise UserError(f"{name} against subset {subset!r} of {known.path}: {error}") from error
    return ScoredFile(found, known, subset, truth, known_as, results, left_out, tuple(notes))


def score_run(
    folder: Path,
    annotations: Path | None = None,
    subset: str | None = None,
    protocols: Sequence[str] | None = None,
    tious: str | None = None,
) -> ScoredFile:
    """Score the detections of a finished run.

    Args:
        folder: of the run.
        annotations: file or folder; the ground truth that the run stored if absent.
        subset: of the annotations; their test subset if absent.
        protocols: names, where `headline` is the run's own; all that apply if absent.
        tious: as `parse_tious` reads them; those of the run if absent, or of the data set if it was not evaluated.

    Raises:
        UserError: as `score_file`, there is no finished run, or it has no ground truth and none is given.
        StoreError: a file of the run is damaged.
    """
    run = FinishedRun.open(folder)
    names = None if protocols is None else [run.record.headline if name == "headline" else name for name in protocols]
    truth = stored_truth(run) if annotations is None else annotations
    if annotations is None or run.record.evaluated:
        own = ",".join(run.record.scored.mean_ap)  # which an unevaluated run refuses
        tious = own if tious is None else tious
    return score_file(run.artefact(DETECTIONS), truth, subset, names, tious, classes=tuple(run.record.classes))


def _with_classes(known: Annotations, classes: Sequence[str]) -> Annotations:
    """Return annotations with these classes in this order, before others that they have."""
    names = (*classes, *(name for name in known.classes if name not in classes))
    number = np.array([names.index(name) for name in known.classes], dtype=np.int64)
    return replace(known, classes=names, label=number[known.label])


def _stripped(videos: Sequence[str], prefix: str, path: Path) -> tuple[str, ...]:
    """Return the names without a prefix, where it is one.

    Of two of ActivityNet's videos, as `v_UmAH95xls`, the id itself begins with the usual prefix.
    """
    if 2 * sum(video.startswith(prefix) for video in videos) < len(videos):
        return tuple(videos)
    names = tuple(video.removeprefix(prefix) for video in videos)
    if len(set(names)) < len(names):
        raise UserError(f"{path}: two videos have the same name without {prefix!r}. Choose another prefix.")
    return names


def _common_prefix(found: Sequence[str], listed: Sequence[str]) -> str:
    """Return the text before the names in one of two files of which no video has the same name, or an empty text."""
    if set(found) & set(listed):
        return ""
    for longer, shorter in ((found, set(listed)), (listed, set(found))):
        for name in longer[:100]:
            if start := next((i for i in range(1, len(name)) if name[i:] in shorter), 0):
                return name[:start]
    return ""
