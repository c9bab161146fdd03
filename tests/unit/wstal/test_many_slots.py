"""A large bank: the contrast and the codewords by few passes over the slots, against what a small bank takes."""

from __future__ import annotations

import functools
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from baselines.rmgcl_gksa import RmgclGksa, RmgclGksaOptions
from harness.random_streams import seed_torch
from wstal.losses.contrast import Reduction, bank_contrast, info_nce, info_nce_cost, robust_contrast, robust_cost
from wstal.memory import MemoryBank, MemoryOptions
from wstal.summarize.codewords import Codewords
from wstal.summarize.options import MANY_SLOTS, SummaryOptions
from wstal.types import Batch

WIDTH, CLASSES, VIDEOS, TIME = 16, 6, 8, 12
USERS = ("wstal.cross_video.MANY_SLOTS", "wstal.summarize.codewords.MANY_SLOTS")
CLOSE: dict[str, float] = {"rtol": 1e-6, "atol": 1e-9}
OPTIONS: dict[str, Any] = {
    "defaults": {},
    "info_nce": {"contrast": {"loss": "info_nce"}},
    "sum": {"contrast": {"reduction": "sum"}},
    "density": {"contrast": {"density": 0.1, "q": 0.9, "temperature": 0.5}},
    "small temperature": {"contrast": {"q": 0.01, "temperature": 0.01}},
    "no row embedding": {"summary": {"memory_embedding": False}},
    "depthwise": {"summary": {"memory_projection": "depthwise"}},
    "fifo": {"memory": {"update": "fifo"}},
    "class_ema": {"memory": {"update": "class_ema"}},
    "no background": {"memory": {"background": False}},
    "gka reads every slot": {"gks": False},
    "no contrast": {"rmgcl": False},
    "other videos": {"contrast": {"own_video": False}},
    "other videos, sum": {"contrast": {"own_video": False, "reduction": "sum", "loss": "info_nce"}},
} | {
    f"{name} {value}": {"summary": {name: value}}
    for name in ("attention", "kind")
    for value in get_args(SummaryOptions.model_fields[name].annotation)
}


def ours(changes: dict[str, Any]) -> RmgclGksa:
    fields: dict[str, Any] = {
        "memory": {"length": 5, "start": 0.0},
        "summary": {"count": 3, "neighbours": 4, "heads": 4},
    }
    for name, value in changes.items():
        fields[name] = fields.get(name, {}) | value if isinstance(value, dict) else value
    seed_torch(0, "initialisation")
    return RmgclGksa(RmgclGksaOptions.model_validate(fields), WIDTH, CLASSES)


def batch() -> Batch:
    labels = (torch.rand(VIDEOS, CLASSES) < 0.3).float()
    labels[:, 1] = 0  # a row that stays empty
    return Batch(torch.rand(VIDEOS, TIME, WIDTH).double(), labels.double(), tuple(map(str, range(VIDEOS))))


def steps(changes: dict[str, Any], precision: torch.dtype | None = None) -> list[Tensor]:
    """Terms, gradients and slots of three steps, of which the bank fills up in two."""
    torch.manual_seed(0)
    method = ours(changes).double().eval()
    found = list[Tensor]()
    for _ in range(3):
        method.train()
        method.start_epoch(0, 3)
        seed_torch(0, "dropout")
        with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
            terms = method.losses(batch())
        method.zero_grad(set_to_none=False)
        terms["total"].backward()
        method.end_step()
        assert method.memory is not None
        found += [*(value.detach() for value in terms.values()), method.memory.slots.clone()]
        found += [torch.zeros(()) if part.grad is None else part.grad.clone() for part in method.parameters()]
    return found


def large(monkeypatch: pytest.MonkeyPatch, at_least: int = 0) -> None:
    for user in USERS:
        monkeypatch.setattr(user, at_least)


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=list(OPTIONS))
def test_a_large_bank_gives_the_terms_and_gradients_of_a_small_one(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = steps(changes)
    large(monkeypatch)
    for value, other in zip(steps(changes), expected, strict=True):
        torch.testing.assert_close(value, other, **CLOSE)


def test_stored_runs_had_small_banks() -> None:
    """The largest of them is THUMOS14's."""
    assert (20 + 1) * MemoryOptions().length < MANY_SLOTS


def test_the_ways_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests above compare are two computations."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the dense way")

    large(monkeypatch)
    monkeypatch.setattr("wstal.cross_video.robust_contrast", refuse)
    monkeypatch.setattr(Codewords, "weights", refuse)
    steps({})


