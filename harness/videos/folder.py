"""Folder of videos: which there are, and what `labels.csv` says of them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.data.annotations import subset_kind
from harness.data.feature_layout import check_name
from harness.data.features import some
from harness.data.values import name_text
from harness.io.kinds import VIDEO_FORMS
from harness.io.reading import read_text
from harness.io.text import check_text
from wstal.errors import MissingDataError, UserError

LABELS = "labels.csv"
SUBSETS = ("training", "validation", "test")
FORM = 'Expected a first line "video,labels" (a third column "subset" may follow), then a line for each video, as '
EXAMPLE = '"clip1.mp4,HighJump;LongJump".'


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


def read_labels(path: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """Read the classes and the subset of each video from a table with the columns `video`, `labels` and `subset`.

    Args:
        path: CSV with commas or tabs, since `;` separates labels. Endings of video files may be left out.

    Raises:
        MissingDataError: there is no such file.
        UserError: it has another form, or names a video twice. The message names the line.
    """
    text = read_text(path, "Save it as CSV in UTF-8.").removeprefix("\ufeff")
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in text[:200] else ","))
    except csv.Error as error:
        raise UserError(f"{path} is no CSV ({error}). {FORM}{EXAMPLE}") from error
    head = [name.strip().casefold() for name in lines[0]] if lines else []
    if "video" not in head or "labels" not in head:
        raise UserError(f"{path} begins with {','.join(head)!r:.80}. {FORM}{EXAMPLE}")
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    for number, line in enumerate(lines[1:], 2):
        if not any(cell.strip() for cell in line):
            continue
        where = f"{path}, line {number}"
        if len(line) > len(head):
            raise UserError(f"{where}: {len(line)} columns, expected {len(head)}. Separate labels by `;`.")
        cells = dict(zip(head, line, strict=False))
        name = _stem(name_text(cells["video"].strip(), f"{where}: `video`"))
        if name in found:
            raise UserError(f"{where}: {name} was there before. Write all its labels in one line, separated by `;`.")
        labels = {one.strip() for one in cells.get("labels", "").split(";")} - {""}
        for label in labels:
            check_text(label, f"{where}: `labels`")
        found[name] = tuple(sorted(labels)), _subset(cells.get("subset", ""), where)
    return found


def _subset(text: str, where: str) -> str:
    kind = subset_kind(text)
    if kind not in (*SUBSETS, ""):
        raise UserError(f"{where}: `subset` is {text!r:.40}, expected train, validation or test.")
    return kind


def _stem(name: str) -> str:
    path = Path(name)
    return path.stem if path.suffix.lower() in VIDEO_FORMS else path.name


def subsets_of(videos: Iterable[VideoFile]) -> Mapping[str, str]:
    """Return the subset of each video: as stated, else training for those with labels and test for the others.

    >>> subsets_of([VideoFile("a", Path("a.mp4"), ("Jump",)), VideoFile("b", Path("b.mp4"))])
    {'a': 'training', 'b': 'test'}
    """
    return {video.name: video.subset or ("training" if video.labels else "test") for video in videos}
