"""Detection files: they read back unchanged, and what is wrong in one is named."""

from __future__ import annotations

import gzip
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import detections as module
from harness.data.detections import read_detections, write_detections
from tests.helpers.memory import traced_peak
from wstal.errors import MissingDataError, StoreError, UserError
from wstal.types import Detections


def row(label: Any = "Run", segment: Any = (0.5, 2), score: Any = 0.25) -> dict[str, Any]:
    return {"label": label, "segment": segment, "score": score}


def write(folder: Path, results: Any, **others: Any) -> Path:
    path = folder / "detections.json"
    path.write_text(json.dumps({"results": results, **others}))
    return path


EXAMPLE = Detections(
    videos=("b", "a", "none"),
    classes=("Jump", 'Ski "off"', "Übung"),
    video=np.array([0, 1, 0, 1]),
    label=np.array([2, 0, 1, 1]),
    start=np.array([0.1, 1 / 3, 5.0, 0.0]),
    end=np.array([0.30000000000000004, 2.5, 7.0, 1e-9]),
    score=np.array([-1.5, 1e300, 5e-324, 0.0]),
)


class TestReading:
    def test_columns(self, tmp_path: Path) -> None:
        path = write(tmp_path, {"b": [row(), row("Jump", (3, 4), 7)], "a": [], "c": [row(score=-1)]}, version="1")
        read = read_detections(path)
        assert read.videos == ("b", "a", "c")
        assert read.classes == ("Jump", "Run")
        assert read.video.tolist() == [0, 0, 2]
        assert read.label.tolist() == [1, 0, 1]
        assert read.start.tolist() == [0.5, 3, 0.5]
        assert read.end.tolist() == [2, 4, 2]
        assert read.score.tolist() == [0.25, 7, -1]

    def test_classes_of_the_annotations_number_the_labels(self, tmp_path: Path) -> None:
        read = read_detections(write(tmp_path, {"b": [row("Run"), row("Jump")]}), ("Aim", "Jump", "Run"))
        assert read.classes == ("Aim", "Jump", "Run")
        assert read.label.tolist() == [2, 1]

    def test_labels_that_look_like_numbers_stay_names(self, tmp_path: Path) -> None:
        assert read_detections(write(tmp_path, {"b": [row("10"), row("9")]})).classes == ("10", "9")

    def test_other_fields_are_ignored(self, tmp_path: Path) -> None:
        rows = [{**row(), "proposal": {"id": 3}}]
        path = write(tmp_path, {"b": rows}, external_data={"used": True, "details": {"segment": "none"}, "n": [1]})
        with pytest.raises(UserError, match="outside of `results`"):
            read_detections(path)  # an object with a segment is a detection, wherever it is
        path = write(tmp_path, {"b": rows}, external_data={"used": True, "details": "3rd fully connected layer"})
        assert len(read_detections(path)) == 1

    def test_numbers_in_quotes_are_taken_with_one_note(self, tmp_path: Path) -> None:
        rows = [row(segment=["0.5", 2], score="0.25"), row(segment=["1", "2.0"], score=1), row(3)]
        notes: list[str] = []
        read = read_detections(write(tmp_path, {"b": rows}), notes=notes)
        assert (read.start.tolist(), read.end.tolist()) == ([0.5, 1, 0.5], [2, 2, 2])
        assert read.score.tolist() == [0.25, 1, 0.25]
        assert read.classes == ("3", "Run")
        assert len(notes) == 1
        assert "times or scores are text" in notes[0]

    def test_detections_of_length_zero_are_taken_with_one_note(self, tmp_path: Path) -> None:
        notes: list[str] = []
        read = read_detections(write(tmp_path, {"b": [row(segment=[1, 1]), row(), row(segment=[0, 0])]}), notes=notes)
        assert len(read) == 3
        assert [note.split(": ", 1)[1] for note in notes] == ["2 detections end where they start; they match nothing."]

    def test_detections_of_ambiguous_are_left_out(self, tmp_path: Path) -> None:
        notes: list[str] = []
        path = write(tmp_path, {"b": [row("Ambiguous"), row("Jump")], "c": [row("Ambiguous")]})
        read = read_detections(path, ("Jump", "Run"), notes=notes)
        assert (read.videos, read.video.tolist(), read.label.tolist()) == (("b", "c"), [0], [0])
        assert "2 detections of `Ambiguous`" in notes[0]
        assert len(read_detections(path, ("Ambiguous", "Jump"))) == 3

    def test_gzip_is_known_by_its_content(self, tmp_path: Path) -> None:
        path = write(tmp_path, {"b": [row()]})
        path.write_bytes(gzip.compress(path.read_bytes()))
        assert len(read_detections(path)) == 1

    def test_a_run_that_found_nothing(self, tmp_path: Path) -> None:
        path = write(tmp_path, {"b": []})
        nothing = read_detections(path, ("Run",), allow_empty=True)
        assert (len(nothing), nothing.videos, nothing.classes) == (0, ("b",), ("Run",))
        assert nothing.video.dtype == nothing.label.dtype == np.int64
        with pytest.raises(UserError, match="has no detections"):
            read_detections(path)


