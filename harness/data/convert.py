"""Pickled array files that published code circulates, turned once into the layout that everything else reads.

This is the only module that unpickles. Its unpickler builds NumPy arrays and plain containers and nothing else: a
file that names any other function is refused before it runs.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from harness.data.annotations import LONGEST, check_encodable
from harness.data.descriptor import is_frame_rate, list_digest, shipped_descriptors
from harness.data.features import JOINT, check_finite, check_name
from harness.files import atomic_write, pretty_json
from wstal.errors import MissingDataError, StoreError, UserError

MAX_BYTES = 32 * 2**30  # W-TALC's joint THUMOS14 features are 2-4 GB
HAAN_TRAIN_VIDEOS = 8440  # HAAN's arrays list FineAction's training videos first

ObjectArray = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote.

    Args:
        form: `wtalc` or `haan`.
        videos: videos written, by their subset's name in the annotation file.
        instances: annotated instances written.
        features: feature files written.
        notes: what was assumed, dropped or changed, for people.
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
    annotations: Path,
    out_dir: Path,
    features: Path | None = None,
    class_names: Path | None = None,
    fps: float = 25.0,
    max_bytes: int = MAX_BYTES,
) -> Converted:
    """Convert W-TALC's or HAAN's arrays into `out_dir`, which appears complete or not at all.

    Writes `annotations.json`, `dataset.toml`, for W-TALC `video_labels.json` (its `labels_all` and true durations),
    and with `features` one joint `[T, width]` file a video under `features/train` and `features/test`.

    Args:
        annotations: folder of `.npy` arrays: W-TALC's (`videoname`, `subset`, `duration`, `labels`, `labels_all`,
            `segments`) or HAAN's FineAction (`video_names`, `labels`, `segments`, `sec2clip_ratios`).
        out_dir: absent or empty folder.
        features: W-TALC's joint object array, one `[T, width]` float array a video in the order of `videoname.npy`.
        class_names: for HAAN's anonymous class numbers, a JSON object number -> name; without it a class is called
            `fine-` and its number in three digits.
        fps: frames a second at which `features` were extracted, for `dataset.toml`; 16-frame snippets, stride 16.
        max_bytes: largest file that is read.

    Raises:
        MissingDataError: an array is not there.
        UserError: `fps` is no frame rate, neither form, arrays that disagree, a pickle that names a function, a file
            that is too large, an `out_dir` that is not empty.
        StoreError: `out_dir` cannot be written.
    """
    if not is_frame_rate(fps):
        raise UserError(f"Expected --fps to be frames a second, from 0.001 to below 10,000, got {fps:g}.")
    if not annotations.is_dir():
        raise MissingDataError(f"{annotations} is not a folder. Give the folder that holds the annotation arrays.")
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise UserError(f"{out_dir} is not an empty folder. Choose another one: nothing is overwritten.")
    notes: list[str] = []
    if (annotations / "videoname.npy").is_file():
        form, entries = "wtalc", _wtalc(annotations, max_bytes)
    elif (annotations / "video_names.npy").is_file():
        form, entries = "haan", _haan(annotations, class_names, max_bytes)
    else:
        raise UserError(f"{annotations} has neither `videoname.npy` (W-TALC) nor `video_names.npy` (HAAN).")
    if features is not None and form == "haan":
        raise UserError(f"Cannot convert {features}: HAAN's features are one .npy file a video already, keep them.")
    _check_entries(entries, annotations)
    entries = _drop_without_length(entries, notes)
    blocks = _feature_blocks(features, entries, max_bytes) if features is not None else []
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out_dir.parent, prefix=f".{out_dir.name}."))
    except OSError as error:
        raise StoreError(f"Cannot write beside {out_dir}: {error.strerror}. Choose another folder.") from error
    try:
        _write(temporary, entries, blocks, fps, notes)
        temporary.chmod(0o755)
        temporary.replace(out_dir)
    except OSError as error:
        raise StoreError(f"Cannot write {out_dir}: {error.strerror}. Free some room or choose another.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    videos: dict[str, int] = {}
    for entry in entries:
        videos[entry.subset] = videos.get(entry.subset, 0) + 1
    return Converted(form, videos, sum(len(entry.instances) for entry in entries), len(blocks), tuple(notes))


def load_array(path: Path, max_bytes: int = MAX_BYTES) -> npt.NDArray[Any]:
    """An `.npy` file's array; an object array is unpickled by an unpickler that can build arrays and containers only.

    Raises:
        MissingDataError: the file is not there.
        UserError: too large, not an `.npy` file, or a pickle that names anything but NumPy's array parts.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise UserError(f"{path} has {size} bytes, more than {max_bytes}. Raise the limit if the file is genuine.")
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
            if not dtype.hasobject:
                if file.tell() + math.prod(shape) * dtype.itemsize > size:
                    raise ValueError(f"{size} bytes do not hold {dtype} {list(shape)}")
                file.seek(0)
                return np.asarray(np.load(file, allow_pickle=False))
            array = _ArrayUnpickler(file, path).load()
    except FileNotFoundError as error:
        raise MissingDataError(f"{path} is not there. Restore the file.") from error
    except (OSError, EOFError, MemoryError, ValueError, TypeError, IndexError, AttributeError, KeyError) as error:
        # what NumPy and pickle raise on damaged bytes
        raise UserError(f"{path} is not a readable .npy file ({error}). Copy or extract it again.") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} cannot be unpickled: {error}") from error
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise UserError(f"{path} does not hold the array of shape {list(shape)} that its header states.")
    return array


