import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.cli.main import main
from harness.data.annotations import read_annotations
from harness.data.convert_files import Options, plan_conversion, write_conversion
from harness.data.descriptor import read_descriptor
from harness.data.detections import read_detections
from harness.data.opening import open_dataset
from wstal.errors import MissingDataError, UserError

ROWS = {"a": 10, "b": 14, "c": 12}  # at 25 frames/s and stride 16: 6.4, 8.96 and 7.68 s


def array(video: str, width: int = 1024) -> np.ndarray:
    return np.random.default_rng(ROWS[video]).random((ROWS[video], width)).astype(np.float32)


def annotations(path: Path, seconds: float = 0.64, **more: object) -> Path:
    database = {
        video: {
            "subset": "test" if video == "c" else "training",
            "duration": rows * seconds,
            "annotations": [{"label": "run", "segment": [0.5, 2.0]}],
        }
        | more
        for video, rows in ROWS.items()
    }
    path.write_text(json.dumps({"database": database}))
    return path


def converted(tmp_path: Path, features: Path, **options: object) -> tuple[Path, list[str]]:
    """Convert with annotations, and return the folder and what was told before."""
    given = tmp_path / "truth.json"
    plan = plan_conversion(given if given.exists() else annotations(given), features, Options(**options))  # type: ignore[arg-type]
    write_conversion(plan, tmp_path / "out")
    return tmp_path / "out", plan.says


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def as_npz(path: Path) -> Path:
    for video in ROWS:
        np.savez(folder(path) / f"{video}.npz", rgb=array(video), flow=array(video) + 1, fps=np.array(25.0))
    return path


def as_torch(path: Path) -> Path:
    for video in ROWS:
        both = {"rgb": torch.from_numpy(array(video)), "flow": torch.from_numpy(array(video) + 1)}
        torch.save(both, folder(path) / f"{video}.pt")
    return path


def as_video_features(path: Path) -> Path:
    for video in ROWS:
        np.save(folder(path) / f"{video}_rgb.npy", array(video))
        np.save(path / f"{video}_flow.npy", array(video) + 1)
    return path


def as_stream_folders(path: Path) -> Path:
    for video in ROWS:
        np.save(folder(path / "RGB") / f"v_{video}.npy", array(video))
        np.save(folder(path / "Flow") / f"v_{video}.npy", array(video) + 1)
    return path


def as_hdf5(path: Path) -> Path:
    h5py = pytest.importorskip("h5py", reason="the extra `h5` is not installed")
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for video in ROWS:
            file[f"{video}/rgb"], file[f"{video}/flow"] = array(video), array(video) + 1
    return path.with_suffix(".h5")


def as_pickled_dictionaries(path: Path) -> Path:
    for video in ROWS:
        np.save(folder(path) / f"{video}.npy", {"rgb": array(video), "flow": array(video) + 1}, allow_pickle=True)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    "write",
    [as_npz, as_torch, as_video_features, as_stream_folders, as_hdf5, as_pickled_dictionaries],
    ids=lambda f: f.__name__,
)
def test_two_streams_in_each_form_become_one_layout(tmp_path, write: Callable[[Path], Path]):
    out, says = converted(tmp_path, write(tmp_path / "in"))
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.npy")) == sorted(
        f"features/{stream}/{video}.npy" for stream in ("flow", "rgb") for video in ROWS
    )
    data = open_dataset(out)
    assert data.columns.widths == (1024, 1024)
    train = data.videos("train")
    assert np.array_equal(train[0].features, np.concatenate([array("a"), array("a") + 1], axis=1))
    assert train[0].seconds_per_snippet == pytest.approx(0.64)
    assert says[0] == "Annotations: ActivityNet-style JSON, 3 videos."
    assert "rgb, arrays [T, 1024] (time, columns), T 10 to 14" in says[1]
    assert says[-1] == (
        "Time: 25 frames/s, assumed (--fps); stride 16, from 3 durations; window 16, assumed (--window)."
    )


@pytest.mark.parametrize(("axes", "change"), [
    ("TD", lambda x: x),
    ("DT", lambda x: x.T),
    ("TCD", lambda x: np.stack([x + k - 4.5 for k in range(10)], axis=1)),
    ("CTD", lambda x: np.stack([x + k - 4.5 for k in range(10)])),
    ("CDT", lambda x: np.stack([x.T + k - 4.5 for k in range(10)])),
    ("1DT", lambda x: x.T[None]),
    ("T1D", lambda x: x[:, None]),
])  # fmt: skip
def test_axes_are_told_by_what_varies(tmp_path, axes, change):
    for video in ROWS:
        np.save(folder(tmp_path / "in") / f"{video}.npy", change(array(video)))
    out, says = converted(tmp_path, tmp_path / "in")
    assert np.allclose(np.load(out / "features" / "b.npy"), array("b"), atol=1e-5)
    if "C" in axes:
        assert "crops, which are averaged" in says[1]


