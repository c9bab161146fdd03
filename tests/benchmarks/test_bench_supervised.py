"""G-TAD's aligned intervals and TadTR's deformable attention beside the plain matrix products that they stand for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.gtad import anchors, interval_bins
from tests.benchmarks.measure import aim, in_turns
from wstal.parts.cell_sampling import folded
from wstal.parts.deformable_attention import sample_points
from wstal.parts.segment_align import align_matrix

ROWS, DURATIONS, BINS, WIDTH, OUT = 128, 64, 16, 256, 512  # a window of twice up-sampled rows
WINDOWS, HEADS, POINTS, SNIPPETS = 16, 8, 4, 80  # a batch of TadTR's windows


@pytest.mark.usefixtures("one_thread")
@pytest.mark.benchmark(group="G-TAD: intervals [64, 128] aligned and joined, forward and backward")
def test_graph_alignment(benchmark: Any) -> None:
    """The layer after the pooling comes first in both; the matrix then is dense, or has its 3 % of entries alone."""
    torch.manual_seed(0)
    nodes = torch.randn(1, WIDTH, ROWS, requires_grad=True)
    weight = torch.randn(OUT, WIDTH, BINS, requires_grad=True)
    pooling = interval_bins(DURATIONS, ROWS, BINS)
    rows = zip(*anchors(DURATIONS, ROWS), strict=True)
    dense = torch.cat([align_matrix(*edges, BINS, ROWS).flatten(1) for edges in rows]).float()

    def product() -> Tensor:
        table = torch.einsum("ock,bct->ktbo", weight, nodes).reshape(BINS * ROWS, OUT)
        return (dense @ table).t().unsqueeze(0)

    torch.testing.assert_close(folded(pooling, nodes, weight), product(), rtol=1e-4, atol=1e-3)
    ours = backward(lambda: folded(pooling, nodes, weight))
    seconds = in_turns(benchmark, ours, {"matrix_product": backward(product)}, rounds=5)
    if seconds:
        aim(benchmark, "ours / matrix product", seconds["ours"] / seconds["matrix_product"], at_most=2)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.benchmark(group="TadTR: points of 16 x 80 rows, 8 heads, forward and backward")
@pytest.mark.parametrize("queries", [SNIPPETS, 40], ids=["encoder", "decoder"])
def test_deformable_attention(benchmark: Any, queries: int) -> None:
    """Beside attention of all rows, whose weights are the same points' as a dense matrix of hats, and as it is."""
    torch.manual_seed(0)
    width = WIDTH // HEADS
    values = torch.randn(WINDOWS, HEADS, SNIPPETS, width, requires_grad=True)
    location = torch.rand(WINDOWS, HEADS, queries, POINTS, requires_grad=True)
    weight = torch.rand(WINDOWS, HEADS, queries, POINTS, requires_grad=True)
    query = torch.randn(WINDOWS, HEADS, queries, width, requires_grad=True)
    place = torch.arange(SNIPPETS)

    def hats() -> Tensor:
        height = (1 - (location[..., None] * SNIPPETS - 0.5 - place).abs()).relu()
        return (weight[..., None] * height).sum(dim=3) @ values

    def attention() -> Tensor:
        return (query @ values.transpose(2, 3)).softmax(dim=3) @ values

    torch.testing.assert_close(sample_points(values, location, weight), hats(), rtol=1e-4, atol=1e-4)
    others = {"matrix_product": backward(hats), "attention_of_all_rows": backward(attention)}
    seconds = in_turns(benchmark, backward(lambda: sample_points(values, location, weight)), others, rounds=9)
    if seconds:
        aim(benchmark, "ours / matrix product", seconds["ours"] / seconds["matrix_product"], at_most=2)
        aim(benchmark, "ours / attention of all rows", seconds["ours"] / seconds["attention_of_all_rows"], at_most=2)


def backward(function: Any) -> Any:
    def step() -> None:
        function().sum().backward()

    return step
