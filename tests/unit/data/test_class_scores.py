"""Files of class scores: columns by name, the digest in the data's description, and messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.class_scores import WithClassScores
from harness.data.held_out import HeldOutSource
from harness.data.opening import open_dataset
from harness.data.source import DataSource
from harness.runs.spec import plan_run
from tests.helpers.small_data import write_tiny
from wstal.errors import MissingDataError, UserError


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    return open_dataset(write_tiny(tmp_path / "data"))


def content(source: DataSource, **changes: Any) -> dict[str, Any]:
    videos = [video.name for video in source.videos("test")]
    scores = np.arange(len(videos) * len(source.classes), dtype=float).reshape(len(videos), -1)
    return {"videos": videos, "scores": scores} | changes


def write(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def test_columns_are_sorted_classes_unless_named(source: DataSource, tmp_path: Path) -> None:
    plain = content(source)
    found = WithClassScores.of(source, write(tmp_path / "a.npz", plain)).class_scores()
    for row, video in zip(plain["scores"], plain["videos"], strict=True):
        np.testing.assert_array_equal(found[video], row)
    named = content(source, scores=plain["scores"][:, ::-1], classes=source.classes[::-1])
    again = WithClassScores.of(source, write(tmp_path / "b.npz", named)).class_scores()
    for video, row in found.items():
        np.testing.assert_array_equal(again[video], row)


def test_the_digest_is_part_of_a_run_but_not_of_its_training(source: DataSource, tmp_path: Path) -> None:
    given = WithClassScores.of(source, write(tmp_path / "a.npz", content(source)))
    described = given.describe()
    assert described["digests"].keys() - source.describe()["digests"].keys() == {"class_scores"}
    runs = [plan_run("acmnet", 0, one, {}) for one in (source, given)]
    assert runs[0].digest != runs[1].digest
    assert runs[0].trained_by == runs[1].trained_by


def test_all_else_is_the_sources(source: DataSource, tmp_path: Path) -> None:
    given = WithClassScores.of(source, write(tmp_path / "a.npz", content(source)))
    assert (given.name, given.classes, given.headline) == (source.name, source.classes, source.headline)
    for subset in ("train", "test"):
        assert [video.name for video in given.videos(subset)] == [video.name for video in source.videos(subset)]
        assert len(given.ground_truth(subset)) == len(source.ground_truth(subset))
    names = [video.name for video in source.videos("test")]
    assert given.durations(names) == source.durations(names)


def test_held_out_videos_need_scores_too(source: DataSource, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lacks 2 of 2 test videos: train_00"):
        WithClassScores.of(HeldOutSource.of(source, 0.25), write(tmp_path / "a.npz", content(source)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": np.zeros((2, 2))}, r"`scores` are \(2, 2\), not \(5, 3\)"),
        ({"scores": np.full((5, 3), -1.0)}, "not all finite and at least 0"),
        ({"scores": np.full((5, 3), np.nan)}, "not all finite and at least 0"),
        ({"classes": ["a", "b", "c"]}, "lacks classes of the data set"),
        ({"videos": ["x", "y", "z", "u", "v"]}, "lacks 5 of 5 test videos"),
        ({"scores": np.array([["a"] * 3] * 5)}, "holds no class scores"),
    ],
)
def test_what_does_not_fit_is_a_message(
    source: DataSource, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert len(source.classes) == 3
    with pytest.raises(UserError, match=message):
        WithClassScores.of(source, write(tmp_path / "a.npz", content(source, **changes)))


def test_a_file_of_another_kind_is_a_message(source: DataSource, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="is not there"):
        WithClassScores.of(source, tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(UserError, match="holds no class scores"):
        WithClassScores.of(source, tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", scores=np.zeros(3))
    with pytest.raises(UserError, match="holds no class scores"):
        WithClassScores.of(source, tmp_path / "other.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(UserError, match="holds no class scores"):
        WithClassScores.of(source, tmp_path / "array.npy")
