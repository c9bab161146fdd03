"""Ranking of a sweep's runs against random scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.comparisons import ranking as module
from harness.comparisons.bootstrap import VideoBootstrap
from harness.comparisons.ranking import ranking


@dataclass(frozen=True)
class Told:
    """What the ranking reads of a finished run."""

    record: Any


def run(method: str, value: float, seed: int = 0) -> Any:
    scored = SimpleNamespace(averages={"0.1:0.7": value}, mean_ap={"0.5": value / 2})
    return Told(SimpleNamespace(method=method, seed=seed, supervision="weak", scored=scored))


@pytest.fixture(autouse=True)
def flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for a run's flags: its average, and an interval of 2 points to either side."""

    def bootstrap(a: dict[int, float], b: dict[int, float], resampled: Any) -> VideoBootstrap:
        seeds = sorted(a.keys() & b.keys())
        gain = float(np.mean([a[one] - b[one] for one in seeds]))
        return VideoBootstrap("0.1:0.7", gain, gain - 2, gain + 2, math.nan)

    monkeypatch.setattr(module, "matches_of", lambda one: one.record.scored.averages["0.1:0.7"])
    monkeypatch.setattr(module, "paired_bootstrap", bootstrap)


def test_chance_stands_last_and_the_others_are_held_against_it() -> None:
    runs = [run("random", 5.0), run("acmnet", 6.0), run("whole-video", 50.0), run("cola", 20.0)]
    rows = ranking(["random", "acmnet", "whole-video", "cola"], runs)
    assert [row.name for row in rows] == ["cola", "acmnet", "whole-video", "random"]
    assert [row.above_random for row in rows] == [True, False, False, False]
    assert [row.gain is None for row in rows] == [False, False, True, True]
    assert [row.at_half for row in rows] == [10.0, 3.0, 25.0, 2.5]


def test_rows_of_one_method_stay_apart_and_seeds_are_averaged() -> None:
    runs = [run("acmnet", 10.0), run("acmnet", 20.0, seed=1), run("acmnet", 40.0), run("random", 5.0)]
    rows = ranking(["a", "a", "V/a", "random"], runs)
    assert [(row.name, row.mean) for row in rows] == [("V/a", 40.0), ("a", 15.0), ("random", 5.0)]
    assert rows[1].gain is not None
    assert rows[1].gain.difference == 5.0  # of seed 0, which both have


def test_without_random_scores_nothing_is_held_against_them() -> None:
    (row,) = ranking(["acmnet"], [run("acmnet", 10.0)])
    assert row.gain is None
    assert not row.above_random


@given(st.lists(st.tuples(st.sampled_from(["random", "whole-video", "cola", "acmnet"]), st.floats(0, 100))))
def test_every_row_stands_once_in_falling_order(made: list[tuple[str, float]]) -> None:
    rows = ranking([str(n) for n in range(len(made))], [run(*one) for one in made])
    assert sorted(row.name for row in rows) == sorted(str(n) for n in range(len(made)))
    keys = [(row.chance, -row.mean) for row in rows]
    assert keys == sorted(keys)
