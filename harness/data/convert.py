"""Conversion of pickled arrays of published code into the folder layout that everything else reads."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data.annotations import AMBIGUOUS, read_ambiguous, read_data_json, subset_kind
from harness.data.descriptor import is_frame_rate, with_classes
from harness.data.feature_layout import JOINT, check_name
from harness.data.features import check_finite
from harness.data.unpickle import load_array
from harness.data.values import FARTHEST, LONGEST, name_text
from harness.io.atomic import atomic_write
from harness.io.encoding import pretty_json
from harness.io.reading import read_limited
from wstal.errors import MissingDataError, StoreError, UserError

HAAN_TRAIN_VIDEOS = 8440  # HAAN's arrays list FineAction's training videos first


@dataclass(frozen=True)
class Converted:
    """Summary of a conversion.

    Args:
        form: `wtalc` or `haan`.
        videos: number of written videos by their subset's name in the annotation file.
        instances: number of written instances.
        features: number of written feature files.
        notes: assumptions, omissions and changes, for people.
    """

    form: str
    videos: dict[str, int]
    instances: int
    features: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    name: str
    subset: str
    duration: float
    instances: list[tuple[str, float, float]]
    official: list[str] | None = None


def convert(
    annotations: Path, out_dir: Path, features: Path | None = None, class_names: Path | None = None, fps: float = 25.0
) -> Converted:
    """Convert W-TALC's or HAAN's arrays into `out_dir`, which appears complete or not at all.

    Writes `annotations.json`, `dataset.toml`, the folder's `Ambiguous_test.txt` if there is one, for W-TALC
    `video_labels.json` (its `labels_all` and true durations), and with `features` one joint `[T, width]` file per video
    under `features/train` and `features/test`.

    Args:
        annotations: folder of `.npy` arrays: W-TALC's (`videoname`, `subset`, `duration`, `labels`, `labels_all`,
            `segments`) or HAAN's FineAction (`video_names`, `labels`, `segments`, `sec2clip_ratios`).
        out_dir: absent or empty folder.
        features: W-TALC's joint object array, one `[T, width]` float array per video in the order of `videoname.npy`.
        class_names: JSON object number -> name for HAAN's anonymous class numbers. Without it the name of a class is
            `fine-` and its number in three digits.
        fps: frames per second at which `features` were extracted, with 16-frame snippets and stride 16.

    Raises:
        MissingDataError: an array does not exist.
        UserError: `fps` is no frame rate, the arrays have neither form or disagree, a pickle names a function, a file
            is too large, or `out_dir` is not empty.
        StoreError: `out_dir` cannot be written.
    """
    if not is_frame_rate(fps):
        raise UserError(f"Expected --fps to be frames per second, from 0.001 to below 10,000, got {fps:g}.")
    if not os.path.isdir(annotations):
        raise MissingDataError(f"{annotations} is not a folder. Give the folder that holds the annotation arrays.")
    if os.path.lexists(out_dir) and not _is_empty_folder(out_dir):
        raise UserError(f"{out_dir} is not an empty folder. Choose another one: nothing is overwritten.")
    notes: list[str] = []
    if os.path.lexists(annotations / "videoname.npy"):
        form, entries = "wtalc", _wtalc(annotations)
    elif os.path.lexists(annotations / "video_names.npy"):
        form, entries = "haan", _haan(annotations, class_names)
    else:
        raise UserError(f"{annotations} has neither `videoname.npy` (W-TALC) nor `video_names.npy` (HAAN).")
    if features is not None and form == "haan":
        raise UserError(f"Cannot convert {features}: HAAN's features are one .npy file per video already, keep them.")
    _check_entries(entries, annotations)
    entries = _drop_reversed(entries, notes)
    blocks = _feature_blocks(features, entries) if features is not None else []
    ambiguous = b""
    if os.path.isfile(annotations / AMBIGUOUS):
        read_ambiguous(annotations / AMBIGUOUS)  # refuses what the product would refuse later
        ambiguous = read_limited(annotations / AMBIGUOUS)
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=f".{out_dir.name}.", ignore_cleanup_errors=True)
        with beside as temporary:
            complete = Path(temporary) / "complete"
            _write(complete, entries, blocks, fps, ambiguous, notes)
            complete.replace(out_dir)
    except OSError as error:
        raise StoreError(f"Cannot write {out_dir}: {error.strerror}. Free some room or choose another one.") from error
    videos = dict(Counter(entry.subset for entry in entries))
    return Converted(form, videos, sum(len(entry.instances) for entry in entries), len(blocks), tuple(notes))


def _is_empty_folder(path: Path) -> bool:
    try:
        return not os.listdir(path)
    except OSError:
        return False


def _wtalc(folder: Path) -> list[_Entry]:
    """Read W-TALC's arrays of bytes and objects, one entry per video, in file order."""
    entries = []
    columns = ("videoname", "subset", "duration", "labels", "labels_all", "segments")
    for video, subset, duration, labels, official, segments in _rows(folder, columns):
        name = _name(video, f"{folder / 'videoname.npy'}: video id")
        instances = _instances(folder, name, _names(labels, folder / "labels.npy", name), segments)
        names = sorted(set(_names(official, folder / "labels_all.npy", name)))
        own = _name(subset, f"{folder / 'subset.npy'}: {name} has a subset")
        entries.append(_Entry(name, own, _number(duration, folder / "duration.npy", name), instances, names))
    return entries


