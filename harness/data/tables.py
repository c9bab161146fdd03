"""Detections and annotations as tables and as objects in memory, in place of files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from wstal.errors import UserError
from wstal.types import Detections, Segments

INSTANCE = ("video", "label", "start", "end")
# of ActivityNet's toolkit
ALIASES = {"video-id": "video", "t-start": "start", "t-end": "end"}


def table_of(segments: Segments) -> pd.DataFrame:
    """Return intervals as a table: `video`, `label`, `start`, `end` in seconds, of detections `score`."""
    columns: dict[str, Any] = {
        "video": [segments.videos[index] for index in segments.video.tolist()],
        "label": [segments.classes[index] for index in segments.label.tolist()],
        "start": segments.start,
        "end": segments.end,
    }
    return pd.DataFrame(columns | ({"score": segments.score} if isinstance(segments, Detections) else {}))


def detection_json(given: Mapping[str, Any] | pd.DataFrame) -> bytes:
    """Return detections as the content of a detection file.

    Args:
        given: content of such a file, its `results` alone, or a table with the columns of `table_of`.

    Raises:
        UserError: a column is missing, or a value is nothing that a file could hold.
    """
    if not isinstance(given, pd.DataFrame):
        return _json(_under("results", given), "detections")
    results: dict[str, list[dict[str, Any]]] = {}
    for video, label, start, end, score in _rows(given, (*INSTANCE, "score"), "detections"):
        results.setdefault(video, []).append({"label": label, "segment": [start, end], "score": score})
    return _json({"results": results}, "detections")


def annotation_json(given: Mapping[str, Any] | pd.DataFrame) -> bytes:
    """Return annotations as the content of an annotation file.

    Args:
        given: content of such a file, its `database` alone, or a table with the columns of `table_of`; there each
            video has an instance, all are one subset, and a column `duration` has the seconds of the videos.

    Raises:
        UserError: as `detection_json`.
    """
    if not isinstance(given, pd.DataFrame):
        return _json(_under("database", given), "ground truth")
    timed = "duration" in given
    database: dict[str, dict[str, Any]] = {}
    for video, label, start, end, *more in _rows(given, (*INSTANCE, *["duration"] * timed), "ground truth"):
        entry = database.setdefault(
            video, {"subset": "test", "annotations": []} | ({"duration": more[0]} if timed else {})
        )
        entry["annotations"].append({"label": label, "segment": [start, end]})
    return _json({"database": database}, "ground truth")


def _under(key: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object that has a key, which may be given without it."""
    if not isinstance(given, Mapping):
        raise UserError(f"Expected a path, an object or a table, got {type(given).__name__}.")
    return given if key in given else {key: given}


def _rows(table: pd.DataFrame, columns: tuple[str, ...], what: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table as Python values."""
    named = table.rename(columns=ALIASES)
    if missing := [column for column in columns if column not in named]:
        raise UserError(
            f"The table of {what} lacks {', '.join(missing)}. It has {', '.join(map(str, table.columns))}; expected "
            f"are {', '.join(columns)}."
        )
    return list(zip(*(named[column].tolist() for column in columns), strict=True))


def _json(content: Mapping[str, Any], what: str) -> bytes:
    try:
        return json.dumps(content, default=lambda value: value.tolist()).encode()
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"The {what} hold a value that is no number, text or list: {error}.") from error
