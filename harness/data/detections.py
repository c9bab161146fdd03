"""Detection files, ActivityNet-style: `{"results": {video: [{"label", "segment": [start, end], "score"}]}}`.

`version` and `external_data` are optional and ignored, and `.gz` files are gzip. Times are seconds (or the unit of the
annotations), scores have any finite scale.
"""

from __future__ import annotations

import gzip
import json
import math
from array import array
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from harness.data.annotations import AMBIGUOUS_CLASS
from harness.data.values import FARTHEST, number, remark_on_text, shown
from harness.io.atomic import atomic_file
from harness.io.reading import parse_json, read_limited, unique_keys, unzipped
from harness.io.text import check_text, did_you_mean
from wstal.errors import UserError
from wstal.types import Detections

FORM = 'Expected {"results": {video: [{"label": ..., "segment": [start, end], "score": ...}]}}.'
LARGEST = 2**29  # bytes of JSON: five million detections, five times ActivityNet's at 200 a video
ROW = object()


def read_detections(
    path: Path,
    classes: Sequence[str] | None = None,
    *,
    allow_empty: bool = False,
    notes: list[str] | None = None,
    content: bytes | None = None,
) -> Detections:
    """Read a detection file.

    Args:
        path: `.json` or `.json.gz`.
        classes: valid labels, usually the annotation file's (by default the file's own, sorted).
        allow_empty: whether to accept a file without any detection, as a run that found nothing writes it.
        notes: notes for people, to which some may be added.
        content: JSON of what is in no file; `path` is then its name in messages.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, has another form, an unknown label, a number that is not finite, a segment that
            ends before it starts, a video twice, or no detection. The message names the video.
    """
    path = Path(path)
    columns = _Columns()
    videos = _parse(path, columns, content)
    counts = np.array([len(rows) for rows in videos.values()], dtype=np.int64)
    if counts.sum() != len(columns):
        raise UserError(f"{path} has detections outside of `results`. {FORM}")
    video = np.repeat(np.arange(len(videos)), counts)
    names = tuple(videos)
    start, end, score = (np.frombuffer(column) for column in (columns.start, columns.end, columns.score))
    label = np.frombuffer(columns.label, dtype=np.int64)
    if columns.faults:
        row, fault = min(columns.faults.items())
        raise UserError(f"{path}, video {names[video[row]]}: {fault}.")
    finite = np.isfinite(start) & np.isfinite(end) & np.isfinite(score)
    for bad, fault in (
        (~finite, "is not finite"),
        (end < start, "ends before it starts"),
        (np.maximum(abs(start), abs(end)) > FARTHEST, f"is beyond {FARTHEST:.0e} s"),
    ):
        if bad.any():
            row = int(np.argmax(bad))
            detection = f"the detection [{start[row]}, {end[row]}] with score {score[row]}"
            raise UserError(f"{path}, video {names[video[row]]}: {detection} {fault} ({bad.sum()} such). Correct it.")
    if notes is not None:
        empty = int((start == end).sum())
        notes += [remark_on_text(path)] if columns.texts else []
        notes += [f"{path}: {empty} detections end where they start; they match nothing."] if empty else []
    if not len(columns) and not allow_empty:
        raise UserError(f"{path} has no detections: `results` is empty. Check how it was written.")
    known = tuple(sorted(columns.labels)) if classes is None else tuple(classes)
    places = {name: i for i, name in enumerate(known)}
    unscored = {name for name in columns.labels if name.casefold() == AMBIGUOUS_CLASS and name not in places}
    for name, index in columns.labels.items():
        check_text(name, f"{path}: label")
        if name not in places and name not in unscored:
            where = names[video[int(np.argmax(label == index))]]
            few = f"{', '.join(known[:5])}{', ...' if len(known) > 5 else ''}"
            raise UserError(
                f"{path}, video {where}: unknown label {name!r}{did_you_mean(name, known)} "
                f"The annotations have {len(known)} classes: {few}."
            )
    label = np.array([places.get(name, -1) for name in columns.labels], dtype=np.int64)[label]
    scored = label >= 0
    if unscored and notes is not None:
        notes.append(f"{path}: {(~scored).sum()} detections of `Ambiguous`, which is no class, were left out.")
    return Detections(names, known, video[scored], label[scored], start[scored], end[scored], score[scored])