def test_ambiguous_axes_ask_for_the_option(tmp_path):
    for video in ROWS:
        np.save(folder(tmp_path / "in") / f"{video}.npy", np.ones((100, 100), np.float32))
    with pytest.raises(UserError, match=r"not clear which axis of \[100, 100\].*--axes"):
        converted(tmp_path, tmp_path / "in")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="--axes TT are not the axes"):
        converted(tmp_path, tmp_path / "in", axes="TT")
    out, _ = converted(tmp_path, tmp_path / "in", axes="DT")
    assert np.load(out / "features" / "a.npy").shape == (100, 100)


def test_tables_of_100_rows_are_stretched_videos(tmp_path):
    for video in ROWS:
        lines = [",".join(f"f{k}" for k in range(400))]
        lines += [",".join("0.5" for _ in range(400)) for _ in range(100)]
        (folder(tmp_path / "in") / f"v_{video}.csv").write_text("\n".join(lines) + "\n")
    out, says = converted(tmp_path, tmp_path / "in")
    assert says[-1] == "Time: every video was stretched to 100 rows."
    settings = read_descriptor(out / "dataset.toml")
    assert (settings.resampled, settings.fps) == (True, None)
    first = open_dataset(out).videos("train")[0]
    assert (first.name, first.features.shape, first.seconds_per_snippet) == ("a", (100, 400), pytest.approx(0.064))


def test_strides_and_frame_rates_come_from_the_annotations(tmp_path):
    """ActionFormer's THUMOS14: stride 4 at each video's own rate, `fps` in the JSON."""
    for video in ROWS:
        np.save(folder(tmp_path / "in") / f"{video}.npy", array(video, 2048))
    annotations(tmp_path / "truth.json", seconds=4 / 30, fps=30.0)
    out, says = converted(tmp_path, tmp_path / "in")
    assert says[-1] == (
        "Time: each video's own frame rate, which the annotations state; stride 4, from 3 durations; "
        "window 16, assumed (--window)."
    )
    assert open_dataset(out).videos("train")[0].seconds_per_snippet == pytest.approx(4 / 30)


def test_a_clock_that_nothing_explains_asks_for_options(tmp_path):
    for video, rows in (("a", 10), ("b", 100), ("c", 40)):
        np.save(folder(tmp_path / "in") / f"{video}.npy", np.ones((rows, 1024), np.float32))
    with pytest.raises(UserError, match=r"do not give a stride.*--fps and --stride"):
        converted(tmp_path, tmp_path / "in")
    _, says = converted(tmp_path, tmp_path / "in", fps=30.0, stride=8, window=64)
    assert says[-1] == "Time: 30 frames/s; stride 8; window 64."


def test_flow_of_a_row_less_is_cut(tmp_path):
    for video in ROWS:
        np.save(folder(tmp_path / "in") / f"{video}_rgb.npy", array(video))
        np.save(tmp_path / "in" / f"{video}_flow.npy", array(video)[:-1])
    out, _ = converted(tmp_path, tmp_path / "in")
    assert read_descriptor(out / "dataset.toml").cut_streams
    assert open_dataset(out).videos("train")[0].features.shape == (9, 2048)


def spoiled(path: Path, **arrays: np.ndarray) -> Path:
    as_video_features(path)
    for name, value in arrays.items():
        np.save(path / f"{name}.npy", value)
    return path


