"""Table of video-level labels, as people write it: `labels.csv`."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from harness.data.annotations import subset_kind
from harness.data.values import name_text
from harness.io.kinds import VIDEO_FORMS
from harness.io.reading import read_text
from harness.io.text import check_text, printable
from wstal.errors import UserError

LABELS = "labels.csv"
SUBSETS = ("training", "validation", "test")
FORM = 'Expected a first line "video,labels" (a third column "subset" may follow), then a line for each video, as '
EXAMPLE = '"clip1.mp4,HighJump;LongJump".'


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
        raise UserError(f"{path} begins with '{printable(','.join(lines[0] if lines else []), 60)}'. {FORM}{EXAMPLE}")
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
