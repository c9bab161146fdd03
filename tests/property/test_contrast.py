"""Eq. 9 and InfoNCE: the formula by plain exp, its two limits, and what must hold of any cosines."""

from __future__ import annotations

import math
from random import Random
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from wstal.losses.contrast import (
    LARGEST_EXPONENT,
    LOG_SLOTS,
    ContrastOptions,
    Reduction,
    info_nce,
    robust_contrast,
)


class Setting(NamedTuple):
    """Without q: InfoNCE."""

    q: float | None
    density: float
    tau: float


def loss(cosines: Tensor, positive: Tensor, setting: Setting, reduction: Reduction = "mean") -> Tensor:
    if setting.q is None:
        return info_nce(cosines, positive, setting.tau, reduction)
    return robust_contrast(cosines, positive, setting.q, setting.density, setting.tau, reduction)


def plain_loss(cosines: Tensor, positive: Tensor, setting: Setting, reduction: Reduction) -> float:
    """As it is printed, pair by pair."""
    q, density, tau = setting
    anchors = []
    for row, own in zip(cosines.tolist(), positive.tolist(), strict=True):
        negatives = sum(math.exp(cosine / tau) for cosine, same in zip(row, own, strict=True) if not same)
        costs = []
        for cosine in (cosine for cosine, same in zip(row, own, strict=True) if same):
            both = math.exp(cosine / tau) + negatives
            if q is None:
                costs.append(-math.log(math.exp(cosine / tau) / both))
            else:
                costs.append(-math.exp(q * cosine / tau) / q + (density * both) ** q / q)
        if costs:
            anchors.append(sum(costs) / (len(costs) if reduction == "mean" else 1))
    return sum(anchors) / len(anchors) if anchors else 0.0


def gradient(cosines: Tensor, positive: Tensor, setting: Setting) -> Tensor:
    """dL / dcosines."""
    cosines = cosines.clone().requires_grad_()
    return torch.autograd.grad(loss(cosines, positive, setting), cosines)[0]


