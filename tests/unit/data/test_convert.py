import io
import json
import math
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data import convert as module
from harness.data.annotations import read_annotations
from harness.data.convert import convert
from harness.data.descriptor import find_descriptor
from harness.data.opening import open_dataset
from harness.data.unpickle import load_array
from harness.data.verify import verify
from wstal.errors import MissingDataError, StoreError, UserError

NAMES = ["a", "b", "c"]
LABELS = [["run", "jump"], ["run"], ["jump", "jump"]]
SEGMENTS = [[[0.0, 1.5], [2.0, 3.0]], [[0.5, 2.0]], [[1.0, 1.0], [2.0, 2.5]]]
ROWS = [10, 5, 7]


def objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def wtalc(folder: Path, **changes: Any) -> Path:
    """Three videos in W-TALC's form: bytes and object arrays in file order."""
    arrays = {
        "videoname": np.array(NAMES, dtype="S"),
        "subset": np.array(["validation", "validation", "test"], dtype="S"),
        "duration": np.array(ROWS)[:, None] * 0.64,
        "labels": objects(LABELS),
        "labels_all": objects([["run"], ["run"], ["jump"]]),
        "segments": objects(SEGMENTS),
    } | changes
    folder.mkdir()
    for name, array in arrays.items():
        if array is not None:
            np.save(folder / f"{name}.npy", array, allow_pickle=True)
    return folder


def joint(path: Path, width: int = 6, dtype: str = "float64") -> Path:
    blocks = [np.random.default_rng(rows).random((rows, width)).astype(dtype) for rows in ROWS]
    np.save(path, objects(blocks), allow_pickle=True)
    return path


def test_wtalc_form(tmp_path: Path) -> None:
    done = convert(wtalc(tmp_path / "in"), tmp_path / "out", joint(tmp_path / "joint.npy"))
    assert (done.form, done.videos, done.instances, done.features) == ("wtalc", {"validation": 2, "test": 1}, 5, 3)
    assert done.notes == ("The classes are no known data set's: name it in dataset.toml.",)
    database = json.loads((tmp_path / "out/annotations.json").read_text())["database"]
    assert list(database) == NAMES
    assert database["a"] == {
        "subset": "validation",
        "duration": 6.4,
        "annotations": [{"segment": [0.0, 1.5], "label": "run"}, {"segment": [2.0, 3.0], "label": "jump"}],
    }
    official = json.loads((tmp_path / "out/video_labels.json").read_text())
    assert official["a"] == {"subset": "validation", "duration_seconds": 6.4, "labels": ["run"]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "joint.npy", "out"]


def test_what_was_converted_opens(tmp_path: Path) -> None:
    convert(wtalc(tmp_path / "in"), tmp_path / "out", joint(tmp_path / "joint.npy"))
    data = open_dataset(tmp_path / "out")
    assert (data.name, data.columns.width, data.label_source) == ("converted", 6, "official")
    train, test = data.videos("train"), data.videos("test")
    assert [(video.name, video.labels) for video in train] == [("a", (1,)), ("b", (1,))]
    assert test[0].features.dtype == np.float32
    np.testing.assert_array_equal(test[0].features, np.random.default_rng(7).random((7, 6)).astype(np.float32))
    assert data.digests() == open_dataset(tmp_path / "out").digests()


def test_another_frame_rate_is_written_down(tmp_path: Path) -> None:
    convert(wtalc(tmp_path / "in"), tmp_path / "out", fps=10.0)
    descriptor = find_descriptor(tmp_path / "out/dataset.toml")
    assert (descriptor.fps, descriptor.stride) == (10.0, 16)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    array = objects([[b"bytes", "text", 3, 2.5, True, None, (1, 2), np.arange(4.0)], {"key": [np.float64(2.5)]}])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    path = tmp_path / "a.npy"
    path.write_bytes(header.getvalue() + pickle.dumps(array, protocol=protocol))
    if protocol == 5:  # NumPy itself writes protocol 4 at most, and arrays of protocol 5 name another function
        with pytest.raises(UserError, match="_frombuffer"):
            load_array(path)
        return
    loaded = load_array(path)
    assert loaded.shape == (2,)
    assert loaded[0][:7] == [b"bytes", "text", 3, 2.5, True, None, (1, 2)]
    np.testing.assert_array_equal(loaded[0][7], np.arange(4.0))
    assert loaded[1] == {"key": [2.5]}


