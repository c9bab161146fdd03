from __future__ import annotations

from typing import Any

import torch

from harness.random_streams import derived_seed, numpy_stream, seed_torch


def test_streams_differ_by_seed_purpose_and_position_and_repeat() -> None:
    keys: list[Any] = [(0, "sampling", 0), (1, "sampling", 0), (0, "dropout", 0), (0, "sampling", 1), (0, "sampling")]
    assert len({derived_seed(*key) for key in keys}) == len(keys)
    assert numpy_stream(0, "a").integers(1 << 60) == numpy_stream(0, "a").integers(1 << 60)


def test_a_seed_is_fixed_for_good() -> None:
    # a change here would change every stored run
    assert derived_seed(0, "initialisation") == 1952974914541233639
    assert derived_seed(2, "sampling", 5) == 7666241892209097703


def test_torch_draws_repeat() -> None:
    seed_torch(3, "dropout", 7)
    first = torch.rand(4)
    seed_torch(3, "dropout", 7)
    assert torch.equal(first, torch.rand(4))
