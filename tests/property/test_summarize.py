"""Summaries that are means of slots: what must hold of any bank. Coordinates are quarters, so that slots repeat."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wstal.summarize.clustering import Clustering
from wstal.summarize.codewords import ExpectationAttention
from wstal.summarize.summarizer import Summarizer


@st.composite
def banks(draw: st.DrawFn) -> Tensor:
    """[S, D] non-negative slots: few different values or many, of any scale, maybe with one far away."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    slots = torch.randint(0, draw(st.sampled_from([1, 2, 4, 100])), shape, generator=generator) / 4
    slots[-1] *= draw(st.sampled_from([1.0, 1e3]))
    return slots * draw(st.sampled_from([1e-3, 1.0, 1e3]))


def summary(summarizer: Summarizer, slots: Tensor) -> Tensor:
    row = torch.zeros(len(slots), dtype=torch.int64)
    summarizer.refresh(slots, row)
    return summarizer(slots, row)


def within_the_slots(centres: Tensor, slots: Tensor) -> bool:
    low, high = slots.amin(dim=0), slots.amax(dim=0)
    room = 1e-5 * high
    return bool(((centres >= low - room) & (centres <= high + room)).all())


@pytest.mark.parametrize("kind", ["k_means", "spectral", "dbscan", "optimal_transport"])
@settings(max_examples=60)
@given(slots=banks(), count=st.integers(1, 8), seed=st.integers(0, 1000))
def test_clusterings_give_convex_combinations_of_slots(kind: str, slots: Tensor, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    centres = summary(Clustering(kind, slots.shape[1], count), slots)
    assert 1 <= len(centres) <= min(count, len(slots))
    assert within_the_slots(centres, slots)


@settings(max_examples=60)
@given(slots=banks(), count=st.integers(1, 8), seed=st.integers(0, 1000))
def test_em_gives_convex_combinations_of_slots_and_finite_gradients(slots: Tensor, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    summarizer = ExpectationAttention(slots.shape[1], count)
    centres = summary(summarizer, slots)
    assert len(centres) == count
    assert within_the_slots(centres, slots)
    centres.square().sum().backward()
    assert summarizer.bases.grad.isfinite().all()