class TestWriting:
    @pytest.mark.parametrize("name", ["d.json", "d.json.gz"])
    def test_reads_back_unchanged(self, tmp_path: Path, name: str) -> None:
        write_detections(tmp_path / name, EXAMPLE)
        read = read_detections(tmp_path / name, EXAMPLE.classes)
        assert (read.videos, read.classes) == (EXAMPLE.videos, EXAMPLE.classes)
        order = np.argsort(EXAMPLE.video, kind="stable")  # rows go video by video
        for column in ("video", "label", "start", "end", "score"):
            assert getattr(read, column).tolist() == getattr(EXAMPLE, column)[order].tolist()

    @pytest.mark.parametrize("name", ["d.json", "d.json.gz"])
    def test_the_same_detections_give_the_same_bytes(self, tmp_path: Path, name: str) -> None:
        first, second = tmp_path / "1" / name, tmp_path / "2" / f"other-{name}"
        for path in (first, second):
            write_detections(path, EXAMPLE)
        assert first.read_bytes() == second.read_bytes()

    def test_is_plain_activitynet_json(self, tmp_path: Path) -> None:
        write_detections(tmp_path / "d.json", EXAMPLE, version="run 1")
        content = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
        assert content["version"] == "run 1"
        assert content["external_data"] == {}
        assert content["results"]["a"][0] == {"label": "Jump", "segment": [1 / 3, 2.5], "score": 1e300}
        assert content["results"]["none"] == []

    def test_a_zipped_file_written_video_by_video_is_that_of_the_whole_text(self, tmp_path: Path) -> None:
        many = found_in_videos(300)
        for name in ("d.json", "d.json.gz"):
            write_detections(tmp_path / name, many)
        text = (tmp_path / "d.json").read_bytes()
        whole = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=whole, mtime=0, compresslevel=6) as file:
            file.write(text)
        assert (tmp_path / "d.json.gz").read_bytes() == whole.getvalue()

    def test_memory_grows_by_less_than_a_detection_has_columns(self, tmp_path: Path) -> None:
        def peak(videos: int) -> int:
            many = found_in_videos(videos)
            return traced_peak(lambda: write_detections(tmp_path / "d.json.gz", many))

        few, most = peak(20), peak(320)
        assert most - few < 300 * 100 * 8  # 300 videos of 100 rows, five columns of 8 bytes; as text 130 bytes each

    def test_numbers_that_json_does_not_have_are_refused(self, tmp_path: Path) -> None:
        bad = EXAMPLE.select(np.array([0]))
        bad.score[0] = math.nan
        with pytest.raises(ValueError, match="not finite"):
            write_detections(tmp_path / "d.json", bad)
        assert not list(tmp_path.iterdir())

    def test_a_file_where_the_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_text("")
        with pytest.raises(StoreError):
            write_detections(tmp_path / "f" / "d.json", EXAMPLE)

    @given(
        columns=st.lists(
            st.tuples(
                st.floats(0, 1e6), st.floats(1e-3, 1e3), st.floats(allow_nan=False, allow_infinity=False, width=64)
            ),
            min_size=1,
        )
    )
    def test_every_float_survives(self, tmp_path_factory: pytest.TempPathFactory, columns: list[Any]) -> None:
        start, length, score = np.array(columns, dtype=np.float64).T
        zeros = np.zeros(len(start), dtype=np.int64)
        path = tmp_path_factory.mktemp("floats") / "d.json"
        write_detections(path, Detections(("v",), ("c",), zeros, zeros, start, start + length, score=score))
        read = read_detections(path)
        np.testing.assert_array_equal(read.start, start)
        np.testing.assert_array_equal(read.end, start + length)
        np.testing.assert_array_equal(read.score, score)


def found_in_videos(videos: int) -> Detections:
    """A hundred detections in each video."""
    rng = np.random.default_rng(0)
    start, length, score = rng.random((3, 100 * videos))
    video = np.repeat(np.arange(videos), 100)
    return Detections(tuple(f"v{i}" for i in range(videos)), ("c",), video, 0 * video, start, start + length, score)