def _haan(folder: Path, class_names: Path | None) -> list[_Entry]:
    """Read HAAN's FineAction arrays, with labels (coarse, fine) and durations of 100 clips / ratio."""
    known = class_names_of(class_names) if class_names is not None else None
    entries = []
    columns = ("video_names", "labels", "segments", "sec2clip_ratios")
    for index, (video, labels, segments, per_clip) in enumerate(_rows(folder, columns)):
        name = _name(video, f"{folder / 'video_names.npy'}: video id")
        try:
            fine = [int(label[1]) for label in labels]
            classes = [known[number] if known is not None else f"fine-{number:03d}" for number in fine]
        except KeyError as error:
            raise UserError(f"{class_names}: class number {error} is missing. Add its name.") from error
        except (TypeError, ValueError, LookupError, OverflowError) as error:
            raise UserError(f"{folder / 'labels.npy'}: {name} has a label that is not (coarse, fine).") from error
        ratio = _number(per_clip, folder / "sec2clip_ratios.npy", name)
        if not ratio > 0:
            raise UserError(f"{folder / 'sec2clip_ratios.npy'}: {name} has ratio {ratio}, expected above 0.")
        subset = "training" if index < HAAN_TRAIN_VIDEOS else "validation"
        entries.append(_Entry(name, subset, 100.0 / ratio, _instances(folder, name, classes, segments)))
    return entries


def class_names_of(path: Path) -> dict[int, str]:
    """Read names of class numbers from a JSON object number -> name.

    Raises:
        MissingDataError: there is no such file.
        UserError: it has another form.
    """
    table = read_data_json(path)
    if not isinstance(table, dict) or not all(number.isdecimal() and len(number) < 10 for number in table):
        raise UserError(f"{path} is not a JSON object number -> class name. Correct it.")
    return {int(number): name_text(name, f"{path}: class {number}").strip() for number, name in table.items()}


