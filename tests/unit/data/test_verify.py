import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from harness.data.opening import open_dataset
from harness.data.verify import VerifyReport, verify
from wstal.errors import MissingDataError, UserError

ROWS = {"t1": ("training", 10), "t2": ("training", 4), "s1": ("test", 5), "s2": ("test", 3)}


def folder_of(name: str) -> str:
    return "train" if name.startswith("t") else "test"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A sound data set of two streams, 3 and 2 columns, 0.64 s a row."""
    database = {
        name: {
            "subset": subset,
            "duration": rows * 0.64,
            "annotations": [{"label": "run", "segment": [0.0, 1.0]}, {"label": "jump", "segment": [1.0, 2.0]}],
        }
        for name, (subset, rows) in ROWS.items()
    }
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}))
    for name, (_, rows) in ROWS.items():
        for stream, width in (("rgb", 3), ("flow", 2)):
            save(tmp_path, name, stream, some_rows(rows, width))
    return tmp_path


def some_rows(rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(rows).random((rows, width), dtype=np.float32)


def save(data: Path, name: str, stream: str, array: np.ndarray) -> None:
    path = data / "features" / folder_of(name) / stream / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=array.dtype.hasobject)


def failures(report: VerifyReport) -> dict[str, list[tuple[str, str]]]:
    return {check.name: check.failures for check in report.checks if check.failures}


def test_a_sound_data_set(data: Path) -> None:
    report = verify(data)
    assert failures(report) == {}
    assert report.exit_code == 0
    passed = {check.name: check.passed for check in report.checks}
    assert passed["test: values finite"] == 4
    assert passed["train: rows fit durations"] == 2
    assert passed["labels known"] == 4


def nan(rows: int, width: int) -> np.ndarray:
    array = some_rows(rows, width)
    array[rows - 1, 0] = np.nan
    return array


@pytest.mark.parametrize(
    ("array", "checks", "problem"),
    [
        (nan(5, 3), {"test: values finite"}, "row 4 of 5 has NaN"),
        (some_rows(5, 4), {"test: widths alike"}, "4, expected 3"),
        (np.ones((5, 3), np.int32), {"test: files readable, [T, width] float"}, "holds int32"),
        (np.ones(5, np.float32), {"test: files readable, [T, width] float"}, "has shape [5]"),
        (some_rows(0, 3), {"test: files readable, [T, width] float"}, "is empty"),
        (np.array([[None]]), {"test: files readable, [T, width] float"}, "data convert"),
        (some_rows(4, 3), {"test: streams of one length"}, "4 and 5 rows"),
        (
            some_rows(9, 3),
            {"test: streams of one length", "test: rows fit durations"},
            "9 and 5 rows",
        ),
    ],
)
def test_a_bad_file_is_named_and_the_rest_still_checked(
    data: Path, array: np.ndarray, checks: set[str], problem: str
) -> None:
    save(data, "s1", "rgb", array)
    report = verify(data)
    found = failures(report)
    assert set(found) == checks
    assert report.exit_code == 2
    (name, message), *_ = next(iter(found.values()))
    assert problem in message
    assert "s1" in name
    assert {check.name: check.passed for check in report.checks}["train: values finite"] == 4


@pytest.mark.parametrize("stated", [True, False])
def test_one_odd_file_is_named_though_it_comes_first(data: Path, stated: bool) -> None:
    """Whether widths are stated or found in the files: the others are no failure, and the check goes on."""
    if stated:
        streams = 'streams = [{ name = "rgb", width = 3 }, { name = "flow", width = 2 }]\n'
        (data / "dataset.toml").write_text('name = "m"\ntitle = "m"\nextractor = "m"\nfps = 25.0\n' + streams)
    content = json.loads((data / "annotations.json").read_text())
    content["database"]["t3"] = content["database"]["t2"]
    (data / "annotations.json").write_text(json.dumps(content))
    for stream, width in (("rgb", 3), ("flow", 2)):
        shutil.copy(data / f"features/train/{stream}/t2.npy", data / f"features/train/{stream}/t3.npy")
        assert np.load(data / f"features/train/{stream}/t3.npy").shape[1] == width
    save(data, "t1", "rgb", some_rows(ROWS["t1"][1], 7))
    assert failures(verify(data)) == {"train: widths alike": [("features/train/rgb/t1.npy", "7, expected 3")]}


@pytest.mark.parametrize("official", [False, True])
def test_a_test_class_without_a_training_video_is_a_note(data: Path, official: bool) -> None:
    if official:
        labels = {name: {"labels": ["run"]} for name in ("t1", "t2")}
        (data / "video_labels.json").write_text(json.dumps(labels))
    else:
        content = json.loads((data / "annotations.json").read_text())
        for name in ("t1", "t2"):
            content["database"][name]["annotations"] = [{"label": "run", "segment": [0.0, 1.0]}]
        (data / "annotations.json").write_text(json.dumps(content))
    report = verify(data)
    assert failures(report) == {"test classes have training videos": [("jump", "in no training video")]}
    assert report.exit_code == 0


def test_cut_file(data: Path) -> None:
    path = data / "features/test/flow/s2.npy"
    path.write_bytes(path.read_bytes()[:-4])
    report = verify(data)
    assert [name for name, _ in failures(report)["test: files readable, [T, width] float"]] == [
        "features/test/flow/s2.npy"
    ]
    assert report.exit_code == 2


@pytest.mark.parametrize(("rows", "fits"), [(3, False), (4, True), (5, True), (6, True), (7, False)])
def test_rows_against_duration(data: Path, rows: int, fits: bool) -> None:
    for stream, width in (("rgb", 3), ("flow", 2)):
        save(data, "s1", stream, some_rows(rows, width))
    found = failures(verify(data))
    assert found == ({} if fits else {"test: rows fit durations": [("s1", f"{rows} rows, 5 fit 3.2 s")]})


@pytest.mark.parametrize(("rows", "fits"), [(3, False), (4, True), (5, True), (9, True), (10, False)])
def test_windows_longer_than_the_stride(data: Path, rows: int, fits: bool) -> None:
    # s1 has 80 frames: 5 whole 32-frame windows every 10 frames, 8 started strides; one row either way is let pass
    facts = 'name = "m"\ntitle = "m"\nextractor = "m"\nfps = 25.0\nsnippet_frames = 32\nstride = 10\n'
    (data / "dataset.toml").write_text(facts)
    for stream, width in (("rgb", 3), ("flow", 2)):
        save(data, "s1", stream, some_rows(rows, width))
    found = failures(verify(data)).get("test: rows fit durations", [])
    assert ("s1" not in dict(found)) == fits


def test_missing_videos(data: Path) -> None:
    (data / "features/train/flow/t2.npy").unlink()
    report = verify(data)
    assert failures(report) == {"train: features there": [("t2", "no flow features")]}
    assert report.exit_code == 3
    (data / "features/train/rgb/t2.npy").unlink()
    assert failures(verify(data))["train: features there"] == [("t2", "no features")]


def test_a_whole_subset_missing(data: Path) -> None:
    for path in (data / "features/train").rglob("*.npy"):
        path.unlink()
    report = verify(data)
    assert [name for name, _ in failures(report)["train: features there"]] == ["t1", "t2"]
    assert report.exit_code == 3


def test_missing_files_count_more_than_bad_ones(data: Path) -> None:
    save(data, "s1", "rgb", nan(5, 3))
    assert verify(data).exit_code == 2
    (data / "features/train/flow/t2.npy").unlink()
    assert verify(data).exit_code == 3
    with pytest.raises(UserError, match="no manifest was written"):
        verify(data, write_manifest=True)


def test_official_labels_may_lack_test_videos_only(data: Path) -> None:
    official = {name: {"labels": ["jump", "run"]} for name in ("t1", "t2")}
    (data / "video_labels.json").write_text(json.dumps(official))
    report = verify(data)
    assert (failures(report), report.exit_code) == ({}, 0)
    del official["t2"]
    (data / "video_labels.json").write_text(json.dumps(official))
    report = verify(data)
    assert failures(report) == {"train: official labels there": [("t2", "not in video_labels.json")]}
    assert report.exit_code == 3


def test_extra_files_and_videos_without_instances_are_notes(data: Path) -> None:
    save(data, "s3", "rgb", some_rows(5, 3))
    content = json.loads((data / "annotations.json").read_text())
    content["database"]["s2"]["annotations"] = []
    (data / "annotations.json").write_text(json.dumps(content))
    report = verify(data)
    assert failures(report) == {
        "videos have instances": [("s2", "a test video without any")],
        "files belong to annotated videos": [("test: s3", "not annotated in this subset")],
    }
    assert report.exit_code == 0


@pytest.mark.parametrize("where", ["annotations", "official"])
def test_unknown_labels(data: Path, where: str) -> None:
    facts = 'name = "m"\ntitle = "m"\nextractor = "m"\nfps = 25.0\nclasses = ["run", "jump"]\n'
    (data / "dataset.toml").write_text(facts)
    if where == "official":
        official: dict[str, Any] = {name: {"labels": ["run"]} for name in ROWS}
        official["s1"] = {"labels": ["fly", "run"]}
        (data / "video_labels.json").write_text(json.dumps(official))
    else:
        content = json.loads((data / "annotations.json").read_text())
        content["database"]["s1"]["annotations"][0]["label"] = "fly"
        (data / "annotations.json").write_text(json.dumps(content))
    report = verify(data)
    assert failures(report)["labels known"] == [("s1", "unknown fly")]
    assert report.exit_code == 2


def test_frame_rate_missing(data: Path) -> None:
    (data / "dataset.toml").write_text('name = "m"\ntitle = "m"\nextractor = "m"\nfps_file = "fps.json"\n')
    (data / "fps.json").write_text(json.dumps(dict.fromkeys(["t1", "t2", "s1"], 25)))
    report = verify(data)
    assert failures(report) == {"test: rows fit durations": [("s2", "fps.json has no frame rate of s2. Add it.")]}
    assert report.exit_code == 2


def test_manifest_in_the_form_of_sha256sum(data: Path) -> None:
    assert verify(data, write_manifest=True).exit_code == 0
    lines = (data / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 9
    path = data / "features/test/rgb/s1.npy"
    assert f"{hashlib.sha256(path.read_bytes()).hexdigest()}  features/test/rgb/s1.npy" in lines
    report = verify(data)
    assert failures(report) == {}
    assert {check.name: check.passed for check in report.checks}["SHA256SUMS: digests"] == 9
    save(data, "s1", "rgb", np.zeros((5, 3), np.float32))
    (data / "features/test/flow/s2.npy").unlink()
    report = verify(data)
    assert failures(report)["SHA256SUMS: digests"] == [
        ("features/test/rgb/s1.npy", "content differs from the manifest's digest")
    ]
    assert failures(report)["SHA256SUMS: files there"] == [("features/test/flow/s2.npy", "listed, but not there")]
    assert report.exit_code == 3


def test_manifest_with_another_line(data: Path) -> None:
    (data / "SHA256SUMS").write_text("no digest\n")
    assert failures(verify(data))["SHA256SUMS: digests"] == [("line 1", "not `<sha256>  <path>`")]


def test_no_manifest_of_bad_files(data: Path) -> None:
    save(data, "s1", "rgb", nan(5, 3))
    with pytest.raises(UserError, match="no manifest was written"):
        verify(data, write_manifest=True)
    assert not (data / "SHA256SUMS").exists()


def test_table_and_json_say_the_same(data: Path) -> None:
    for name in ("t1", "t2"):
        (data / f"features/train/rgb/{name}.npy").unlink()
        save(data, name, "flow", nan(4, 2))
    report = verify(data)
    value = json.loads(json.dumps(report.to_json()))
    assert value["exit_code"] == report.exit_code == 3
    by_name = {check["check"]: check for check in value["checks"]}
    assert by_name["train: features there"]["failures"] == [["t1", "no rgb features"], ["t2", "no rgb features"]]
    console = Console(file=io.StringIO(), width=200)
    console.print(report.table(shown=1))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "t1: no rgb features; 1 more" in text
    assert "missing" in text


def test_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError):
        verify(tmp_path / "absent")


@pytest.mark.shared
@pytest.mark.parametrize("name", ["thumos14_r2plus1d", "ucf_untrimmed"])
def test_real_data(shared: Path, name: str) -> None:
    report = verify(shared / "data" / name)
    assert failures(report) == {}
    assert report.exit_code == 0
    if name == "thumos14_r2plus1d":
        passed = {check.name: check.passed for check in report.checks}
        assert passed["train: features there (thumos14-r2plus1d-train-185)"] == 185
        assert passed["test: features there (thumos14-r2plus1d-197)"] == 197
        assert passed["test: rows fit durations"] == 197


def edit(data: Path, **entries: Any) -> None:
    """Change fields of videos in the annotation file."""
    content = json.loads((data / "annotations.json").read_text())
    for name, fields in entries.items():
        content["database"][name] |= fields
    (data / "annotations.json").write_text(json.dumps(content))


def test_videos_without_a_duration_are_counted(data: Path) -> None:
    edit(data, s1={"duration": None})
    report = verify(data)
    assert failures(report) == {
        "test: durations known": [("s1", "no duration: its clock cannot be checked")],
    }
    assert report.exit_code == 0
    notes = open_dataset(data).notes
    assert "1 of 2 test videos have no duration: their clock could not be checked." in notes
    assert "Features: 3 to 10 rows of 5 columns a video." in notes


@pytest.mark.parametrize(
    ("starts", "code", "refused"), [((1, 2, 2.9), 0, False), ((1, 2, 9), 0, False), ((9, 9, 1), 2, True)]
)
def test_instances_after_the_last_row_show_a_wrong_clock(
    data: Path, starts: tuple[float, ...], code: int, refused: bool
) -> None:
    instances = [{"label": "run", "segment": [start, start + 1]} for start in starts]
    edit(data, s1={"duration": None, "annotations": instances})  # five rows, 3.2 s
    report = verify(data)
    assert report.exit_code == code
    late = failures(report).get("test: instances within the rows", [])
    after = sum(start > 3.2 for start in starts)
    problem = f"{after} of 3 instances start after the last row, which ends at 3.2 s"
    assert late == ([("s1", problem)] if after else [])
    if refused:
        with pytest.raises(UserError, match="2 of 3 instances of test videos without a duration start after the last"):
            open_dataset(data)
    else:
        open_dataset(data)


def test_blank_and_copied_streams(data: Path) -> None:
    save(data, "s1", "rgb", np.zeros((5, 3), np.float32))
    save(data, "s2", "rgb", np.ones((3, 2), np.float32) * np.array([1, 2], np.float32))
    save(data, "s2", "flow", np.ones((3, 2), np.float32) * np.array([1, 2], np.float32))
    found = failures(verify(data))
    assert found["test: features vary"] == [
        ("s1 rgb", "all zero"), ("s2 rgb", "all rows are the same"), ("s2 flow", "all rows are the same"),
    ]  # fmt: skip
    assert found["test: streams differ"] == [("s2", "one stream is a copy of another")]


def test_transposed_files_are_told_where_their_rows_contradict_durations(data: Path) -> None:
    for name in ROWS:
        for stream in ("rgb", "flow"):
            save(data, name, stream, some_rows(512, 7))
    with pytest.raises(UserError, match=r"contradict their durations.*saved as \[width, T\]"):
        open_dataset(data)
    assert "512 rows of 7 columns" in failures(verify(data))["shapes are plausible"][0][1]
