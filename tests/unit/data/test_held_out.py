from __future__ import annotations

import numpy as np
import pytest

from harness.data.held_out import HeldOutSource
from harness.data.synthetic import EmbeddedSource
from harness.data.synthetic_spec import SyntheticSpec
from wstal.errors import UserError

SPEC = SyntheticSpec(train_videos=20, test_videos=6, classes=4, width=8, max_length=32)


@pytest.fixture(scope="module")
def source() -> EmbeddedSource:
    return EmbeddedSource.of(SPEC)


def test_parts_are_disjoint_and_come_from_training_alone(source: EmbeddedSource) -> None:
    held_out = HeldOutSource.of(source, 0.25)
    parts = {subset: {video.name for video in held_out.videos(subset)} for subset in ("train", "test")}
    assert len(parts["test"]) == 5
    assert parts["train"] | parts["test"] == {video.name for video in source.videos("train")}
    assert not parts["train"] & parts["test"]


def test_truth_is_that_of_the_held_out_videos(source: EmbeddedSource) -> None:
    held_out, whole = HeldOutSource.of(source, 0.25), source.ground_truth("train")
    truth = held_out.ground_truth("test")
    names = [video.name for video in held_out.videos("test")]
    assert list(truth.videos) == names

    def rows(truth, only):
        return {
            (truth.videos[v], truth.classes[c], s, e)
            for v, c, s, e in zip(truth.video, truth.label, truth.start, truth.end, strict=True)
            if truth.videos[v] in only
        }

    assert rows(truth, names) == rows(whole, names)
    assert len(truth) == sum(np.isin(np.array(whole.videos)[whole.video], names))


def test_split_is_the_same_each_time_and_part_of_the_identity(source: EmbeddedSource) -> None:
    first, second, other = (HeldOutSource.of(source, share).describe() for share in (0.25, 0.25, 0.5))
    assert first == second != other
    assert first["name"] == "synthetic-held-out"


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 0.001, 1.5])
def test_a_share_that_leaves_a_side_empty_is_refused(source: EmbeddedSource, share: float) -> None:
    with pytest.raises(UserError, match="videos on both sides"):
        HeldOutSource.of(source, share)
