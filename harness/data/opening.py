"""Opening of a data set on disk: finds its parts, decides what they are and checks that they agree.

Steps and their results:

1. the annotation file: `Annotations`, and `VideoFacts` for each video
2. the facts that no file shows: `DatasetDescriptor`, stated, recognised or assumed
3. the official labels, if there are any: `VideoFacts` again
4. the feature files of each subset: `FeatureFolder`, and `SubsetFiles` with the videos that they belong to
5. the feature columns that are used: `Columns`
6. all of it together with the `Clock` of the rows: `Dataset`
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from harness.data.annotations import Annotations, read_ambiguous
from harness.data.clock_check import check_clock, sample_rows, shape
from harness.data.dataset import Dataset, LabelSource, SubsetFiles
from harness.data.descriptor import DatasetDescriptor, find_descriptor, read_descriptor
from harness.data.discovery import choose_columns, find_annotations, locate, naming_advice, recognise, subset_names
from harness.data.feature_layout import FeatureFolder, check_name, feature_root
from harness.data.features import some
from harness.data.source import SUBSETS, Subset
from harness.data.video_facts import Clock, VideoFacts, per_video, read_frame_rates, read_official
from harness.io.console import OnProgress
from harness.io.kinds import FEATURE_FORMS, other_files
from harness.io.reading import read_text
from harness.io.text import check_text
from wstal.errors import MissingDataError, UserError
from wstal.evaluation import get_protocol


def open_dataset(
    data_dir: Path,
    annotations: Path | None = None,
    dataset: str | Path | None = None,
    *,
    label_source: LabelSource = "official",
    streams: Sequence[str] | None = None,
    allow_missing: bool = False,
    digest_cache: Path | None = None,
    checked: bool = True,
    on_progress: OnProgress = lambda *_: None,
) -> Dataset:
    """Open a data set, reading only the headers of some feature files.

    The facts come from `dataset` or `DIR/dataset.toml`, else from the shipped descriptor with the annotations' classes
    and the files' streams and widths. Otherwise they are assumed (25 frames per second, 16-frame snippets, stride 16)
    and a note says so. In every case the durations must not contradict them.

    Args:
        data_dir: folder with `features/`, or the feature folder itself.
        annotations: annotation file, or folder with `annotations.json` (by default the descriptor's file in
            `data_dir`, else `annotations.json` in a sibling folder with the name of a known data set).
        dataset: name of a shipped descriptor, or a TOML file.
        label_source: `official` for the video-level labels of their own file if it exists (else the annotations',
            with a note), or `annotations` for the classes of the annotations.
        streams: only streams to use, as `("rgb",)`.
        allow_missing: whether to use the videos that have features if others have none.
        digest_cache: JSON file that remembers digests of feature files.
        checked: whether to refuse classes or a clock that contradict the descriptor, which `verify` reports itself.
        on_progress: called as many files are read, by the data set too.

    Raises:
        MissingDataError: there is no folder, no annotations or no feature files.
        UserError: a file cannot be used, or facts contradict each other.
    """
    if not os.path.isdir(data_dir):
        raise MissingDataError(f"{data_dir} is not a folder. Give the folder that holds `features`.")
    notes: list[str] = []
    given = find_descriptor(dataset) if dataset is not None else None
    if given is None and os.path.isfile(data_dir / "dataset.toml"):
        given = read_descriptor(data_dir / "dataset.toml")
    content = find_annotations(data_dir, annotations, given, notes)
    notes += content.notes
    descriptor = given or recognise(data_dir, content, notes)

    def beside(name: str) -> Path:
        return data_dir / name if os.path.isfile(data_dir / name) else content.path.parent / name

    entries, official = per_video(content), read_official(beside(descriptor.labels_file))
    if official is None and label_source == "official":
        label_source = "annotations"
        notes.append(f"No {descriptor.labels_file} with official video-level labels: took the annotations' classes.")
    known = official or {}
    stated = known if label_source == "official" else {}
    facts = {
        video: VideoFacts(stated.get(video, one).labels, known.get(video, one).duration or one.duration, one.subset)
        for video, one in entries.items()
    }
    names, found = subset_names(content, descriptor), locate(data_dir, content, descriptor, streams)
    if not any(found.values()):
        stray = next(feature_root(data_dir).rglob("*.npy"), None)
        others = "" if stray else other_files(feature_root(data_dir), FEATURE_FORMS)
        raise MissingDataError(
            f"No .npy feature files in {feature_root(data_dir)}"
            + (f" where they are looked for, though there is {stray}" if stray else "")
            + (f", only {others}: save each stream of each video as a float array [T, width]" if others else "")
            + ". Put them at <subset>/<stream>/<video>.npy, "
            "<stream>/<subset>/<video>.npy, <subset>/<video>.npy, <stream>/<video>.npy or <video>.npy, "
            "with subset train or test, stream rgb or flow."
        )
    if advice := naming_advice(found.values(), content, descriptor):
        raise MissingDataError(advice)
    columns = choose_columns(descriptor, found.values(), streams, notes)
    if os.path.isfile(ambiguous := beside(descriptor.ambiguous)):
        content = replace(content, ambiguous=read_ambiguous(ambiguous))
    rates = read_frame_rates(beside(descriptor.fps_file)) if descriptor.fps_file else None
    classes = _classes(descriptor, content, beside)
    data = Dataset(
        name=descriptor.name,
        family=descriptor.family,
        schedule=descriptor.name,
        classes=classes,
        coarse_classes=_coarse_classes(descriptor, classes, notes),
        stream_widths=columns.widths,
        tious=descriptor.thresholds,
        headline=descriptor.headline,
        sample_length=descriptor.sample_length,
        data_dir=data_dir,
        descriptor=descriptor,
        annotations=content,
        entries=entries,
        facts=facts,
        label_source=label_source,
        columns=columns,
        allow_missing=allow_missing,
        official=official,
        clock=Clock(descriptor, {video: one.duration for video, one in facts.items()}, rates),
        subsets={
            subset: _subset_files(subset, names[subset], found[subset], facts, descriptor.file_prefixes)
            for subset in SUBSETS
        },
        digest_cache=digest_cache,
        on_progress=on_progress,
    )
    for subset in SUBSETS:
        notes += _subset_notes(data, subset)
    if (why := _without_headline(data)) is not None:
        notes.append(why)
        data = replace(data, headline="anet")
    if checked:
        _check_classes(data)
    sampled = {subset: sample_rows(data, subset, strict=checked) for subset in SUBSETS}
    if rows := sampled["train"] | sampled["test"]:
        shown, unusual = shape(data, rows)
        notes += [shown, *unusual]
    if checked:
        for subset in SUBSETS:
            notes += check_clock(data, subset, sampled[subset])
    return replace(data, notes=tuple(dict.fromkeys(notes)))


def _subset_notes(data: Dataset, subset: Subset) -> list[str]:
    """List what a subset leaves out."""
    notes, files = [], data.subsets[subset]
    if files.unlabelled:
        notes.append(
            f"{len(files.unlabelled)} training videos have no label and are left out: {some(files.unlabelled)}."
        )
    if files.features is None and files.annotated:
        notes.append(f"No {subset} features: the {subset} videos cannot be used.")
    if files.features and files.extra:
        owner = f"{subset} " * files.features.nested
        notes.append(f"{len(files.extra)} feature files belong to no annotated {owner}video: {some(files.extra)}.")
    try:
        chosen = data.predicted_list(subset)
    except MissingDataError:  # raised again when the subset is used, which it may never be
        return notes
    if len(chosen.videos) < len(files.annotated):
        notes.append(
            f"{len(files.available)} of {len(files.annotated)} {subset} videos have features; "
            f"{len(chosen.videos)} are used: list {chosen.name}."
        )
    return notes


def _without_headline(data: Dataset) -> str | None:
    """Return why the headline protocol cannot evaluate the test videos, or None if it can or they cannot be used."""
    try:
        truth = data.ground_truth("test")
    except UserError:  # raised again when the test subset is used, which it may never be
        return None
    if not len(truth):
        return "The test videos have no ground truth: runs on them give detections, and no mAP."
    why = get_protocol(data.headline).inapplicable(truth)
    return why and f"Numbers are those of protocol anet, not of {data.headline}: {why}."


def _classes(descriptor: DatasetDescriptor, content: Annotations, beside: Callable[[str], Path]) -> tuple[str, ...]:
    """Return class names in sorted order, whatever their order in a file."""
    if not descriptor.class_file:
        return tuple(sorted(set(descriptor.classes or content.classes)))
    path = beside(descriptor.class_file)
    if not os.path.exists(path):
        raise MissingDataError(f"{path} is not there: the descriptor takes the classes from it.")
    names = {line.strip() for line in read_text(path, "Give one class name per line.").splitlines()} - {""}
    for name in sorted(names):
        check_text(name, f"{path}: class name")
    return tuple(sorted(names))


def _coarse_classes(descriptor: DatasetDescriptor, classes: Sequence[str], notes: list[str]) -> tuple[int, ...]:
    """Return the index of each class's coarse class among those that occur, none with a note unless all have one."""
    parents = {name: coarse for coarse, names in descriptor.coarse_classes.items() for name in names}
    if not parents:
        return ()
    if lacking := [name for name in classes if name not in parents]:
        notes.append(
            f"{len(lacking)} of {len(classes)} classes have no coarse class, so none is used: {some(lacking)}."
        )
        return ()
    used = sorted({parents[name] for name in classes})
    return tuple(used.index(parents[name]) for name in classes)


