"""Text files of the THUMOS14 challenge: annotations, one file a class, and detections as its kit reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.annotations import read_ambiguous
from harness.data.values import FARTHEST
from harness.io.reading import read_text
from harness.io.text import check_text, printable
from wstal.errors import UserError
from wstal.types import Detections

_CLASS_FILE = re.compile(r"(.+)_(val|test)\.txt")
# numbers of the 20 detection classes, which are those of UCF101
CLASSES = {
    7: "BaseballPitch", 9: "BasketballDunk", 12: "Billiards", 21: "CleanAndJerk", 22: "CliffDiving",
    23: "CricketBowling", 24: "CricketShot", 26: "Diving", 31: "FrisbeeCatch", 33: "GolfSwing", 36: "HammerThrow",
    40: "HighJump", 45: "JavelinThrow", 51: "LongJump", 68: "PoleVault", 79: "Shotput", 85: "SoccerPenalty",
    92: "TennisSwing", 93: "ThrowDiscus", 97: "VolleyballSpiking",
}  # fmt: skip


def class_files(folder: Path) -> list[Path]:
    """Return the annotation files below a folder, `<class>_val.txt` and `<class>_test.txt`, sorted."""
    return sorted(path for path in folder.rglob("*.txt") if _CLASS_FILE.fullmatch(path.name))


def read_class_files(files: list[Path]) -> tuple[dict[str, Any], str]:
    """Read THUMOS14's annotations, `video start end` in seconds a line.

    Args:
        files: of `class_files`.

    Returns:
        The `database` of ActivityNet-style annotations, and the text of `Ambiguous_test.txt`, empty without one.

    Raises:
        UserError: a line has another form, or a video is in both subsets.
    """
    database: dict[str, Any] = {}
    ambiguous = ""
    for path in files:
        match = _CLASS_FILE.fullmatch(path.name)
        assert match is not None
        label, subset = match[1], "validation" if match[2] == "val" else "test"
        excused = label.casefold() == "ambiguous"
        for video, start, end in read_ambiguous(path):
            entry = database.setdefault(video, {"subset": subset, "annotations": []})
            if entry["subset"] != subset:
                raise UserError(f"{path}: {video} is in the subset {entry['subset']} of another file, too. Correct it.")
            if not excused:
                entry["annotations"].append({"label": label, "segment": [start, end]})
        if excused and subset == "test":
            ambiguous = read_text(path)
    # a video that is only ambiguous somewhere is no video of a class
    return {video: entry for video, entry in sorted(database.items()) if entry["annotations"]}, ambiguous


def _kit_line(line: str) -> tuple[str, float, float, str, float] | None:
    try:
        video, start, end, label, score = line.split()
        times = float(start), float(end), float(score)
    except ValueError:
        return None
    return (video, times[0], times[1], label, times[2]) if max(map(abs, times)) <= FARTHEST else None


def read_kit_detections(path: Path, class_names: Mapping[int, str] | None = None) -> Detections:
    """Read detections as THUMOS14's kit takes them, `video start end class score` a line.

    Args:
        path: the file.
        class_names: names of class numbers (default: THUMOS14's).

    Raises:
        MissingDataError: there is no such file.
        UserError: a line has another form, or a class number has no name.
    """
    names = CLASSES if class_names is None else class_names
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        where, row = f"{path}, line {number}", _kit_line(line)
        if row is None:
            raise UserError(f"{where}: expected `video start end class score`, got '{printable(line.strip(), 80)}'.")
        check_text(row[0], f"{where}: video id")
        label = row[3]
        if label.isdecimal():
            if int(label) not in names:
                raise UserError(
                    f"{where}: class {label} has no name. Give --class-names, a JSON object number to name."
                )
            label = names[int(label)]
        rows.append((row[0], row[1], row[2], label, row[4]))
    videos, classes = sorted({row[0] for row in rows}), sorted({row[3] for row in rows})
    place, index = {name: i for i, name in enumerate(videos)}, {name: i for i, name in enumerate(classes)}
    return Detections(
        videos=tuple(videos),
        classes=tuple(classes),
        video=np.array([place[row[0]] for row in rows], dtype=np.int64),
        label=np.array([index[row[3]] for row in rows], dtype=np.int64),
        start=np.array([row[1] for row in rows], dtype=np.float64),
        end=np.array([row[2] for row in rows], dtype=np.float64),
        score=np.array([row[4] for row in rows], dtype=np.float64),
    )
