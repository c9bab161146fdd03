"""Distances from prototypes, graphs of labels and attention over time: by hand, by loops, and what must hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from wstal.parts.prototypes import Matching, TimeAttention, distances, label_graph, limited

VIDEOS = st.lists(st.sets(st.integers(0, 4), max_size=4).map(lambda one: tuple(sorted(one))), max_size=8)


@pytest.mark.parametrize(("matching", "metric"), [("distance", "sqeuclidean"), ("cosine", "cosine")])
def test_distances_equal_scipy(matching: Matching, metric: str) -> None:
    rng = np.random.default_rng(0)
    features, prototypes = rng.normal(size=(2, 7, 6)), rng.normal(size=(3, 6))
    found = distances(torch.from_numpy(features), torch.from_numpy(prototypes), matching, 5.0)
    divisor = 6 if matching == "distance" else 1
    for video in range(2):
        expected = 5 * cdist(features[video], prototypes, metric) / divisor
        np.testing.assert_allclose(found[video], expected, rtol=1e-7)


@pytest.mark.parametrize("matching", ["distance", "cosine"])
def test_gradient_of_distances(matching: Matching) -> None:
    torch.manual_seed(0)
    features, prototypes = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 4), (3, 4))
    )
    assert torch.autograd.gradcheck(lambda x, p: distances(x, p, matching, 2.0), (features, prototypes))


@given(VIDEOS)
def test_label_graph_equals_counting(videos: list[tuple[int, ...]]) -> None:
    graph = label_graph(videos, 5)
    for one in range(5):
        counts = [sum(one in video and other in video for video in videos) + (one == other) for other in range(5)]
        torch.testing.assert_close(graph[one], torch.tensor(counts) / sum(counts))


@given(VIDEOS, st.floats(0, 1))
def test_limited_rows_still_sum_to_one_and_keep_the_proportions_of_others(
    videos: list[tuple[int, ...]], share: float
) -> None:
    graph = label_graph(videos, 5)
    made = limited(graph, share)
    torch.testing.assert_close(made.sum(dim=1), torch.ones(5))
    assert (made >= -1e-6).all()
    off = ~torch.eye(5, dtype=torch.bool)
    before, after = (torch.where(off, one, 0.0) for one in (graph, made))
    assert (after.sum(dim=1) <= share + 1e-6).all()
    torch.testing.assert_close(after.sum(dim=1), before.sum(dim=1).clamp(max=share))
    # rows are multiples of what they were
    torch.testing.assert_close(after * before.sum(dim=1, keepdim=True), before * after.sum(dim=1, keepdim=True))


def test_a_graph_within_the_limit_stays() -> None:
    graph = label_graph([(0, 1), (0,), (1,), (1,)], 2)
    torch.testing.assert_close(limited(graph, 0.6), graph)
    torch.testing.assert_close(limited(graph, 0.0), torch.eye(2))


def test_attention_sums_to_one_over_time() -> None:
    torch.manual_seed(0)
    for length in (1, 2, 9):
        weights = TimeAttention(6, width=4)(torch.randn(2, length, 6))
        assert weights.shape == (2, length, 1)
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 1))