def _subset_files(
    subset: Subset, name: str | None, found: FeatureFolder | None, facts: dict[str, VideoFacts], prefixes: Sequence[str]
) -> SubsetFiles:
    """Assign feature files to the annotated videos of a subset."""
    videos = sorted(video for video, one in facts.items() if one.subset == name)
    for video in videos:
        check_name(video)
    unlabelled = tuple(video for video in videos if subset == "train" and not facts[video].labels)
    annotated = tuple(video for video in videos if video not in unlabelled)
    if found is None:
        return SubsetFiles(name, annotated, None, unlabelled=unlabelled)
    stems = {video: stem for video in annotated if (stem := found.stem(video, prefixes)) is not None}
    owned = set(stems.values()) | set(unlabelled)
    if not found.nested:  # other subsets' files are in the same folder
        owned.update(prefix + video for video in facts for prefix in prefixes)
    extra = tuple(sorted({*found.files, *found.incomplete} - owned))
    return SubsetFiles(name, annotated, found, stems, unlabelled, extra)


def _check_classes(data: Dataset) -> None:
    """Refuse classes that the descriptor contradicts."""
    unknown = sorted(set(data.annotations.classes) - set(data.classes))
    if unknown:
        raise UserError(
            f"{data.annotations.path} has labels that {data.name} does not know: {some(unknown)}. "
            "Correct them, or choose another --descriptor."
        )
    if data.descriptor.excludes(data.classes):
        raise UserError(
            f"The {len(data.classes)} classes in {data.annotations.path} are not those of {data.name}. "
            "Give its annotations (--annotations), or choose another --descriptor."
        )
