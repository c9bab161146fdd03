"""Eq. 12-13 as printed, with the concatenation that the module never makes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from wstal.aggregate import Fusion


def printed(fusion: Fusion, embedded: Tensor, knowledge: Tensor) -> Tensor:
    """F_fuse, snippet by snippet."""
    fused = []
    for snippet in embedded.flatten(0, 1):
        logits = torch.stack([torch.dot(snippet, centre) / math.sqrt(len(snippet)) for centre in knowledge])
        shares = logits.exp() / logits.exp().sum()
        context = sum(share * centre for share, centre in zip(shares, knowledge, strict=True))
        hidden = fusion.hidden(torch.cat([context, snippet])).relu()
        mixed = fusion.output(hidden) + (snippet if fusion.residual else 0)
        if isinstance(fusion.norm, nn.LayerNorm):
            mixed = functional.layer_norm(mixed, mixed.shape, fusion.norm.weight, fusion.norm.bias)
        fused.append(mixed)
    return torch.stack(fused).view_as(embedded)


def inputs(centres: int, dim: int = 5, **form: bool) -> tuple[Fusion, Tensor, Tensor]:
    torch.manual_seed(0)
    fusion = Fusion(dim, hidden=3, **form).double()
    for parameter in fusion.norm.parameters():
        torch.nn.init.normal_(parameter)
    return fusion, torch.randn(2, 4, dim, dtype=torch.float64), torch.randn(centres, dim, dtype=torch.float64)


@pytest.mark.parametrize("centres", [1, 2, 7])
def test_equals_the_printed_equations(centres: int) -> None:
    fusion, embedded, knowledge = inputs(centres)
    torch.testing.assert_close(fusion(embedded, knowledge), printed(fusion, embedded, knowledge))


@pytest.mark.parametrize("form", [{"residual": False}, {"norm": False}, {"residual": False, "norm": False}], ids=str)
def test_the_residual_and_the_norm_may_be_left_out(form: dict[str, bool]) -> None:
    fusion, embedded, knowledge = inputs(3, **form)
    torch.testing.assert_close(fusion(embedded, knowledge), printed(fusion, embedded, knowledge))


@pytest.mark.parametrize("centres", [1, 7])
def test_gradients_equal_the_printed_equations(centres: int) -> None:
    fusion, *given = inputs(centres)
    leaves = [values.requires_grad_() for values in given] + list(fusion.parameters())
    weights = torch.randn(2, 4, 5, dtype=torch.float64)
    ours = torch.autograd.grad((fusion(*given) * weights).sum(), leaves)
    expected = torch.autograd.grad((printed(fusion, *given) * weights).sum(), leaves)
    for gradient, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, other)


def test_gradcheck() -> None:
    fusion, embedded, knowledge = inputs(3)
    assert torch.autograd.gradcheck(fusion, (embedded.requires_grad_(), knowledge.requires_grad_()))


def test_one_centre_is_read_by_every_snippet_whole() -> None:
    fusion, embedded, knowledge = inputs(1)
    whole = torch.cat([knowledge.expand(2, 4, -1), embedded], dim=-1)
    expected = fusion.norm(embedded + fusion.output(fusion.hidden(whole).relu()))
    torch.testing.assert_close(fusion(embedded, knowledge), expected)


def test_neither_the_order_of_centres_nor_their_repetition_matters() -> None:
    fusion, embedded, knowledge = inputs(6)
    torch.testing.assert_close(fusion(embedded, knowledge.flip(0)), fusion(embedded, knowledge))
    torch.testing.assert_close(fusion(embedded, knowledge.repeat(3, 1)), fusion(embedded, knowledge))


def test_snippets_do_not_see_each_other() -> None:
    fusion, embedded, knowledge = inputs(6)
    alone = torch.stack([fusion(embedded[:, t : t + 1], knowledge)[:, 0] for t in range(4)], dim=1)
    torch.testing.assert_close(alone, fusion(embedded, knowledge))


def test_large_features_stay_finite_in_single_precision() -> None:
    fusion, embedded, knowledge = inputs(6)
    assert fusion.float()(embedded.float() * 1e4, knowledge.float() * 1e4).isfinite().all()
