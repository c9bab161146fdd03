"""Folder of videos: which there are, and what `labels.csv` says of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.data.annotations import subset_kind
from harness.data.feature_layout import check_name
from harness.data.features import some
from harness.data.label_table import LABELS, SUBSETS, read_labels
from harness.io.kinds import VIDEO_FORMS
from wstal.errors import MissingDataError, UserError


@dataclass(frozen=True)
class VideoFile:
    """A video of the folder.

    Args:
        name: of the video, which is its file's without the ending.
        path: of the file.
        labels: its classes, sorted; empty where none is known.
        subset: `training`, `validation` or `test`, empty where nothing tells.
    """

    name: str
    path: Path
    labels: tuple[str, ...] = ()
    subset: str = ""


def list_videos(folder: Path) -> tuple[list[VideoFile], list[str]]:
    """Find the video files below a folder, with what `labels.csv` and folders named as a subset tell of them.

    Args:
        folder: where to look.

    Returns:
        The videos, sorted by name, and notes for people.

    Raises:
        MissingDataError: there is no folder, or no video in it.
        UserError: `labels.csv` cannot be used, or two files have one name.
    """
    if not os.path.isdir(folder):
        raise MissingDataError(f"{folder} is not a folder. Give the folder of the videos.")
    found: dict[str, VideoFile] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in VIDEO_FORMS or path.name.startswith(".") or not path.is_file():
            continue
        check_name(path.stem)
        if path.stem in found:
            raise UserError(
                f"{found[path.stem].path} and {path} are both called {path.stem}, and features are files of that name. "
                "Rename one."
            )
        kinds = [subset_kind(part) for part in path.relative_to(folder).parts[:-1]]
        found[path.stem] = VideoFile(path.stem, path, subset=next((kind for kind in kinds if kind in SUBSETS), ""))
    if not found:
        raise MissingDataError(f"No video in {folder}: there is no file ending in {', '.join(VIDEO_FORMS)}.")
    if not os.path.isfile(folder / LABELS):
        note = f"There is no {folder / LABELS}, so no video has a label: enough to predict, not to train."
        return sorted(found.values(), key=lambda video: video.name), [note]
    stated = read_labels(folder / LABELS)
    notes = []
    if unknown := sorted(stated.keys() - found.keys()):
        notes.append(f"{LABELS} names {len(unknown)} videos that are not in {folder}: {some(unknown)}.")
    if unlabelled := sorted(found.keys() - stated.keys()):
        notes.append(f"{len(unlabelled)} videos are not in {LABELS} and have no label: {some(unlabelled)}.")
    videos = [
        replace(video, labels=labels, subset=subset or video.subset)
        for video in found.values()
        for labels, subset in [stated.get(video.name, ((), ""))]
    ]
    return sorted(videos, key=lambda video: video.name), notes


def subsets_of(videos: Iterable[VideoFile]) -> Mapping[str, str]:
    """Return the subset of each video: as stated, else training for those with labels and test for the others.

    >>> subsets_of([VideoFile("a", Path("a.mp4"), ("Jump",)), VideoFile("b", Path("b.mp4"))])
    {'a': 'training', 'b': 'test'}
    """
    return {video.name: video.subset or ("training" if video.labels else "test") for video in videos}