def write_detections(path: Path, detections: Detections, version: str = "wstal-bench") -> None:
    """Write a detection file completely or not at all, with equal bytes for equal detections.

    Rows keep their order within a video, and videos without detection are listed. Numbers are written so that they read
    back unchanged.

    Args:
        path: `.json`, or `.json.gz` to compress.
        detections: the detections, all finite.
        version: value of the file's `version`.

    Raises:
        StoreError: the file cannot be written.
    """
    if not all(np.isfinite(column).all() for column in (detections.start, detections.end, detections.score)):
        raise ValueError("detections hold a time or score that is not finite")
    with atomic_file(path) as file, _zipped(file) if path.name.endswith(".gz") else nullcontext(file) as content:
        content.write(f'{{"version": {json.dumps(version)}, "results": {{\n'.encode())
        for number, text in enumerate(_texts(detections)):
            content.write(((",\n" if number else "") + text).encode())
        content.write(b'\n}, "external_data": {}}\n')


def _zipped(file: BinaryIO) -> gzip.GzipFile:
    """Return a gzip file whose header holds neither time nor name, so that equal content has equal bytes."""
    return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)


def _texts(detections: Detections) -> Iterator[str]:
    """Yield each video's detections as text: the text of millions at once takes gigabytes."""
    if (detections.video[1:] < detections.video[:-1]).any():
        detections = detections.select(np.argsort(detections.video, kind="stable"))
    bounds = np.searchsorted(detections.video, np.arange(len(detections.videos) + 1)).tolist()
    labels = [json.dumps(name, ensure_ascii=False) for name in detections.classes]
    columns = (detections.label, detections.start, detections.end, detections.score)
    for name, (first, stop) in zip(detections.videos, pairwise(bounds), strict=True):
        rows = ", ".join(
            f'{{"label": {labels[label]}, "segment": [{start!r}, {end!r}], "score": {score!r}}}'
            for label, start, end, score in zip(*(column[first:stop].tolist() for column in columns), strict=True)
        )
        yield f"{json.dumps(name, ensure_ascii=False)}: [{rows}]"


class _Columns:
    """Columns of detections, filled while a file is parsed: a million Python objects would take 0.6 GB."""

    def __init__(self) -> None:
        self.labels: dict[str, int] = {}
        self.faults: dict[int, str] = {}
        self.texts = 0  # detections with a number in quotes
        self.label = array("q")
        self.start = array("d")
        self.end = array("d")
        self.score = array("d")

    def __len__(self) -> int:
        return len(self.label)

    def take(self, pairs: list[tuple[str, Any]]) -> Any:
        """Put a detection into the columns and return a mark, or return another object unchanged (object hook)."""
        fields = unique_keys(pairs)
        if "segment" not in fields:
            return fields
        try:
            label, (start, end), score = fields["label"], fields["segment"], fields["score"]
            # the cheap test decides for nearly every row, and integers and faults take the other one
            if not (type(start) is type(end) is type(score) is float and type(label) is str):
                if type(fields["segment"]) is not list or type(label) not in (str, int):
                    raise TypeError
                self.texts += str in {type(start), type(end), type(score)}
                label, (start, end, score) = str(label), map(_float, (start, end, score))
        except (KeyError, TypeError, ValueError, OverflowError):
            self.faults[len(self)] = f"expected label, segment and score, got {shown(fields, 100)}"
            label, start, end, score = "", math.nan, math.nan, math.nan
        self.start.append(start)
        self.end.append(end)
        self.score.append(score)
        self.label.append(self.labels.setdefault(label, len(self.labels)))
        return ROW


def _float(value: Any) -> float:
    """Return a number or the number that text states, also one that is not finite.

    Raises:
        TypeError: it is neither.
        OverflowError: it is an integer that no float holds.
    """
    found = number(value) if isinstance(value, str) else value
    if not isinstance(found, int | float) or isinstance(found, bool):
        raise TypeError
    return float(found)


def _parse(path: Path, columns: _Columns, content: bytes | None) -> dict[str, list[Any]]:
    """Return the `results` of a file by video, with each detection put into `columns` and replaced by a mark."""
    if content is None:
        content = unzipped(read_limited(path, LARGEST), path, LARGEST, "Leave out the lowest scores.")
    parsed = parse_json(content, path, hook=columns.take, form=FORM)
    results = parsed.get("results") if isinstance(parsed, dict) else None
    if not isinstance(results, dict):
        raise UserError(f"{path} is not an ActivityNet-style detection file: it has no `results` object. {FORM}")
    for name, rows in results.items():
        check_text(name, f"{path}: video id")
        if not isinstance(rows, list) or rows.count(ROW) != len(rows):
            raise UserError(f"{path}, video {name}: expected a list of detections with a `segment` each. {FORM}")
    return results
