"""Feature files of a data set, found in the layouts that are in use.

Layouts under the feature root (`DIR/features` if it exists, else `DIR`), of which the first that exists counts:

- `<subset folder>/<stream>/<video>.npy`, one `[T, width]` file per stream
- `<subset folder>/<video>.npy`, one `[T, sum of widths]` file per video, streams joined in order
- `<stream>/<subset folder>/<video>.npy`, one file per stream again
- `<stream>/<video>.npy` and `<video>.npy`, without subset folders

Names of subset and stream folders are compared without case.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.io.text import printable
from wstal.errors import UserError

JOINT = "joint"
LONGEST_FILE_NAME = 200  # bytes of 255 that file systems allow: `.npy` and the marks of temporary files are added


@dataclass(frozen=True)
class FeatureFolder:
    """Feature files of one subset, by the stem of their name.

    Args:
        folder: the folder, for messages.
        streams: stream names in joining order, or `("joint",)`.
        files: one path per stream.
        incomplete: the missing streams of stems that lack some stream's file.
        nested: whether the folder belongs to this subset alone.
    """

    folder: Path
    streams: tuple[str, ...]
    files: dict[str, tuple[Path, ...]]
    incomplete: dict[str, tuple[str, ...]] = field(default_factory=dict)
    nested: bool = True

    def stem(self, video: str, prefixes: Iterable[str] = ("",)) -> str | None:
        """Return the stem of a video's files, complete or not, or None where it has none.

        Args:
            video: name of the video.
            prefixes: strings that may precede it in file names.
        """
        check_name(video)
        stems = (prefix + video for prefix in prefixes)
        return next((stem for stem in stems if stem in self.files or stem in self.incomplete), None)


def check_name(video: str) -> None:
    """Refuse a video id that is not a plain file name, such as one with `../`.

    Raises:
        UserError: it is not a plain file name, or is too long.
    """
    if video in ("", ".", "..") or any(character in video for character in "/\\\0"):
        raise UserError(f"Video id '{printable(video)}' is not a plain file name. Correct it in the annotation file.")
    if len(video.encode(errors="replace")) > LONGEST_FILE_NAME:
        raise UserError(f"Video id '{printable(video, 60)}' is longer than {LONGEST_FILE_NAME} bytes. Correct it.")


def feature_root(data_dir: Path) -> Path:
    """Return `DIR/features` if it exists, else `DIR`."""
    inner = data_dir / "features"
    return inner if os.path.isdir(inner) else data_dir


def find_features(
    root: Path, folders: Sequence[str], streams: Sequence[str], suffixes: Sequence[str] = ("",)
) -> FeatureFolder | None:
    """Find one subset's feature files in any layout, or return None where there are none.

    Args:
        root: the feature root.
        folders: possible names of the subset's folder, of which the first that exists counts.
        streams: names of stream folders in joining order, of which those that exist are used.
        suffixes: strings that may follow a video's id, one of which each file has.
    """
    subset = _first_folder(root, folders)
    if subset:
        found = _per_stream(subset, _stream_folders(subset, streams), suffixes)
        if found := found or _one_folder(subset, streams, suffixes):
            return found
    outer = _stream_folders(root, streams)
    inner = {stream: own for stream, folder in outer.items() if (own := _first_folder(folder, folders))}
    if inner and (found := _per_stream(next(iter(inner.values())), inner, suffixes)):
        return found
    flat = _per_stream(root, outer, suffixes) or _one_folder(root, streams, suffixes)
    return flat and replace(flat, nested=False)


def _first_folder(parent: Path, names: Sequence[str]) -> Path | None:
    """Return the first of these folders that exists, by its exact name or else by its name without case."""
    for name in names:
        if os.path.isdir(parent / name):
            return parent / name
        for other in sorted(other for other in _listed(parent) if other.casefold() == name.casefold()):
            if os.path.isdir(parent / other):
                return parent / other
    return None


def _stream_folders(parent: Path, streams: Sequence[str]) -> dict[str, Path]:
    return {stream: folder for stream in streams if (folder := _first_folder(parent, [stream]))}


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise UserError(f"Cannot list {folder}: {error.strerror or error}.") from error


def _npy_files(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Map stems without the first suffix that they have to files, in the order of file names."""
    names = sorted(name for name in _listed(folder) if name.endswith(".npy") and not name.startswith("."))
    found: dict[str, Path] = {}
    for stem in (name.removesuffix(".npy") for name in names):
        suffix = next((suffix for suffix in suffixes if stem.endswith(suffix)), None)
        if suffix is not None:
            found.setdefault(stem.removesuffix(suffix), folder / f"{stem}.npy")
    return found


def named_streams(streams: Sequence[str], suffixes: Iterable[str]) -> dict[str, str]:
    """Return the suffix that names each stream, as `_rgb`, of those streams that have one.

    Args:
        streams: names of streams in joining order.
        suffixes: strings that may follow a video's id.
    """
    named = {suffix.strip("_-. ").casefold(): suffix for suffix in suffixes}
    return {stream: named[stream.casefold()] for stream in streams if stream.casefold() in named}


def _one_folder(folder: Path, streams: Sequence[str], suffixes: Sequence[str]) -> FeatureFolder | None:
    """Find the files of one folder, which are joint or have suffixes that name their streams."""
    if marks := named_streams(streams, suffixes):
        return _matched(folder, {stream: _npy_files(folder, [suffix]) for stream, suffix in marks.items()})
    return _per_stream(folder, {JOINT: folder}, suffixes)


def _per_stream(folder: Path, folders: dict[str, Path], suffixes: Sequence[str]) -> FeatureFolder | None:
    return _matched(folder, {stream: _npy_files(own, suffixes) for stream, own in folders.items()})


def _matched(folder: Path, found: dict[str, dict[str, Path]]) -> FeatureFolder | None:
    files: dict[str, tuple[Path, ...]] = {}
    incomplete: dict[str, tuple[str, ...]] = {}
    for stem in sorted(set().union(*found.values())):
        if lacking := tuple(stream for stream, paths in found.items() if stem not in paths):
            incomplete[stem] = lacking
        else:
            files[stem] = tuple(paths[stem] for paths in found.values())
    return FeatureFolder(folder, tuple(found), files, incomplete) if files or incomplete else None
