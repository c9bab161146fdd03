"""Fixtures of the benchmarks, what their saved runs hold, and the printed ratios.

Ratios are within one run. Rates and fractions are of the threads that torch starts with (`nox -s bench`: all cores);
on a machine that does other work too, measure one thread by its own time:
`OMP_NUM_THREADS=1 pytest tests/benchmarks --benchmark-only --benchmark-timer=time.process_time`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jaxtyping
import pytest
import torch
from pytest_benchmark.utils import load_timer

from harness.data.synthetic import EmbeddedSource, embedded_source
from tests.benchmarks.hardware import Machine, facts, strip
from tests.benchmarks.measure import missed


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full_size: a minute or so at the field's size (nox -s bench -- --all)")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip slow benchmarks where nothing is measured."""
    if item.get_closest_marker("slow") and item.config.getoption("benchmark_disable"):
        pytest.skip("seconds at full size; measured by nox -s bench")


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info.clear()
    machine_info.update(facts())


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    strip(output_json)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What the table of times does not show: ratios, rates, fractions of peaks, exponents."""
    for benchmark in config._benchmarksession.benchmarks:
        if benchmark.extra_info:
            told = ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in benchmark.extra_info.items()
            )
            terminalreporter.write_line(f"{benchmark.name}: {told}")
    for told in missed(config._benchmarksession.benchmarks):
        terminalreporter.write_line(f"Aim missed, {told}", yellow=True)


@pytest.fixture(autouse=True)
def without_shape_checks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Users run without them: the tests' checks of shapes would be measured with every call."""
    measured = not request.config.getoption("benchmark_disable")
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", before or measured)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def machine(pytestconfig: pytest.Config) -> Machine:
    return Machine(load_timer(pytestconfig.getoption("benchmark_timer")).target)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the main job runs at the embedded size: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def embedded() -> EmbeddedSource:
    return embedded_source(full_size=False)
