"""The memory bank against plain lists, one feature at a time, and its parts against literal loops."""

from __future__ import annotations

import itertools
import math
import operator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pydantic import ValidationError
from torch import Tensor

from wstal.memory import MemoryBank, MemoryOptions, representative_features, scaled_scores

Vector = list[float]
KINDS = ("slot_momentum", "fifo", "class_ema")


def cosine(first: Vector, second: Vector) -> float:
    lengths = math.hypot(*first) * math.hypot(*second)
    return sum(map(operator.mul, first, second)) / lengths if lengths else 0.0


class PlainBank:
    """Lists of slots, and where each row's next feature goes."""

    def __init__(self, rows: int, options: MemoryOptions) -> None:
        self.options = options
        self.slots: list[list[Vector]] = [[] for _ in range(rows)]
        self.pointer = [0] * rows

    def update(self, feature: Vector, row: int) -> int:
        """Stores one feature; returns the slot that it met."""
        slots, alpha = self.slots[row], self.options.momentum
        if len(slots) < self.options.length:
            slots.append(feature)
            slot = len(slots) - 1
        elif self.options.update == "class_ema":
            slot = max(range(len(slots)), key=lambda number: cosine(slots[number], feature))
            slots[slot] = [alpha * old + (1 - alpha) * new for old, new in zip(slots[slot], feature, strict=True)]
        else:
            slot, kept = self.pointer[row], 0.0 if self.options.update == "fifo" else 1 - alpha
            slots[slot] = [kept * old + (1 - kept) * new for old, new in zip(slots[slot], feature, strict=True)]
        self.pointer[row] = (slot + 1) % self.options.length
        return slot


class Machine(RuleBasedStateMachine):
    """Updates, reads and resumptions in any order."""

    @initialize(
        rows=st.integers(1, 4),
        dim=st.integers(2, 5),
        length=st.integers(1, 5),
        momentum=st.sampled_from([0.01, 0.5, 0.99, 1.0]),
        kind=st.sampled_from(KINDS),
    )
    def begin(self, rows: int, dim: int, length: int, momentum: float, kind: str) -> None:
        self.options = MemoryOptions(length=length, momentum=momentum, update=kind)
        self.rows, self.dim = rows, dim
        self.bank = self.new_bank()
        self.undisturbed = self.new_bank()
        self.plain = PlainBank(rows, self.options)
        self.seen: list[list[Vector]] = [[] for _ in range(rows)]

    def new_bank(self) -> MemoryBank:
        # double, so that rounding neither hides a wrong coefficient nor decides which slot is nearest
        return MemoryBank(self.rows, self.dim, self.options).double()

    @rule(
        seed=st.integers(0, 2**32 - 1),
        choices=st.lists(st.integers(0, 3), max_size=14),
        size=st.sampled_from([1e-3, 1.0, 50.0]),
        blank=st.booleans(),
    )
    def update(self, seed: int, choices: list[int], size: float, blank: bool) -> None:
        rows = [choice % self.rows for choice in choices]
        rng = np.random.default_rng((seed, sum(map(len, self.seen))))  # never the same directions again
        features = torch.from_numpy(rng.normal(size=(len(rows), self.dim)) * size)
        if blank and rows:
            features[0] = 0.0  # what a ReLU leaves of a dead snippet
        elif rows and self.options.update != "class_ema":  # of equal slots the nearest is a matter of rounding
            features[-1] = features[0]
        before = self.bank.slots.clone()
        touched = set()
        for feature, row in zip(features.tolist(), rows, strict=True):
            touched.add((row, self.plain.update(feature, row)))
            self.seen[row].append(feature)
        for bank in (self.bank, self.undisturbed):
            bank.update(features.clone().requires_grad_(), torch.tensor(rows, dtype=torch.int64))
        for place in itertools.product(range(self.rows), range(self.options.length)):
            assert place in touched or torch.equal(self.bank.slots[place], before[place])

    @rule()
    def resume(self) -> None:
        stored = {name: value.clone() for name, value in self.bank.state_dict().items()}
        self.bank = self.new_bank()
        self.bank.load_state_dict(stored)

    @invariant()
    def equals_the_lists(self) -> None:
        tokens, row = self.bank.tokens()
        expected = [slot for slots in self.plain.slots for slot in slots]
        assert row.tolist() == [number for number, slots in enumerate(self.plain.slots) for _ in slots]
        torch.testing.assert_close(
            tokens, torch.tensor(expected, dtype=torch.float64).reshape(-1, self.dim), rtol=1e-10, atol=1e-12
        )
        assert self.bank.filled.tolist() == [len(slots) for slots in self.plain.slots]
        assert all(len(slots) <= self.options.length for slots in self.plain.slots)
        if self.options.update != "class_ema":
            assert self.bank.pointer.tolist() == self.plain.pointer

    @invariant()
    def slots_are_mixes_of_their_own_rows_features(self) -> None:
        for row, slots, seen in zip(range(self.rows), self.bank.slots, self.seen, strict=True):
            filled = slots[: self.bank.filled[row]]
            assert filled.isfinite().all()
            assert not slots[len(filled) :].any()
            if seen:
                every = torch.tensor(seen, dtype=torch.float64)
                slack = 1e-12 * every.abs().max()
                assert (filled <= every.amax(dim=0) + slack).all()
                assert (filled >= every.amin(dim=0) - slack).all()
                assert filled.norm(dim=1).max() <= every.norm(dim=1).max() + slack

    @invariant()
    def resuming_changes_no_bit_and_nothing_has_gradient(self) -> None:
        for name, value in self.bank.state_dict().items():
            assert torch.equal(value, self.undisturbed.state_dict()[name])
            assert not value.requires_grad
        assert not list(self.bank.parameters())

    @invariant()
    def separation_equals_the_loops(self) -> None:
        within, between = plain_separation(self.plain.slots)
        assert self.bank.separation() == pytest.approx((within, between), abs=1e-9, nan_ok=True)