class Evil:
    """What an attacker's pickle does: call a function with arguments when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def poisoned(path: Path, payload: bytes) -> Path:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    path.write_bytes(header.getvalue() + payload)
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, "system"), (eval, "eval"), (np.load, "numpy"), (np.fromfile, "fromfile"), (getattr, "getattr")],
)
def test_a_malicious_pickle_does_not_run(tmp_path: Path, function: Any, named: str, protocol: int) -> None:
    mark = tmp_path / "executed"
    argument = f"open({str(mark)!r}, 'w')" if function is eval else f"touch {mark}"
    payload = pickle.dumps(objects([Evil(function, argument)]), protocol=protocol)
    path = poisoned(tmp_path / "evil.npy", payload)
    with pytest.raises(UserError, match=f"it names .*{named}.*Do not trust this file"):
        load_array(path)
    assert not mark.exists()


def test_a_malicious_array_refuses_a_whole_conversion(tmp_path: Path) -> None:
    folder = wtalc(tmp_path / "in")
    poisoned(folder / "segments.npy", pickle.dumps(objects([Evil(os.system, f"touch {tmp_path / 'executed'}")])))
    with pytest.raises(UserError, match=r"segments.npy cannot be unpickled: it names posix.system"):
        convert(folder, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_an_allowed_function_cannot_ask_for_memory(tmp_path: Path) -> None:
    reconstruct = np.empty(0).__reduce__()[0]
    payload = pickle.dumps(Evil(reconstruct, np.ndarray, (10**15,), b"b"), protocol=2)
    with pytest.raises(UserError, match=r"starts an array with shape \(1000000000000000,\)"):
        load_array(poisoned(tmp_path / "big.npy", payload))


def test_codecs_only_as_arrays_need_it(tmp_path: Path) -> None:
    import codecs

    payload = pickle.dumps(Evil(codecs.encode, "aaaa", "rot13"), protocol=4)
    with pytest.raises(UserError, match="it encodes str as 'rot13'"):
        load_array(poisoned(tmp_path / "rot.npy", payload))


@pytest.mark.parametrize("payload", [b"", b"garbage", pickle.dumps([1, 2]), pickle.dumps(np.zeros(3))[:-20]])
def test_damaged_pickles(tmp_path: Path, payload: bytes) -> None:
    with pytest.raises(UserError, match=r"damaged.npy"):
        load_array(poisoned(tmp_path / "damaged.npy", payload))


def test_size_limit(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(100))
    with pytest.raises(UserError, match=r"has 928 bytes, more than 500"):
        load_array(tmp_path / "a.npy", max_bytes=500)


def test_absent_array(tmp_path: Path) -> None:
    folder = wtalc(tmp_path / "in", segments=None)
    with pytest.raises(MissingDataError, match=r"segments.npy is not there"):
        convert(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": np.array(["test"], dtype="S")}, "differ in length: .*'subset': 1"),
        ({"labels": objects([["run"], ["run"], ["jump"]])}, "a has 1 labels and 2 segments, expected as many"),
        ({"segments": objects([[[1.0]], [[0.5, 2.0]], [[1.0, 2.0]]])}, r"a has a segment that is not \(start, end\)"),
        ({"videoname": np.array(["a", "a", "c"], dtype="S")}, "lists a twice"),
        ({"videoname": np.array(["../a", "b", "c"], dtype="S")}, "'../a' is not a plain file name"),
        ({"duration": np.array([[1.0], [np.nan], [2.0]])}, "b has a time that is not finite, or no duration"),
        ({"duration": np.array([[1.0], [1e7], [2.0]])}, "b has a time that is not finite, or no duration below 1e"),
        ({"videoname": np.array(["a", "b\ud800", "c"])}, r"'b\\ud800' is not text that UTF-8 can encode"),
        ({"labels_all": objects([["run"], ["\ud800"], ["jump"]])}, r"b has a label: .* is not text that UTF-8"),
        ({"labels": objects([None, ["run"], ["jump"]])}, r"labels\.npy: the labels of a are no list"),
        ({"labels": objects(["run", ["run"], ["jump"]])}, r"labels\.npy: the labels of a are no list"),
        ({"labels": objects([["run", 3], ["run"], ["jump"]])}, r"a has a label: expected a name, got a int"),
        ({"videoname": objects([["a"], "b", "c"])}, r"videoname\.npy: video id: expected a name, got a list"),
        ({"duration": objects([1.0, "x", 1.0])}, r"duration\.npy: the entry of b is no number"),
        ({"duration": objects([[], 1.0, 1.0])}, r"duration\.npy: the entry of a is no number"),
        ({"segments": objects([None, [[0.5, 2.0]], []])}, r"a has a segment that is not \(start, end\)"),
        ({"segments": objects([[[0, 10**400], [0, 1]], [[0.5, 2.0]], []])}, r"a has a segment that is not"),
    ],
)
def test_arrays_that_disagree(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        convert(wtalc(tmp_path / "in", **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (np.zeros((10, 6)), r"has shape \[10, 6\], expected one entry for each of 3 videos"),
        (objects([np.zeros((2, 6)), np.zeros((2, 5)), np.zeros((2, 6))]), "b has width 5, the others 6"),
        (objects([np.zeros((2, 6)), np.zeros((0, 6)), np.zeros((2, 6))]), r"b is float64 \[0, 6\], expected float"),
        (objects([np.zeros((2, 6)), "x", np.zeros((2, 6))]), "b is <U1"),
        (objects([np.zeros((2, 6)), np.full((2, 6), np.inf), np.zeros((2, 6))]), "b: row 0 of 2 has NaN or infinity"),
    ],
)
def test_bad_features(tmp_path: Path, blocks: np.ndarray, message: str) -> None:
    np.save(tmp_path / "joint.npy", blocks, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        convert(wtalc(tmp_path / "in"), tmp_path / "out", tmp_path / "joint.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "joint.npy"]


def test_reversed_instances_are_dropped_and_said(tmp_path: Path) -> None:
    segments = objects([[[0.0, 1.5], [3.0, 2.0]], *SEGMENTS[1:]])
    done = convert(wtalc(tmp_path / "in", segments=segments), tmp_path / "out")
    assert done.instances == 4
    assert done.notes[0] == "Left out 1 instances that end before they start."
    assert len(read_annotations(tmp_path / "out").label) == 4


@pytest.mark.parametrize("fps", [math.nan, 0.0, math.inf, -25.0, 1e4])
def test_what_is_no_frame_rate(tmp_path: Path, fps: float) -> None:
    with pytest.raises(UserError, match=r"Expected --fps to be frames per second, from 0.001 to below 10,000, got"):
        convert(wtalc(tmp_path / "in"), tmp_path / "out", fps=fps)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = wtalc(tmp_path / "in")
    (tmp_path / "out").mkdir()
    convert(folder, tmp_path / "out")  # empty is fine
    before = (tmp_path / "out/annotations.json").read_bytes()
    with pytest.raises(UserError, match="is not an empty folder"):
        convert(folder, tmp_path / "out")
    assert (tmp_path / "out/annotations.json").read_bytes() == before


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = wtalc(tmp_path / "in")

    def full(*_: object) -> str:
        assert any(path.name.startswith(".out.") for path in tmp_path.iterdir())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_describe", full)
    with pytest.raises(StoreError, match="No space left on device"):
        convert(folder, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_neither_form(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=r"neither `videoname.npy` \(W-TALC\) nor `video_names.npy` \(HAAN\)"):
        convert(tmp_path / "in", tmp_path / "out")
    with pytest.raises(MissingDataError, match="is not a folder"):
        convert(tmp_path / "absent", tmp_path / "out")


def haan(folder: Path, **changes: Any) -> Path:
    arrays = {
        "video_names": np.array(NAMES),
        "labels": objects([[[8, 62], [0, 3]], [[0, 3]], [[8, 62], [8, 62]]]),
        "segments": objects(SEGMENTS),
        "sec2clip_ratios": np.array([2.0, 4.0, 0.5]),
    } | changes
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=True)
    return folder


def test_haan_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAAN_TRAIN_VIDEOS", 2)
    done = convert(haan(tmp_path / "in"), tmp_path / "out")
    assert (done.form, done.videos, done.features) == ("haan", {"training": 2, "validation": 1}, 0)
    database = json.loads((tmp_path / "out/annotations.json").read_text())["database"]
    assert [entry["duration"] for entry in database.values()] == [50.0, 25.0, 200.0]
    assert [item["label"] for item in database["a"]["annotations"]] == ["fine-062", "fine-003"]
    assert not (tmp_path / "out/video_labels.json").exists()


def test_haan_class_names(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"62": "crawling baby", "3": "fold clothes "}')
    convert(haan(tmp_path / "in"), tmp_path / "out", class_names=tmp_path / "names.json")
    database = json.loads((tmp_path / "out/annotations.json").read_text())["database"]
    assert [item["label"] for item in database["a"]["annotations"]] == ["crawling baby", "fold clothes"]
    for text in ('{"62": 1}', '{"62": "a", "62": "b"}', '{"x": "a"}', "[]", "[" * 9_999, '{"99999999999": "a"}'):
        (tmp_path / "names.json").write_text(text)
        with pytest.raises(UserError, match=r"names\.json"):
            convert(tmp_path / "in", tmp_path / "other", class_names=tmp_path / "names.json")
    (tmp_path / "names.json").write_text('{"62": "crawling baby"}')
    with pytest.raises(UserError, match=r"names.json: class number 3 is missing"):
        convert(tmp_path / "in", tmp_path / "other", class_names=tmp_path / "names.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": objects([[62, 3], [3], [62]])}, r"a has a label that is not \(coarse, fine\)"),
        ({"labels": objects([None, [[0, 3]], [[8, 62]]])}, r"a has a label that is not \(coarse, fine\)"),
        ({"labels": objects([[[0, np.inf]], [[0, 3]], [[8, 62]]])}, r"a has a label that is not \(coarse, fine\)"),
        ({"sec2clip_ratios": np.array([2.0, 0.0, 0.5])}, "b has ratio 0.0, expected above 0"),
        ({"sec2clip_ratios": objects([2.0, {}, "x"])}, r"sec2clip_ratios\.npy: the entry of b is no number"),
    ],
)
def test_bad_haan_arrays(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        convert(haan(tmp_path / "in", **changes), tmp_path / "out")


def test_haan_features_need_no_conversion(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"HAAN's features are one .npy file per video already"):
        convert(haan(tmp_path / "in"), tmp_path / "out", joint(tmp_path / "joint.npy"))


def test_old_headers_with_a_huge_shape(tmp_path: Path) -> None:
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    with pytest.raises(UserError, match=r"a.npy is not a readable .npy file"):
        load_array(tmp_path / "a.npy")


def test_official_classes_without_instances_are_classes(tmp_path: Path) -> None:
    official = objects([["run", "swim"], ["run"], ["jump"]])
    done = convert(wtalc(tmp_path / "in", labels_all=official), tmp_path / "out", joint(tmp_path / "joint.npy"))
    assert "1 of 3 classes have official labels and no instance, such as swim" in done.notes[0]
    data = open_dataset(tmp_path / "out")
    assert data.classes == ("jump", "run", "swim")
    assert [video.labels for video in data.videos("train")] == [(1, 2), (1,)]
    assert verify(tmp_path / "out").exit_code == 0


@pytest.mark.parametrize("names", [["Val", "val", "TEST"], ["train", "training", "validation "]])
def test_subset_names_decide_folders_without_case(tmp_path: Path, names: list[str]) -> None:
    subsets = np.array(names, dtype="S")
    convert(wtalc(tmp_path / "in", subset=subsets), tmp_path / "out", joint(tmp_path / "joint.npy"))
    assert sorted(path.name for path in (tmp_path / "out/features/test").iterdir()) == ["c.npy"]


def test_ambiguous_intervals_are_carried_over(tmp_path: Path) -> None:
    folder = wtalc(tmp_path / "in")
    (folder / "Ambiguous_test.txt").write_text("c  1.0 2\n")
    convert(folder, tmp_path / "out")
    assert read_annotations(tmp_path / "out").ambiguous == (("c", 1.0, 2.0),)
    (folder / "Ambiguous_test.txt").write_text("c 2 1\n")
    with pytest.raises(UserError, match="line 1: expected `video start end`"):
        convert(folder, tmp_path / "other")


# real data


@pytest.mark.shared
def test_wtalc_arrays_are_the_circulating_thumos14_annotations(shared: Path, tmp_path: Path) -> None:
    done = convert(shared / "data/wtalc_annotations", tmp_path / "out")
    assert (done.videos, done.instances, done.notes) == ({"validation": 200, "test": 212}, 6365, ())

    def instances(path: Path) -> dict[str, list[tuple[str, float, float]]]:
        database = json.loads(path.read_text())["database"]
        return {
            name: sorted(
                (item["label"], *(round(time, 3) for time in item["segment"])) for item in entry["annotations"]
            )
            for name, entry in database.items()
        }

    assert instances(tmp_path / "out/annotations.json") == instances(shared / "data/thumos14/annotations.json")
    official = json.loads((shared / "data/thumos14/video_labels.json").read_text())
    converted = json.loads((tmp_path / "out/video_labels.json").read_text())
    assert converted.keys() == official.keys()
    for name, entry in converted.items():
        assert (entry["subset"], entry["labels"]) == (official[name]["subset"], sorted(official[name]["labels"]))
        assert entry["duration_seconds"] == pytest.approx(official[name]["duration_seconds"], abs=1e-3)
    assert find_descriptor(tmp_path / "out/dataset.toml") == find_descriptor("thumos14")


@pytest.mark.shared
def test_haan_arrays_are_fineaction(shared: Path, tmp_path: Path) -> None:
    done = convert(shared / "data/fineaction", tmp_path / "out")
    assert done.videos == {"training": 8440, "validation": 4174}
    assert done.instances == 57752 + 24236 - 60  # 60 end before they start; 5 that end where they start count
    assert done.notes == ("Left out 60 instances that end before they start.",)
    assert len(read_annotations(tmp_path / "out").label) == done.instances
    assert find_descriptor(tmp_path / "out/dataset.toml") == find_descriptor("fineaction")
    folder = tmp_path / "out/features/validation"
    folder.mkdir(parents=True)
    np.save(folder / "v_00016897.npy", np.ones((100, 4096), np.float16))
    data = open_dataset(tmp_path / "out", allow_missing=True)
    assert (data.name, len(data.classes), data.columns.width) == ("fineaction", 106, 4096)
    video = data.videos("test")[0]
    assert video.seconds_per_snippet == pytest.approx(1 / np.load(shared / "data/fineaction/sec2clip_ratios.npy")[-1])
