import dataclasses
import pickle
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.data.feature_layout import check_name, feature_root, find_features
from harness.data.features import FeatureFiles, StoredFeatures, check_finite, in_memory, read_header, some
from wstal.errors import MissingDataError, UserError
from wstal.types import Video


def save(path: Path, array: np.ndarray, allow_pickle: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=allow_pickle)
    return path


def rows(count: int, width: int, start: float = 0, dtype: str = "float32") -> np.ndarray:
    return (start + np.arange(count * width)).reshape(count, width).astype(dtype)


def test_header_reads_shape_and_type_only(tmp_path: Path) -> None:
    header = read_header(save(tmp_path / "v.npy", rows(7, 3, dtype="float16")))
    assert (header.rows, header.width, header.dtype) == (7, 3, np.dtype("float16"))


def broken(folder: Path, case: str) -> Path:
    path = folder / "v.npy"
    arrays: dict[str, np.ndarray] = {
        "one dimension": np.zeros(5, np.float32),
        "three dimensions": np.zeros((1, 5, 2), np.float32),
        "no rows": np.zeros((0, 4), np.float32),
        "no columns": np.zeros((4, 0), np.float32),
        "integers": np.zeros((4, 2), np.int64),
        "complex": np.zeros((4, 2), np.complex64),
    }
    if case in arrays:
        return save(path, arrays[case])
    if case == "objects":
        return save(path, np.array([None, [1]], dtype=object), allow_pickle=True)
    save(path, rows(6, 4))
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-1], "cut header": content[:20], "text": b"video,1,2", "nothing": b""}[case])
    return path


@pytest.mark.parametrize("shape", ["(-1, 4)", "(6, -4)", "(True, 4)", "(-6, -4)", "(6.0, 4)", "6"])
def test_shapes_that_no_array_has(tmp_path: Path, shape: str) -> None:
    path = save(tmp_path / "v.npy", rows(6, 4))
    content = path.read_bytes()
    stated = b"(6, 4), }" + b" " * max(0, len(shape) - 6)
    wrong = content.replace(stated, f"{shape}, }}".encode().ljust(len(stated)))
    assert wrong != content
    assert len(wrong) == len(content)
    path.write_bytes(wrong)
    for read in (read_header, lambda path: FeatureFiles((path,)).read()):
        with pytest.raises(UserError, match=r"is not a readable .npy file") as caught:
            read(path)
        assert str(caught.value).startswith(str(path))


def npy(header: str, body: bytes = b"", version: int = 1) -> bytes:
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode() + body


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4), 'x': '\\d'}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4)",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4or 6, 4L)}",
        "(" * 5_000,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4)}" + " " * 20_000,
    ],
)
def test_headers_that_numpy_trips_over(tmp_path: Path, header: str) -> None:
    (tmp_path / "v.npy").write_bytes(npy(header, bytes(96)))
    with pytest.raises(UserError, match=r"v.npy is not a readable .npy file"):
        read_header(tmp_path / "v.npy")


def test_a_header_of_python_2_is_read_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "v.npy").write_bytes(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6L, 4L)}\n", bytes(96)))
    assert (read_header(tmp_path / "v.npy").rows, read_header(tmp_path / "v.npy").width) == (6, 4)


def test_a_header_takes_no_more_memory_than_headers_have(tmp_path: Path) -> None:
    with (tmp_path / "v.npy").open("wb") as file:
        file.write(b"\x93NUMPY\x02\x00\xff\xff\xff\xff")
        file.truncate(2**32 + 100)
    with pytest.raises(UserError, match="its header is damaged"):
        read_header(tmp_path / "v.npy")


def test_what_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", np.where(np.arange(24).reshape(6, 4) == 9, 1e39, 1.0))
    video = Video("v", StoredFeatures("v", FeatureFiles((path,))), (0,), 0.64)
    for read in (lambda: video.features, lambda: check_finite(np.load(path), "v")):
        with pytest.raises(UserError, match="row 2 of 6 has NaN or infinity"):
            read()


