import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.annotations import Annotations, read_annotations
from harness.data.dataset import Dataset
from harness.data.descriptor import DatasetDescriptor, list_digest, shipped_descriptors
from harness.data.discovery import ASSUMED, subset_names
from harness.data.held_out import HeldOutSource
from harness.data.opening import open_dataset
from harness.data.source import Subset
from harness.data.video_facts import Clock
from wstal.errors import MissingDataError, UserError
from wstal.types import Video

# 25 fps, 16-frame snippets: 0.64 s a row
VIDEOS = {
    "t1": ("training", 10, ["jump", "run"]),
    "t2": ("training", 4, ["run"]),
    "s1": ("test", 5, ["jump"]),
    "s2": ("test", 1, ["run", "run"]),
}


def annotations(videos: dict[str, tuple[str, int, list[str]]] = VIDEOS, seconds: float = 0.64) -> dict[str, Any]:
    return {
        "database": {
            name: {
                "subset": subset,
                "duration": rows * seconds,
                "annotations": [
                    {"label": label, "segment": [0.1 * i, 0.1 * i + 0.3]} for i, label in enumerate(labels)
                ],
            }
            for name, (subset, rows, labels) in videos.items()
        }
    }


def features(name: str, stream: str, rows: int, width: int) -> np.ndarray:
    seed = sum(map(ord, name + stream))
    return np.random.default_rng(seed).random((rows, width), dtype=np.float32)


