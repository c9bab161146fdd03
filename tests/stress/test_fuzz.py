"""Ten thousand damaged and hostile files through the command line, as `tests/fuzz` does with a few hundred."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.cases import KINDS, Bench, bench_in
from tests.stress.report import report

pytestmark = pytest.mark.stress

CASES = 10_000
COMMAND = "pytest -m stress tests/stress/test_fuzz.py"
SETTINGS = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch, bench_in(tmp_path_factory.mktemp("fuzz"), patch) as made:
        yield made


def cases(name: str) -> int:
    """How many of all are of a kind."""
    return math.ceil(CASES * KINDS[name].share / sum(kind.share for kind in KINDS.values()))


@pytest.mark.parametrize("name", KINDS)
def test_many_mutations(bench: Bench, name: str) -> None:
    @settings(SETTINGS, max_examples=cases(name))
    @given(st.data())
    def one(data: st.DataObject) -> None:
        bench.fuzz(name, data.draw)

    one()
    assert sum(bench.tally[name].values()) >= cases(name)


def test_ten_thousand_in_all(bench: Bench) -> None:
    by_kind = {name: sum(bench.tally.get(name, {}).values()) for name in KINDS}
    codes: Counter[int] = sum((Counter(codes) for codes in bench.tally.values()), Counter())
    assert sum(by_kind.values()) >= CASES
    # neither is everything refused, nor is everything taken
    assert codes[0] > CASES / 50
    assert codes[2] > CASES / 2
    listed = ", ".join(f"{name} {count:,}" for name, count in by_kind.items())
    ends = ", ".join(f"{code}: {count:,}" for code, count in sorted(codes.items()))
    slowest = max(bench.slowest.values())
    figure = f"{sum(by_kind.values()):,} cases, no failure; exit codes {ends}; the slowest {slowest:.1f} s"
    what = "damaged and hostile files through the command line: no traceback, one message, nothing left behind"
    report(what, f"{figure}; {listed}", COMMAND)