def _rows(folder: Path, names: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """Read the arrays of a folder, and return what they hold of each video."""
    columns = {name: load_array(folder / f"{name}.npy") for name in names}
    lengths = {key: column.shape[0] if column.ndim else 0 for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"The arrays in {folder} differ in length: {lengths}. They must have one entry per video.")
    return zip(*columns.values(), strict=True)


def _name(value: object, what: str) -> str:
    """Return a name in an array, which is text, or bytes as Python 2 wrote it."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise UserError(f"{what}: expected a name, got a {type(text).__name__}. Correct it.")
    return name_text(text, what)


def _names(values: Any, path: Path, video: str) -> list[str]:
    if not isinstance(values, Iterable) or isinstance(values, str | bytes):
        raise UserError(f"{path}: the labels of {video} are no list. Correct it.")
    return [_name(value, f"{path}: {video} has a label") for value in values]


def _number(value: object, path: Path, video: str) -> float:
    """Return a number, or the first one of a small array."""
    try:
        return float(np.asarray(value, dtype=np.float64).reshape(-1)[0])
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise UserError(f"{path}: the entry of {video} is no number. Correct it.") from error


def _instances(folder: Path, video: str, labels: Sequence[str], segments: Any) -> list[tuple[str, float, float]]:
    try:
        pairs = [(float(start), float(end)) for start, end in segments]
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{folder / 'segments.npy'}: {video} has a segment that is not (start, end).") from error
    if len(pairs) != len(labels):
        raise UserError(f"{folder}: {video} has {len(labels)} labels and {len(pairs)} segments, expected as many.")
    return [(label, start, end) for label, (start, end) in zip(labels, pairs, strict=True)]


def _check_entries(entries: Sequence[_Entry], folder: Path) -> None:
    for name, count in Counter(entry.name for entry in entries).items():
        check_name(name)
        if count > 1:
            raise UserError(f"{folder} lists {name} twice. Remove one of the entries.")
    for entry in entries:
        times = [entry.duration, *(time for _, start, end in entry.instances for time in (start, end))]
        if not all(abs(time) <= FARTHEST for time in times) or not 0 < entry.duration < LONGEST:
            raise UserError(
                f"{folder}: {entry.name} has a time that is not finite, or no duration below {LONGEST:.0e} s."
            )


def _drop_reversed(entries: Sequence[_Entry], notes: list[str]) -> list[_Entry]:
    """Leave out instances that end before they start, which the reader refuses."""
    kept = [replace(entry, instances=[i for i in entry.instances if i[1] <= i[2]]) for entry in entries]
    count = sum(len(entry.instances) for entry in entries) - sum(len(entry.instances) for entry in kept)
    if count:
        notes.append(f"Left out {count} instances that end before they start.")
    return kept


def _feature_blocks(path: Path, entries: Sequence[_Entry]) -> list[npt.NDArray[Any]]:
    array = load_array(path)
    if array.shape == ():
        raise UserError(
            f"{path} holds a single object, expected an array of one [T, width] block a video. Save each stream "
            "of each video as a float array of its own, <subset>/<stream>/<video>.npy, which needs no conversion."
        )
    if array.ndim < 1 or len(array) != len(entries):
        raise UserError(f"{path} has shape {list(array.shape)}, expected one entry for each of {len(entries)} videos.")
    blocks: list[npt.NDArray[Any]] = []
    for entry, block in zip(entries, array, strict=True):
        try:
            block = np.asarray(block)
        except (ValueError, TypeError, OverflowError) as error:
            raise UserError(f"{path}: {entry.name} is no array ({error}).") from error
        if block.dtype.kind != "f" or block.ndim != 2 or 0 in block.shape:
            raise UserError(f"{path}: {entry.name} is {block.dtype} {list(block.shape)}, expected float [T, width].")
        if blocks and block.shape[1] != blocks[0].shape[1]:
            raise UserError(f"{path}: {entry.name} has width {block.shape[1]}, the others {blocks[0].shape[1]}.")
        check_finite(block, f"{path}, {entry.name}")
        blocks.append(block)
    return blocks


def _write(
    folder: Path,
    entries: Sequence[_Entry],
    blocks: Sequence[npt.NDArray[Any]],
    fps: float,
    ambiguous: bytes,
    notes: list[str],
) -> None:
    database = {
        entry.name: {
            "subset": entry.subset,
            "duration": entry.duration,
            "annotations": [{"segment": [start, end], "label": label} for label, start, end in entry.instances],
        }
        for entry in entries
    }
    atomic_write(folder / "annotations.json", pretty_json({"version": "converted", "database": database}))
    if any(entry.official is not None for entry in entries):
        labels = {
            entry.name: {"subset": entry.subset, "duration_seconds": entry.duration, "labels": entry.official}
            for entry in entries
        }
        atomic_write(folder / "video_labels.json", pretty_json(labels))
    if ambiguous:
        atomic_write(folder / AMBIGUOUS, ambiguous)
    atomic_write(folder / "dataset.toml", _describe(entries, blocks, fps, notes).encode())
    kinds = {subset_kind(entry.subset) for entry in entries}
    scored = "test" if "test" in kinds else "validation"
    for entry, block in zip(entries, blocks, strict=False):
        test = subset_kind(entry.subset) == scored
        buffer = io.BytesIO()
        np.save(buffer, block.astype(np.float32) if block.dtype.itemsize >= 8 else block, allow_pickle=False)
        atomic_write(folder / "features" / ("test" if test else "train") / f"{entry.name}.npy", buffer.getvalue())


def _describe(entries: Sequence[_Entry], blocks: Sequence[npt.NDArray[Any]], fps: float, notes: list[str]) -> str:
    """Return the text of `dataset.toml`, for the known data set with these classes or else as given."""
    classes = {label for entry in entries for label, _, _ in entry.instances}
    untimed = {label for entry in entries for label in entry.official or ()} - classes
    same = with_classes(classes) if not untimed else []
    known = next((known for known in same if known.name == known.family), None)
    width = blocks[0].shape[1] if blocks else None
    lines = ["# Written by `wstal-bench data convert`. State here what no file shows."]
    if known is not None:
        lines.append(f'extends = "{known.name}"')
        if width in (None, sum(stream.width or 0 for stream in known.streams)) and fps == (known.fps or fps):
            return "\n".join(lines) + "\n"
        lines.append(f'name = "{known.name}-converted"')
    else:
        lines += ['name = "converted"', 'title = "converted"']
        if untimed:
            lines.append(f"classes = {json.dumps(sorted(classes | untimed), ensure_ascii=False)}")
            notes.append(
                f"{len(untimed)} of {len(classes | untimed)} classes have official labels and no instance, such as "
                f"{min(untimed)}: they are classes too."
            )
        notes.append("The classes are no known data set's: name it in dataset.toml.")
    lines += ['extractor = "unknown"', f"fps = {float(fps)}", "snippet_frames = 16", "stride = 16"]
    if width is not None:
        lines.append(f'streams = [{{ name = "{JOINT}", width = {width} }}]')
    return "\n".join(lines) + "\n"
