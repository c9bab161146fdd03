"""FTCL's alignments of 16 pairs beside a loop over cells, and its step beside ACM-Net's on the same videos."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.acmnet import AcmNet, AcmNetOptions
from baselines.ftcl import Ftcl, FtclOptions, longest_common, soft_alignment
from tests.benchmarks.measure import aim, in_turns
from wstal.method import Method, TrainSpec
from wstal.types import Batch

PAIRS = 16


def last_cell(rows: int, cell) -> Tensor:
    cells: list[list[Any]] = [[0.0] * (rows + 1)]
    for i in range(rows):
        cells.append([0.0])
        for j in range(rows):
            cells[-1].append(cell(i, j, cells[i][j], cells[i][j + 1], cells[i + 1][j]))
    return cells[-1][-1]


def looped(similarity: Tensor, match: Tensor, gap: Tensor) -> Tensor:
    scores = []
    for s, m, g in zip(similarity, match, gap, strict=True):

        def common(i: int, j: int, corner: Any, above: Any, left: Any, s: Tensor = s) -> Any:
            return corner + s[i, j] if s[i, j] > 0.92 else max(above, left)

        def soft(i: int, j: int, corner: Any, above: Any, left: Any, m: Tensor = m, g: Tensor = g) -> Any:
            ways = torch.stack([torch.as_tensor(corner, dtype=m.dtype), g[i, j] + above, g[i, j] + left])
            return m[i, j] + 0.1 * (ways / 0.1).logsumexp(dim=0)

        scores.append(last_cell(len(s), common) + last_cell(len(m), soft))
    return torch.stack(scores)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.benchmark(group="FTCL: alignments of 16 pairs, forward and backward")
def test_alignments(benchmark: Any) -> None:
    torch.manual_seed(0)
    tables = [torch.rand(PAIRS, size, size, requires_grad=True) for size in (30, 5, 5)]

    def ours() -> Tensor:
        return longest_common(tables[0], 0.92) + soft_alignment(tables[1], tables[2], 0.1)

    torch.testing.assert_close(ours(), looped(*tables))
    seconds = in_turns(
        benchmark, lambda: ours().sum().backward(), {"loops": lambda: looped(*tables).sum().backward()}, rounds=5
    )
    if seconds:
        aim(benchmark, "loops / ours", seconds["loops"] / seconds["ours"], at_least=10)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.benchmark(group="FTCL: training step over 16 pairs, [32, 64, 512]")
def test_step_beside_acmnet(benchmark: Any) -> None:
    torch.manual_seed(0)
    labels = torch.eye(20)[torch.arange(2 * PAIRS) // 3]
    batch = Batch(torch.rand(2 * PAIRS, 64, 512), labels, tuple(map(str, range(2 * PAIRS))))
    base, ours = AcmNet(AcmNetOptions(), 512, 20), Ftcl(FtclOptions(), 512, 20)
    ours.start_epoch(0, 1)
    seconds = in_turns(benchmark, stepper(ours, batch), {"acmnet": stepper(base, batch)}, rounds=7)
    if seconds:
        aim(benchmark, "ours / ACM-Net", seconds["ours"] / seconds["acmnet"], at_most=1.5)


def stepper(method: Method, batch: Batch) -> Any:
    (optimizer,) = method.optimizers(TrainSpec(epochs=1))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        method.losses(batch)["total"].backward()
        optimizer.step()

    return step
