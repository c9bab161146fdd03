"""ActivityNet-style annotation files, read once and checked.

`{"database": {video: {"subset": ..., "duration": ..., "annotations": [{"label": ..., "segment": [start, end]}]}}}`,
times in seconds. Other keys are ignored, `taxonomy` among them. A segment of length 0 is kept, since ActivityNet 1.3
has twelve: no detection can find it, and it counts as an instance, as in the released evaluator.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wstal.errors import MissingDataError, UserError
from wstal.types import FloatArray, GroundTruth, IntArray

ANNOTATIONS = "annotations.json"
AMBIGUOUS = "Ambiguous_test.txt"
LARGEST = 2**30
TEST_SUBSETS = (("test", "testing"), ("validation", "val"))
LONGEST = 1e7  # seconds, 116 days: no video is longer, and row counts still fit an integer


class Interval(NamedTuple):
    """Seconds of a video, of no class."""

    video: str
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Annotations:
    """One annotation file.

    Args:
        path: the file.
        classes: sorted names of all classes that occur in the file, whatever the subset.
        videos: names, in file order, also those without annotation.
        subset: `[V]` subset of each video.
        duration: `[V]` seconds, NaN where the file has none; wrong in some circulating files, so never clip to it.
        video: `[N]` index into `videos` of each instance, in file order.
        label: `[N]` index into `classes`.
        start: `[N]` seconds.
        end: `[N]` seconds, not before `start`.
        ambiguous: intervals that some protocols excuse, from `Ambiguous_test.txt` beside the file.
    """

    path: Path
    classes: tuple[str, ...]
    videos: tuple[str, ...]
    subset: tuple[str, ...]
    duration: FloatArray
    video: IntArray
    label: IntArray
    start: FloatArray
    end: FloatArray
    ambiguous: tuple[Interval, ...] = ()

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names of the subsets, in order of appearance."""
        return tuple(dict.fromkeys(self.subset))

    def default_test_subset(self) -> str:
        """The subset to evaluate on: test if it has instances, else validation, else the only one.

        Raises:
            UserError: none of these.
        """
        annotated: list[str] = [self.subset[i] for i in np.unique(self.video)]
        for wanted in (name for names in TEST_SUBSETS for name in names):
            for name in annotated:
                if name.casefold() == wanted:
                    return name
        if len(self.subsets) == 1:
            return self.subsets[0]
        raise UserError(
            f"{self.path} has no test or validation subset with annotations. "
            f"Name one of its subsets: {', '.join(self.subsets) or '(it lists no video)'}."
        )

    def ground_truth(
        self, subset: str | None = None, *, ambiguous: Sequence[tuple[str, float, float]] | None = None
    ) -> GroundTruth:
        """One subset's videos and instances, in file order, with all classes of the file.

        Args:
            subset: its name; `default_test_subset()` if absent.
            ambiguous: (video, start, end) to use instead of those found beside the file; other subsets' are left out.

        Raises:
            UserError: the file has no such subset.
        """
        subset = self.default_test_subset() if subset is None else subset
        if subset not in self.subsets:
            raise UserError(f"{self.path} has no subset {subset!r}. It has: {', '.join(self.subsets)}.")
        chosen = np.array([name == subset for name in self.subset], dtype=bool)
        index = np.cumsum(chosen) - 1
        instances = np.flatnonzero(chosen[self.video])
        videos = tuple(name for name, keep in zip(self.videos, chosen, strict=True) if keep)
        place = {name: i for i, name in enumerate(videos)}
        intervals = self.ambiguous if ambiguous is None else ambiguous
        rows = [(place[video], start, end) for video, start, end in intervals if video in place]
        return GroundTruth(
            videos=videos,
            classes=self.classes,
            video=index[self.video[instances]],
            label=self.label[instances],
            start=self.start[instances],
            end=self.end[instances],
            ambiguous=np.array(rows, dtype=np.float64).reshape(-1, 3),
        )


def read_annotations(path: Path) -> Annotations:
    """Read an annotation file, or the `annotations.json` of a folder, and `Ambiguous_test.txt` beside it if there.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, is not JSON or not ActivityNet-style; says which video and field.
    """
    path = Path(path)
    if path.is_dir():
        path = path / ANNOTATIONS
    content = read_json(path)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise UserError(
            f"{path} is not an ActivityNet-style annotation file: it has no `database` object. "
            'Expected {"database": {video: {"subset", "duration", "annotations"}}}.'
        )
    subsets: list[str] = []
    durations: list[float] = []
    index: list[int] = []
    labels: list[str] = []
    starts: list[float] = []
    ends: list[float] = []
    for i, (name, entry) in enumerate(database.items()):
        check_encodable(name, f"{path}: video id")
        where = f"{path}, video {name}"
        if not isinstance(entry, dict):
            raise UserError(f"{where}: expected an object, got {_shown(entry)}.")
        subsets.append(name_text(entry.get("subset"), f"{where}: `subset`"))
        durations.append(seconds(entry.get("duration"), f"{where}: expected `duration`"))
        annotations = entry.get("annotations", [])
        if not isinstance(annotations, list):
            raise UserError(f"{where}: expected `annotations` to be a list, got {_shown(annotations)}.")
        for k, annotation in enumerate(annotations):
            if not isinstance(annotation, dict):
                raise UserError(f"{where}, annotation {k}: expected an object, got {_shown(annotation)}.")
            start, end = _segment(annotation.get("segment"), f"{where}, annotation {k}")
            index.append(i)
            labels.append(name_text(annotation.get("label"), f"{where}, annotation {k}: `label`"))
            starts.append(start)
            ends.append(end)
    classes = tuple(sorted(set(labels)))
    _check_empty(path, tuple(database), classes, index, starts, ends)
    number = {name: i for i, name in enumerate(classes)}
    beside = path.parent / AMBIGUOUS
    return Annotations(
        path=path,
        classes=classes,
        videos=tuple(database),
        subset=tuple(subsets),
        duration=np.array(durations, dtype=np.float64),
        video=np.array(index, dtype=np.int64),
        label=np.array([number[label] for label in labels], dtype=np.int64),
        start=np.array(starts, dtype=np.float64),
        end=np.array(ends, dtype=np.float64),
        ambiguous=read_ambiguous(beside) if beside.is_file() else (),
    )


