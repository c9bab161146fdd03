"""Min-max over time against a loop, and where it has no range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from wstal.parts.pooling import min_max


def by_loop(column: list[float], clip: bool) -> list[float]:
    low, high = max(min(column), 0.0), max(max(column), 0.0)
    scaled = [(value - low) / (high - low if high > low else 1.0) for value in column]
    return [min(max(value, 0.0), 1.0) for value in scaled] if clip else scaled


@pytest.mark.parametrize("clip", [False, True])
def test_each_column_as_by_hand(clip: bool) -> None:
    columns = {
        "positive": [1.0, 2.0, 5.0],
        "both signs": [-2.0, 1.0, 4.0],
        "negative": [-3.0, -2.0, -1.0],
        "equal": [7.0, 7.0, 7.0],
        "zero": [0.0, 0.0, 0.0],
    }
    found = min_max(torch.tensor(list(columns.values())).T, clip)
    for number, (name, column) in enumerate(columns.items()):
        assert found[:, number].tolist() == pytest.approx(by_loop(column, clip)), name
        torch.testing.assert_close(min_max(torch.tensor(column), clip), found[:, number])


def test_values_worked_out() -> None:
    assert min_max(torch.tensor([1.0, 2.0, 5.0])).tolist() == [0.0, 0.25, 1.0]
    assert min_max(torch.tensor([-2.0, 1.0, 4.0])).tolist() == [-0.5, 0.25, 1.0]
    assert min_max(torch.tensor([-2.0, 1.0, 4.0]), clip=True).tolist() == [0.0, 0.25, 1.0]
    assert min_max(torch.tensor([-3.0, -1.0])).tolist() == [-3.0, -1.0]


@pytest.mark.shared
def test_equals_the_released_normalisation(shared: Path) -> None:
    recorded = np.load(shared / "fixtures" / "postproc_parity.npz")
    found = min_max(torch.from_numpy(recorded["bas/cas_supp"][0]))
    assert recorded["bas/minmax"].min() < 0  # or the test would not see what happens below 0
    np.testing.assert_allclose(found, recorded["bas/minmax"][0], rtol=1e-6, atol=1e-7)
