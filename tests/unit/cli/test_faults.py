"""A disk that fills up, a store that turns read-only, a kill: at a run's writes, one after the other.

What stands in the store after each is a whole run or none, and the same command without the fault gives the bits of
the undisturbed run. The shim stands in for the kernel at every call that changes a file.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.faults import check_faults
from tests.helpers.small_data import write_tiny

EVERY = 11  # calls, here; tests/stress has them all


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), train=3, test=2)


@pytest.mark.usefixtures("many_checkpoints")
@pytest.mark.parametrize(("kind", "first"), [("full", 0), ("read-only", 2), ("killed", 4)])
def test_a_run_is_whole_or_absent_whatever_call_fails(
    kind: str, first: int, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_faults(kind, tiny, tmp_path, range(first, 1000, EVERY), capsys) > 6