class _ArrayUnpickler(pickle.Unpickler):
    """Allows what pickled arrays of lists, numbers and strings need, in NumPy 1's and 2's module names."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        # W-TALC's originals were pickled by Python 2: latin1 is the one encoding that keeps array bytes
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        allowed = _ALLOWED.get((module, name))
        if allowed is None:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which an array of features or annotations does not need. Do not trust "
                "this file; get it from its authors again."
            )
        return allowed


def _empty_array(kind: object, shape: object, _: object) -> npt.NDArray[Any]:
    # pickled arrays start empty and are filled by __setstate__, whose data come from the file itself; a larger start
    # could ask for any amount of memory
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError(f"it starts an array with shape {shape}, which NumPy does not write.")
    return np.ndarray((0,), dtype=np.int8)


def _encode(text: object, encoding: object) -> bytes:
    # protocol 2 writes bytes as text to be encoded; HAAN's files need it
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes {type(text).__name__} as {encoding!r}.")
    return text.encode("latin1")


def _scalar(dtype: object, data: object = None) -> object:
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(data, bytes | str):
        raise pickle.UnpicklingError("it holds a NumPy scalar that is not a plain number or text.")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype, count=1)[0]


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
}


def _wtalc(folder: Path, max_bytes: int) -> list[_Entry]:
    """W-TALC's arrays: bytes and object arrays, one entry a video, in file order."""
    keys = ("videoname", "subset", "duration", "labels", "labels_all", "segments")
    columns = {key: load_array(folder / f"{key}.npy", max_bytes) for key in keys}
    _same_length(folder, columns)
    return [
        _Entry(
            name=_text(name),
            subset=_text(subset),
            duration=float(np.ravel(duration)[0]),
            instances=_instances(folder, _text(name), [_text(label) for label in labels], segments),
            official=sorted({_text(label) for label in official}),
        )
        for name, subset, duration, labels, official, segments in zip(*columns.values(), strict=True)
    ]


def _haan(folder: Path, class_names: Path | None, max_bytes: int) -> list[_Entry]:
    """HAAN's FineAction arrays: a label is (coarse, fine) class numbers; 100 clips / ratio is the duration."""
    keys = ("video_names", "labels", "segments", "sec2clip_ratios")
    columns = {key: load_array(folder / f"{key}.npy", max_bytes) for key in keys}
    _same_length(folder, columns)
    names = _class_names(class_names) if class_names is not None else None
    entries = []
    for index, (name, labels, segments, ratio) in enumerate(zip(*columns.values(), strict=True)):
        try:
            fine = [int(label[1]) for label in labels]
            classes = [names[number] if names is not None else f"fine-{number:03d}" for number in fine]
        except (TypeError, IndexError) as error:
            raise UserError(f"{folder / 'labels.npy'}: {name} has a label that is not (coarse, fine).") from error
        except KeyError as error:
            raise UserError(f"{class_names}: class number {error} is missing. Add its name.") from error
        if not ratio > 0:
            raise UserError(f"{folder / 'sec2clip_ratios.npy'}: {name} has ratio {ratio}, expected above 0.")
        subset = "training" if index < HAAN_TRAIN_VIDEOS else "validation"
        instances = _instances(folder, str(name), classes, segments)
        entries.append(_Entry(_text(name), subset, 100.0 / float(ratio), instances))
    return entries


