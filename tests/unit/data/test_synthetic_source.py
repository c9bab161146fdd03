from __future__ import annotations

from harness.data.synthetic import EmbeddedSource, embedded_source
from harness.data.synthetic_spec import SyntheticSpec

SMALL = SyntheticSpec(train_videos=8, test_videos=6, classes=4, width=8, max_length=32)


def test_it_is_marked_synthetic_and_described_by_its_bytes() -> None:
    first, second = EmbeddedSource.of(SMALL), EmbeddedSource.of(SMALL.model_copy(update={"seed": 1}))
    assert first.synthetic
    assert "SYNTHETIC" in first.notes[0]
    assert first.describe() == EmbeddedSource.of(SMALL).describe()
    assert first.describe()["sha256"] != second.describe()["sha256"]
    assert first.describe()["test"] == {"list": "generated", "videos": 6}


def test_classes_videos_and_truth_belong_together() -> None:
    source = EmbeddedSource.of(SMALL)
    truth = source.ground_truth("test")
    assert truth.classes == source.classes
    assert [video.name for video in source.videos("test")] == list(truth.videos)
    assert len(source.videos("train")) == 8


def test_full_size_is_another_data_set() -> None:
    assert embedded_source(full_size=True).name != embedded_source(full_size=False).name
    assert embedded_source(full_size=True).spec.width == 2048


def test_the_embedded_set_has_two_streams_and_its_own_title() -> None:
    small, calibrated = embedded_source(full_size=False), EmbeddedSource.of(SMALL)
    assert small.stream_widths == (32, 32)
    assert calibrated.stream_widths == (8,)
    assert small.describe()["title"] != calibrated.describe()["title"]