@pytest.mark.parametrize("failure", [ValueError, TypeError])
def test_a_file_that_numpy_cannot_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    path = save(tmp_path / "v.npy", rows(6, 4))

    def broken(*_: object, **__: object) -> None:
        raise failure("negative dimensions")

    monkeypatch.setattr(np, "memmap", broken)
    with pytest.raises(UserError, match=r"v.npy is not a readable .npy file \(negative dimensions\)"):
        FeatureFiles((path,)).read()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("one dimension", "has shape [5], expected [T, width]. Save one row a snippet."),
        ("three dimensions", "has shape [1, 5, 2], expected [T, width]"),
        ("no rows", "is empty, shape [0, 4]. Extract it again"),
        ("no columns", "is empty, shape [4, 0]"),
        ("integers", "holds int64. Save features as float16 or float32."),
        ("complex", "holds complex64"),
        ("objects", "is a pickled object array. Convert it once with `wstal-bench data convert`."),
        ("cut", "is cut short: 223 bytes of 224. Copy or extract it again."),
        ("cut header", "is not a readable .npy file"),
        ("text", "is not a readable .npy file"),
        ("nothing", "is not a readable .npy file"),
    ],
)
def test_broken_files(tmp_path: Path, case: str, message: str) -> None:
    path = broken(tmp_path, case)
    with pytest.raises(UserError) as caught:
        FeatureFiles((path,)).read()
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"v.npy is not there. Restore the file.") as caught:
        read_header(tmp_path / "v.npy")
    assert caught.value.exit_code == 3


def test_one_file_is_memory_mapped_read_only(tmp_path: Path) -> None:
    features = FeatureFiles((save(tmp_path / "v.npy", rows(5, 3)),)).read()
    assert isinstance(features, np.memmap)
    assert not features.flags.writeable


def test_two_streams_are_joined_in_order(tmp_path: Path) -> None:
    files = FeatureFiles((save(tmp_path / "rgb/v.npy", rows(4, 2)), save(tmp_path / "flow/v.npy", rows(4, 3, 100))))
    assert files.header().width == 5
    np.testing.assert_array_equal(files.read()[1], [2, 3, 103, 104, 105])


def test_streams_of_different_length(tmp_path: Path) -> None:
    files = FeatureFiles((save(tmp_path / "rgb/v.npy", rows(4, 2)), save(tmp_path / "flow/v.npy", rows(5, 2))))
    with pytest.raises(UserError, match=r"differ: .*rgb.* has 4 and .*flow.* has 5 rows"):
        files.read()


def test_columns_of_a_joint_file(tmp_path: Path) -> None:
    files = FeatureFiles((save(tmp_path / "v.npy", rows(4, 5)),), columns=(2, 5))
    assert files.header().width == 3
    np.testing.assert_array_equal(files.read()[0], [2, 3, 4])


@pytest.mark.parametrize(
    ("stored", "read"), [("float16", "float16"), ("float32", "float32"), ("float64", "float32"), (">f4", "float32")]
)
def test_types(tmp_path: Path, stored: str, read: str) -> None:
    features = FeatureFiles((save(tmp_path / "v.npy", rows(3, 2, dtype=stored)),)).read()
    assert features.dtype == np.dtype(read)
    np.testing.assert_array_equal(features, rows(3, 2))


def test_mixed_streams_take_the_wider_type(tmp_path: Path) -> None:
    paths = (save(tmp_path / "a.npy", rows(3, 2, dtype="float16")), save(tmp_path / "b.npy", rows(3, 2)))
    assert FeatureFiles(paths).read().dtype == np.float32


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 255, 256, 599])
def test_values_must_be_finite(row: int, value: float) -> None:
    features = rows(600, 3)
    check_finite(features, "v")
    features[row, 2] = value
    with pytest.raises(UserError, match=f"v: row {row} of 600 has NaN or infinity. Extract the features again."):
        check_finite(features, "v")


@pytest.mark.parametrize("name", ["../v", "a/b", "..", ".", "", "a\\b", "a\0b"])
def test_names_that_leave_the_folder(name: str) -> None:
    with pytest.raises(UserError, match="is not a plain file name"):
        check_name(name)


def layout(root: Path, kind: str) -> Path:
    paths = {
        "subset/stream": ["train/rgb", "train/flow", "test/rgb", "test/flow"],
        "subset": ["train", "test"],
        "stream/subset": ["rgb/train", "flow/train", "rgb/test", "flow/test"],
        "stream": ["rgb", "flow"],
        "flat": [""],
    }[kind]
    for path in paths:
        save(root / path / "a.npy", rows(2, 2))
    return root