def _class_names(path: Path) -> dict[int, str]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {int(number): str(name).strip() for number, name in table.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a JSON object number -> class name ({error}).") from error


def _same_length(folder: Path, columns: dict[str, npt.NDArray[Any]]) -> None:
    lengths = {key: column.shape[0] if column.ndim else 0 for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"The arrays in {folder} differ in length: {lengths}. They must have one entry a video.")


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _instances(folder: Path, video: str, labels: Sequence[str], segments: object) -> list[tuple[str, float, float]]:
    try:
        pairs = [(float(start), float(end)) for start, end in segments]  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise UserError(f"{folder / 'segments.npy'}: {video} has a segment that is not (start, end).") from error
    if len(pairs) != len(labels):
        raise UserError(f"{folder}: {video} has {len(labels)} labels and {len(pairs)} segments, expected as many.")
    return [(label, start, end) for label, (start, end) in zip(labels, pairs, strict=True)]


def _check_entries(entries: Sequence[_Entry], folder: Path) -> None:
    seen: set[str] = set()
    for entry in entries:
        check_name(entry.name)
        check_encodable(entry.name, f"{folder}: video id")
        if entry.name in seen:
            raise UserError(f"{folder} lists {entry.name} twice. Remove one of the entries.")
        seen.add(entry.name)
        times = [entry.duration, *(time for _, start, end in entry.instances for time in (start, end))]
        if not all(map(math.isfinite, times)) or not 0 < entry.duration < LONGEST:
            raise UserError(
                f"{folder}: {entry.name} has a time that is not finite, or no duration below {LONGEST:.0e} s."
            )
        for label in {*(label for label, _, _ in entry.instances), *(entry.official or ())}:
            check_encodable(label, f"{folder}: {entry.name} has a label")


def _drop_without_length(entries: Sequence[_Entry], notes: list[str]) -> list[_Entry]:
    """Without the instances that end before or where they start, which the reader does not take."""
    lengths = [end - start for entry in entries for _, start, end in entry.instances]
    for count, fault in (
        (sum(length < 0 for length in lengths), "end before they start"),
        (sum(length == 0 for length in lengths), "end where they start"),
    ):
        if count:
            notes.append(f"Left out {count} instances that {fault}.")
    return [replace(entry, instances=[i for i in entry.instances if i[2] > i[1]]) for entry in entries]


def _feature_blocks(path: Path, entries: Sequence[_Entry], max_bytes: int) -> list[npt.NDArray[Any]]:
    array = load_array(path, max_bytes)
    if array.ndim < 1 or len(array) != len(entries):
        raise UserError(f"{path} has shape {list(array.shape)}, expected one entry for each of {len(entries)} videos.")
    blocks: list[npt.NDArray[Any]] = []
    for entry, block in zip(entries, array, strict=True):
        block = np.asarray(block)
        if block.dtype.kind != "f" or block.ndim != 2 or 0 in block.shape:
            raise UserError(f"{path}: {entry.name} is {block.dtype} {list(block.shape)}, expected float [T, width].")
        if blocks and block.shape[1] != blocks[0].shape[1]:
            raise UserError(f"{path}: {entry.name} has width {block.shape[1]}, the others {blocks[0].shape[1]}.")
        check_finite(block, f"{path}, {entry.name}")
        blocks.append(block)
    return blocks


def _write(
    folder: Path, entries: Sequence[_Entry], blocks: Sequence[npt.NDArray[Any]], fps: float, notes: list[str]
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
    atomic_write(folder / "dataset.toml", _describe(entries, blocks, fps, notes).encode())
    for entry, block in zip(entries, blocks, strict=False):
        test = entry.subset == "test" or (entry.subset == "validation" and not _has_test(entries))
        buffer = io.BytesIO()
        np.save(buffer, block.astype(np.float32) if block.dtype.itemsize == 8 else block, allow_pickle=False)
        atomic_write(folder / "features" / ("test" if test else "train") / f"{entry.name}.npy", buffer.getvalue())


def _has_test(entries: Sequence[_Entry]) -> bool:
    return any(entry.subset == "test" for entry in entries)


def _describe(entries: Sequence[_Entry], blocks: Sequence[npt.NDArray[Any]], fps: float, notes: list[str]) -> str:
    """The text of `dataset.toml`: the known data set with these classes, else what was given."""
    classes = {label for entry in entries for label, _, _ in entry.instances}
    digest = list_digest(classes)
    known = next((d for d in shipped_descriptors().values() if d.name == d.family and digest in d.class_sets), None)
    width = blocks[0].shape[1] if blocks else None
    lines = ["# Written by `wstal-bench data convert`. State here what no file shows."]
    if known is not None:
        lines.append(f'extends = "{known.name}"')
        if width in (None, sum(stream.width or 0 for stream in known.streams)) and fps == (known.fps or fps):
            return "\n".join(lines) + "\n"
        lines.append(f'name = "{known.name}-converted"')
    else:
        lines += ['name = "converted"', 'title = "converted"']
        notes.append("The classes are no known data set's: name it in dataset.toml.")
    lines += ['extractor = "unknown"', f"fps = {float(fps)}", "snippet_frames = 16", "stride = 16"]
    if width is not None:
        lines.append(f'streams = [{{ name = "{JOINT}", width = {width} }}]')
    return "\n".join(lines) + "\n"
