"""Rules of Table IX on costs made for them, worked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from harness.audit import Paper, Tally
from harness.audit.costs import FLOPS, PARAMS, SIZE, costs
from tests.printed_tables import only, table


def audited(*rows: list[str], lengths: tuple[int, ...] = (100, 200, 400)) -> Tally:
    cells = {f"t{length}": cells for length, cells in zip(lengths, rows, strict=True)}
    labels = {name: {"labels": ["Stage", f"[1, {name[1:]}, 2048]"]} for name in cells}
    changes: dict[str, Any] = {"labels": ["Model", "Input dimension"], "dataset": "", "number": "IX"}
    return costs(Paper([table([PARAMS, FLOPS, SIZE], cells, **changes, **labels)]))


# 2.5 M float32 weights are 10 MB; the size grows by 1 MB and the FLOPs by 0.5 G for each 100 of T
CLEAN = (["2.50", "0.60", "12.0"], ["2.50", "1.10", "13.0"], ["2.50", "2.10", "15.0"])


def test_costs_of_a_real_model_agree() -> None:
    tally = audited(*CLEAN)
    assert (tally.checked, tally.findings) == (4, [])


@pytest.mark.parametrize(
    ("row", "cells", "place", "recomputed"),
    [
        (1, ["2.60", "1.10", "13.0"], PARAMS, "one number"),
        # a third of the way from 0.60 to 2.10
        (1, ["2.50", "1.12", "13.0"], FLOPS, "1.10 at T = 200"),
        (1, ["2.50", "1.10", "13.4"], SIZE, "13.0 at T = 200"),
    ],
)
def test_costs_that_no_model_has(row: int, cells: list[str], place: str, recomputed: str) -> None:
    rows = list(CLEAN)
    rows[row] = cells
    found = only(audited(*rows))
    assert (found.place, found.recomputed) == (f"IX/Stage: {place}", recomputed)


def test_weights_are_within_the_size() -> None:
    found = only(audited(*(["10.00", *cells[1:]] for cells in CLEAN)))
    # 10 M float32 are 40 MB; 12 MB hold 3 M, and 10 MB are 2.5 M
    assert (found.printed, found.recomputed) == ("10.00", "at most 3.00")
    assert "40.0 MB" in found.why
    assert "megabytes of 2.50 M" in found.why