@pytest.mark.parametrize(("arrays", "message"), [
    ({"a": np.ones((10, 8), np.float32)}, r"a.npy names no stream, other files do \(rgb, flow\)"),
    ({"d_rgb": np.ones((9, 1024), np.float32)}, "1 videos lack a stream that others have: d"),
    ({"a_rgb": np.ones((10, 512), np.float32)}, "Arrays of rgb have different columns: 1024, 512|not clear"),
    ({"a_rgb": np.ones((7, 1024), np.float32)}, "Streams of 1 videos have different rows: a"),
    ({"a_rgb": np.full((10, 1024), np.nan, np.float32)}, "NaN or infinity"),
    ({"a_rgb": np.ones(10, np.float32)}, "different numbers of axes"),
])  # fmt: skip
def test_files_that_disagree_are_refused(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        converted(tmp_path, spoiled(tmp_path / "in", **arrays))


def test_files_of_several_arrays_ask_for_a_key(tmp_path):
    for video in ROWS:
        np.savez(folder(tmp_path / "in") / f"{video}.npz", pooled=array(video), raw=array(video) + 1)
    with pytest.raises(UserError, match=r"has 2 arrays for a: pooled, raw. Name the one to take with --key"):
        converted(tmp_path, tmp_path / "in")
    out, _ = converted(tmp_path, tmp_path / "in", key="raw")
    assert np.array_equal(np.load(out / "features" / "a.npy"), array("a") + 1)
    with pytest.raises(UserError, match="has no array 'other'"):
        converted(tmp_path, tmp_path / "in", key="other")


def test_no_code_of_a_file_runs(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"rgb": Trap()}, folder(tmp_path / "in") / "a.pt")
    with pytest.raises(UserError, match="holds more than tensors"):
        converted(tmp_path, tmp_path / "in")
    np.save(folder(tmp_path / "more") / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be unpickled"):
        converted(tmp_path, tmp_path / "more")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("ending", ["npy", "npz", "pt", "h5", "csv"])
def test_damaged_files_are_told(tmp_path, ending):
    (folder(tmp_path / "in") / f"a.{ending}").write_bytes(b"\x00damaged,1\n\x01")
    with pytest.raises(UserError, match=r"a\."):
        converted(tmp_path, tmp_path / "in")


def test_nothing_to_convert_is_told(tmp_path):
    with pytest.raises(MissingDataError, match="is not there"):
        plan_conversion(None, tmp_path / "absent", Options())
    with pytest.raises(MissingDataError, match="has no features"):
        plan_conversion(None, folder(tmp_path / "in"), Options())
    with pytest.raises(UserError, match="holds no annotations of a known form"):
        plan_conversion(tmp_path / "in", None, Options())
    assert main(["data", "convert", "--out", str(tmp_path / "out")]) == 2


def thumos(path: Path) -> Path:
    files = {
        "BaseballPitch_val.txt": "video_validation_0000266  72.8 76.4\nvideo_validation_0000266 80.0 84.1\n",
        "Diving_val.txt": "video_validation_0000001 1.0 2.0\n",
        "Diving_test.txt": "video_test_0000004 10.5 12.0\n",
        "Ambiguous_test.txt": "video_test_0000004 20.0 22.0\nvideo_test_0000099 1.0 2.0\n",
    }
    for name, content in files.items():
        (folder(path) / name).write_text(content)
    return path


def test_text_files_of_thumos14(tmp_path):
    plan = plan_conversion(thumos(tmp_path / "in"), None, Options())
    assert write_conversion(plan, tmp_path / "out") == {"videos": 3, "instances": 4, "features": 0}
    content = read_annotations(tmp_path / "out")
    assert content.subsets == ("test", "validation")
    assert content.classes == ("BaseballPitch", "Diving")
    assert content.start.tolist() == [10.5, 1.0, 72.8, 80.0]
    assert [one.video for one in content.ambiguous] == ["video_test_0000004", "video_test_0000099"]
    (tmp_path / "in" / "Diving_test.txt").write_text("video_validation_0000001 1.0 2.0\n")
    with pytest.raises(UserError, match=r"is in the subset test of another file|is in the subset validation"):
        plan_conversion(tmp_path / "in", None, Options())
    (tmp_path / "in" / "Diving_test.txt").write_text("video_test_0000004 late 2.0\n")
    with pytest.raises(UserError, match="line 1: expected `video start end`"):
        plan_conversion(tmp_path / "in", None, Options())


def test_a_table_of_labels_is_enough_to_train(tmp_path):
    (tmp_path / "labels.csv").write_text("video,labels\na,run;jump\nb,run\nc,\n")
    plan = plan_conversion(tmp_path / "labels.csv", as_npz(tmp_path / "in"), Options())
    write_conversion(plan, tmp_path / "out")
    content = read_annotations(tmp_path / "out")
    assert content.untimed == (("a", "jump"), ("a", "run"), ("b", "run"))
    assert content.subset == ("training", "training", "test")
    assert plan.says[-1].startswith("Time: 25 frames/s, assumed (--fps); stride 16, assumed: no video has a duration")


def test_detections_of_the_kit(tmp_path, capsys):
    (tmp_path / "found.txt").write_text("video_test_0000004 1.5 3.0 26 0.9\nvideo_test_0000004 5 6 Diving 0.25\n")
    words = ["data", "convert", "--detections", str(tmp_path / "found.txt"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    found = read_detections(tmp_path / "out" / "detections.json")
    assert (found.videos, found.classes) == (("video_test_0000004",), ("Diving",))
    assert (found.start.tolist(), found.score.tolist()) == ([1.5, 5.0], [0.9, 0.25])
    assert main(words) == 2  # nothing is overwritten
    for line, message in (("a 1 2 5 0.5", "class 5 has no name"), ("a 1 2 Diving", "line 1: expected `video start")):
        (tmp_path / "bad.txt").write_text(line)
        bad = ["data", "convert", "--detections", str(tmp_path / "bad.txt"), "--out", str(tmp_path / "more")]
        capsys.readouterr()
        assert main(bad) == 2
        assert message in capsys.readouterr().err


def test_the_command_tells_first_and_writes_whole_or_not(tmp_path, capsys):
    truth = annotations(tmp_path / "truth.json")
    words = ["data", "convert", "--annotations", str(truth), "--out", str(tmp_path / "out"), "--features"]
    bad = spoiled(tmp_path / "bad", c_rgb=np.full((12, 1024), np.inf, np.float32))
    assert main([*words, str(bad)]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "truth.json"]
    capsys.readouterr()
    assert main([*words, str(as_npz(tmp_path / "in"))]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Annotations", "Features", "Features", "Time", "Done"]
    assert main(["data", "verify", str(tmp_path / "out")]) == 0