@pytest.mark.parametrize(
    ("kind", "streams", "nested", "folder"),
    [
        ("subset/stream", ("rgb", "flow"), True, "train"),
        ("subset", ("joint",), True, "train"),
        ("stream/subset", ("rgb", "flow"), True, "rgb/train"),
        ("stream", ("rgb", "flow"), False, ""),
        ("flat", ("joint",), False, ""),
    ],
)
def test_layouts(tmp_path: Path, kind: str, streams: tuple[str, ...], nested: bool, folder: str) -> None:
    found = find_features(layout(tmp_path, kind), ["training", "train"], ["rgb", "flow"])
    assert found is not None
    assert (found.streams, found.nested, found.folder) == (streams, nested, tmp_path / folder)
    assert len(found.files["a"]) == len(streams)


def test_order_of_streams_is_the_one_asked_for(tmp_path: Path) -> None:
    found = find_features(layout(tmp_path, "stream"), [], ["flow", "rgb"])
    assert found is not None
    assert [path.parent.name for path in found.files["a"]] == ["flow", "rgb"]


@pytest.mark.parametrize("paths", [("Train/RGB", "Train/Flow"), ("RGB/TRAIN", "flow/Train"), ("RGB", "Flow")])
def test_case_of_folder_names_does_not_count(tmp_path: Path, paths: tuple[str, str]) -> None:
    for path in paths:
        save(tmp_path / path / "a.npy", rows(2, 2))
    found = find_features(tmp_path, ["training", "train"], ["rgb", "flow"])
    assert found is not None
    assert found.streams == ("rgb", "flow")
    assert [str(path.parent.relative_to(tmp_path)) for path in found.files["a"]] == list(paths)


def test_the_exact_folder_name_comes_first(tmp_path: Path) -> None:
    for name in ("TRAIN", "Train", "train"):
        save(tmp_path / name / "a.npy", rows(2, 2))
    found = find_features(tmp_path, ["train"], ["rgb"])
    assert found is not None
    assert found.folder == tmp_path / "train"


def test_hidden_and_other_files_are_no_features(tmp_path: Path) -> None:
    save(tmp_path / "train/.a.npy", rows(2, 2))
    (tmp_path / "train/readme.txt").write_text("")
    assert find_features(tmp_path, ["train"], ["rgb"]) is None


def test_incomplete_streams_are_known(tmp_path: Path) -> None:
    save(tmp_path / "rgb/a.npy", rows(2, 2))
    save(tmp_path / "rgb/b.npy", rows(2, 2))
    save(tmp_path / "flow/a.npy", rows(2, 2))
    found = find_features(tmp_path, [], ["rgb", "flow"])
    assert found is not None
    assert list(found.files) == ["a"]
    assert found.incomplete == {"b": ("flow",)}


def test_prefixes(tmp_path: Path) -> None:
    save(tmp_path / "v_a.npy", rows(2, 2))
    found = find_features(tmp_path, [], ["rgb"])
    assert found is not None
    assert found.stem("a", ("", "v_")) == "v_a"
    assert found.stem("a") is None


def test_feature_root(tmp_path: Path) -> None:
    assert feature_root(tmp_path) == tmp_path
    (tmp_path / "features").mkdir()
    assert feature_root(tmp_path) == tmp_path / "features"


def test_some() -> None:
    assert some(["a"]) == "a"
    assert some(list("abcdef")) == "a, b, c, d and 2 more"


def video(folder: Path, name: str = "v") -> Video:
    files = FeatureFiles((save(folder / f"{name}.npy", rows(3, 2)),))
    return Video(name, StoredFeatures(name, files), (1, 4), 0.64, 0.1)


def test_stored_video_reads_on_access(tmp_path: Path) -> None:
    stored = video(tmp_path)
    np.testing.assert_array_equal(stored.features, rows(3, 2))
    (tmp_path / "v.npy").unlink()
    with pytest.raises(MissingDataError):
        _ = stored.features


def test_the_length_of_a_stored_video_is_its_header_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = video(tmp_path)
    assert dataclasses.replace(stored, source=lambda: rows(7, 2)).length == 7
    monkeypatch.setattr(np, "memmap", lambda *_: pytest.fail("the values are not looked at"))
    assert stored.length == 3
    assert dataclasses.replace(stored, source=rows(5, 2)).length == 5


def test_stored_video_gives_the_same_array_while_it_is_used(tmp_path: Path) -> None:
    stored = video(tmp_path)
    features = stored.features
    assert stored.features is features


