"""ActivityNet-style annotation files.

`{"database": {video: {"subset": ..., "duration": ..., "annotations": [{"label": ..., "segment": [start, end]}]}}}`,
times in seconds. Other keys such as `taxonomy` are ignored. What the released evaluator takes is taken, with a note:
times in quotes, and segments of length 0 (ActivityNet has a dozen), which count as instances that no detection matches.
A label without a `segment` tells that the class occurs in a video, which is enough to train.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.data.features import some
from harness.data.values import FARTHEST, expect, label_text, name_text, number, remark_on_text, seconds, shown
from harness.io.reading import LARGEST, parse_json, read_limited, read_text, unzipped
from harness.io.text import check_text, printable
from wstal.errors import MissingDataError, UserError
from wstal.types import FloatArray, GroundTruth, Segments

ANNOTATIONS = "annotations.json"
AMBIGUOUS = "Ambiguous_test.txt"
FORM = 'Expected {"database": {video: {"subset", "duration", "annotations": [{"label", "segment"}]}}}.'
AMBIGUOUS_CLASS = "ambiguous"  # lower case
ALONE = "test"  # subset of the videos of a file that names no subset
SUBSET_KINDS = {"train": "training", "val": "validation", "testing": "test"}


class Interval(NamedTuple):
    """Interval of a video in seconds, without a class."""

    video: str
    start: float
    end: float


def subset_kind(name: str) -> str:
    """Return `training`, `validation` or `test` for each name in use, whatever its case, else the name itself.

    >>> subset_kind("Val "), subset_kind("TRAIN"), subset_kind("mine")
    ('validation', 'training', 'mine')
    """
    plain = name.strip().casefold()
    return SUBSET_KINDS.get(plain, plain)


@dataclass(frozen=True, eq=False)
class Annotations(Segments):
    """Content of one annotation file: its instances, videos and classes in all subsets.

    Videos and instances are in file order, and classes are sorted.

    Args:
        path: the file.
        subset: `[V]` subset of each video.
        duration: `[V]` seconds, NaN where the file has none. Some circulating files have wrong ones: never clip to it.
        ambiguous: intervals that some protocols excuse, from `Ambiguous_test.txt` beside the file or of the class
            `Ambiguous`.
        untimed: (video, class name) of labels without a segment.
        notes: what was taken although it is unusual, for people.
    """

    path: Path
    subset: tuple[str, ...]
    duration: FloatArray
    ambiguous: tuple[Interval, ...] = ()
    untimed: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names of the subsets, in order of appearance."""
        return tuple(dict.fromkeys(self.subset))

    def default_test_subset(self) -> str:
        """Return the subset to evaluate on: test if it has instances, else validation, else the only one.

        Raises:
            UserError: none of these.
        """
        annotated: list[str] = list(dict.fromkeys(self.subset[i] for i in np.unique(self.video).tolist()))
        for kind in ("test", "validation"):
            known = [name for name in annotated if subset_kind(name) == kind]
            if len(known) > 1:
                raise UserError(f"{self.path} has subsets {' and '.join(map(repr, known))}. Choose one with --subset.")
            if known:
                return known[0]
        if len(self.subsets) == 1:
            return self.subsets[0]
        raise UserError(
            f"{self.path} has no test or validation subset with annotations. "
            f"Name one of its subsets: {', '.join(self.subsets) or '(it lists no video)'}."
        )

    def ground_truth(self, subset: str | None = None) -> GroundTruth:
        """Return one subset's videos and instances in file order, with all classes of the file.

        Args:
            subset: its name (by default `default_test_subset()`).

        Raises:
            UserError: the file has no such subset, or a label there has no times.
        """
        subset = self.default_test_subset() if subset is None else subset
        if subset not in self.subsets:
            raise UserError(f"{self.path} has no subset {subset!r}. It has: {', '.join(self.subsets)}.")
        place = {name: i for i, name in enumerate(self.videos)}
        untimed = [name for name, _ in self.untimed if self.subset[place[name]] == subset]
        if untimed:
            raise UserError(
                f"{self.path}, video {untimed[0]}: a label has no `segment`, so subset {subset!r} cannot be scored "
                f"({len(untimed)} such labels). State their times, or score another subset."
            )
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


def instances_by_video(content: Segments) -> dict[str, int]:
    """Return the number of instances in each video."""
    counts = np.bincount(content.video, minlength=len(content.videos)).tolist()
    return dict(zip(content.videos, counts, strict=True))


