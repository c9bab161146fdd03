"""The parts of the paper's method: memory update, contrast (Eq. 9), summarisers (Table VI), each against its loop."""

from __future__ import annotations

import functools
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.benchmarks import plain
from tests.benchmarks.hardware import Machine
from tests.benchmarks.measure import aim, flops, growth, in_turns, note_compute, note_memory, scaling
from wstal.losses.contrast import robust_contrast
from wstal.memory import MemoryBank, MemoryOptions
from wstal.summarize.build import build_summarizer
from wstal.summarize.codewords import EM_ITERATIONS, EM_TEMPERATURE, Codewords, ExpectationAttention
from wstal.summarize.options import SummaryKind, SummaryOptions
from wstal.summarize.summarizer import Summarizer

ROWS, LENGTH, WIDTH, EMBEDDED = 21, 500, 2048, 128
ENTRIES = 40  # representative features of a batch of 16 videos
# EM and codewords of full width against loops: half a minute
CASES = [
    *(
        pytest.param(kind, EMBEDDED, marks=[pytest.mark.slow] * (kind == "em_attention"))
        for kind in get_args(SummaryKind)
    ),
    pytest.param("codewords", WIDTH, marks=pytest.mark.slow),
]


@pytest.mark.benchmark(group="memory update: 40 features of 2,048 columns, 21 x 500 slots")
@pytest.mark.parametrize("update", get_args(MemoryOptions.model_fields["update"].annotation))
def test_memory_update(benchmark: Any, machine: Machine, update: str) -> None:
    torch.manual_seed(0)
    options = MemoryOptions.model_validate({"length": LENGTH, "update": update})
    banks = [MemoryBank(ROWS, WIDTH, options) for _ in range(2)]
    features, row = torch.rand(ENTRIES, WIDTH), torch.randint(ROWS, (ENTRIES,))
    slots = torch.rand(ROWS, LENGTH, WIDTH)
    for bank in banks:
        bank.slots.copy_(slots)
        bank.filled.fill_(LENGTH)
    seconds = in_turns(
        benchmark,
        lambda: banks[0].update(features, row),
        {"loop": lambda: plain.update(banks[1], features, row.tolist())},
        rounds=15,
    )
    torch.testing.assert_close(banks[0].slots, banks[1].slots, rtol=1e-5, atol=1e-6)
    # a slot is read, mixed with a feature and written; class_ema reads all slots of the feature's class
    slots_read = LENGTH if update == "class_ema" else 1
    note_memory(benchmark, machine, ENTRIES * WIDTH * 4 * (slots_read + 2), seconds)


def contrast(anchors: Tensor, bank: Tensor, own: Tensor, row: Tensor) -> Tensor:
    """As `CrossVideo` calls it."""
    cosines = functional.normalize(anchors, dim=1) @ bank.T / torch.linalg.vector_norm(bank, dim=1)
    return robust_contrast(cosines, own[:, None] == row, 0.2, 0.5, 0.1)


@pytest.mark.benchmark(group="robust contrast: 40 anchors, 10,500 slots of 2,048 columns")
def test_contrast(benchmark: Any, machine: Machine) -> None:
    torch.manual_seed(0)
    anchors = torch.rand(ENTRIES, WIDTH, requires_grad=True)
    bank, row = torch.rand(ROWS * LENGTH, WIDTH), torch.arange(ROWS).repeat_interleave(LENGTH)
    own = torch.arange(ENTRIES) % ROWS

    def fast() -> Tensor:
        return torch.autograd.grad(contrast(anchors, bank, own, row), anchors)[0]

    def loop() -> Tensor:
        return torch.autograd.grad(plain.contrast(anchors, own.tolist(), bank, row), anchors)[0]

    torch.testing.assert_close(fast(), loop(), rtol=1e-3, atol=1e-6)
    seconds = in_turns(benchmark, fast, {"loop": loop})
    note_compute(benchmark, machine, flops(fast), seconds)
    if seconds:
        aim(benchmark, "loop / ours", seconds["loop"] / seconds["ours"], at_least=3)


@pytest.mark.benchmark(group="growth")
def test_contrast_growth_with_the_bank(benchmark: Any) -> None:
    """Forward and backward of Eq. 9 with its cosines, 40 anchors, 5,000 to 100,000 slots of 512 columns."""
    sizes = [5_000, 10_000, 50_000, 100_000]
    torch.manual_seed(0)
    anchors = torch.randn(ENTRIES, 512, requires_grad=True)
    bank, row = torch.randn(sizes[-1], 512), torch.arange(sizes[-1]) % ROWS
    own = torch.arange(ENTRIES) % ROWS

    def both_passes(slots: int) -> None:
        contrast(anchors, bank[:slots], own, row[:slots]).backward()

    operations = [flops(functools.partial(both_passes, slots)) for slots in sizes]
    assert growth(sizes, operations) == pytest.approx(1, abs=0.01)
    exponent = scaling(benchmark, sizes, both_passes)
    aim(benchmark, "exponent", exponent, at_most=1.15)


def plain_summary(summarizer: Summarizer, tokens: Tensor, row: Tensor) -> Tensor:
    """Codewords with every slot projected, as Eq. 11 reads; EM basis by basis."""
    if isinstance(summarizer, Codewords):
        return plain.codewords(summarizer, tokens, row)
    assert isinstance(summarizer, ExpectationAttention)
    mean = tokens.mean(dim=0)
    bases = list(summarizer.bases)
    for _ in range(EM_ITERATIONS):
        logits = torch.stack(
            [functional.cosine_similarity(tokens - mean, basis[None]) / EM_TEMPERATURE for basis in bases]
        )
        shares = logits.softmax(dim=0)
        bases = [(share[:, None] * (tokens - mean)).sum(dim=0) / share.sum() for share in shares]
    return mean + torch.stack(bases)


@pytest.mark.benchmark(group="summariser: 40 centres of 10,500 slots")
@pytest.mark.parametrize(("kind", "width"), CASES)
def test_summarizer(benchmark: Any, machine: Machine, kind: SummaryKind, width: int) -> None:
    """Learned ones forward and backward, as in each step; clusterings computed afresh, as in each epoch."""
    torch.manual_seed(0)
    centres = torch.rand(ROWS, 1, width)
    tokens = (centres + 0.3 * torch.rand(ROWS, LENGTH, width)).flatten(0, 1)
    row = torch.arange(ROWS).repeat_interleave(LENGTH)
    summarizer = build_summarizer(SummaryOptions(kind=kind), width, ROWS).train()
    parameters = [part for part in summarizer.parameters() if part.requires_grad]
    if not parameters:

        def cluster() -> None:
            summarizer.refresh(tokens, row)

        in_turns(benchmark, cluster, rounds=3, warm=0)
        assert len(summarizer(tokens, row)) > 1
        return

    def fast() -> tuple[Tensor, ...]:
        return torch.autograd.grad(summarizer(tokens, row).square().sum(), parameters)

    def plainly() -> tuple[Tensor, ...]:
        return torch.autograd.grad(plain_summary(summarizer, tokens, row).square().sum(), parameters)

    others = {} if kind == "detr_layer" else {"plain": plainly}
    if others:
        torch.testing.assert_close(
            summarizer(tokens, row), plain_summary(summarizer, tokens, row), rtol=1e-3, atol=1e-3
        )
    seconds = in_turns(benchmark, fast, others)
    note_compute(benchmark, machine, flops(fast), seconds)
    if seconds and kind == "codewords":
        aim(benchmark, "plain / ours", seconds["plain"] / seconds["ours"], at_least=1.5)