def test_stored_video_checks_values_at_first_access(tmp_path: Path) -> None:
    stored = video(tmp_path)
    bad = rows(3, 2)
    bad[2, 0] = np.nan
    save(tmp_path / "v.npy", bad)
    for _ in range(2):  # a failed check is made again
        with pytest.raises(UserError, match="Features of v: row 2 of 3 has NaN"):
            _ = stored.features


def test_stored_video_can_be_pickled_and_replaced(tmp_path: Path) -> None:
    stored = video(tmp_path)
    kept = stored.features
    copy = pickle.loads(pickle.dumps(stored))
    np.testing.assert_array_equal(copy.features, kept)
    assert (copy.name, copy.labels, copy.seconds_per_snippet, copy.offset) == ("v", (1, 4), 0.64, 0.1)
    assert dataclasses.replace(stored, labels=(0,)).labels == (0,)
    np.testing.assert_array_equal(dataclasses.replace(stored, source=kept[:1]).features, kept[:1])


def test_features_that_have_room_are_kept_as_they_are_stored(tmp_path: Path) -> None:
    stored = [video(tmp_path, "a"), video(tmp_path, "b")]
    size = sum(one.features.nbytes for one in stored)
    assert all(kept is one for kept, one in zip(in_memory(stored, room=size - 1), stored, strict=True))
    made = Video("c", rows(2, 2), (0,), 1.0)
    kept = in_memory([*stored, made], room=size)
    assert kept[2] is made
    for one, other in zip(kept[:2], stored, strict=True):
        assert not callable(one.source)
        assert one.features.dtype == other.features.dtype
        np.testing.assert_array_equal(one.features, other.features)
        assert (one.name, one.labels, one.seconds_per_snippet, one.offset) == (other.name, (1, 4), 0.64, 0.1)
    for name in "ab":
        (tmp_path / f"{name}.npy").unlink()
    assert kept[0].features is kept[0].features
    # what an eighth of any machine's memory holds
    assert not callable(in_memory([video(tmp_path, "d")])[0].source)


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
def test_more_videos_than_open_files(tmp_path: Path) -> None:
    videos = [video(tmp_path, f"v{number}") for number in range(100)]
    assert sum(len(item.features) for item in videos) == 300


@pytest.mark.parametrize(
    ("suffixes", "names", "streams", "stems"),
    [
        (("_rgb", "_flow"), ("a_rgb", "a_flow", "b_rgb", "b_flow", "a_fps"), ("rgb", "flow"), {"a", "b"}),
        (("_flow", "_rgb"), ("a_rgb", "a_flow"), ("rgb", "flow"), {"a"}),
        (("-RGB",), ("a-RGB", "a_flow"), ("rgb",), {"a"}),
        ((".mp4",), ("a.mp4", "b.mp4", "c"), ("joint",), {"a", "b"}),
        ((".mp4", ""), ("a.mp4", "c"), ("joint",), {"a", "c"}),
    ],
)
def test_suffixes_of_file_names(
    tmp_path: Path, suffixes: tuple[str, ...], names: tuple[str, ...], streams: tuple[str, ...], stems: set[str]
) -> None:
    for name in names:
        np.save(tmp_path / f"{name}.npy", np.ones((2, 3), np.float32))
    found = find_features(tmp_path, (), ("rgb", "flow"), suffixes)
    assert found is not None
    assert (found.streams, set(found.files)) == (streams, stems)


@pytest.mark.parametrize(("longer", "shorter"), [("rgb", "flow"), ("flow", "rgb")])
def test_streams_that_differ_by_a_row_are_cut_on_request(tmp_path: Path, longer: str, shorter: str) -> None:
    arrays = {longer: np.arange(15, dtype=np.float32).reshape(5, 3), shorter: np.ones((4, 2), np.float32)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    paths = (tmp_path / "rgb.npy", tmp_path / "flow.npy")
    with pytest.raises(UserError, match="state cut_streams = true"):
        FeatureFiles(paths).header()
    files = FeatureFiles(paths, cut=True)
    assert (files.header().rows, files.header().width) == (4, 5)
    np.testing.assert_array_equal(files.read(), np.concatenate([arrays["rgb"][:4], arrays["flow"][:4]], axis=1))
    np.save(tmp_path / f"{longer}.npy", np.ones((6, 3), np.float32))
    with pytest.raises(UserError, match="Extract both with one window and stride"):
        files.read()
