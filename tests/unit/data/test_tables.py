"""Detections and annotations in memory as the content of files: what is written reads back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.annotations import read_annotations
from harness.data.detections import read_detections
from harness.data.tables import annotation_json, detection_json, table_of
from wstal.errors import UserError

NAME = Path("given")
TIME = st.floats(0, 1e6, allow_nan=False).map(abs)
ROW = st.tuples(st.sampled_from(["v", "w", "v 2"]), st.sampled_from("ab"), TIME, TIME, st.floats(-1, 1))


def table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    ordered = [(video, label, min(one, other), max(one, other), score) for video, label, one, other, score in rows]
    return pd.DataFrame(ordered, columns=["video", "label", "start", "end", "score"])


def by_video(frame: pd.DataFrame) -> list[list[Any]]:
    """Rows by video, in their order: that is how a file keeps them."""
    return frame.sort_values("video", kind="stable").to_numpy().tolist()


@given(st.lists(ROW, min_size=1, max_size=20))
def test_a_table_of_detections_reads_back_to_the_bit(rows: list[tuple[Any, ...]]) -> None:
    frame = table(rows)
    found = table_of(read_detections(NAME, content=detection_json(frame)))
    assert by_video(found) == by_video(frame)
    toolkit = frame.rename(columns={"video": "video-id", "start": "t-start", "end": "t-end"})
    assert detection_json(toolkit) == detection_json(frame)


@given(st.lists(ROW, min_size=1, max_size=20))
def test_a_table_of_instances_reads_back(rows: list[tuple[Any, ...]]) -> None:
    frame = table(rows).drop(columns="score")
    known = read_annotations(NAME, annotation_json(frame.assign(duration=7.5)))
    assert by_video(table_of(known)) == by_video(frame)
    assert known.notes == () or all("end where they start" in note for note in known.notes)
    assert set(known.duration.tolist()) == {7.5}
    assert known.default_test_subset() == "test"
    assert np.isnan(read_annotations(NAME, annotation_json(frame)).duration).all()


def test_objects_are_taken_with_and_without_their_outer_key() -> None:
    inner = {"v": [{"label": "a", "segment": np.array([0.0, 1.5]), "score": np.float32(0.5)}]}
    assert detection_json(inner) == detection_json({"results": inner})
    assert json.loads(detection_json(inner))["results"]["v"][0]["segment"] == [0.0, 1.5]
    video = {"v": {"subset": "val", "annotations": []}}
    assert annotation_json(video) == annotation_json({"database": video})


def test_what_is_none_of_these_is_refused() -> None:
    with pytest.raises(UserError, match=r"The table of detections lacks score\. It has video, label, start, end; exp"):
        detection_json(table([("v", "a", 0, 1, 1)]).drop(columns="score"))
    with pytest.raises(UserError, match="The table of ground truth lacks video"):
        annotation_json(pd.DataFrame({"label": ["a"], "start": [0], "end": [1]}))
    with pytest.raises(UserError, match="The detections hold a value that is no number, text or list"):
        detection_json({"v": [{"label": {"a"}}]})
    with pytest.raises(UserError, match=r"given, video v: the detection .* is not finite"):
        read_detections(NAME, content=detection_json(table([("v", "a", 0, 1, float("nan"))])))
