"""Windows by hand and beside torch's interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wstal.supervised import snippet_signals, whole_instances
from wstal.types import SupervisedVideo, Video
from wstal.windows import Window, instances_in_rows, rows_at, window_starts

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("upsampling", [1, 2, 4])
def test_an_upsampled_video_is_torchs_linear_interpolation(upsampling: int) -> None:
    features = RNG.random((7, 3), dtype=np.float32)
    found = Window(0, 0, 1 / upsampling, 7 * upsampling).features(features)
    columns = torch.from_numpy(features).T[None]
    expected = torch.nn.functional.interpolate(columns, scale_factor=upsampling, mode="linear", align_corners=False)
    torch.testing.assert_close(found, expected[0].T)


def test_a_rescaled_video_is_torchs_linear_interpolation() -> None:
    features = RNG.random((37, 3), dtype=np.float32)
    found = Window(0, 0, 37 / 100, 100).features(features)
    columns = torch.from_numpy(features).T[None]
    expected = torch.nn.functional.interpolate(columns, size=100, mode="linear", align_corners=False)[0].T
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_rows_past_the_video_are_zero() -> None:
    features = np.ones((3, 2), dtype=np.float16)
    found = Window(0, 2, 0.5, 4).features(features)
    assert found.dtype == torch.float32
    assert found[:, 0].tolist() == [1, 1, 0, 0]
    assert rows_at(features, np.full(2, np.nan)).tolist() == [[0, 0], [0, 0]]


def test_a_window_of_a_long_video_reads_its_part_alone() -> None:
    class Watched(np.ndarray):
        read: tuple[int, ...] = ()

        def __getitem__(self, key):
            Watched.read += (key.start, key.stop)
            return np.asarray(super().__getitem__(key))

    features = np.arange(100.0)[:, None].view(Watched)
    assert Window(0, 40, 1, 10).features(features)[:, 0].tolist() == [*range(40, 50)]
    assert Watched.read == (40, 51)


def test_instances_are_in_rows_of_the_window() -> None:
    video = Video("v", np.zeros((50, 2)), (0,), 0.5, offset=0.25)
    timed = SupervisedVideo(video, np.array([0, 0]), np.array([0.25, 5.25]), np.array([1.25, 7.75]))
    assert instances_in_rows(timed).tolist() == [[0, 2], [10, 15]]
    assert Window(0, 8, 0.5, 20).instances(timed).tolist() == [[-16, -12], [4, 14]]


@pytest.mark.parametrize(("rows", "starts"), [(3, [0]), (8, [0]), (9, [0, 1]), (12, [0, 4]), (17, [0, 4, 8, 9])])
def test_the_last_window_ends_with_the_video(rows: int, starts: list[int]) -> None:
    assert window_starts(rows, size=8, stride=4) == starts


def test_a_window_needs_the_share_of_an_instance() -> None:
    window = Window(0, 10, 1, 10)
    for span, inside in (((9.5, 19), True), ((8, 18), False), ((10, 20), True), ((30, 40), False), ((12, 12), False)):
        assert whole_instances(np.array([span], dtype=float), window, share=0.9) == inside
    assert not whole_instances(np.zeros((0, 2)), window)


def test_signals_are_the_best_score_that_covers_a_row() -> None:
    proposals = torch.tensor([[0.0, 2.0, 0.5, 1.0], [1.0, 3.0, 0.8, 1.0], [2.0, 4.0, 0.6, -1.0], [0.0, 1.0, 3.0, 0.0]])
    found = snippet_signals(proposals, torch.tensor([0.5, 1.0]), rows=4)
    torch.testing.assert_close(found["cas"][:, 1], torch.tensor([0.5, 0.8, 0.8, 0.6]))
    torch.testing.assert_close(found["cas"][:, 0], torch.tensor([1.0, 0.0, 0.3, 0.3]))  # clamped to 1
    torch.testing.assert_close(found["attention"], torch.tensor([1.0, 0.8, 0.8, 0.6]))