def test_autocast_has_a_large_bank_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as three digits go."""
    expected = steps({}, torch.bfloat16)
    large(monkeypatch)
    for value, other in zip(steps({}, torch.bfloat16), expected, strict=True):
        torch.testing.assert_close(value, other, rtol=0.1, atol=0.1 * float(other.abs().max()))


@pytest.mark.parametrize("filled", [[4, 0, 3, 1], [0, 2, 0, 0], [5, 5, 5, 5]])
@pytest.mark.parametrize("reduction", get_args(Reduction))
@pytest.mark.parametrize("robust", [True, False])
def test_contrast_of_any_fill(filled: list[int], reduction: Reduction, robust: bool) -> None:
    """Anchors without positives, without negatives, several of a row, and in any order."""
    torch.manual_seed(0)
    counts = torch.tensor(filled)
    tokens = torch.randn(int(counts.sum()), 7, dtype=torch.float64)
    token_row = torch.arange(4).repeat_interleave(counts)
    row = torch.tensor([3, 0, 2, 2, 1, 0])
    anchors = torch.randn(6, 7, dtype=torch.float64, requires_grad=True)
    cosines = functional.normalize(anchors, dim=1) @ functional.normalize(tokens, dim=1).T
    positive = row[:, None] == token_row
    if robust:
        expected = robust_contrast(cosines, positive, 0.2, 0.5, 0.1, reduction)
        value = bank_contrast(
            anchors, row, tokens, counts, functools.partial(robust_cost, q=0.2, density=0.5), 0.1, reduction
        )
    else:
        expected = info_nce(cosines, positive, 0.1, reduction)
        value = bank_contrast(anchors, row, tokens, counts, info_nce_cost, 0.1, reduction)
    torch.testing.assert_close(value, expected, **CLOSE)
    gradients = [torch.autograd.grad(one, anchors)[0] for one in (value, expected)]
    torch.testing.assert_close(*gradients, **CLOSE)
    assert gradients[0].isfinite().all()


def test_no_anchors() -> None:
    none, tokens = torch.zeros(0, 3, requires_grad=True), torch.rand(4, 3)
    value = bank_contrast(none, torch.zeros(0, dtype=torch.int64), tokens, torch.tensor([4]), info_nce_cost, 0.1)
    assert value.item() == 0
    assert torch.autograd.grad(value, none)[0].shape == (0, 3)


def test_gradients_of_the_contrast_by_differences() -> None:
    torch.manual_seed(0)
    tokens, counts = torch.randn(9, 4, dtype=torch.float64), torch.tensor([4, 5])
    anchors = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    cost = functools.partial(robust_cost, q=0.5, density=0.5)
    assert torch.autograd.gradcheck(
        lambda given: bank_contrast(given, torch.tensor([0, 1, 1]), tokens, counts, cost, 0.5), anchors
    )


def test_a_step_with_a_large_bank_asks_the_device_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `tests/contract` has it of small ones: `meta` has no values."""
    large(monkeypatch)
    method, given = ours({}), batch()
    method.start_epoch(0, 3)
    for module in method.modules():
        if isinstance(module, MemoryBank):
            module.filled.fill_(5)
    method = method.to("meta")
    features = given.features.float().to("meta")
    terms = method.losses(Batch(features, given.labels.float().to("meta"), given.videos, given.labels))
    terms["total"].backward()
    method.end_step()


def test_the_diagnostics_of_a_large_bank_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    bank = MemoryBank(4, 7, MemoryOptions(length=5))
    bank.update(torch.rand(17, 7), torch.arange(17) % 4)
    whole = bank.separation()
    monkeypatch.setattr("wstal.memory.SPLIT", 3)
    assert bank.separation() == pytest.approx(whole, rel=1e-6)
