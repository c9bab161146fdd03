"""Eq. 15-16: the formulas by loops, and what must hold of any logits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wstal.losses.pseudo_label import pseudo_label_loss

rhos = st.sampled_from([0.0, 0.001, 1.0])


@st.composite
def logits(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """A and A_hat `[B, T, C + 1]` in double precision."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    first, second = (
        torch.from_numpy(rng.normal(size=shape) * draw(st.sampled_from([0.1, 1.0, 5.0]))) for _ in range(2)
    )
    return first, second


def softmax(values: list[float]) -> list[float]:
    total = math.fsum(map(math.exp, values))
    return [math.exp(value) / total for value in values]


def snippet_terms(cas: Tensor, teacher: Tensor) -> list[tuple[float, float]]:
    """D_t and CE of each snippet."""
    found = []
    for b, t in itertools.product(range(cas.shape[0]), range(cas.shape[1])):
        p, p_hat = softmax(cas[b, t].tolist()), softmax(teacher[b, t].tolist())
        divergence = math.fsum(own * math.log(own / other) for own, other in zip(p, p_hat, strict=True))
        found.append((divergence, -math.fsum(other * math.log(own) for own, other in zip(p, p_hat, strict=True))))
    return found


def gradients(cas: Tensor, teacher: Tensor, rho: float, detach: bool = False) -> tuple[Tensor, ...]:
    cas, teacher = cas.clone().requires_grad_(), teacher.clone().requires_grad_()
    return torch.autograd.grad(pseudo_label_loss(cas, teacher, rho, detach).value, (cas, teacher))


@given(logits(), rhos, st.booleans())
def test_equals_the_printed_formula(given_logits: tuple[Tensor, Tensor], rho: float, detach: bool) -> None:
    learned = pseudo_label_loss(given_logits[0].clone().requires_grad_(), given_logits[1], rho, detach)
    terms = snippet_terms(*given_logits)
    weights = [math.exp(-divergence) for divergence, _ in terms]
    costs = [weight * entropy + rho * d for weight, (d, entropy) in zip(weights, terms, strict=True)]
    assert learned.value.item() == pytest.approx(math.fsum(costs) / len(costs), rel=1e-9, abs=1e-12)
    assert learned.weight.flatten().tolist() == pytest.approx(weights, rel=1e-9, abs=1e-12)
    assert learned.value.requires_grad
    assert not learned.weight.requires_grad


def test_by_hand() -> None:
    # p = (1/2, 1/2), p_hat = (1/4, 3/4): D = log(2)/2 + log(2/3)/2 = log(4/3)/2, CE = log 2
    cas, teacher = torch.zeros(1, 1, 2), torch.tensor([[[0.0, math.log(3)]]])
    learned = pseudo_label_loss(cas, teacher, 0.1)
    assert learned.weight.item() == pytest.approx(math.sqrt(3 / 4))
    assert learned.value.item() == pytest.approx(math.sqrt(3 / 4) * math.log(2) + 0.1 * math.log(4 / 3) / 2)


@given(logits(), st.sampled_from([torch.float32, torch.float64]))
def test_uncertainty_is_not_negative(given_logits: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
    cas, teacher = (values.to(dtype) for values in given_logits)
    for other in (teacher, cas, cas + 3.0):  # a constant added to all logits is the same distribution
        learned = pseudo_label_loss(cas, other, 0.001)
        assert (learned.weight > 0).all()
        assert (learned.weight <= 1).all()
        assert learned.value >= 0
    torch.testing.assert_close(learned.weight, torch.ones_like(learned.weight), rtol=0, atol=1e-5)


@given(logits(), rhos)
def test_two_equal_branches_cost_their_entropy(given_logits: tuple[Tensor, Tensor], rho: float) -> None:
    cas, _ = given_logits
    entropies = [-math.fsum(p * math.log(p) for p in softmax(values)) for values in cas.flatten(0, 1).tolist()]
    learned = pseudo_label_loss(cas, cas, rho)
    assert learned.value.item() == pytest.approx(math.fsum(entropies) / len(entropies), abs=1e-12)
    assert (learned.weight == 1).all()


@given(logits(), rhos)
def test_detached_uncertainty_leaves_the_weighted_cross_entropys_gradient(
    given_logits: tuple[Tensor, Tensor], rho: float
) -> None:
    cas, teacher = given_logits
    p, p_hat = cas.softmax(dim=-1), teacher.softmax(dim=-1)
    ratio = (p / p_hat).log()
    divergence = (p * ratio).sum(dim=-1, keepdim=True)
    entropy = -(p_hat * p.log()).sum(dim=-1, keepdim=True)
    snippets = divergence.numel()
    # by hand: dCE/dA = p - p_hat, dD/dA = p (log(p / p_hat) - D)
    spread = p * (ratio - divergence)
    constant = (divergence.neg().exp() * (p - p_hat) + rho * spread) / snippets
    torch.testing.assert_close(gradients(cas, teacher, rho, detach=True)[0], constant, rtol=1e-7, atol=1e-10)
    # with gradient through exp(-D), what it adds is -exp(-D) CE dD/dA
    through = constant - divergence.neg().exp() * entropy * spread / snippets
    torch.testing.assert_close(gradients(cas, teacher, rho)[0], through, rtol=1e-7, atol=1e-10)


@given(logits().filter(lambda pair: pair[0].shape[-1] > 1), rhos)
def test_a_teacher_with_gradient_is_taught(given_logits: tuple[Tensor, Tensor], rho: float) -> None:
    cas, teacher = given_logits
    assert gradients(cas, teacher, rho)[1].any()
    apart = pseudo_label_loss(cas.clone().requires_grad_(), teacher, rho)
    assert apart.value.item() == pseudo_label_loss(cas, teacher, rho).value.item()
    assert not pseudo_label_loss(cas, teacher, rho).value.requires_grad


@settings(max_examples=30)
@given(logits(), rhos)
def test_gradient_is_the_formulas(given_logits: tuple[Tensor, Tensor], rho: float) -> None:
    cas, teacher = (values.requires_grad_() for values in given_logits)
    assert torch.autograd.gradcheck(lambda a, b: pseudo_label_loss(a, b, rho).value, (cas, teacher))


@given(st.lists(st.sampled_from([-1e4, -100.0, 0.0, 1.0, 100.0, 1e4]), min_size=6, max_size=6), st.booleans())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits_stay_finite(dtype: torch.dtype, values: list[float], detach: bool) -> None:
    cas, teacher = torch.tensor(values, dtype=dtype).reshape(2, 1, 1, 3)
    learned = pseudo_label_loss(cas, teacher, 0.001, detach)
    assert learned.value.isfinite()
    assert ((learned.weight >= 0) & (learned.weight <= 1)).all()
    assert all(gradient.isfinite().all() for gradient in gradients(cas, teacher, 0.001, detach))
