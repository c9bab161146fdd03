"""Samplers against recorded draws of ACM-Net's code and their own rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wstal.sampling import stratified_random, uniform, whole

LENGTHS = (1, 2, 300, 750, 751, 1300)


@pytest.mark.parametrize("length", LENGTHS)
def test_uniform_equals_the_recorded_sampler(shared: Path, length: int) -> None:
    recorded = np.load(shared / "fixtures" / "postproc_parity.npz")[f"acm_sampler/uniform_{length}"]
    np.testing.assert_array_equal(uniform(length, 750), recorded)


@pytest.mark.parametrize("length", LENGTHS)
def test_recorded_random_draws_obey_our_cells(shared: Path, length: int) -> None:
    recorded = np.load(shared / "fixtures" / "postproc_parity.npz")[f"acm_sampler/random_{length}"].astype(int)
    draws = np.stack([stratified_random(length, 750, np.random.default_rng(seed)) for seed in range(200)])
    if length <= 750:
        assert np.all(np.diff(recorded) >= 0)
        assert recorded.min() >= 0
        assert recorded.max() < length
    else:
        grid = np.arange(750) * length // 750
        for sample in (recorded, *draws):
            assert np.all(sample[:-1] >= grid[:-1])
            assert np.all(sample[:-1] <= grid[1:])
            assert sample[-2] <= sample[-1] < length
        # every admissible row is drawn somewhere in 200 samples of a 2-row cell
        assert set(draws[:, 0]) == set(range(grid[0], grid[1] + 1))


@given(st.integers(1, 3000), st.integers(1, 800), st.integers(0, 2**32 - 1))
def test_random_sample_is_sorted_and_inside(length: int, count: int, seed: int) -> None:
    draws = stratified_random(length, count, np.random.default_rng(seed))
    assert draws.shape == (count,)
    assert draws.min() >= 0
    assert draws.max() < length
    # a longer video's neighbouring cells share an edge row, so the sample may step back by none, never more
    assert np.all(np.diff(draws) >= 0)


@given(st.integers(1, 3000), st.integers(2, 800))
def test_uniform_sample_is_sorted_and_bounded(length: int, at_most: int) -> None:
    rows = uniform(length, at_most)
    assert len(rows) == (2 if length == 1 else min(length, at_most))
    assert np.all(np.diff(rows) >= 0)
    assert rows.max() < length


def test_whole_takes_all_rows_and_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    assert whole(2614, 750, rng).tolist() == whole(2614, 750).tolist() == list(range(2614))
    assert rng.integers(2**62) == np.random.default_rng(0).integers(2**62)
