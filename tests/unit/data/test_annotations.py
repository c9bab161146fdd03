"""Annotation files: what real ones hold is read, what broken ones hold is named."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.annotations import Interval, read_ambiguous, read_annotations
from harness.data.video_facts import per_video
from harness.io import reading as files
from wstal.errors import MissingDataError, UserError


def entry(subset: str = "test", *instances: tuple[str, float, float], duration: Any = 60.0) -> dict[str, Any]:
    return {
        "subset": subset,
        "duration": duration,
        "annotations": [{"label": label, "segment": [start, end]} for label, start, end in instances],
    }


def write(folder: Path, database: dict[str, Any], **others: Any) -> Path:
    path = folder / "annotations.json"
    path.write_text(json.dumps({"version": "x", "taxonomy": [{"nodeName": "Sport"}], "database": database, **others}))
    return path


SMALL = {
    "b": entry("test", ("Run", 5, 9.5), ("Jump", 1, 2)),
    "t": entry("training", ("Swim", 0, 1)),
    "a": entry("test"),
    "c": entry("test", ("Run", 0, 3), duration=None),
}


class TestReading:
    def test_one_subset_in_file_order_with_all_classes_of_the_file(self, tmp_path: Path) -> None:
        truth = read_annotations(write(tmp_path, SMALL)).ground_truth("test")
        assert truth.videos == ("b", "a", "c")
        assert truth.classes == ("Jump", "Run", "Swim")
        assert truth.video.tolist() == [0, 0, 2]
        assert truth.label.tolist() == [1, 0, 1]
        assert truth.start.tolist() == [5, 1, 0]
        assert truth.end.tolist() == [9.5, 2, 3]
        assert truth.ambiguous.shape == (0, 3)

    def test_classes_do_not_depend_on_the_order_of_the_file(self, tmp_path: Path) -> None:
        turned = dict(reversed(SMALL.items()))
        assert read_annotations(write(tmp_path, turned)).classes == ("Jump", "Run", "Swim")

    def test_videos_subsets_and_durations(self, tmp_path: Path) -> None:
        read = read_annotations(write(tmp_path, SMALL))
        assert read.videos == ("b", "t", "a", "c")
        assert read.subset == ("test", "training", "test", "test")
        assert read.subsets == ("test", "training")
        assert read.duration[:3].tolist() == [60, 60, 60]
        assert math.isnan(read.duration[3])

    def test_a_video_without_annotations_field_is_kept(self, tmp_path: Path) -> None:
        read = read_annotations(write(tmp_path, {"a": {"subset": "test"}, "b": SMALL["b"]}))
        assert read.ground_truth("test").videos == ("a", "b")

    def test_a_segment_of_length_zero_counts_with_a_note_whatever_the_classes(self, tmp_path: Path) -> None:
        read = read_annotations(write(tmp_path, {"a": entry("test", ("Run", 2, 2), ("Run", 3, 4))}))
        assert read.ground_truth().end.tolist() == [2, 4]
        assert [note.split(": ", 1)[1] for note in read.notes] == [
            "1 instances end where they start; they count, and no detection can match them."
        ]

    @pytest.mark.parametrize(("text", "value"), [("10.0", 10), (" 7 ", 7), ("1e1", 10), (".5", 0.5), ("+3.", 3)])
    def test_times_in_quotes_are_the_numbers_that_they_state(self, tmp_path: Path, text: str, value: float) -> None:
        database = {"a": entry("test", ("Run", 0, 1), duration="60")}
        database["a"]["annotations"][0]["segment"] = ["0", 100]
        database["b"] = entry("test", ("Run", 0, 1))
        database["b"]["annotations"][0]["segment"] = [text, "100.5"]
        read = read_annotations(write(tmp_path, database))
        assert (read.start.tolist(), read.end.tolist()) == ([0, value], [100, 100.5])
        assert read.duration.tolist() == [60, 60]
        assert len(read.notes) == 1
        assert "times or scores are text" in read.notes[0]

    def test_whole_numbers_name_classes(self, tmp_path: Path) -> None:
        path = write(tmp_path, {"a": entry("test", ("Run", 0, 1))})
        path.write_text(path.read_text().replace('"Run"', "7"))
        assert read_annotations(path).classes == ("7",)

    def test_labels_without_times_are_labels_but_cannot_be_scored(self, tmp_path: Path) -> None:
        weak = {"subset": "training", "annotations": [{"label": "Swim"}, {"label": "Run", "segment": None}]}
        read = read_annotations(write(tmp_path, {"w": weak, **SMALL}))
        assert read.classes == ("Jump", "Run", "Swim")
        assert per_video(read)["w"].labels == ("Run", "Swim")
        assert len(read.ground_truth("test")) == 3
        assert "2 labels have no times" in read.notes[0]
        with pytest.raises(UserError, match=r"video w: a label has no `segment`, so subset 'training'.*2 such labels"):
            read.ground_truth("training")

    def test_ambiguous_as_a_class_is_ambiguous_intervals(self, tmp_path: Path) -> None:
        database = {"a": entry("test", ("Run", 2, 3), ("Ambiguous", 5, 6), ("ambiguous", 0, 1))}
        path = write(tmp_path, database)
        read = read_annotations(path)
        assert (read.classes, len(read.ground_truth())) == (("Run",), 1)
        assert read.ambiguous == (Interval("a", 5, 6), Interval("a", 0, 1))
        assert "2 instances of `Ambiguous`" in read.notes[0]
        (tmp_path / "Ambiguous_test.txt").write_text("a 5 6\n")
        assert read_annotations(path).ambiguous == read.ambiguous

    def test_a_file_that_names_no_subset_is_one(self, tmp_path: Path) -> None:
        database = {name: {"annotations": one["annotations"]} for name, one in SMALL.items()}
        read = read_annotations(write(tmp_path, database))
        assert read.ground_truth().videos == tuple(SMALL)
        assert "no video names its `subset`" in read.notes[0]

    def test_a_byte_order_mark_is_no_error(self, tmp_path: Path) -> None:
        path = write(tmp_path, SMALL)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert len(read_annotations(path).videos) == 4

    def test_a_folder_stands_for_the_file_and_what_is_beside_it(self, tmp_path: Path) -> None:
        write(tmp_path, SMALL)
        (tmp_path / "Ambiguous_test.txt").write_text("c  1.5 2\nelsewhere 0 1\n\nb 3 4.5\n")
        truth = read_annotations(tmp_path).ground_truth("test")
        assert truth.ambiguous.tolist() == [[2, 1.5, 2], [0, 3, 4.5]]
        given = replace(read_annotations(tmp_path), ambiguous=(Interval("a", 1, 2),)).ground_truth("test")
        assert given.ambiguous.tolist() == [[1, 1, 2]]

    def test_fifteen_thousand_videos_are_read_at_once(self, tmp_path: Path) -> None:
        many = {
            f"v{i:05d}": entry("validation", *[(f"class {i % 200}", k, k + 1) for k in range(2)]) for i in range(15_000)
        }
        path = write(tmp_path, many)
        begin = time.process_time()
        assert len(read_annotations(path).ground_truth()) == 30_000
        assert time.process_time() - begin < 10  # 0.2 s; a quadratic reader takes minutes


class TestTestSubset:
    @pytest.mark.parametrize(
        ("subsets", "annotated", "expected"),
        [
            (("training", "validation", "test"), ("training", "validation", "test"), "test"),
            (("training", "testing"), ("training", "testing"), "testing"),
            (("training", "validation", "testing"), ("training", "validation"), "validation"),
            (("train", "val"), ("train", "val"), "val"),
            (("mine",), ("mine",), "mine"),
            (("mine",), (), "mine"),
            (("Training", "Testing"), ("Training", "Testing"), "Testing"),
            (("TRAIN", "Val"), ("TRAIN", "Val"), "Val"),
            (("train", "VALIDATION ", "test"), ("train", "VALIDATION "), "VALIDATION "),
        ],
    )
    def test_default(self, tmp_path: Path, subsets: tuple[str, ...], annotated: tuple[str, ...], expected: str) -> None:
        database = {name: entry(name, *[("Run", 0, 1)] * (name in annotated)) for name in subsets}
        assert read_annotations(write(tmp_path, database)).default_test_subset() == expected

    def test_none(self, tmp_path: Path) -> None:
        database = {name: entry(name, ("Run", 0, 1)) for name in ("one", "two")}
        with pytest.raises(UserError, match="Name one of its subsets: one, two"):
            read_annotations(write(tmp_path, database)).default_test_subset()

    def test_two_names_of_one_subset_are_two_readings(self, tmp_path: Path) -> None:
        database = {name: entry(name, ("Run", 0, 1)) for name in ("test", "Testing")}
        with pytest.raises(UserError, match=r"has subsets 'test' and 'Testing'\. Choose one with --subset"):
            read_annotations(write(tmp_path, database)).default_test_subset()

    def test_unknown(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no subset 'val'\. It has: test, training"):
            read_annotations(write(tmp_path, SMALL)).ground_truth("val")


def broken(**changes: Any) -> dict[str, Any]:
    return {"good": entry("test", ("Run", 0, 1)), "bad": {**entry("test", ("Run", 0, 1)), **changes}}


def instance(**changes: Any) -> dict[str, Any]:
    return broken(annotations=[{"label": "Run", "segment": [0, 1], **changes}])


class TestErrors:
    @pytest.mark.parametrize(
        ("database", "message"),
        [
            (instance(segment=[2, 1]), r"video bad, annotation 0: `segment` ends before it starts: \[2, 1\]"),
            (instance(segment=[0, math.inf]), "two finite numbers"),
            (instance(segment=[0, math.nan]), "two finite numbers"),
            (instance(segment=[0, 10**400]), "two finite numbers"),
            (instance(segment=[0, 1.1e12]), r"annotation 0: `segment` is beyond 1e\+12 s: \[0, 1100000000000.0\]"),
            (instance(segment=[-1.1e12, 0]), "`segment` is beyond"),
            (instance(label="x" * 1_001), "annotation 0: `label`: 'x+\\.\\.\\.' is longer than 1,000 characters"),
            (instance(label="a\nb"), r"annotation 0: `label`: 'a\\nb' has control characters"),
            ({"bad\x1b[31m": entry()}, r"video id: 'bad\\x1b\[31m' has control characters"),
            (instance(segment=[0, "nan"]), "two finite numbers"),
            (instance(segment=[0, "Infinity"]), "two finite numbers"),
            (instance(segment=[0, "1e999"]), "two finite numbers"),
            (instance(segment=[0, "1_0"]), "two finite numbers"),
            (instance(segment=[0, ""]), "two finite numbers"),
            (instance(segment="01"), "two finite numbers"),
            (instance(segment=[0, True]), "two finite numbers"),
            (instance(segment=[0, 1, 2]), "two finite numbers"),
            (instance(label=None), "annotation 0: `label`: expected a name"),
            (instance(label=3.5), "got 3.5"),
            (instance(label=True), "got true"),
            (instance(label=""), "expected a name"),
            (broken(annotations={}), "`annotations` to be a list"),
            (broken(annotations=[1]), "annotation 0: expected an object, got 1"),
            (broken(subset=None), "video bad: `subset`: expected a name, got nothing"),
            (broken(duration=-1), "`duration` to be seconds"),
            (broken(duration="nan"), "`duration` to be seconds"),
            (broken(duration=0), "`duration` to be seconds, above 0"),
            (broken(duration=1e308), "`duration` to be seconds, above 0 and below 1e"),
            (broken(duration=1e7), "`duration` to be seconds"),
            (broken(duration=10**400), "`duration` to be seconds"),
            (broken(duration=math.nan), "`duration` to be seconds"),
            (broken(subset="\ud800"), r"`subset`: '\\ud800' is not text that UTF-8 can encode"),
            (instance(label="R\udfff"), r"annotation 0: `label`: 'R\\udfff' is not text that UTF-8 can encode"),
            ({"bad\ud800": entry()}, r"video id: 'bad\\ud800' is not text that UTF-8 can encode"),
            (instance(segment=["\ud800", 1]), "two finite numbers"),
            ({"bad": []}, r"video bad: expected an object, got \[\]"),
        ],
    )
    def test_name_the_file_the_video_and_the_field(
        self, tmp_path: Path, database: dict[str, Any], message: str
    ) -> None:
        path = write(tmp_path, database)
        with pytest.raises(UserError, match=message) as caught:
            read_annotations(path)
        assert str(path) in str(caught.value)
        assert "bad" in str(caught.value)
        assert "\n" not in str(caught.value)
        str(caught.value).encode()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "not valid JSON, or cut off"),
            (b"video,start\n", "not valid JSON"),
            (b'{"database": {"a": {"subset": "te', "not valid JSON, or cut off"),
            (b"\xff\xfe\x00\x01\x99", "not valid JSON"),
            (b"[" * 100_000, "not valid JSON"),
            (b"[]", "no `database` object"),
            (b'{"results": {}}', "not an ActivityNet-style annotation file"),
            (b'{"database": []}', "no `database` object"),
            (b'{"database": {"a": {"subset": "x"}, "a": {"subset": "y"}}}', "'a' is given twice"),
        ],
    )
    def test_files_that_are_something_else(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = tmp_path / "file.json"
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_annotations(path)

    def test_missing(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.json", tmp_path, tmp_path / "none" / "file.json"):
            with pytest.raises(MissingDataError, match="is not there"):
                read_annotations(path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_unreadable(self, tmp_path: Path) -> None:
        path = write(tmp_path, SMALL)
        path.chmod(0)
        with pytest.raises(UserError, match=r"Cannot read .*Permission denied"):
            read_annotations(path)

    def test_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "LARGEST", 10)
        with pytest.raises(UserError, match="more than the limit"):
            read_annotations(write(tmp_path, SMALL))

    @pytest.mark.parametrize("line", ["v 1", "v 2 1", "v a 2", "v 1 2 3", "v 1 nan", "v 1 2e12", "v -2e12 1"])
    def test_ambiguous_lines(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "Ambiguous_test.txt"
        path.write_text(f"v 1 2\n{line}\n")
        with pytest.raises(UserError, match="line 2: expected `video start end`"):
            read_ambiguous(path)


@pytest.mark.shared
class TestRealFiles:
    @pytest.mark.parametrize(
        ("name", "subset", "videos", "instances", "classes"),
        [
            ("thumos14", "test", 212, 3358, 20),
            ("thumos14/annotations.json", "validation", 200, 3007, 20),
            ("activitynet13", None, 4926, 7654, 200),
            ("ucf_untrimmed", None, 45, None, None),
            ("detections/thumos14_autoloc_groundtruth.json", None, 210, 3234, 20),
        ],
    )
    def test_counts(
        self, shared: Path, name: str, subset: str | None, videos: int, instances: int | None, classes: int | None
    ) -> None:
        truth = read_annotations(shared / "data" / name).ground_truth(subset)
        assert len(truth.videos) == videos
        assert instances in (None, len(truth))
        assert classes in (None, len(truth.classes))

    def test_ambiguous_intervals_of_thumos14(self, shared: Path) -> None:
        read = read_annotations(shared / "data" / "thumos14")
        assert len(read.ambiguous) == 99
        assert read.ambiguous[0] == Interval("video_test_0000278", 0.0, 1.4)
        ambiguous = read.ground_truth("test").ambiguous
        assert len(ambiguous) == 96  # three are of a video that is not listed
        assert len(np.unique(ambiguous[:, 0])) == 36
        assert not len(read.ground_truth("validation").ambiguous)