TestMemoryBank = Machine.TestCase
TestMemoryBank.settings = settings(max_examples=60, stateful_step_count=12)


def plain_separation(slots: list[list[Vector]]) -> tuple[float, float]:
    """Mean cosine to the own class's centre and between centres; centres are means of unit vectors."""

    def unit(vector: Vector) -> Vector:
        return [value / (math.hypot(*vector) or 1.0) for value in vector]

    centres = [[math.fsum(column) for column in zip(*map(unit, row), strict=True)] for row in slots if row]
    within = [cosine(slot, centre) for row, centre in zip(filter(None, slots), centres, strict=True) for slot in row]
    between = [cosine(*pair) for pair in itertools.combinations(centres, 2)]
    return tuple(math.fsum(found) / len(found) if found else math.nan for found in (within, between))  # type: ignore[return-value]


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_resumes_to_the_same_bits(kind: str) -> None:
    options = MemoryOptions(length=3, update=kind)
    generator = torch.Generator().manual_seed(0)
    straight, resumed = MemoryBank(3, 8, options), MemoryBank(3, 8, options)
    for _ in range(6):
        features, row = torch.rand(7, 8, generator=generator), torch.randint(3, (7,), generator=generator)
        straight.update(features, row)
        again = MemoryBank(3, 8, options)
        again.load_state_dict(resumed.state_dict())
        again.update(features, row)
        resumed = again
        assert all(torch.equal(a, b) for a, b in zip(straight.buffers(), resumed.buffers(), strict=True))


def test_updates_by_hand() -> None:
    features, row = torch.tensor([[1.0], [2.0], [4.0], [8.0]]), torch.tensor([0, 0, 0, 0])
    expected = {
        "slot_momentum": [0.25 * 1 + 0.75 * 4, 0.25 * 2 + 0.75 * 8],
        "fifo": [4.0, 8.0],
        # in one dimension all cosines are equal: the first slot drifts, twice
        "class_ema": [0.75 * (0.75 * 1 + 0.25 * 4) + 0.25 * 8, 2.0],
    }
    for kind, slots in expected.items():
        bank = MemoryBank(1, 1, MemoryOptions(length=2, momentum=0.75, update=kind))
        bank.update(features, row)
        assert bank.slots.flatten().tolist() == slots


@pytest.mark.parametrize("full", [False, True])
def test_an_empty_row_is_readable(full: bool) -> None:
    bank = MemoryBank(3, 2, MemoryOptions(length=2))
    tokens, row = bank.tokens()
    assert tokens.shape == (0, 2)
    assert row.shape == (0,)
    assert all(math.isnan(value) for value in bank.separation())
    bank.update(torch.ones(1 + full, 2), torch.ones(1 + full, dtype=torch.int64))
    tokens, row = bank.tokens()
    assert tokens.tolist() == [[1.0, 1.0]] * (1 + full)
    assert row.tolist() == [1] * (1 + full)


def test_a_class_without_direction_is_no_nearer_to_the_others() -> None:
    # rows of centres (1, 0), (0, 1) and none: all three cosines between classes are 0
    bank = MemoryBank(3, 2, MemoryOptions(length=1))
    bank.update(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), torch.arange(3))
    assert bank.separation()[1] == pytest.approx(0.0)


