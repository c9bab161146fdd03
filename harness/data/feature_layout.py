"""Find the feature files of a data set in the layouts that people use."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.io.text import printable
from wstal.errors import UserError

JOINT = "joint"


LONGEST_FILE_NAME = 200  # bytes; file systems take 255, and `.npy` or a temporary file's marks come to it


@dataclass(frozen=True)
class FeatureFolder:
    """The feature files of one subset, by the file's stem.

    Args:
        folder: where they are, for messages.
        streams: stream names in joining order, or `("joint",)`.
        files: one path a stream.
        incomplete: stems that miss some stream's file, with the missing streams.
        nested: the folder belongs to this subset alone.
    """

    folder: Path
    streams: tuple[str, ...]
    files: dict[str, tuple[Path, ...]]
    incomplete: dict[str, tuple[str, ...]] = field(default_factory=dict)
    nested: bool = True

    def stem(self, video: str, prefixes: Iterable[str] = ("",)) -> str | None:
        """The stem of a video's files, or None where it has none; an incomplete one counts as there."""
        check_name(video)
        stems = (prefix + video for prefix in prefixes)
        return next((stem for stem in stems if stem in self.files or stem in self.incomplete), None)


def check_name(video: str) -> None:
    """Refuse a video id that is not a plain file name, as one with `../`.

    Raises:
        UserError: naming the id.
    """
    if video in ("", ".", "..") or any(character in video for character in "/\\\0"):
        raise UserError(f"Video id '{printable(video)}' is not a plain file name. Correct it in the annotation file.")
    if len(video.encode(errors="replace")) > LONGEST_FILE_NAME:
        raise UserError(f"Video id '{printable(video, 60)}' is longer than {LONGEST_FILE_NAME} bytes. Correct it.")


def feature_root(data_dir: Path) -> Path:
    """`DIR/features` if it exists, else `DIR`."""
    inner = data_dir / "features"
    return inner if os.path.isdir(inner) else data_dir


def find_features(root: Path, folders: Sequence[str], streams: Sequence[str]) -> FeatureFolder | None:
    """Locate one subset's feature files, whatever the layout; None where there are none at all.

    Args:
        root: the feature root.
        folders: names that the subset's folder may have, the first that exists counts.
        streams: stream folder names in joining order; those that exist are used.
    """
    subset = _first_folder(root, folders)
    if subset and (found := _per_stream(subset, _stream_folders(subset, streams), nested=True)):
        return found
    if subset and (files := _joint(subset)):
        return FeatureFolder(subset, (JOINT,), files)
    outer = _stream_folders(root, streams)
    inner = {stream: own for stream, folder in outer.items() if (own := _first_folder(folder, folders))}
    if inner and (found := _per_stream(next(iter(inner.values())), inner, nested=True)):
        return found
    if found := _per_stream(root, outer, nested=False):
        return found
    files = _joint(root)
    return FeatureFolder(root, (JOINT,), files, nested=False) if files else None


def _first_folder(parent: Path, names: Sequence[str]) -> Path | None:
    """The first of these folders that exists: by its exact name, else by its name without case."""
    for name in names:
        if os.path.isdir(parent / name):
            return parent / name
        alike = sorted(other for other in _listed(parent) if other.casefold() == name.casefold())
        for other in alike:
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


def _joint(folder: Path) -> dict[str, tuple[Path, ...]]:
    return {path.stem: (path,) for path in _npy_files(folder)}


def _per_stream(folder: Path, folders: dict[str, Path], nested: bool) -> FeatureFolder | None:
    streams = tuple(folders)
    found = [{path.stem: path for path in _npy_files(own)} for own in folders.values()]
    files, incomplete = {}, {}
    for stem in sorted(set().union(*found)):
        lacking = tuple(stream for stream, paths in zip(streams, found, strict=True) if stem not in paths)
        if lacking:
            incomplete[stem] = lacking
        else:
            files[stem] = tuple(paths[stem] for paths in found)
    return FeatureFolder(folder, streams, files, incomplete, nested) if files or incomplete else None


def _npy_files(folder: Path) -> Iterator[Path]:
    names = sorted(name for name in _listed(folder) if name.endswith(".npy"))
    return (folder / name for name in names if not name.startswith("."))
