"""Opening a data set on disk: find its parts, decide what they are, and check that they agree."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from harness.data.annotations import Annotations, read_ambiguous
from harness.data.dataset import Dataset, LabelSource, SubsetFiles
from harness.data.descriptor import DatasetDescriptor, VideoList, find_descriptor, list_digest, read_descriptor
from harness.data.discovery import (
    SUBSETS,
    Annotated,
    choose_columns,
    find_annotations,
    locate,
    per_video,
    read_frame_rates,
    read_official,
    recognise,
    subset_names,
)
from harness.data.feature_layout import FeatureFolder, check_name, feature_root
from harness.data.features import some
from harness.data.source import Subset
from harness.io.reading import read_limited
from harness.io.text import check_text
from wstal.errors import MissingDataError, UserError

__all__ = ["Dataset", "LabelSource", "SubsetFiles", "VideoList", "open_dataset"]

_CLOCK_SAMPLE = 256  # videos a subset whose rows are compared with their durations when a data set is opened


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
) -> Dataset:
    """Find a data set's parts, decide what they are, and open it; only headers of some feature files are read.

    The facts come from `dataset` or `DIR/dataset.toml`; else from the shipped descriptor whose classes are the
    annotations' and whose streams and widths are the files'; else they are assumed (25 frames a second, 16-frame
    snippets, stride 16), which a note says. Whatever they are, durations must not contradict them.

    Args:
        data_dir: folder with `features/`, or the feature folder itself.
        annotations: annotation file, or folder with `annotations.json`; default: what the descriptor says in
            `data_dir`, else `annotations.json` in a sibling folder with a known data set's name.
        dataset: name of a shipped descriptor, or a TOML file.
        label_source: `official` video-level labels where their file exists (else the annotations', with a note), or
            always the classes of the `annotations`.
        streams: use these streams only, as `("rgb",)`.
        allow_missing: go on with the videos that have features.
        digest_cache: JSON file that remembers feature files' digests.
        checked: refuse classes or a clock that contradict the descriptor; `verify` reports these itself.

    Raises:
        MissingDataError: no folder, no annotations or no feature files.
        UserError: an annotation file, a descriptor or a feature file that cannot be used, or facts that contradict.
    """
    if not os.path.isdir(data_dir):
        raise MissingDataError(f"{data_dir} is not a folder. Give the folder that holds `features`.")
    notes: list[str] = []
    stated = find_descriptor(dataset) if dataset is not None else None
    if stated is None and os.path.isfile(data_dir / "dataset.toml"):
        stated = read_descriptor(data_dir / "dataset.toml")
    content = find_annotations(data_dir, annotations, stated, notes)
    descriptor = stated or recognise(data_dir, content, notes)

    def beside(name: str) -> Path:
        return data_dir / name if os.path.isfile(data_dir / name) else content.path.parent / name

    official = read_official(beside(descriptor.labels_file))
    source: LabelSource = "annotations" if official is None else label_source
    if source != label_source:
        notes.append(f"No {descriptor.labels_file} with official video-level labels: took the annotations' classes.")
    entries = per_video(content)
    labels = {video: entry.labels for video, entry in entries.items()}
    if source == "official" and official is not None:
        labels |= {video: official[video].labels for video in entries if video in official}
    names, found = subset_names(content, descriptor), locate(data_dir, content, descriptor, streams)
    if not any(found.values()):
        stray = next(feature_root(data_dir).rglob("*.npy"), None)
        raise MissingDataError(
            f"No .npy feature files in {feature_root(data_dir)}"
            + (f" where they are looked for, though there is {stray}" if stray else "")
            + ". Put them at <subset>/<stream>/<video>.npy, "
            "<stream>/<subset>/<video>.npy, <subset>/<video>.npy, <stream>/<video>.npy or <video>.npy, "
            "with subset train or test, stream rgb or flow."
        )
    columns = choose_columns(descriptor, found.values(), streams, notes)
    ambiguous = beside(descriptor.ambiguous)
    data = Dataset(
        data_dir=data_dir,
        descriptor=descriptor,
        annotations=content,
        entries=entries,
        classes=_classes(descriptor, content, beside),
        label_source=source,
        streams=columns.streams,
        width=columns.width,
        columns=columns.range,
        stream_widths=columns.widths,
        notes=(),
        allow_missing=allow_missing,
        official=official,
        fps=read_frame_rates(beside(descriptor.fps_file)) if descriptor.fps_file else None,
        ambiguous=read_ambiguous(ambiguous) if os.path.isfile(ambiguous) else None,
        subsets={
            subset: _subset_files(
                subset, names[subset], found[subset], entries, labels, descriptor.file_prefixes, notes
            )
            for subset in SUBSETS
        },
        digest_cache=digest_cache,
    )
    if checked:
        _check_classes(data)
        for subset in SUBSETS:
            notes += _check_clock(data, subset)
    return replace(data, notes=(*notes, *_short_lists(data)))


def _short_lists(data: Dataset) -> list[str]:
    """Notes on subsets that go on without all annotated videos."""
    notes = []
    for subset, files in data.subsets.items():
        try:
            chosen = data.predicted_list(subset)
        except MissingDataError:  # said when the subset is used, which it may never be
            continue
        if len(chosen.videos) < len(files.annotated):
            notes.append(
                f"{len(files.available)} of {len(files.annotated)} {subset} videos have features; "
                f"{len(chosen.videos)} are used: list {chosen.name}."
            )
    return notes


def _classes(descriptor: DatasetDescriptor, content: Annotations, beside: Callable[[str], Path]) -> tuple[str, ...]:
    """Class names in sorted order, whatever the order in any file."""
    names = descriptor.classes or content.classes
    if descriptor.class_file:
        path = beside(descriptor.class_file)
        try:
            names = tuple(line.strip() for line in read_limited(path).decode().splitlines() if line.strip())
        except MissingDataError as error:
            raise MissingDataError(f"{path} is not there: the descriptor takes the classes from it.") from error
        except UnicodeDecodeError as error:
            raise UserError(f"Cannot read {path}: {error}. Give a UTF-8 text file, one class name a line.") from error
        for name in names:
            check_text(name, f"{path}: class name")
    return tuple(sorted(set(names)))


def _subset_files(
    subset: Subset,
    name: str | None,
    features: FeatureFolder | None,
    entries: dict[str, Annotated],
    labels: dict[str, tuple[str, ...]],
    prefixes: Sequence[str],
    notes: list[str],
) -> SubsetFiles:
    annotated = sorted(video for video, entry in entries.items() if entry.subset == name)
    for video in annotated:
        check_name(video)
    unlabelled = tuple(video for video in annotated if subset == "train" and not labels[video])
    if unlabelled:
        notes.append(f"{len(unlabelled)} training videos have no label and are left out: {some(unlabelled)}.")
    annotated = [video for video in annotated if labels[video] or subset == "test"]
    if features is None:
        if annotated:
            notes.append(f"No {subset} features: the {subset} videos cannot be used.")
        return SubsetFiles(name, tuple(annotated), None, unlabelled=unlabelled)
    stems = {video: stem for video in annotated if (stem := features.stem(video, prefixes)) is not None}
    owned = set(stems.values()) | set(unlabelled)
    if not features.nested:  # other subsets' files are in the same folder
        owned.update(prefix + video for video in entries for prefix in prefixes)
    extra = tuple(sorted({*features.files, *features.incomplete} - owned))
    if extra:
        note = (
            f"{len(extra)} feature files belong to no annotated {f'{subset} ' * features.nested}video: {some(extra)}."
        )
        notes += [note] if note not in notes else []
    return SubsetFiles(name, tuple(annotated), features, stems, unlabelled, extra)


def _check_classes(data: Dataset) -> None:
    unknown = sorted(set(data.annotations.classes) - set(data.classes))
    if unknown:
        raise UserError(
            f"{data.annotations.path} has labels that {data.name} does not know: {some(unknown)}. "
            "Correct them, or choose another --descriptor."
        )
    known = data.descriptor.class_sets
    if known and list_digest(data.classes) not in known:
        raise UserError(
            f"The {len(data.classes)} classes in {data.annotations.path} are not those of {data.name}. "
            "Give its annotations (--annotations), or choose another --descriptor."
        )


def _check_clock(data: Dataset, subset: Subset) -> list[str]:
    """Refuse a clock that contradicts most of a subset's durations by more than a row; note where some are off."""
    available = data.subsets[subset].available
    checked, wrong = 0, []
    for video in available[:: max(1, len(available) // _CLOCK_SAMPLE)]:
        rows = data.files(subset, video).header().rows
        excess = data.excess_rows(video, rows)
        if excess is not None:
            checked += 1
            wrong += [(video, rows, excess)] if abs(excess) > 1 else []
    if 2 * len(wrong) > checked:
        video, rows, excess = wrong[0]
        raise UserError(
            f"Row counts of {len(wrong)} of {checked} {subset} videos contradict their durations under {data.name}'s "
            f"clock: {video} has {rows} rows, {rows - excess} fit its {data.duration(video):.1f} s. State the true "
            f"fps, snippet_frames and stride in {data.data_dir / 'dataset.toml'}, or `resampled = true` for features "
            "stretched to a fixed number of rows."
        )
    if not wrong:
        return []
    return [
        f"{len(wrong)} of {checked} {subset} videos have more or fewer rows than their durations say: "
        f"{some([video for video, _, _ in wrong])}."
    ]
