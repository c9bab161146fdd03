"""What AUMN's memory promises of any templates and weights: units are a set, and each loss has its limits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from baselines.aumn import (
    AumnNetwork,
    AumnOptions,
    diversity_loss,
    homogeneity_loss,
    sparsity_loss,
    unit_logits,
)

SEEDS = st.integers(0, 10_000)
SIZES = st.integers(1, 6)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=SEEDS, units=SIZES, dim=SIZES)
def test_diversity_is_of_directions_and_lowest_for_orthogonal_templates(seed: int, units: int, dim: int) -> None:
    templates = drawn(seed, units, dim) + 0.01
    loss = diversity_loss(templates).item()
    assert -1e-9 <= loss <= units * (units - 1) + 1e-9
    assert diversity_loss(templates * (1 + drawn(seed + 1, units, 1).square())).item() == pytest.approx(loss)
    orthogonal, _ = torch.linalg.qr(drawn(seed, 6, units))
    assert diversity_loss(orthogonal.mT).item() == pytest.approx(0, abs=1e-12)
    alike = templates[:1].expand(units, dim)
    assert diversity_loss(alike).item() == pytest.approx(units * (units - 1))


@given(seed=SEEDS, units=st.integers(2, 6), snippets=SIZES)
def test_units_may_be_used_evenly_and_yet_one_a_snippet(seed: int, units: int, snippets: int) -> None:
    log_read = (3 * drawn(seed, 2, snippets, units)).log_softmax(dim=2)
    for loss in (homogeneity_loss, sparsity_loss):
        assert -1e-9 <= loss(log_read).item() <= math.log(units) + 1e-9
    # each unit in turn: both are at their lowest; one unit for all: only sparsity is
    turns = torch.eye(units, dtype=torch.float64).repeat(snippets, 1)[None].clamp(min=1e-30).log()
    always = turns[:, :1].expand(-1, snippets, -1)
    assert homogeneity_loss(turns).item() == pytest.approx(0, abs=1e-9)
    assert sparsity_loss(turns).item() == pytest.approx(0, abs=1e-9)
    assert homogeneity_loss(always).item() == pytest.approx(math.log(units))
    assert sparsity_loss(always).item() == pytest.approx(0, abs=1e-9)


@given(seed=SEEDS, snippets=SIZES)
def test_homogeneity_is_of_the_batch_and_not_of_its_order(seed: int, snippets: int) -> None:
    log_read = drawn(seed, 3, snippets, 4).log_softmax(dim=2)
    loss = homogeneity_loss(log_read).item()
    assert homogeneity_loss(log_read.flip(0, 1)).item() == pytest.approx(loss)
    assert homogeneity_loss(log_read.reshape(1, -1, 4)).item() == pytest.approx(loss)


@given(seed=SEEDS, units=SIZES)
def test_units_with_one_classifier_are_that_classifier(seed: int, units: int) -> None:
    embedded, classifier = drawn(seed, 2, 3, 4), drawn(seed + 1, 5, 4)
    read = drawn(seed + 2, 2, 3, units).softmax(dim=2)
    torch.testing.assert_close(unit_logits(embedded, read, classifier.expand(units, 5, 4)), embedded @ classifier.mT)


@given(seed=SEEDS, order=st.permutations(range(4)), free=st.booleans())
def test_the_order_of_units_changes_nothing(seed: int, order: list[int], free: bool) -> None:
    torch.manual_seed(seed)
    options = AumnOptions(width=5, units=4, classifiers="free" if free else "scaled")
    model, features = AumnNetwork(options, 6, 3).double(), drawn(seed, 2, 7, 6)
    before = model.outputs(features)
    with torch.no_grad():
        for part in (model.memory.keys, model.memory.values):
            part.copy_(part[order].clone())
    after = model.outputs(features)
    torch.testing.assert_close(after.cas, before.cas)
    torch.testing.assert_close(after.log_read, before.log_read[..., order])
    torch.testing.assert_close(after.templates, before.templates[order])
