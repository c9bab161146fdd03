"""Counts of instances reach the methods that declare them, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.data.counts import training_videos
from harness.data.held_out import HeldOutSource
from harness.data.opening import open_dataset
from harness.data.source import DataSource
from harness.data.synthetic import EmbeddedSource
from harness.data.synthetic_spec import SyntheticSpec
from tests.helpers.small_data import write_tiny
from wstal.errors import UserError
from wstal.types import CountedVideo, GroundTruth, Video

SPEC = SyntheticSpec(train_videos=20, test_videos=6, classes=4, width=8, max_length=32)


def counted_by_hand(truth: GroundTruth, video: Video) -> tuple[int, ...]:
    number = truth.videos.index(video.name)
    return tuple(
        sum(v == number and c == label for v, c in zip(truth.video, truth.label, strict=True)) for label in video.labels
    )


@pytest.mark.parametrize("share", [0, 0.25])
def test_each_label_has_the_number_of_its_instances(share: float) -> None:
    whole: DataSource = EmbeddedSource.of(SPEC)
    source = HeldOutSource.of(whole, share) if share else whole
    weak, counted = training_videos(source, "weak"), training_videos(source, "weak+count")
    truth = whole.ground_truth("train")
    for plain, video in zip(weak, counted, strict=True):
        assert type(plain) is Video
        assert isinstance(video, CountedVideo)
        assert (video.name, video.labels) == (plain.name, plain.labels)
        assert video.features is plain.features
        assert video.counts == counted_by_hand(truth, video)
    assert max(count for video in counted for count in video.counts) > 1  # type: ignore[attr-defined]


def test_a_wrong_label_counts_0() -> None:
    source = EmbeddedSource.of(SPEC.model_copy(update={"label_noise": 1.0}))
    counts = [count for video in training_videos(source, "weak+count") for count in video.counts]  # type: ignore[attr-defined]
    assert 0 in counts


def test_counts_of_a_folder_are_those_of_its_annotations(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    database = json.loads((data / "annotations.json").read_text())["database"]
    for video in training_videos(open_dataset(data), "weak+count"):
        assert isinstance(video, CountedVideo)
        assert sum(video.counts) == len(database[video.name]["annotations"])


def test_labels_without_times_do_not_tell_a_count(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    content = json.loads((data / "annotations.json").read_text())
    (video,) = [one for name, one in content["database"].items() if name == "train_000"]
    video["annotations"] = [{"label": video["annotations"][0]["label"]}]
    (data / "annotations.json").write_text(json.dumps(content))
    source = open_dataset(data)
    assert len(training_videos(source, "weak")) == 9
    with pytest.raises(UserError, match=r"counts of instances.*train_000: a label has no `segment`"):
        training_videos(source, "weak+count")


def test_times_are_handed_out_to_nobody() -> None:
    with pytest.raises(ValueError, match="gets no times"):
        training_videos(EmbeddedSource.of(SPEC), "full")


def test_counts_are_one_for_each_label() -> None:
    with pytest.raises(ValueError, match="v has 1 counts for 2 labels"):
        CountedVideo("v", lambda: None, (0, 1), 0.64, counts=(3,))  # type: ignore[arg-type, return-value]