@st.composite
def pairs(draw: st.DrawFn, least_anchors: int = 0) -> tuple[Tensor, Tensor]:
    """Cosines `[anchors, slots]`, both ends among them, and positives; some anchors have none, or nothing else."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(least_anchors, 4)), draw(st.integers(1, 8))
    cosines = np.clip(rng.normal(size=shape), -1, 1)
    positive = rng.random(shape) < rng.choice([0.0, 0.3, 0.6, 1.0], (shape[0], 1))
    return torch.from_numpy(cosines), torch.from_numpy(positive)


def set_of(q: st.SearchStrategy[float | None], smallest_tau: float) -> st.SearchStrategy[Setting]:
    return st.builds(Setting, q, st.floats(0.1, 1.0), st.floats(smallest_tau, 1.0))


any_q = st.none() | st.floats(0.05, 1.0)
reductions = st.sampled_from(["mean", "sum"])


@given(pairs(), set_of(any_q, 0.2), reductions)
def test_equals_the_printed_formula(given_pairs: tuple[Tensor, Tensor], setting: Setting, reduction: Reduction) -> None:
    expected = plain_loss(*given_pairs, setting, reduction)
    assert loss(*given_pairs, setting, reduction).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_by_hand() -> None:
    # s+ = log 4, s- = log 5, both at tau 1; q = 1/2: -2 sqrt(4) + 2 sqrt(lambda (4 + 5)) = -4 + 2 sqrt(4.5)
    cosines, positive = torch.tensor([[math.log(4), math.log(5)]]), torch.tensor([[True, False]])
    assert loss(cosines, positive, Setting(0.5, 0.5, 1.0)).item() == pytest.approx(-4 + 2 * math.sqrt(4.5))
    assert loss(cosines, positive, Setting(None, 1.0, 1.0)).item() == pytest.approx(math.log(9 / 4))


@given(pairs(least_anchors=1), set_of(st.just(1e-10), 0.01))
def test_q_to_zero_is_info_nce_up_to_log_density(given_pairs: tuple[Tensor, Tensor], setting: Setting) -> None:
    cosines, positive = given_pairs
    limit = setting._replace(q=None)
    constant = math.log(setting.density) if positive.any() else 0.0
    expected = loss(cosines, positive, limit).item() + constant
    assert loss(cosines, positive, setting).item() == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(
        gradient(cosines, positive, setting), gradient(cosines, positive, limit), rtol=1e-6, atol=1e-6
    )


@given(pairs(least_anchors=1), set_of(st.none(), 0.01))
def test_info_nce_is_cross_entropy_of_the_positive(given_pairs: tuple[Tensor, Tensor], setting: Setting) -> None:
    cosines, positive = given_pairs
    scaled = cosines / setting.tau
    for anchor in range(len(cosines)):
        negatives = scaled[anchor][~positive[anchor]]
        costs = [
            functional.cross_entropy(torch.cat([s.reshape(1), negatives]), torch.tensor(0))
            for s in scaled[anchor][positive[anchor]]
        ]
        if costs:
            one = slice(anchor, anchor + 1)
            torch.testing.assert_close(loss(cosines[one], positive[one], setting), torch.stack(costs).mean())


@given(pairs(least_anchors=1), set_of(st.just(1.0), 0.1))
def test_q_one_is_linear_in_each_exponential(given_pairs: tuple[Tensor, Tensor], setting: Setting) -> None:
    cosines, positive = given_pairs[0][:1], given_pairs[1][:1]
    exponentials = (cosines / setting.tau).exp()
    of_positives, of_negatives = exponentials[positive].sum(), exponentials[~positive].sum()
    count = int(positive.sum())
    expected = -(1 - setting.density) * of_positives + setting.density * count * of_negatives
    torch.testing.assert_close(loss(cosines, positive, setting, "sum"), expected)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.05, 1), st.floats(0, 0.5))
def test_q_one_is_symmetric_against_swapped_pairs(first: float, second: float, tau: float, noise: float) -> None:
    cosines = torch.tensor([[first, second]], dtype=torch.float64)
    clean, swapped = (
        loss(cosines, torch.tensor([own]), Setting(1.0, 0.5, tau)) for own in ([1 > 0, 0 > 1], [0 > 1, 1 > 0])
    )
    scale = math.exp(1 / tau)
    assert (clean + swapped).item() == pytest.approx(0.0, abs=1e-13 * scale)
    assert clean.item() == pytest.approx(
        (math.exp(second / tau) - math.exp(first / tau)) / 2, rel=1e-9, abs=1e-13 * scale
    )
    risk = (1 - noise) * clean + noise * swapped
    assert risk.item() == pytest.approx((1 - 2 * noise) * clean.item(), abs=1e-12 * scale)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=10), st.data())
def test_small_q_pulls_hard_positives_most_and_large_q_easy_ones(negatives: list[float], data: st.DataObject) -> None:
    grid = torch.linspace(-1, 1, 9, dtype=torch.float64).unsqueeze(1)
    cosines = torch.cat([grid, torch.tensor(negatives, dtype=torch.float64).expand(9, -1)], dim=1)
    positive = torch.zeros_like(cosines, dtype=torch.bool)
    positive[:, 0] = True

    def pull(q: float) -> Tensor:
        return -gradient(cosines, positive, Setting(q, 0.5, 1.0))[:, 0]

    assert (pull(data.draw(st.floats(1e-6, 2e-3))).diff() < 0).all()
    assert (pull(data.draw(st.floats(0.9, 1.0))).diff() > 0).all()


@given(pairs(), set_of(any_q, 0.1), reductions, st.randoms(use_true_random=False))
def test_order_changes_nothing(
    given_pairs: tuple[Tensor, Tensor], setting: Setting, reduction: Reduction, random: Random
) -> None:
    cosines, positive = given_pairs
    anchors, slots = ([*range(size)] for size in cosines.shape)
    random.shuffle(anchors)
    random.shuffle(slots)
    shuffled = loss(cosines[anchors][:, slots], positive[anchors][:, slots], setting, reduction)
    torch.testing.assert_close(shuffled, loss(cosines, positive, setting, reduction), rtol=1e-9, atol=1e-9)


@given(pairs(least_anchors=1), set_of(any_q, 0.05))
def test_falls_in_positives_and_rises_in_negatives(given_pairs: tuple[Tensor, Tensor], setting: Setting) -> None:
    cosines, positive = given_pairs
    slope = gradient(cosines, positive, setting)
    useful = positive.any(dim=1, keepdim=True)
    slack = 1e-12 * slope.abs().max()
    assert (slope[positive] <= slack).all()
    assert (slope[~positive & useful] > 0).all()
    assert not slope[~useful.squeeze(1)].any()
    if setting.density <= 0.99 and setting.q is not None:
        assert (slope[positive] < 0).all()


@settings(max_examples=30)
@given(pairs(least_anchors=1), set_of(any_q, 0.3), reductions)
def test_gradient_is_the_formulas(given_pairs: tuple[Tensor, Tensor], setting: Setting, reduction: Reduction) -> None:
    cosines, positive = given_pairs
    assert torch.autograd.gradcheck(lambda c: loss(c, positive, setting, reduction), cosines.requires_grad_())


def largest_q(tau: float) -> float:
    """The largest that `ContrastOptions` lets pass."""
    return min(1.0, 0.999 * LARGEST_EXPONENT / (1 / tau + LOG_SLOTS))


@st.composite
def admitted(draw: st.DrawFn) -> Setting:
    """What `ContrastOptions` lets pass."""
    tau = draw(st.floats(0.01, 1.0))
    most = largest_q(tau)
    options = ContrastOptions(
        q=draw(st.just(most) | st.floats(1e-4, most)), temperature=tau, density=draw(st.floats(0.01, 1))
    )
    return Setting(draw(st.sampled_from([None, options.q])), options.density, options.temperature)


@given(
    admitted(),
    st.sampled_from([-1.0, 0.0, 1.0]),
    st.sampled_from([-1.0, 0.0, 1.0]),
    st.sampled_from([1, 2, 500, 20_000]),
)
def test_finite_in_single_precision(setting: Setting, own: float, others: float, negatives: int) -> None:
    cosines = torch.full((1, 1 + negatives), others)
    cosines[0, 0] = own
    positive = torch.arange(1 + negatives).unsqueeze(0) == 0
    assert loss(cosines, positive, setting).isfinite()
    assert gradient(cosines, positive, setting).isfinite().all()
    expected = loss(cosines.double(), positive, setting)
    largest = (
        1.0 if setting.q is None else math.exp(setting.q * (1 / setting.tau + math.log(1 + negatives))) / setting.q
    )
    torch.testing.assert_close(loss(cosines, positive, setting).double(), expected, rtol=1e-4, atol=1e-4 * largest)


@pytest.mark.parametrize("tau", [0.01, 0.013, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_finite_with_a_full_bank_at_the_limit_of_the_options(tau: float, reduction: Reduction) -> None:
    # 21 rows of 500 slots and 32 anchors; every negative is as near as can be, every positive as far
    options = ContrastOptions(q=largest_q(tau), temperature=tau, density=1.0, reduction=reduction)
    positive = (torch.arange(10_500) < 500).expand(32, -1)
    cosines = torch.where(positive, -1.0, 1.0).requires_grad_()
    value = loss(cosines, positive, Setting(options.q, options.density, options.temperature), options.reduction)
    assert value.isfinite()
    assert torch.autograd.grad(value, cosines)[0].isfinite().all()


@pytest.mark.parametrize("setting", [Setting(0.2, 0.5, 0.1), Setting(1.0, 1.0, 0.1), Setting(None, 1.0, 0.1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_to_contrast(setting: Setting, dtype: torch.dtype) -> None:
    for shape in ((0, 3), (3, 0), (0, 0), (2, 3)):
        cosines, nothing = torch.ones(shape, dtype=dtype), torch.zeros(shape, dtype=torch.bool)
        assert loss(cosines, nothing, setting).item() == 0
        assert not gradient(cosines, nothing, setting).any()


@pytest.mark.parametrize("q", [0.2, None])
def test_anchors_without_positives_do_not_count(q: float | None) -> None:
    # the second anchor's class has no slot yet; its negatives cost nothing
    cosines = torch.tensor([[0.3, -0.2], [0.9, 0.8]], dtype=torch.float64)
    positive = torch.tensor([[True, False], [False, False]])
    setting = Setting(q, 0.5, 0.5)
    assert loss(cosines, positive, setting) == loss(cosines[:1], positive[:1], setting)
    assert not gradient(cosines, positive, setting)[1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_anchors_without_negatives(dtype: torch.dtype) -> None:
    cosines, positive = torch.tensor([[0.3, -0.2]], dtype=dtype), torch.ones(1, 2, dtype=torch.bool)
    # nothing to tell apart: log(e^s / e^s) = 0, also in its gradient
    assert loss(cosines, positive, Setting(None, 1.0, 0.5)).item() == 0
    assert not gradient(cosines, positive, Setting(None, 1.0, 0.5)).any()
    # and (lambda^q - 1) e^(q s) / q
    exponentials = [math.exp(0.2 * cosine / 0.5) for cosine in (0.3, -0.2)]
    expected = (0.5**0.2 - 1) * sum(exponentials) / 0.2 / 2
    assert loss(cosines, positive, Setting(0.2, 0.5, 0.5)).item() == pytest.approx(expected, rel=1e-5)
    slope = [(0.5**0.2 - 1) * exponential / 0.5 / 2 for exponential in exponentials]
    assert gradient(cosines, positive, Setting(0.2, 0.5, 0.5))[0].tolist() == pytest.approx(slope, rel=1e-5)