def read_annotations(path: Path, content: bytes | None = None) -> Annotations:
    """Read an annotation file, or the `annotations.json` of a folder, and `Ambiguous_test.txt` beside it if it exists.

    Args:
        path: the file or folder.
        content: JSON of what is in no file; `path` is then its name in messages.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, is not JSON or not ActivityNet-style. The message names the video and field.
    """
    path = Path(path)
    if content is None:
        path = _in_folder(path) if os.path.isdir(path) else path
        parsed = read_data_json(path, FORM)
    else:
        parsed = parse_json(content, path, form=FORM)
    database = parsed.get("database") if isinstance(parsed, dict) else None
    if not isinstance(database, dict):
        raise UserError(f"{path} is not an ActivityNet-style annotation file: it has no `database` object. {FORM}")
    unnamed = bool(database) and not any(isinstance(entry, dict) and "subset" in entry for entry in database.values())
    subsets: list[str] = []
    durations: list[float | None] = []
    instances: list[tuple[int, str, float, float]] = []
    untimed: list[tuple[str, str]] = []
    excused: list[Interval] = []
    texts = 0
    for i, (name, entry) in enumerate(database.items()):
        check_text(name, f"{path}: video id")
        where = f"{path}, video {name}"
        expect(isinstance(entry, dict), f"{where}: expected an object", entry)
        subsets.append(name_text(ALONE if unnamed else entry.get("subset"), f"{where}: `subset`"))
        durations.append(seconds(entry.get("duration"), f"{where}: expected `duration`"))
        annotations = entry.get("annotations", [])
        expect(isinstance(annotations, list), f"{where}: expected `annotations` to be a list", annotations)
        for k, annotation in enumerate(annotations):
            expect(isinstance(annotation, dict), f"{where}, annotation {k}: expected an object", annotation)
            label = label_text(annotation.get("label"), f"{where}, annotation {k}: `label`")
            segment = annotation.get("segment")
            if segment is None:
                untimed.append((name, label))
                continue
            start, end = _segment(segment, f"{where}, annotation {k}")
            texts += any(isinstance(time, str) for time in segment)
            if label.casefold() == AMBIGUOUS_CLASS:
                excused.append(Interval(name, start, end))
            else:
                instances.append((i, label, start, end))
    video, labels, starts, ends = zip(*instances, strict=True) if instances else ((), (), (), ())
    classes = tuple(sorted({*labels, *(name for _, name in untimed)}))
    empty = sum(at == until for at, until in zip(starts, ends, strict=True))
    notes: dict[str, object] = {
        f"{path}: no video names its `subset`, so all are one, {ALONE!r}.": unnamed,
        remark_on_text(path): texts,
        f"{path}: {empty} instances end where they start; they count, and no detection can match them.": empty,
        f"{path}: {len(excused)} instances of `Ambiguous` are Ambiguous intervals, which no class has.": excused,
        f"{path}: {len(untimed)} labels have no times: they are enough to train, not to score their videos.": untimed,
    }
    index = {name: i for i, name in enumerate(classes)}
    beside = path.parent / AMBIGUOUS
    if content is None and os.path.isfile(beside):
        excused = [*read_ambiguous(beside), *excused]
    return Annotations(
        path=path,
        classes=classes,
        videos=tuple(database),
        subset=tuple(subsets),
        duration=np.array(durations, dtype=np.float64),
        video=np.array(video, dtype=np.int64),
        label=np.array([index[name] for name in labels], dtype=np.int64),
        start=np.array(starts, dtype=np.float64),
        end=np.array(ends, dtype=np.float64),
        ambiguous=tuple(dict.fromkeys(excused)),
        untimed=tuple(untimed),
        notes=tuple(note for note, applies in notes.items() if applies),
    )


def _in_folder(folder: Path) -> Path:
    """Return the annotation file of a folder.

    Raises:
        MissingDataError: it is not there. The message names other JSON files.
    """
    path = folder / ANNOTATIONS
    others = json_files(folder)
    if not os.path.lexists(path) and others:
        raise MissingDataError(
            f"{path} is not there. The folder has {some([other.name for other in others])}: "
            f"give the right one, as --annotations {others[0]}."
        )
    return path


def json_files(folder: Path) -> list[Path]:
    """Return the JSON files of a folder, sorted, without its other known files."""
    found = [path for pattern in ("*.json", "*.json.gz") for path in folder.glob(pattern)]
    return sorted(path for path in found if path.name not in ("fps.json", "video_labels.json"))


def read_ambiguous(path: Path) -> tuple[Interval, ...]:
    """Read intervals, one per line: video, start and end in seconds, separated by blanks.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, or a line has another form.
    """
    intervals = []
    for at, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            video, *times = line.split()
            start, end = map(float, times)
        except ValueError:
            start = end = math.nan
        if not -FARTHEST <= start <= end <= FARTHEST:
            got = printable(line.strip(), 80)
            raise UserError(f"{path}, line {at}: expected `video start end` in seconds, got '{got}'.")
        check_text(video, f"{path}, line {at}: video id")
        intervals.append(Interval(video, start, end))
    return tuple(intervals)


def read_data_json(path: Path, form: str = "") -> Any:
    """Read the JSON file of a data set, which may be gzip.

    Args:
        path: the file.
        form: expected form, for the message about a file of another kind.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, is too large, is not JSON, or has a key twice in one object.
    """
    return parse_json(unzipped(read_limited(path), path, LARGEST), path, form=form)


def _segment(segment: Any, where: str) -> tuple[float, float]:
    """Return the start and end of an instance."""
    times = [number(time) for time in segment] if isinstance(segment, list) else []
    if len(times) != 2 or times[0] is None or times[1] is None:
        raise UserError(f"{where}: expected `segment` to be two finite numbers (seconds), got {shown(segment)}.")
    start, end = times[0], times[1]
    if max(abs(start), abs(end)) > FARTHEST:
        raise UserError(f"{where}: `segment` is beyond {FARTHEST:.0e} s: {shown(segment)}. Correct it.")
    if end < start:
        raise UserError(f"{where}: `segment` ends before it starts: {shown(segment)}. Correct it.")
    return start, end
