"""What TSCN's and UGCT's papers claim of their losses holds for any attention."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.tscn import Tscn, TscnOptions
from baselines.ugct import uncertain_regression
from wstal.losses.attention import normalization_loss
from wstal.parts.pooling import top_k_count

seeds = st.integers(0, 2**32 - 1)
shares = st.floats(0.0, 1.0)


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[None, :, None]


@given(seeds, st.integers(2, 40), st.integers(2, 10))
@settings(max_examples=50)
def test_normalization_pushes_attention_to_0_and_1(seed: int, length: int, ratio: int) -> None:
    """Descending the loss alone: the lowest go to 0, the highest to 1, what is between stays where it was."""
    start = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, length, 1)))
    logits, k = start.clone(), top_k_count(length, ratio)
    before = normalization_loss(start.sigmoid(), ratio).item()
    assert -1 < before <= 0
    for _ in range(16):
        logits.requires_grad_()
        loss = normalization_loss(logits.sigmoid(), ratio)
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = logits.detach() - gradient.sign()
        after = normalization_loss(logits.sigmoid(), ratio).item()
        assert after < loss.item()
    order, attention = start.flatten().argsort(), logits.sigmoid().flatten()
    assert attention[order[:k]].max() < 1e-3
    assert attention[order[-k:]].min() > 1 - 1e-3
    assert torch.equal(attention[order[k:-k]], start.sigmoid().flatten()[order[k:-k]])
    assert after < -1 + 2e-3


@given(shares, shares, st.floats(0.05, 0.95), st.floats(0.0, 1.0))
def test_consensus_keeps_what_both_streams_see_and_removes_what_neither_does(
    rgb: float, flow: float, threshold: float, fusion: float
) -> None:
    model = Tscn(TscnOptions(streams=(1, 1), threshold=threshold, fusion=fusion), 2, 2)
    fused = model.fused([column([rgb]), column([flow])]).item()
    low, high = sorted((rgb, flow))
    assert low - 1e-12 <= fused <= high + 1e-12
    if fusion <= threshold:  # RGB alone is not enough for a label, however sure it is
        assert model.fused([column([1.0]), column([0.0])]).item() <= threshold + 1e-12


@given(st.lists(st.tuples(shares, st.sampled_from([0.0, 1.0])), min_size=1, max_size=12), st.floats(0.01, 2.0), seeds)
def test_uncertainty_lowers_the_weight_of_labels_on_which_the_streams_disagree(
    snippets: list[tuple[float, float]], regularizer: float, seed: int
) -> None:
    """The best u >= 0 for an error e is log(e^2 / lambda) where that is above 0: no other u has a lower loss."""
    attention, labels = (column(list(values)) for values in zip(*snippets, strict=True))
    error = (attention - labels).abs()
    best = (error.square() / regularizer).clamp(min=1.0).log()
    found = uncertain_regression(attention, labels, best, regularizer)
    others = torch.from_numpy(np.random.default_rng(seed).exponential(2.0, size=(20, *best.shape)))
    for other in [*others, best + 1e-3, (best - 1e-3).clamp(min=0)]:
        assert found <= uncertain_regression(attention, labels, other, regularizer) + 1e-12
    weight = (-best).exp().flatten()[error.flatten().argsort()]
    assert (weight.diff() <= 0).all()
    assert 0 < weight.min() <= weight.max() <= 1
    if error.max() ** 2 > regularizer:
        assert math.isclose(weight.min().item(), regularizer / error.max().item() ** 2, rel_tol=1e-9)