def make(
    folder: Path,
    layout: str = "subset/stream",
    videos: dict[str, tuple[str, int, list[str]]] = VIDEOS,
    widths: dict[str, int] | None = None,
    inside: str = "features",
    write: dict[str, Any] | None = None,
    prefix: str = "",
) -> Path:
    """A data set in a layout: `annotations.json` and one feature array a video and stream."""
    widths = widths or {"rgb": 3, "flow": 2}
    for name, (subset, rows, _) in videos.items():
        part = {"training": "train", "validation": "val"}.get(subset, subset) if "subset" in layout else ""
        arrays = {stream: features(name, stream, rows, width) for stream, width in widths.items()}
        if "stream" not in layout:
            arrays = {"": np.concatenate(list(arrays.values()), axis=1)}
        for stream, array in arrays.items():
            inner = (stream, part) if layout == "stream/subset" else (part, stream)
            path = folder.joinpath(inside, *inner, f"{prefix}{name}.npy")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, array)
    for name, content in {"annotations.json": annotations(videos), **(write or {})}.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def error(kind: type[UserError], call: Any, *parts: str) -> str:
    """The message of the error that the call raises; it must be of that very kind and have these parts."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    message = str(caught.value)
    for part in parts:
        assert part in message
    return message


MINE = 'name = "mine"\ntitle = "Mine"\nextractor = "I3D"\n'


@pytest.mark.parametrize("layout", ["subset/stream", "subset", "stream/subset", "stream", "flat"])
@pytest.mark.parametrize("inside", ["features", ""])
def test_every_layout_gives_the_same_videos(tmp_path: Path, layout: str, inside: str) -> None:
    data = open_dataset(make(tmp_path, layout, inside=inside))
    subsets: dict[Subset, list[str]] = {"train": ["t1", "t2"], "test": ["s1", "s2"]}
    for subset, names in subsets.items():
        videos = data.videos(subset)
        assert [video.name for video in videos] == names
        for video in videos:
            rows = VIDEOS[video.name][1]
            expected = [features(video.name, "rgb", rows, 3), features(video.name, "flow", rows, 2)]
            np.testing.assert_array_equal(video.features, np.concatenate(expected, axis=1))
            assert (video.seconds_per_snippet, video.offset) == (0.64, 0.0)
    assert data.classes == ("jump", "run")
    assert [video.labels for video in data.videos("train")] == [(0, 1), (1,)]
    assert data.columns.width == 5


def test_one_stream(tmp_path: Path) -> None:
    data = open_dataset(make(tmp_path, widths={"rgb": 3}))
    assert (data.columns.streams, data.columns.width) == (("rgb",), 3)


def test_chosen_stream(tmp_path: Path) -> None:
    data = open_dataset(make(tmp_path), streams=["flow"])
    np.testing.assert_array_equal(data.videos("test")[0].features, features("s1", "flow", 5, 2))


def test_chosen_stream_of_joint_files(tmp_path: Path) -> None:
    widths = 'fps = 25.0\nstreams = [{ name = "rgb", width = 3 }, { name = "flow", width = 2 }]\n'
    make(tmp_path, "subset", write={"dataset.toml": MINE + widths})
    data = open_dataset(tmp_path, streams=["flow"])
    assert (data.columns.streams, data.columns.width) == (("flow",), 2)
    np.testing.assert_array_equal(data.videos("test")[0].features, features("s1", "flow", 5, 2))
    assert data.digests()["test"] != open_dataset(tmp_path).digests()["test"]


def test_stream_of_joint_files_without_widths(tmp_path: Path) -> None:
    make(tmp_path, "subset")
    error(UserError, lambda: open_dataset(tmp_path, streams=["rgb"]), "state every width in dataset.toml")


def test_unknown_stream(tmp_path: Path) -> None:
    make(tmp_path)
    error(UserError, lambda: open_dataset(tmp_path, streams=["audio"]), "no stream 'audio'. Its streams: rgb, flow.")


def test_assumed_facts_are_said(tmp_path: Path) -> None:
    folder = tmp_path / "My data"
    folder.mkdir()
    data = open_dataset(make(folder))
    assert (data.name, data.family, data.synthetic) == ("my_data", "my_data", False)
    assert "assumed 25 frames per second and 16-frame snippets without overlap, 0.64 s per row" in data.notes[0]
    assert "dataset.toml" in data.notes[0]


def test_an_assumed_clock_that_durations_contradict(tmp_path: Path) -> None:
    videos = {name: (subset, rows + 10, labels) for name, (subset, rows, labels) in VIDEOS.items()}
    make(tmp_path, videos=videos, write={"annotations.json": annotations(videos, seconds=16 / 15)})
    error(
        UserError,
        lambda: open_dataset(tmp_path),
        "Row counts of 2 of 2 train videos contradict their durations under",
        "t1 has 20 rows, 33 fit its 21.3 s",
        "State the true fps, snippet_frames and stride in",
        "or `resampled = true` for features stretched to a fixed number of rows",
    )


def test_a_wrong_clock_in_the_smaller_subset_alone(tmp_path: Path) -> None:
    train = {f"t{number}": ("training", 20, ["run"]) for number in range(9)}
    videos = {**train, "s1": ("test", 20, ["run"]), "s2": ("test", 30, ["run"])}
    content = annotations(videos)
    for name in ("s1", "s2"):
        content["database"][name]["duration"] *= 2
    make(tmp_path, videos=videos, write={"annotations.json": content})
    error(UserError, lambda: open_dataset(tmp_path), "Row counts of 2 of 2 test videos contradict")


def test_a_few_videos_whose_rows_do_not_fit_are_noted(tmp_path: Path) -> None:
    videos = {f"s{number}": ("test", 20, ["run"]) for number in range(6)} | {"t": ("training", 4, ["run"])}
    content = annotations(videos)
    for name, factor in (("s1", 0.5), ("s4", 2)):
        content["database"][name]["duration"] *= factor
    data = open_dataset(make(tmp_path, videos=videos, write={"annotations.json": content}))
    about = [note for note in data.notes if "durations" in note]
    assert about == ["2 of 6 test videos have more or fewer rows than their durations say: s1, s4."]


def test_own_facts(tmp_path: Path) -> None:
    videos = {name: (subset, rows + 20, labels) for name, (subset, rows, labels) in VIDEOS.items()}
    facts = MINE + "fps = 30.0\nsnippet_frames = 64\nstride = 4\n"
    seconds = {name: ((rows - 1) * 4 + 64) / 30 for name, (_, rows, _) in videos.items()}
    content = annotations(videos)
    for name, entry in content["database"].items():
        entry["duration"] = seconds[name]
    data = open_dataset(make(tmp_path, videos=videos, write={"dataset.toml": facts, "annotations.json": content}))
    video = data.videos("train")[0]
    assert video.seconds_per_snippet == 4 / 30
    assert video.offset == 1.0  # the middle 4 of 64 frames: (64 - 4) / 2 / 30
    assert data.name == "mine"
    assert all("assumed" not in note for note in data.notes)


def test_frame_rates_by_video(tmp_path: Path) -> None:
    facts = MINE + 'fps_file = "fps.json"\n'
    rates = {"t1": 25, "t2": 30.0, "s1": 24, "s2": 25}
    make(tmp_path, write={"dataset.toml": facts, "fps.json": rates})
    data = open_dataset(tmp_path)
    assert [video.seconds_per_snippet for video in data.videos("train")] == [16 / 25, 16 / 30.0]
    (tmp_path / "fps.json").write_text(json.dumps({"t1": 25, "s1": 25, "s2": 25}))
    error(UserError, lambda: open_dataset(tmp_path).videos("train"), "fps.json has no frame rate of t2. Add it.")
    (tmp_path / "fps.json").write_text(json.dumps({"t1": 0}))
    error(UserError, lambda: open_dataset(tmp_path), "must be positive numbers below 10,000, not so for t1")
    (tmp_path / "fps.json").unlink()
    error(MissingDataError, lambda: open_dataset(tmp_path), "the descriptor takes frame rates from it")


def test_resampled_rows_share_the_duration(tmp_path: Path) -> None:
    make(tmp_path, write={"dataset.toml": MINE + "resampled = true\n", "annotations.json": annotations(seconds=3.0)})
    video = open_dataset(tmp_path).videos("train")[0]
    assert (video.seconds_per_snippet, video.offset) == (3.0, 0.0)


def test_resampled_without_duration(tmp_path: Path) -> None:
    content = annotations()
    del content["database"]["t1"]["duration"]
    make(tmp_path, write={"dataset.toml": MINE + "resampled = true\n", "annotations.json": content})
    error(UserError, lambda: open_dataset(tmp_path).videos("train"), "t1 has no duration")


def test_named_descriptor_wins_over_the_folders(tmp_path: Path) -> None:
    make(
        tmp_path,
        write={"dataset.toml": MINE + "fps = 25.0\n", "other.toml": MINE.replace("mine", "o") + "fps = 25.0\n"},
    )
    assert open_dataset(tmp_path, dataset=tmp_path / "other.toml").name == "o"


def test_annotations_elsewhere(tmp_path: Path) -> None:
    for name in ("data", "notes"):
        (tmp_path / name).mkdir()
    data = make(tmp_path / "data")
    (data / "annotations.json").rename(tmp_path / "notes/annotations.json")
    error(
        MissingDataError,
        lambda: open_dataset(data),
        "No annotations",
        "Pass the annotation file or its folder as --annotations",
    )
    for given in (tmp_path / "notes", tmp_path / "notes/annotations.json"):
        assert len(open_dataset(data, given).videos("train")) == 2
    assert open_dataset(data, tmp_path / "notes").annotations.path == tmp_path / "notes/annotations.json"


def test_annotations_beside_the_folder(tmp_path: Path) -> None:
    for name in ("thumos14", "fineaction", "features_of_mine"):
        (tmp_path / name).mkdir()
    make(tmp_path / "features_of_mine")
    (tmp_path / "features_of_mine/annotations.json").rename(tmp_path / "thumos14/annotations.json")
    strangers = {"x": ("training", 3, ["run"])}
    (tmp_path / "fineaction/annotations.json").write_text(json.dumps(annotations(strangers)))
    data = open_dataset(tmp_path / "features_of_mine")
    assert data.annotations.path == tmp_path / "thumos14/annotations.json"
    assert str(data.annotations.path) in data.notes[0]


def test_no_folder_and_no_features(tmp_path: Path) -> None:
    error(MissingDataError, lambda: open_dataset(tmp_path / "absent"), "absent is not a folder")
    make(tmp_path, videos={})
    (tmp_path / "annotations.json").write_text(json.dumps(annotations()))
    error(MissingDataError, lambda: open_dataset(tmp_path), "No .npy feature files in", "<stream>/<video>.npy")
    stray = tmp_path / "features" / "i3d" / "t1.npy"
    stray.parent.mkdir(parents=True)
    np.save(stray, np.ones((4, 5), np.float32))
    error(MissingDataError, lambda: open_dataset(tmp_path), f"though there is {stray}. Put them at")


def test_missing_videos(tmp_path: Path) -> None:
    make(tmp_path)
    for stream in ("rgb", "flow"):
        (tmp_path / f"features/train/{stream}/t2.npy").unlink()
    data = open_dataset(tmp_path)
    message = "1 of 2 annotated train videos have no features in"
    error(
        MissingDataError,
        lambda: data.videos("train"),
        message,
        str(tmp_path / "features/train"),
        ": t2. Add them, or pass --allow-missing.",
    )
    assert len(data.videos("test")) == 2
    allowed = open_dataset(tmp_path, allow_missing=True)
    assert [video.name for video in allowed.videos("train")] == ["t1"]
    assert allowed.video_list("train").name == f"available-1-{list_digest(['t1'])[:8]}"
    assert (
        f"1 of 2 train videos have features; 1 are used: list available-1-{list_digest(['t1'])[:8]}." in allowed.notes
    )
    assert allowed.video_list("test").name == f"test-2-{list_digest(['s1', 's2'])[:8]}"


def test_missing_stream(tmp_path: Path) -> None:
    (make(tmp_path) / "features/test/flow/s2.npy").unlink()
    error(MissingDataError, lambda: open_dataset(tmp_path).videos("test"), "(1 of these lack the flow stream only): s2")


def test_many_missing_videos_are_counted(tmp_path: Path) -> None:
    videos = {f"v{number}": ("test", 3, ["run"]) for number in range(9)}
    make(tmp_path, videos=videos, widths={"rgb": 2})
    for number in range(7):
        (tmp_path / f"features/test/rgb/v{number}.npy").unlink()
    error(MissingDataError, lambda: open_dataset(tmp_path).videos("test"), "7 of 9", ": v0, v1, v2, v3 and 3 more.")


def test_a_named_list_may_be_what_is_there(tmp_path: Path) -> None:
    lists = (
        '[[lists]]\nname = "mine-one"\nsubset = "test"\nexclude = ["s2"]\ncount = 1\n'
        f'sha256 = "{list_digest(["s1"])}"\n'
    )
    make(tmp_path, write={"dataset.toml": MINE + "fps = 25.0\n" + lists})
    whole = open_dataset(tmp_path)
    assert whole.video_list("test").name.startswith("test-2-")
    for stream in ("rgb", "flow"):
        (tmp_path / f"features/test/{stream}/s2.npy").unlink()
    part = open_dataset(tmp_path)
    assert part.video_list("test").name == "mine-one"
    assert "1 of 2 test videos have features; 1 are used: list mine-one." in part.notes
    assert part.ground_truth("test").videos == ("s1",)
    for stream, width in (("rgb", 3), ("flow", 2)):
        (tmp_path / f"features/test/{stream}/s1.npy").unlink()
        np.save(tmp_path / f"features/test/{stream}/s2.npy", features("s2", stream, 1, width))
    error(
        MissingDataError, lambda: open_dataset(tmp_path).videos("test"), "what is there is none of the lists mine-one"
    )


def test_a_list_without_names_is_what_is_there_and_the_others_are_missed(tmp_path: Path) -> None:
    rules = (("mine-two", ["s1", "s2"], ""), ("mine-one", ["s1"], 'truth = "mine-two"\n'), ("mine-one", ["v_s1"], ""))
    lists = "".join(
        f'[[lists]]\nname = "{name}"\nsubset = "test"\n{more}count = {len(videos)}\nsha256 = "{list_digest(videos)}"\n'
        for name, videos, more in rules
    )
    descriptor = {"dataset.toml": MINE + "fps = 25.0\n" + lists}
    whole = open_dataset(make(tmp_path / "whole", write=descriptor))
    # unlike a list that leaves out wrong annotations, it gives way to all videos where they have features
    assert whole.predicted_list("test").name == "mine-two"
    folder = make(tmp_path / "part", write=descriptor)
    for stream in ("rgb", "flow"):
        (folder / f"features/test/{stream}/s2.npy").unlink()
    part = open_dataset(folder)
    assert (part.predicted_list("test").name, [video.name for video in part.videos("test")]) == ("mine-one", ["s1"])
    assert part.ground_truth("test").videos == ("s1", "s2")
    assert part.describe()["test"]["list"] == "mine-one"
    # the same list under other names, annotated alone
    alone = {"v_s1": ("test", 3, ["run"]), "t1": ("training", 3, ["run"])}
    listed = open_dataset(make(tmp_path / "listed", videos=alone, write=descriptor))
    assert (listed.predicted_list("test").name, listed.ground_truth("test").videos) == ("mine-one", ("v_s1",))


@pytest.mark.parametrize("layout", ["subset/stream", "stream"])
def test_a_folder_with_test_videos_only(tmp_path: Path, layout: str) -> None:
    full = make(tmp_path, layout, videos={name: entry for name, entry in VIDEOS.items() if entry[0] == "test"})
    (full / "annotations.json").write_text(json.dumps(annotations()))
    data = open_dataset(full)
    assert len(data.videos("test")) == 2
    error(MissingDataError, lambda: data.videos("train"), "train")
    assert "train" not in data.describe()


def test_unannotated_videos_can_be_localized(tmp_path: Path) -> None:
    make(tmp_path, videos={"a": ("test", 4, []), "b": ("test", 6, [])})
    videos = open_dataset(tmp_path).videos("test")
    assert [(video.name, video.labels) for video in videos] == [("a", ()), ("b", ())]


def test_another_width_within_the_data_set(tmp_path: Path) -> None:
    make(tmp_path, "subset")
    np.save(tmp_path / "features/test/s2.npy", np.zeros((1, 4), np.float32))
    error(UserError, lambda: open_dataset(tmp_path).videos("test"), "s2.npy gives 4 columns, the other videos 5")


@pytest.mark.parametrize("layout", ["subset/stream", "subset"])
def test_another_width_than_stated(tmp_path: Path, layout: str) -> None:
    streams = 'fps = 25.0\nstreams = [{ name = "rgb", width = 1024 }, { name = "flow" , width = 1024 }]\n'
    make(tmp_path, layout, write={"dataset.toml": MINE + streams})
    error(UserError, lambda: open_dataset(tmp_path), "mine states", "Choose another --descriptor")


def test_subsets_with_different_streams(tmp_path: Path) -> None:
    make(tmp_path)
    for name in ("s1", "s2"):
        (tmp_path / f"features/test/flow/{name}.npy").unlink()
    (tmp_path / "features/test/flow").rmdir()
    error(UserError, lambda: open_dataset(tmp_path), "different streams: rgb+flow in", " and rgb in")
    assert open_dataset(tmp_path, streams=["rgb"]).columns.width == 3


def test_video_id_that_leaves_the_folder(tmp_path: Path) -> None:
    make(tmp_path)
    content = annotations()
    content["database"]["../../etc/passwd"] = content["database"]["t1"]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    error(UserError, lambda: open_dataset(tmp_path), "'../../etc/passwd' is not a plain file name")


def test_broken_values_are_found_when_read(tmp_path: Path) -> None:
    make(tmp_path, "subset")
    np.save(tmp_path / "features/train/t1.npy", np.full((10, 5), np.nan, np.float32))
    video = open_dataset(tmp_path).videos("train")[0]
    error(UserError, lambda: video.features, "Features of t1: row 0 of 10 has NaN or infinity")


OFFICIAL = {
    name: {"subset": subset, "duration_seconds": rows * 0.64, "labels": ["run"]}
    for name, (subset, rows, _) in VIDEOS.items()
}


def test_official_labels(tmp_path: Path) -> None:
    make(tmp_path, write={"video_labels.json": OFFICIAL})
    data = open_dataset(tmp_path)
    assert data.label_source == "official"
    assert [video.labels for video in data.videos("train")] == [(1,), (1,)]
    other = open_dataset(tmp_path, label_source="annotations")
    assert [video.labels for video in other.videos("train")] == [(0, 1), (1,)]
    assert data.digests()["labels"] != other.digests()["labels"]


def test_no_official_labels_is_said(tmp_path: Path) -> None:
    data = open_dataset(make(tmp_path))
    assert data.label_source == "annotations"
    assert "No video_labels.json with official video-level labels: took the annotations' classes." in data.notes


def test_unknown_official_label(tmp_path: Path) -> None:
    make(tmp_path, write={"video_labels.json": OFFICIAL | {"t1": {"labels": ["fly"]}}})
    error(UserError, lambda: open_dataset(tmp_path).videos("train"), "t1 is labelled 'fly', none of the 2 classes")


def test_official_labels_of_training_videos_alone(tmp_path: Path) -> None:
    make(tmp_path, write={"video_labels.json": {name: OFFICIAL[name] for name in ("t1", "t2")}})
    data = open_dataset(tmp_path)
    assert [video.labels for video in data.videos("train")] == [(1,), (1,)]
    assert [video.labels for video in data.videos("test")] == [(0,), (1,)]
    assert data.describe()["labels"] == "official"
    make(tmp_path, write={"video_labels.json": {name: OFFICIAL[name] for name in ("t2", "s1", "s2")}})
    error(
        MissingDataError,
        lambda: open_dataset(tmp_path).videos("train"),
        "video_labels.json has no labels of t1. Add it, or take the annotations' labels with --labels annotations.",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "must be a JSON object with a key for each video"),
        ("{", "not valid JSON"),
        ('{"t1": 3}', 'video t1: expected {"labels": [names], "duration_seconds": s}'),
        ('{"t1": {"labels": 3}}', 'video t1: expected {"labels": [names]'),
        ('{"t1": {"labels": "run"}}', 'video t1: expected {"labels": [names]'),
        ('{"t1": {}}', 'video t1: expected {"labels": [names]'),
        ('{"t1": {"labels": [3]}}', "video t1: `labels`: expected a name, got 3"),
        ('{"t1": {"labels": ["\\ud800"]}}', "'\\ud800' is not text that UTF-8 can encode"),
        ('{"t1": {"labels": ["run"]}, "t1": {"labels": []}}', "'t1' is given twice in one object"),
        *(
            (
                f'{{"t1": {{"labels": ["run"], "duration_seconds": {value}}}}}',
                "expected `duration_seconds` to be seconds",
            )
            for value in ("NaN", "Infinity", "-1", "0", "1e308", "1e7", str(10**400), '"x"', "true")
        ),
    ],
)
def test_damaged_official_labels(tmp_path: Path, content: str, message: str) -> None:
    make(tmp_path, write={"video_labels.json": content})
    error(UserError, lambda: open_dataset(tmp_path), "video_labels.json", message)


def test_training_videos_without_label_are_left_out(tmp_path: Path) -> None:
    data = open_dataset(make(tmp_path, videos=VIDEOS | {"t3": ("training", 3, [])}))
    assert [video.name for video in data.videos("train")] == ["t1", "t2"]
    assert "1 training videos have no label and are left out: t3." in data.notes


def test_labels_of_no_training_video(tmp_path: Path) -> None:
    make(tmp_path, write={"video_labels.json": {name: {"labels": []} for name in ("t1", "t2")}})
    error(
        MissingDataError,
        lambda: open_dataset(tmp_path).videos("train"),
        "video_labels.json gives none of the 2 train videos a label. State their classes there, or take",
    )
    bare = make(tmp_path / "bare", videos={"t1": ("training", 4, []), "s1": ("test", 4, ["run"])})
    message = "annotations.json gives none of the 1 train videos a label. State their classes there."
    error(MissingDataError, lambda: open_dataset(bare).videos("train"), message)


def test_files_of_no_video_are_said(tmp_path: Path) -> None:
    make(tmp_path, "subset")
    np.save(tmp_path / "features/test/other.npy", np.zeros((1, 5), np.float32))
    data = open_dataset(tmp_path)
    assert "1 feature files belong to no annotated test video: other." in data.notes
    assert len(data.videos("test")) == 2


def test_file_prefix(tmp_path: Path) -> None:
    make(tmp_path, prefix="v_", write={"dataset.toml": MINE + 'fps = 25.0\nfile_prefixes = ["", "v_"]\n'})
    assert [video.name for video in open_dataset(tmp_path).videos("test")] == ["s1", "s2"]


def test_validation_is_the_training_part_only_beside_a_test_part(tmp_path: Path) -> None:
    renamed = {name: ("validation" if s == "training" else s, r, c) for name, (s, r, c) in VIDEOS.items()}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    thumos = open_dataset(make(tmp_path / "a", "stream", videos=renamed))
    assert [video.name for video in thumos.videos("train")] == ["t1", "t2"]
    activitynet = {name: ("validation" if s == "test" else s, r, c) for name, (s, r, c) in VIDEOS.items()}
    hidden = activitynet | {"h": ("testing", 3, [])}  # as in the official file: no annotations
    data = open_dataset(make(tmp_path / "b", videos=hidden))
    assert [video.name for video in data.videos("test")] == ["s1", "s2"]


def test_stated_classes(tmp_path: Path) -> None:
    make(tmp_path, write={"dataset.toml": MINE + 'fps = 25.0\nclasses = ["walk", "run", "jump"]\n'})
    data = open_dataset(tmp_path)
    assert data.classes == ("jump", "run", "walk")
    truth = data.ground_truth("test")
    assert truth.classes == data.classes
    assert [truth.classes[label] for label in truth.label] == ["jump", "run", "run"]


def test_class_file(tmp_path: Path) -> None:
    make(tmp_path, write={"dataset.toml": MINE + 'fps = 25.0\nclass_file = "c.txt"\n', "c.txt": "run\njump\n\n"})
    assert open_dataset(tmp_path).classes == ("jump", "run")
    (tmp_path / "c.txt").write_bytes("éclair".encode("latin1"))
    error(UserError, lambda: open_dataset(tmp_path), "c.txt is not a text file", "one class name per line")
    (tmp_path / "c.txt").unlink()
    error(MissingDataError, lambda: open_dataset(tmp_path), "c.txt is not there")


def test_labels_outside_the_stated_classes(tmp_path: Path) -> None:
    make(tmp_path, write={"dataset.toml": MINE + 'fps = 25.0\nclasses = ["run"]\n'})
    error(UserError, lambda: open_dataset(tmp_path), "has labels that mine does not know: jump")


def test_classes_of_another_data_set(tmp_path: Path) -> None:
    make(tmp_path, "subset", widths={"rgb": 1024, "flow": 1024})
    error(UserError, lambda: open_dataset(tmp_path, dataset="activitynet13"), "2 classes", "not those of activitynet13")


def test_ground_truth(tmp_path: Path) -> None:
    make(tmp_path, write={"Ambiguous_test.txt": "s2 0.5 0.6\nt1 0.0 1.0\ns1 0.1 0.2\n"})
    truth = open_dataset(tmp_path).ground_truth("test")
    assert truth.videos == ("s1", "s2")
    rows = zip(truth.video.tolist(), truth.label.tolist(), truth.start, truth.end, strict=True)
    assert [(v, c, pytest.approx(s), pytest.approx(e)) for v, c, s, e in rows] == [  # type: ignore[comparison-overlap]
        (0, 0, 0.0, 0.3),
        (1, 1, 0.0, 0.3),
        (1, 1, 0.1, 0.4),
    ]
    assert sorted(map(tuple, truth.ambiguous.tolist())) == [(0.0, 0.1, 0.2), (1.0, 0.5, 0.6)]


def test_ground_truth_of_scored_videos(tmp_path: Path) -> None:
    make(tmp_path, write={"Ambiguous_test.txt": "s2 0.5 0.6\ns1 0.1 0.2\n"})
    for stream in ("rgb", "flow"):
        (tmp_path / f"features/test/{stream}/s1.npy").unlink()
    data = open_dataset(tmp_path, allow_missing=True)
    scored = data.ground_truth("test")
    assert (scored.videos, len(scored), scored.ambiguous.tolist()) == (("s2",), 2, [[0.0, 0.5, 0.6]])


def snapshot(data: Dataset) -> list[tuple[Any, ...]]:
    return [
        (v.name, v.labels, v.seconds_per_snippet, v.offset, v.features.dtype.str, v.features.tobytes())
        for v in data.videos("train")
    ]


def test_training_never_sees_a_time(tmp_path: Path) -> None:
    before = snapshot(open_dataset(make(tmp_path)))
    content = annotations()
    for name, (subset, _, _) in VIDEOS.items():
        if subset == "training":
            for item in content["database"][name]["annotations"]:
                item["segment"] = [sum(item["segment"]) / 7, 5.5]
            content["database"][name]["annotations"] *= 3
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert snapshot(open_dataset(tmp_path)) == before
    assert set(Video.__dataclass_fields__) == {
        "name", "source", "labels", "seconds_per_snippet", "offset"
    }  # fmt: skip


def test_digests_follow_content_not_place(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    nested, flat = open_dataset(make(tmp_path / "a")), open_dataset(make(tmp_path / "b", "stream"))
    assert nested.digests() == flat.digests()
    changed = {**VIDEOS, "t1": ("training", 9, ["jump", "run"])}
    other = open_dataset(make(tmp_path / "c", videos=changed))
    different = {key for key, digest in other.digests().items() if digest != nested.digests()[key]}
    assert different == {"annotations", "train"}


def test_digest_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cache = open_dataset(make(tmp_path)), tmp_path / "cache/digests.json"
    first = data.digests(cache)
    assert {len(entry) for entry in json.loads(cache.read_text()).values()} == {5}
    assert len(json.loads(cache.read_text())) == 8
    with monkeypatch.context() as patch:
        patch.setattr("harness.data.digests.sha256_file", lambda path: pytest.fail(f"read {path} again"))
        assert data.digests(cache) == first
    path = tmp_path / "features/train/rgb/t1.npy"
    np.save(path, np.ones((10, 3), np.float32))
    assert data.digests(cache)["train"] != first["train"]
    second, status = data.digests(cache), path.stat()
    (tmp_path / "other.npy").write_bytes(path.read_bytes()[:-1] + b"\1")
    (tmp_path / "other.npy").replace(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp --preserve` or `rsync` leave it
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert data.digests(cache)["train"] != second["train"]
    cache.write_text("{ damaged")
    assert data.digests(cache) == data.digests()


def test_describe_is_json_and_names_lists_and_digests(tmp_path: Path) -> None:
    data = open_dataset(make(tmp_path))
    described = json.loads(json.dumps(data.describe()))
    assert described["train"]["videos"] == 2
    assert described["test"]["list"] == data.video_list("test").name
    assert described["digests"] == data.digests()
    assert described["width"] == 5


def test_describe_of_one_subset_needs_no_other(tmp_path: Path) -> None:
    make(tmp_path)
    whole = open_dataset(tmp_path).describe()
    assert whole == open_dataset(tmp_path).describe(("test", "train"))
    (tmp_path / "features/test/rgb/s1.npy").unlink()
    data = open_dataset(tmp_path)
    error(MissingDataError, data.describe, "annotated test videos have no features")
    described = data.describe(("train",))
    assert "test" not in described
    assert described["train"] == whole["train"]
    assert set(described["digests"]) == {"annotations", "labels", "clock", "train"}
    assert described["digests"]["train"] == whole["digests"]["train"]


def test_facts_that_the_runner_asks_for(tmp_path: Path) -> None:
    facts = 'fps = 25.0\ntious = "0.3,0.5"\nsample_length = 64\n'
    data = open_dataset(make(tmp_path, write={"dataset.toml": MINE + facts}))
    assert (data.tious, data.sample_length, data.schedule) == ((0.3, 0.5), 64, "mine")


COARSE = '[coarse_classes]\nwater = ["swim", "dive"]\nland = ["run", "walk"]\nair = ["jump"]\n'


def test_coarse_classes_are_numbered_in_the_order_of_the_classes(tmp_path: Path) -> None:
    data = open_dataset(make(tmp_path, write={"dataset.toml": MINE + "fps = 25.0\n" + COARSE}))
    assert data.classes == ("jump", "run")
    assert data.coarse_classes == (0, 1)  # of air and land: no class is in water
    assert HeldOutSource.of(data, 0.5).coarse_classes == (0, 1)


def test_classes_without_a_coarse_class_are_named(tmp_path: Path) -> None:
    data = open_dataset(make(tmp_path, write={"dataset.toml": MINE + "fps = 25.0\n" + COARSE.replace('"jump"', "")}))
    assert data.coarse_classes == ()
    assert "1 of 2 classes have no coarse class, so none is used: jump." in data.notes
    (tmp_path / "dataset.toml").write_text(MINE + "fps = 25.0\n")
    data = open_dataset(tmp_path)
    assert data.coarse_classes == ()
    assert not any("coarse" in note for note in data.notes)


def test_opening_reads_no_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    monkeypatch.setattr(np, "memmap", lambda *_, **__: pytest.fail("read a feature file"))
    assert len(open_dataset(tmp_path).videos("train")) == 2


# real data


def thumos_like(folder: Path, shared: Path, widths: dict[str, int]) -> Path:
    """Two-row files for the 412 THUMOS14 videos, so that classes, lists and widths are the real ones."""
    database = json.loads((shared / "data/thumos14/annotations.json").read_text())["database"]
    for name, entry in database.items():
        for stream, width in widths.items():
            path = folder / "features" / ("test" if entry["subset"] == "test" else "train") / stream / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.zeros((2, width), np.float16))
    return folder


@pytest.mark.shared
def test_thumos14_is_recognised_and_a_wrong_clock_refused(shared: Path, tmp_path: Path) -> None:
    thumos_like(tmp_path, shared, {"rgb": 1024, "flow": 1024})
    error(UserError, lambda: open_dataset(tmp_path, shared / "data/thumos14"), "contradict", "under thumos14's clock")
    data = open_dataset(tmp_path, shared / "data/thumos14", checked=False)
    assert data.name == "thumos14"
    assert data.video_list("train").name == "thumos14-train-200"
    assert data.video_list("test").name == "thumos14-test-212"
    assert data.predicted_list("test").name == "thumos14-test-210"
    assert data.classes == tuple(sorted(shipped_descriptors()["thumos14"].classes))
    assert len(data.ground_truth("test")) == 3358
    assert len(data.ground_truth("train")) == 3007
    for stream in ("rgb", "flow"):
        for number in ("0000270", "0001496"):
            (tmp_path / f"features/test/{stream}/video_test_{number}.npy").unlink()
    part = open_dataset(tmp_path, shared / "data/thumos14", checked=False)
    assert part.video_list("test").name == part.predicted_list("test").name == "thumos14-test-210"
    # the two are annotated all the same: anet-212 counts them as missed
    assert (len(part.ground_truth("test").videos), len(part.ground_truth("test"))) == (212, 3358)
    for stream in ("rgb", "flow"):
        (tmp_path / f"features/test/{stream}/video_test_0000004.npy").unlink()
    last = open_dataset(tmp_path, shared / "data/thumos14", checked=False)
    message = error(
        MissingDataError, lambda: last.videos("test"), "3 of 212 annotated test videos", "thumos14-test-210"
    )
    assert "video_test_0000004" in message


@pytest.mark.shared
def test_thumos14_with_unknown_features_keeps_its_lists(shared: Path, tmp_path: Path) -> None:
    data = open_dataset(thumos_like(tmp_path, shared, {"rgb": 8}), shared / "data/thumos14", checked=False)
    assert (data.name, data.family) == ("thumos14-generic", "thumos14")
    assert data.video_list("test").name == "thumos14-test-212"
    assert any("Nothing describes these features of thumos14" in note for note in data.notes)


@pytest.mark.shared
def test_thumos14_rgb_alone_is_recognised(shared: Path, tmp_path: Path) -> None:
    data = open_dataset(thumos_like(tmp_path, shared, {"rgb": 1024}), shared / "data/thumos14", checked=False)
    assert (data.name, data.columns.streams) == ("thumos14", ("rgb",))
    assert "Of the streams rgb, flow, there is only rgb." in data.notes


@pytest.mark.shared
def test_thumos14_r2plus1d(shared: Path) -> None:
    data = open_dataset(shared / "data/thumos14_r2plus1d")
    assert (data.name, data.family, data.columns.width, data.columns.streams) == (
        "thumos14-r2plus1d",
        "thumos14",
        512,
        ("rgb",),
    )
    assert (len(data.videos("train")), len(data.videos("test"))) == (185, 195)
    assert data.video_list("train").name == "thumos14-r2plus1d-train-185"
    assert data.video_list("test").name == "thumos14-r2plus1d-197"
    predicted = data.predicted_list("test")
    assert predicted.name == "thumos14-r2plus1d-195"
    truth = data.ground_truth("test")
    assert len(truth) == 2569
    kept = {truth.videos.index(video) for video in predicted.videos}
    assert sum(video in kept for video in truth.video.tolist()) == 2522
    assert len(data.ground_truth("train")) == 2420


@pytest.mark.shared
def test_thumos14_r2plus1d_clock(shared: Path) -> None:
    data = open_dataset(shared / "data/thumos14_r2plus1d")
    rates = json.loads((shared / "data/thumos14/fps.json").read_text())
    excess: Counter[int | None] = Counter()
    for subset in ("train", "test"):
        for video in data.videos(subset):
            assert video.seconds_per_snippet == 16 / rates[video.name]
            excess[data.clock.excess_rows(video.name, len(video.features))] += 1
    assert excess == {0: 325, -1: 55}  # never more than a snippet


@pytest.mark.shared
def test_the_wrong_durations_of_thumos14_are_not_used(shared: Path) -> None:
    data = open_dataset(shared / "data/thumos14_r2plus1d")
    rates, durations = data.clock.rates, {video: seconds or 0.0 for video, seconds in data.clock.durations.items()}
    assert rates is not None
    wrong = [video for video, entry in data.entries.items() if abs((entry.duration or 0) / durations[video] - 1) > 0.05]
    assert len(wrong) == 13
    assert all(rates[video] < 26 for video in wrong)


@pytest.mark.shared
def test_the_eight_thumos14_videos_whose_official_labels_differ(shared: Path) -> None:
    numbers = (171, 173, 178, 183, 316, 665, 786, 932)
    folder = shared / "data/thumos14_r2plus1d"
    official = {v.name: v.labels for v in open_dataset(folder, allow_missing=True).videos("train")}
    data = open_dataset(folder, label_source="annotations")
    annotated = {video.name: video.labels for video in data.videos("train")}
    different = [name for name in official if official[name] != annotated[name]]
    assert different == [f"video_validation_{number:07d}" for number in numbers]
    added = {
        name[-3:]: [data.classes[label] for label in sorted(set(annotated[name]) - set(official[name]))]
        for name in different
    }
    assert added == {
        "171": ["CricketShot"],
        "173": ["CricketShot"],
        "178": ["CricketShot"],
        "183": ["CricketBowling"],
        "316": [],
        "665": ["LongJump"],
        "786": ["ThrowDiscus"],
        "932": ["GolfSwing"],
    }


@pytest.mark.shared
def test_ucf_untrimmed_is_recognised_and_its_clock_fits(shared: Path) -> None:
    data = open_dataset(shared / "data/ucf_untrimmed")
    assert (len(data.videos("train")), len(data.videos("test")), len(data.classes)) == (160, 45, 7)
    assert (data.columns.width, data.name) == (1024, "ucf-untrimmed")
    assert any("Recognised ucf-untrimmed" in note for note in data.notes)
    assert {data.clock.excess_rows(v.name, len(v.features)) for s in ("train", "test") for v in data.videos(s)} == {0}


@pytest.mark.shared
def test_ucf_annotations_with_other_features(shared: Path, tmp_path: Path) -> None:
    # no shipped descriptor is called `ucf`, the family
    rows = {"training": 0, "test": 0}
    database = json.loads((shared / "data/ucf_untrimmed/annotations.json").read_text())["database"]
    for name, entry in database.items():
        rows[entry["subset"]] += 1
        path = tmp_path / "features" / entry["subset"] / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.zeros((round(entry["duration"] / 0.64), 8), np.float16))
    data = open_dataset(tmp_path, shared / "data/ucf_untrimmed")
    assert (data.name, data.columns.width, data.descriptor.extractor) == ("ucf-generic", 8, "unknown")
    assert (len(data.videos("train")), len(data.videos("test"))) == (rows["training"], rows["test"])


@pytest.mark.shared
def test_overlapping_windows_of_real_two_stream_files(shared: Path, tmp_path: Path) -> None:
    os.symlink(shared / "data/i3d_two_stream/thumos14", tmp_path / "features")
    facts = 'extends = "thumos14"\nname = "thumos14-w64s4"\nfps = 30.0\nsnippet_frames = 64\nstride = 4\n'
    (tmp_path / "dataset.toml").write_text(facts)
    manifest = json.loads((shared / "data/i3d_two_stream/manifest.json").read_text())
    data = open_dataset(tmp_path, shared / "data/thumos14", allow_missing=True)  # its clock fits the durations
    videos = data.videos("train") + data.videos("test")
    assert [video.name for video in videos] == [
        "video_validation_0000851", "video_validation_0000950", "video_test_0001135"
    ]  # fmt: skip
    for video in videos:
        assert list(video.features.shape) == manifest[video.name]["shape"]
        assert (video.seconds_per_snippet, video.offset) == (4 / 30, 1.0)
    halves = open_dataset(tmp_path, shared / "data/thumos14", allow_missing=True, streams=["flow"])
    np.testing.assert_array_equal(halves.videos("test")[0].features, videos[2].features[:, 1024:])


@pytest.mark.shared
def test_activitynet_files_with_a_prefix(shared: Path, tmp_path: Path) -> None:
    os.symlink(shared / "data/i3d_two_stream/activitynet", tmp_path / "features")
    facts = 'extends = "activitynet13"\nname = "activitynet13-w64s64"\nfps = 25.0\nsnippet_frames = 64\nstride = 64\n'
    (tmp_path / "dataset.toml").write_text(facts)
    # the one test video has 24-frame windows, which its duration shows
    error(
        UserError,
        lambda: open_dataset(tmp_path, shared / "data/activitynet13", allow_missing=True),
        "Row counts of 1 of 1 test videos contradict",
    )
    data = open_dataset(tmp_path, shared / "data/activitynet13", allow_missing=True, checked=False)
    excess = {
        v.name: data.clock.excess_rows(v.name, len(v.features)) for s in ("train", "test") for v in data.videos(s)
    }
    assert len(excess) == 11
    assert {name: rows for name, rows in excess.items() if rows} == {"GGSY1Qvo990": 10}
    assert "1 feature files belong to no annotated video: women_long_jump." in data.notes


THUMOS14 = shipped_descriptors()["thumos14"]
GENERIC = DatasetDescriptor.model_validate({"name": "mine", "title": "Mine", **ASSUMED})


@pytest.mark.parametrize(
    ("descriptor", "subsets", "train", "test"),
    [
        (THUMOS14, ("validation", "test"), "validation", "test"),
        (THUMOS14, ("Val ", "TEST"), "Val ", "TEST"),
        (THUMOS14, ("train", "test"), "train", "test"),
        (THUMOS14, ("training", "validation"), "training", "validation"),
        (THUMOS14, ("train", "val"), "train", "val"),
        (THUMOS14, ("training", "validation", "test"), "validation", "test"),
        (THUMOS14, ("validation",), "validation", None),
        (GENERIC, ("training", "validation"), "training", "validation"),
        (GENERIC, ("validation", "test"), "validation", "test"),
        (GENERIC, ("training", "validation", "testing"), "training", "testing"),
    ],
)
def test_subset_names(
    tmp_path: Path, descriptor: DatasetDescriptor, subsets: tuple[str, ...], train: str | None, test: str | None
) -> None:
    assert subset_names(annotated(tmp_path, {f"v{i}": name for i, name in enumerate(subsets)}), descriptor) == {
        "train": train,
        "test": test,
    }


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        ({"a": "train", "b": "training", "c": "test"}, r"has subsets 'train' and 'training'.*\[train\] annotation = "),
        ({"video_test_0000004": "training", "b": "test"}, "'training' has video_test_0000004, one of THUMOS14's test"),
        ({"video_validation_0000051": "test"}, "'test' has video_validation_0000051, one of THUMOS14's training"),
    ],
)
def test_subsets_that_can_be_read_in_two_ways_are_refused(tmp_path: Path, videos: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        subset_names(annotated(tmp_path, videos), GENERIC)


def annotated(folder: Path, videos: dict[str, str]) -> Annotations:
    labels = [{"label": "run", "segment": [0, 1]}]
    database = {name: {"subset": subset, "annotations": labels} for name, subset in videos.items()}
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    return read_annotations(folder / "gt.json")


def test_the_clock_of_windows_with_gaps() -> None:
    """One frame of 16 at 32 a second: rows are half a second apart, row 0 is centred on the middle of its frame."""
    facts = {"fps": 32.0, "snippet_frames": 1, "stride": 16}
    clock = Clock(GENERIC.model_copy(update=facts), {"a": 10.0})
    seconds, offset = clock.row_time("a", 20)
    assert seconds == 0.5
    assert offset + seconds / 2 == 0.5 / 32
    assert [clock.excess_rows("a", rows) for rows in (19, 20, 21)] == [-1, 0, 1]
