"""The little logic of the benchmarks themselves: names, what a saved run holds, counts, fits, nox's options."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import noxfile
from harness.runs.environment import cpu_name
from tests.benchmarks.hardware import Machine, facts, slug, strip
from tests.benchmarks.measure import aim, flops, growth, missed
from wstal.parts.layers import TemporalConv


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AMD EPYC, 2 cores", "amd-epyc-2-cores"),
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz, 16 cores", "intel-xeon-platinum-8481c-2-70ghz-16-cores"),
        ("AMD Ryzen 9 7950X 16-Core Processor, 32 cores", "amd-ryzen-9-7950x-16-core-32-cores"),
        ("arm/../x, 1 cores", "arm-x-1-cores"),
    ],
)
def test_slug(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_a_saved_run_names_no_host_and_no_folder() -> None:
    told = json.dumps(facts())
    assert platform.node() not in told
    assert str(Path.home()) not in told
    assert str(Path.cwd()) not in told
    assert facts()["cpu"] == cpu_name()
    numbers = {"stats": {"median": 0.123456789, "rounds": 5}, "extra_info": {"of_peak": 2 / 3, "note": "x"}}
    options = {"timer": "perf_counter", "min_rounds": 5}
    saved: dict[str, Any] = {
        "commit_info": {"id": "f" * 40, "time": "then", "dirty": False, "project": "folder", "branch": "mine"},
        "benchmarks": [{"name": "one[2]", "param": "2", "params": {"n": 2}, "options": options, **numbers}],
    }
    strip(saved)
    assert saved["commit_info"] == {"id": "f" * 40, "time": "then", "dirty": False}
    assert saved["benchmarks"] == [
        {
            "name": "one[2]",
            "options": {"timer": "perf_counter"},
            "stats": {"median": 0.123457, "rounds": 5},
            "extra_info": {"of_peak": 0.666667, "note": "x"},
        }
    ]


def test_flops_of_both_passes() -> None:
    """Forward, weights' and inputs' gradient cost alike; no gradient of the input is asked for here."""
    conv, linear = TemporalConv(8, 6, kernel_size=3, padding=1), torch.nn.Linear(6, 5)
    features = torch.rand(2, 10, 8)
    one_conv, one_linear = 2 * 2 * 10 * 8 * 6 * 3, 2 * 2 * 10 * 6 * 5
    assert flops(lambda: conv(features)) == one_conv
    assert flops(lambda: linear(conv(features)).sum().backward()) == 2 * one_conv + 3 * one_linear


def test_growth_finds_the_exponent() -> None:
    sizes = [10, 100, 3000]
    assert growth(sizes, [3e-6 * size**1.5 for size in sizes]) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("bound", "value", "told"),
    [
        ({"at_most": 1.25}, 1.25, "ours / base 1.25, at most 1.25: met"),
        ({"at_most": 1.25}, 1.26, "ours / base 1.26, at most 1.25: missed"),
        ({"at_least": 3}, 3.0, "ours / base 3, at least 3: met"),
        ({"at_least": 3}, 2.9, "ours / base 2.9, at least 3: missed"),
    ],
)
def test_a_missed_aim_is_told_and_fails_nothing(bound: dict[str, float], value: float, told: str) -> None:
    measured = SimpleNamespace(name="step", disabled=False, extra_info={})
    for _ in range(2):
        aim(measured, "ours / base", value, **bound)
    assert measured.extra_info == {"aims": [told, told]}
    expected = [f"step: {told}"] * 2 if told.endswith("missed") else []
    assert missed([measured, SimpleNamespace(name="other", extra_info={})]) == expected


def test_without_measuring_there_is_no_aim() -> None:
    unmeasured = SimpleNamespace(disabled=True, extra_info={})
    aim(unmeasured, "exponent", 0.0, at_most=1.3)
    assert unmeasured.extra_info == {}


def test_peaks_are_measured_once_by_thread_count() -> None:
    ticks = iter(range(1_000_000))
    machine = Machine(lambda: float(next(ticks)), copied=10)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        # one tick a turn
        assert machine.bandwidth() == 2 * 4 * 10
        assert next(ticks) == 6
        machine.bandwidth()
        assert next(ticks) == 7
        torch.set_num_threads(2)
        machine.bandwidth()
        assert next(ticks) == 14
    finally:
        torch.set_num_threads(before)


def test_bench_options() -> None:
    storage, save = "--benchmark-storage=results/benchmarks/amd-2-cores", "--benchmark-save=amd-2-cores"
    without = ["-m", "not full_size", storage]
    assert noxfile.bench_options([], "amd-2-cores") == [*without, save]
    assert noxfile.bench_options(["--all"], "amd-2-cores") == [storage, save]
    assert noxfile.bench_options(["--compare"], "amd-2-cores") == [*without, save, "--benchmark-compare"]
    # a part is compared and not saved, and the option with an optional value takes nobody else's
    part = noxfile.bench_options(["--compare", "-k", "step"], "amd-2-cores")
    assert part == [*without, "-k", "step", "--benchmark-compare"]
