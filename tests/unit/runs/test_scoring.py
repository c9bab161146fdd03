"""Scoring keeps the clock: one row of the signals lasts longer where a video was sampled down."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.acmnet import AcmNet, AcmNetOptions
from harness.runs.scoring import score_videos
from wstal.method import TrainSpec
from wstal.types import Video

SPEC = TrainSpec(epochs=1, temporal_length=10, test_length=10)


def video(length: int, dtype: type = np.float16) -> Video:
    return Video(f"v{length}", np.random.default_rng(length).random((length, 6)).astype(dtype), (0,), 0.64, 0.5)


@pytest.mark.parametrize(("length", "rows", "seconds"), [(1, 2, 0.32), (4, 4, 0.64), (10, 10, 0.64), (25, 10, 1.6)])
def test_rows_cover_the_whole_video(length: int, rows: int, seconds: float) -> None:
    (scores,) = score_videos(AcmNet(AcmNetOptions(), 6, 3), [video(length)], SPEC)
    assert scores.signals["cas"].shape == (rows, 3)
    assert scores.signals["attention"].shape == (rows,)
    assert scores.seconds_per_snippet == pytest.approx(seconds)
    assert rows * scores.seconds_per_snippet == pytest.approx(length * 0.64)
    assert scores.offset == 0.5


def test_scoring_is_in_evaluation_mode_without_gradient_and_counts_on() -> None:
    method, seen = AcmNet(AcmNetOptions(), 6, 3).train(), []
    first, second = (
        score_videos(method, [video(4), video(7)], SPEC, lambda *step: seen.append(step)) for _ in range(2)
    )
    assert seen == [("score", 1, 2, ""), ("score", 2, 2, "")] * 2
    assert all(np.array_equal(a.signals["cas"], b.signals["cas"]) for a, b in zip(first, second, strict=True))


def test_half_precision_features_score_as_their_own_values_in_single() -> None:
    torch.manual_seed(0)
    method, half = AcmNet(AcmNetOptions(), 6, 3), video(5)
    single = Video(half.name, half.features.astype(np.float32), half.labels, 0.64)
    (a,), (b,) = score_videos(method, [half], SPEC), score_videos(method, [single], SPEC)
    assert np.array_equal(a.signals["cas"], b.signals["cas"])
