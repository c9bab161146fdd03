"""ActivityNet-style annotation files.

`{"database": {video: {"subset": ..., "duration": ..., "annotations": [{"label": ..., "segment": [start, end]}]}}}`,
times in seconds. Other keys such as `taxonomy` are ignored. A segment of length 0 is kept, since ActivityNet 1.3 has
twelve: no detection can match it, and it counts as an instance, as in the released evaluator.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.data.descriptor import with_classes
from harness.io.reading import parse_json, read_limited, read_text
from harness.io.text import check_text, printable
from wstal.errors import UserError
from wstal.types import FloatArray, GroundTruth, Segments

ANNOTATIONS = "annotations.json"
AMBIGUOUS = "Ambiguous_test.txt"
TEST_SUBSETS = ("test", "testing", "validation", "val")
LONGEST = 1e7  # seconds (116 days) of a video, so that row counts fit an integer
FARTHEST = 1e12  # largest time in any unit, so that lengths and their sums stay finite


class Interval(NamedTuple):
    """Interval of a video in seconds, without a class."""

    video: str
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Annotations(Segments):
    """Content of one annotation file: its instances, videos and classes in all subsets.

    Videos and instances are in file order, and classes are sorted.

    Args:
        path: the file.
        subset: `[V]` subset of each video.
        duration: `[V]` seconds, NaN where the file has none. Some circulating files have wrong ones: never clip to it.
        ambiguous: intervals that some protocols excuse, from `Ambiguous_test.txt` beside the file.
    """

    path: Path
    subset: tuple[str, ...]
    duration: FloatArray
    ambiguous: tuple[Interval, ...] = ()

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names of the subsets, in order of appearance."""
        return tuple(dict.fromkeys(self.subset))

    def default_test_subset(self) -> str:
        """Return the subset to evaluate on: test if it has instances, else validation, else the only one.

        Raises:
            UserError: none of these.
        """
        annotated = [self.subset[i] for i in np.unique(self.video)]
        known = [name for wanted in TEST_SUBSETS for name in annotated if name.casefold() == wanted]
        if known or len(self.subsets) == 1:
            return (known or self.subsets)[0]
        raise UserError(
            f"{self.path} has no test or validation subset with annotations. "
            f"Name one of its subsets: {', '.join(self.subsets) or '(it lists no video)'}."
        )

    def ground_truth(self, subset: str | None = None) -> GroundTruth:
        """Return one subset's videos and instances in file order, with all classes of the file.

        Args:
            subset: its name (by default `default_test_subset()`).

        Raises:
            UserError: the file has no such subset.
        """
        subset = self.default_test_subset() if subset is None else subset
        if subset not in self.subsets:
            raise UserError(f"{self.path} has no subset {subset!r}. It has: {', '.join(self.subsets)}.")
        place = {name: i for i, name in enumerate(self.videos)}
        rows = [(place[video], start, end) for video, start, end in self.ambiguous if video in place]
        excused = np.array(rows, dtype=np.float64).reshape(-1, 3)
        whole = GroundTruth(self.videos, self.classes, self.video, self.label, self.start, self.end, excused)
        return select_videos(whole, [name for name, own in zip(self.videos, self.subset, strict=True) if own == subset])


def select_videos(truth: GroundTruth, videos: Sequence[str]) -> GroundTruth:
    """Return the instances and ambiguous intervals of some videos, in the order of these videos.

    Args:
        truth: instances of these and other videos.
        videos: names of the wanted videos.
    """
    place = {video: index for index, video in enumerate(videos)}
    new = np.array([place.get(video, -1) for video in truth.videos], dtype=np.int64)
    keep = np.flatnonzero(new[truth.video] >= 0)
    keep = keep[np.argsort(new[truth.video[keep]], kind="stable")]
    ambiguous = truth.ambiguous.copy()
    ambiguous[:, 0] = new[truth.ambiguous[:, 0].astype(np.int64)]
    return GroundTruth(
        videos=tuple(videos),
        classes=truth.classes,
        video=new[truth.video[keep]],
        label=truth.label[keep],
        start=truth.start[keep],
        end=truth.end[keep],
        ambiguous=ambiguous[ambiguous[:, 0] >= 0],
    )