def read_ambiguous(path: Path) -> tuple[Interval, ...]:
    """Read intervals, one a line: video, start and end in seconds, separated by blanks.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, or a line is something else.
    """
    intervals = []
    try:
        lines = read_limited(path).decode().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file ({error}).") from error
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        try:
            video, start, end = fields[0], float(fields[1]), float(fields[2])
        except (IndexError, ValueError):
            start = end = math.nan
        if len(fields) != 3 or not (math.isfinite(start) and math.isfinite(end) and start <= end):
            raise UserError(f"{path}, line {number}: expected `video start end` in seconds, got {line.strip()[:80]!r}.")
        intervals.append(Interval(video, start, end))
    return tuple(intervals)


def read_limited(path: Path) -> bytes:
    """A file's content, where it is there, readable and no larger than 1 GiB.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read or is too large.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise UserError(f"{path} has {size / 2**30:.1f} GiB, more than the limit of {LARGEST / 2**30:.0f} GiB.")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingDataError(f"{path} is not there. Check the path.") from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object hook of JSON readers: a key that is given twice is an error, not a silent loss.

    Raises:
        DuplicateKeyError: with the key.
    """
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        raise DuplicateKeyError(next(key for key in keys if keys.count(key) > 1))
    return fields


class DuplicateKeyError(Exception):
    """A JSON object has a key twice: readers turn it into a message with the file."""


def read_json(path: Path) -> Any:
    """The JSON value of a file.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, is not JSON, or has a key twice in one object.
    """
    content = read_limited(path)
    try:
        return json.loads(content, object_pairs_hook=unique_keys)
    except DuplicateKeyError as error:
        raise UserError(f"{path}: {error.args[0]!r} is given twice in one object. Remove one.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON, or cut off ({error}). Fetch or write it again.") from error


def _check_empty(
    path: Path, videos: Sequence[str], classes: Sequence[str], index: list[int], starts: list[float], ends: list[float]
) -> None:
    """Refuse instances of no length, unless the classes are those of a data set where they are known to circulate."""
    empty = next((k for k, (start, end) in enumerate(zip(starts, ends, strict=True)) if start == end), None)
    if empty is None:
        return
    from harness.data.descriptor import list_digest, shipped_descriptors

    digest = list_digest(classes)
    if not any(known.empty_instances and digest in known.class_sets for known in shipped_descriptors().values()):
        where = f"{path}, video {videos[index[empty]]}"
        raise UserError(f"{where}: `segment` ends where it starts, at {starts[empty]:g} s. Correct or remove it.")


def _segment(segment: Any, where: str) -> tuple[float, float]:
    """Start and end of an instance."""
    if not (isinstance(segment, list) and len(segment) == 2 and all(map(_is_finite, segment))):
        raise UserError(f"{where}: expected `segment` to be two finite numbers (seconds), got {_shown(segment)}.")
    start, end = float(segment[0]), float(segment[1])
    if end < start:
        raise UserError(f"{where}: `segment` ends before it starts: {_shown(segment)}. Correct it.")
    return start, end


def seconds(value: Any, expected: str) -> float:
    """A video's duration as a JSON value, NaN where there is none.

    Args:
        value: the number, or None.
        expected: how the message starts, as `expected ``duration`` `.

    Raises:
        UserError: not a number above 0 and below `LONGEST`.
    """
    if value is None:
        return math.nan
    if not _is_finite(value) or not 0 < value < LONGEST:
        raise UserError(f"{expected} to be seconds, above 0 and below {LONGEST:.0e}, got {_shown(value)}. Correct it.")
    return float(value)


def _is_finite(value: Any) -> bool:
    """Whether a JSON value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def name_text(value: Any, what: str) -> str:
    """A JSON value that is a name: text that is not empty and that UTF-8 can encode.

    Raises:
        UserError: it is not; the message starts with `what`.
    """
    if not isinstance(value, str) or not value:
        raise UserError(f"{what}: expected a name, got {_shown(value)}.")
    check_encodable(value, what)
    return value


def check_encodable(name: str, what: str) -> None:
    r"""Refuse half of a surrogate pair, which JSON can escape (`"\ud800"`) and no file or terminal can hold.

    Raises:
        UserError: it has one; the message starts with `what`.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what}: {name!a} is not text that UTF-8 can encode. Correct it.") from error


def _shown(value: Any) -> str:
    """A value as messages quote it, cut to a line; null is what an absent field reads as."""
    text = json.dumps(value, ensure_ascii=False, default=str).encode(errors="backslashreplace").decode()
    return "nothing" if value is None else text if len(text) <= 60 else text[:57] + "..."