class TestErrors:
    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (row(score=math.nan), "is not finite"),
            (row(score=math.inf), "is not finite"),
            (row(segment=[0, math.nan]), "is not finite"),
            (row(segment=[2, 1]), "ends before it starts"),
            (row(segment=[0, 1.1e12]), r"is beyond 1e\+12 s"),
            (row(segment=[-1.1e12, 0.5]), r"is beyond 1e\+12 s"),
            (row(label=[[[[[["x" * 500]]]]]]), "expected label, segment and score"),
            (row(segment=[1]), "expected label, segment and score"),
            (row(segment="ab"), "expected label, segment and score"),
            (row(segment=3), "expected label, segment and score"),
            (row(segment=[0, 10**400]), "expected label, segment and score"),
            (row(score="nan"), "expected label, segment and score"),
            (row(score="1,5"), "expected label, segment and score"),
            (row(segment=["0", "Infinity"]), "expected label, segment and score"),
            (row(segment="12"), "expected label, segment and score"),
            (row(score=None), "expected label, segment and score"),
            (row(score=True), "expected label, segment and score"),
            (row(label=3.5), "expected label, segment and score"),
            (row(label=True), "expected label, segment and score"),
            ({"label": "Run", "segment": [0, 1]}, "expected label, segment and score"),
            ({"label": "Run", "score": 1}, "a `segment` each"),
            (3, "a `segment` each"),
            (None, "a `segment` each"),
        ],
    )
    def test_name_the_file_and_the_video(self, tmp_path: Path, fault: Any, message: str) -> None:
        path = write(tmp_path, {"good": [row()], "none": [], "bad": [row(), fault], "later": [row()]})
        with pytest.raises(UserError, match=message) as caught:
            read_detections(path)
        assert f"{path}, video bad" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("results", "what"),
        [({"bad\ud800": [row()]}, "video id"), ({"b": [row(label="\ud800")]}, "label")],
    )
    def test_half_a_surrogate_pair(self, tmp_path: Path, results: Any, what: str) -> None:
        path = write(tmp_path, results)
        with pytest.raises(UserError, match=rf"detections.json: {what}: '.*\\ud800' is not text that UTF-8 can"):
            read_detections(path)

    def test_messages_can_be_printed_whatever_they_quote(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="expected label") as caught:
            read_detections(write(tmp_path, {"b": [row(label=["\ud800"])]}))
        str(caught.value).encode()

    def test_unknown_label(self, tmp_path: Path) -> None:
        path = write(tmp_path, {"good": [row("Jump")], "bad": [row("Jmp")]})
        with pytest.raises(UserError, match=r"video bad: unknown label 'Jmp'; did you mean 'Jump'\?"):
            read_detections(path, ("Jump", "Run"))
        with pytest.raises(UserError, match=r"unknown label 'Jmp'\. The annotations have 2 classes: 0, 1"):
            read_detections(write(tmp_path, {"bad": [row("Jmp")]}), ("0", "1"))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "not valid JSON, or cut off"),
            (b'{"results": {"a": [{"label": "x", "segment": [1', "not valid JSON, or cut off"),
            (b"[" * 100_000, "not valid JSON"),
            (b"[]", "no `results` object"),
            (b'{"database": {}}', "not an ActivityNet-style detection file"),
            (b'{"results": []}', "no `results` object"),
            (b'{"results": {"a": {}}}', "video a: expected a list"),
            (b'{"results": {"a": [], "a": []}}', "'a' is given twice"),
            (b'{"results": {"a": [{"label": "x", "label": "y", "segment": [0, 1], "score": 1}]}}', "given twice"),
            (gzip.compress(b'{"results": {}}', mtime=0)[:-4], "not a complete gzip file"),
            (b"\x1f\x8b\x00\x00", "not a complete gzip file"),
        ],
    )
    def test_files_that_are_something_else(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = tmp_path / "file.json"
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_detections(path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingDataError, match="is not there"):
            read_detections(tmp_path / "none.json")

    def test_a_small_file_that_unpacks_to_a_large_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "LARGEST", 1000)
        path = tmp_path / "d.json.gz"
        path.write_bytes(gzip.compress(b" " * 100_000))
        with pytest.raises(UserError, match="the limit"):
            read_detections(path)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "rows", "videos"),
    [
        ("thumos14_stpn", 9151, 209),
        ("thumos14_pmil_base", 31587, 212),
        ("thumos14_autoloc", 20763, 213),
        ("activitynet13_imatge", 7786, 4926),
    ],
)
def test_released_files(shared: Path, name: str, rows: int, videos: int) -> None:
    read = read_detections(shared / "data" / "detections" / f"{name}.json")
    assert (len(read), len(read.videos)) == (rows, videos)
