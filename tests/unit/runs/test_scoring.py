"""Scoring keeps the clock: one row of the signals lasts longer where a video was sampled down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.acmnet import AcmNet, AcmNetOptions
from harness.runs import scoring
from harness.runs.scoring import score_videos
from wstal.method import Method, TrainSpec
from wstal.types import Scores, SnippetScores, Video

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
        list(score_videos(method, [video(4), video(7)], SPEC, lambda *step: seen.append(step))) for _ in range(2)
    )
    assert seen == [("score", 1, 2, ""), ("score", 2, 2, "")] * 2
    assert all(np.array_equal(a.signals["cas"], b.signals["cas"]) for a, b in zip(first, second, strict=True))


def test_half_precision_features_score_as_their_own_values_in_single() -> None:
    torch.manual_seed(0)
    method, half = AcmNet(AcmNetOptions(), 6, 3), video(5)
    single = Video(half.name, half.features.astype(np.float32), half.labels, 0.64)
    (a,), (b,) = score_videos(method, [half], SPEC), score_videos(method, [single], SPEC)
    assert np.array_equal(a.signals["cas"], b.signals["cas"])


class Recorded(AcmNet):
    """ACM-Net that tells which batches it scores."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.batches: list[int] = []

    def score_batch(self, features: Tensor) -> list[Scores]:
        self.batches.append(len(features))
        return super().score_batch(features)


class Rounded(Recorded):
    """Its batches round otherwise than videos alone."""

    def score_batch(self, features: Tensor) -> list[Scores]:
        return [replace(one, video_scores=one.video_scores * (1 + 2**-20)) for one in super().score_batch(features)]


class Other(AcmNet):
    """A method of its own that knows nothing of batches."""

    def score(self, features: Tensor) -> Scores:
        return replace(super().score(features), video_scores=features.new_zeros(3))


LENGTHS = [7, 9, 7, 7, 12, 30, 1, 9, 7, 7, 7] * 3
MIXED = [replace(video(length), name=f"{number}") for number, length in enumerate(LENGTHS)]


def scored(method: Method, videos: Sequence[Video] = MIXED) -> list[SnippetScores]:
    return list(score_videos(method, videos, SPEC))


def same_bits(one: SnippetScores, other: SnippetScores) -> bool:
    first, second = ({"": each.video_scores} | each.signals for each in (one, other))
    same = first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)
    return same and (one.video, one.seconds_per_snippet) == (other.video, other.seconds_per_snippet)


def test_videos_of_equal_length_share_a_pass_to_the_bits_of_videos_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BATCH", 3)
    method = Recorded(AcmNetOptions(), 6, 3)
    together, alone = scored(method), [one for single in MIXED for one in scored(method, [single])]
    # 7 rows 18 times, 9 six times, 10 of 12 and 30 six times and the one row, which is scored twice, three times: the
    # first three of each, and all where the bits of these agreed
    assert set(method.batches) == {3}
    assert 4 <= len(method.batches) <= 6 + 2 + 2 + 1
    assert all(map(same_bits, together, alone))


def test_where_bits_of_a_batch_differ_videos_are_scored_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BATCH", 3)
    torch.manual_seed(0)
    method, plain = Rounded(AcmNetOptions(), 6, 3), AcmNet(AcmNetOptions(), 6, 3)
    plain.load_state_dict(method.state_dict())
    found = scored(method)
    assert method.batches == [3, 3, 3, 3]  # the first batch of each length
    monkeypatch.setattr(scoring, "BATCH", 1)
    assert all(map(same_bits, found, scored(plain)))


def test_a_method_that_scores_otherwise_is_not_scored_by_its_parents_batches() -> None:
    method = Other(AcmNetOptions(), 6, 3)
    assert all(not one.video_scores.any() for one in scored(method))
    assert all(not one.video_scores.any() for one in method.score_batch(torch.rand(3, 4, 6)))


def test_few_videos_wait_for_others_of_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "AHEAD", 20 * (6 + 3))  # 20 rows
    read: list[int] = []

    def source(number: int, length: int) -> np.ndarray:
        read.append(number)
        return video(length).features

    lengths = [3, *[4] * 40]
    videos = [Video(str(number), partial(source, number, length), (), 1.0) for number, length in enumerate(lengths)]
    for number, one in enumerate(score_videos(AcmNet(AcmNetOptions(), 6, 3), videos, SPEC)):
        assert one.video == str(number)
        assert len(read) - number <= 6