def read_annotations(path: Path) -> Annotations:
    """Read an annotation file, or the `annotations.json` of a folder, and `Ambiguous_test.txt` beside it if it exists.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, is not JSON or not ActivityNet-style. The message names the video and field.
    """
    path = Path(path)
    if os.path.isdir(path):
        path = path / ANNOTATIONS
    content = read_data_json(path)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise UserError(
            f"{path} is not an ActivityNet-style annotation file: it has no `database` object. "
            'Expected {"database": {video: {"subset", "duration", "annotations"}}}.'
        )
    subsets: list[str] = []
    durations: list[float | None] = []
    instances: list[tuple[int, str, float, float]] = []
    for i, (name, entry) in enumerate(database.items()):
        check_text(name, f"{path}: video id")
        where = f"{path}, video {name}"
        _expect(isinstance(entry, dict), f"{where}: expected an object", entry)
        subsets.append(name_text(entry.get("subset"), f"{where}: `subset`"))
        durations.append(seconds(entry.get("duration"), f"{where}: expected `duration`"))
        annotations = entry.get("annotations", [])
        _expect(isinstance(annotations, list), f"{where}: expected `annotations` to be a list", annotations)
        for k, annotation in enumerate(annotations):
            _expect(isinstance(annotation, dict), f"{where}, annotation {k}: expected an object", annotation)
            times = _segment(annotation.get("segment"), f"{where}, annotation {k}")
            instances.append((i, name_text(annotation.get("label"), f"{where}, annotation {k}: `label`"), *times))
    video, label, start, end = zip(*instances, strict=True) if instances else ((), (), (), ())
    classes = tuple(sorted(set(label)))
    empty = [(i, at) for i, _, at, until in instances if at == until]
    if empty and not any(known.empty_instances for known in with_classes(classes)):
        where = f"{path}, video {tuple(database)[empty[0][0]]}"
        raise UserError(f"{where}: `segment` ends where it starts, at {empty[0][1]:g} s. Correct or remove it.")
    number = {name: i for i, name in enumerate(classes)}
    beside = path.parent / AMBIGUOUS
    return Annotations(
        path=path,
        classes=classes,
        videos=tuple(database),
        subset=tuple(subsets),
        duration=np.array(durations, dtype=np.float64),
        video=np.array(video, dtype=np.int64),
        label=np.array([number[name] for name in label], dtype=np.int64),
        start=np.array(start, dtype=np.float64),
        end=np.array(end, dtype=np.float64),
        ambiguous=read_ambiguous(beside) if os.path.isfile(beside) else (),
    )


def read_ambiguous(path: Path) -> tuple[Interval, ...]:
    """Read intervals, one per line: video, start and end in seconds, separated by blanks.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, or a line has another form.
    """
    intervals = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            video, *times = line.split()
            start, end = map(float, times)
        except ValueError:
            start = end = math.nan
        if not -FARTHEST <= start <= end <= FARTHEST:
            got = printable(line.strip(), 80)
            raise UserError(f"{path}, line {number}: expected `video start end` in seconds, got '{got}'.")
        check_text(video, f"{path}, line {number}: video id")
        intervals.append(Interval(video, start, end))
    return tuple(intervals)


def read_data_json(path: Path) -> Any:
    """Read the JSON file of a data set.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, is too large, is not JSON, or has a key twice in one object.
    """
    return parse_json(read_limited(path), path)


def _expect(holds: bool, expected: str, value: Any) -> None:
    """Raise an error that names what was expected and shows the value, unless the expectation holds."""
    if not holds:
        raise UserError(f"{expected}, got {shown(value)}.")


def _segment(segment: Any, where: str) -> tuple[float, float]:
    """Return the start and end of an instance."""
    pair = isinstance(segment, list) and len(segment) == 2 and all(map(is_number, segment))
    _expect(pair, f"{where}: expected `segment` to be two finite numbers (seconds)", segment)
    start, end = float(segment[0]), float(segment[1])
    if max(abs(start), abs(end)) > FARTHEST:
        raise UserError(f"{where}: `segment` is beyond {FARTHEST:.0e} s: {shown(segment)}. Correct it.")
    if end < start:
        raise UserError(f"{where}: `segment` ends before it starts: {shown(segment)}. Correct it.")
    return start, end


def seconds(value: Any, expected: str) -> float | None:
    """Return a video's duration from a JSON value, None where it is not stated.

    Args:
        value: the number, or None.
        expected: start of the error message, as `expected ``duration`` `.

    Raises:
        UserError: it is no number above 0 and below `LONGEST`.
    """
    if value is not None and not (is_number(value) and 0 < value < LONGEST):
        raise UserError(f"{expected} to be seconds, above 0 and below {LONGEST:.0e}, got {shown(value)}. Correct it.")
    return None if value is None else float(value)


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a finite number that a float can hold."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def name_text(value: Any, what: str) -> str:
    """Return a JSON value that is a name, text that is not empty and fits one line.

    Args:
        value: the JSON value.
        what: start of the error message.

    Raises:
        UserError: it is no such text.
    """
    _expect(isinstance(value, str) and value != "", f"{what}: expected a name", value)
    check_text(value, what)
    return str(value)


def shown(value: Any, longest: int = 60) -> str:
    """Shorten a JSON value for messages. An absent field reads as None and is shown as nothing.

    Args:
        value: the value, in which objects that JSON does not have are shown as dots.
        longest: most characters.
    """
    as_json = json.dumps(value, ensure_ascii=False, default=lambda value: "...")
    return "nothing" if value is None else printable(as_json, longest)