@pytest.mark.parametrize(
    "wrong", [{"length": 0}, {"momentum": 0.0}, {"momentum": 1.1}, {"threshold": 1.0}, {"start": 1.0}, {"update": "x"}]
)
def test_options_refuse_what_has_no_meaning(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        MemoryOptions.model_validate(wrong)


def plain_scores(cas: Tensor, scale: str) -> Tensor:
    found = torch.empty_like(cas)
    for b, t, c in itertools.product(*map(range, cas.shape)):
        value = cas[b, t, c].item()
        over_time, over_classes = cas[b, :, c].tolist(), cas[b, t].tolist()
        low, high = min(over_time), max(over_time)
        found[b, t, c] = {
            "min_max": lambda: (value - low) / (high - low) if high > low else 1.0,  # noqa: B023
            "softmax": lambda: math.exp(value) / sum(map(math.exp, over_classes)),  # noqa: B023
            "sigmoid": lambda: 1 / (1 + math.exp(-value)),  # noqa: B023
        }[scale]()
    return found


@st.composite
def videos(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """F `[B, T, D]`, A `[B, T, C + 1]` and labels `[B, C + 1]`; some classes have a flat CAS."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch, time, rows = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    cas = rng.normal(size=(batch, time, rows)) * draw(st.sampled_from([0.1, 3.0]))
    cas[..., rng.random(rows) < 0.3] = 0.5
    present = rng.random((batch, rows)) < draw(st.sampled_from([0.0, 0.6, 1.0]))
    embedded = rng.normal(size=(batch, time, 3))
    return torch.from_numpy(embedded), torch.from_numpy(cas), torch.from_numpy(present)


@given(videos(), st.sampled_from(["min_max", "softmax", "sigmoid"]))
def test_scaled_scores_equal_the_loops(given_videos: tuple[Tensor, Tensor, Tensor], scale: str) -> None:
    _, cas, _ = given_videos
    scores = scaled_scores(cas, scale)  # type: ignore[arg-type]
    torch.testing.assert_close(scores, plain_scores(cas, scale))
    assert (scores >= 0).all()
    assert (scores <= 1).all()


@given(videos(), st.sampled_from(["min_max", "softmax", "sigmoid"]), st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.99]))
def test_representatives_equal_the_loops(
    given_videos: tuple[Tensor, Tensor, Tensor], scale: str, threshold: float
) -> None:
    embedded, cas, present = given_videos
    scores = scaled_scores(cas, scale)  # type: ignore[arg-type]
    expected, rows = [], []
    for b, c in itertools.product(range(len(cas)), range(cas.shape[2])):
        chosen = [embedded[b, t].tolist() for t in range(cas.shape[1]) if scores[b, t, c] > threshold]
        if present[b, c] and chosen:
            expected.append([math.fsum(column) / len(chosen) for column in zip(*chosen, strict=True)])
            rows.append(c)
    features, row, _ = representative_features(embedded, scores, present, threshold)
    assert row.tolist() == rows
    torch.testing.assert_close(features, torch.tensor(expected, dtype=torch.float64).reshape(-1, 3))
    if scale == "min_max":  # the interpretation's reason: every label contributes
        assert len(rows) == present.sum()


@pytest.mark.parametrize("top", [0.0, 1e-45, 1e-39, 1e-38, 2e-38, 1.0, 3e38])
def test_a_label_contributes_however_near_its_scores_are(top: float) -> None:
    """Below the normal numbers a range cannot be divided by: it counts as flat. So `sure` holds for min_max."""
    scores = scaled_scores(torch.tensor([[[0.0], [top]]]), "min_max")
    assert scores.max() == 1.0
    asked, taken = (
        representative_features(torch.ones(1, 2, 3), scores, torch.tensor([[True]]), 0.99, sure)
        for sure in (False, True)
    )
    assert torch.equal(asked[0], taken[0])
    assert asked[1].tolist() == taken[1].tolist() == [0]


def test_only_the_chosen_snippets_get_gradient() -> None:
    embedded = torch.ones(1, 4, 2, requires_grad=True)
    scores = torch.tensor([[[0.8, 0.9], [0.2, 0.9], [0.76, 0.9], [0.75, 0.9]]])
    features, row, _ = representative_features(embedded, scores, torch.tensor([[True, False]]), 0.75)
    assert row.tolist() == [0]
    features.sum().backward()
    # 0.75 itself is not above 0.75, and the class without label chooses none
    assert embedded.grad is not None
    assert embedded.grad[0, :, 0].tolist() == [0.5, 0.0, 0.5, 0.0]
