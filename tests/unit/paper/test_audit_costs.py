"""Rules of Table IX on costs made for them, worked by hand."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.paper.audit.costs import costs, modelled
from harness.paper.audit.intervals import Paper, PrintedInterval, Tally, interval, off_line
from harness.paper.tables import FLOPS, PARAMS, SIZE, find_table
from tests.helpers.printed_tables import only, table, tallied


def audited(*rows: list[str], lengths: tuple[int, ...] = (100, 200, 400)) -> Tally:
    cells = {f"t{length}": cells for length, cells in zip(lengths, rows, strict=True)}
    labels = {name: {"labels": ["Stage", f"[1, {name[1:]}, 2048]"]} for name in cells}
    changes: dict[str, Any] = {"labels": ["Model", "Input dimension"], "dataset": "", "number": "IX"}
    return tallied(costs, Paper([table([PARAMS, FLOPS, SIZE], cells, **changes, **labels)]))


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


def printed(cells: dict[int, str]) -> dict[int, PrintedInterval]:
    return {length: found for length, text in cells.items() if (found := interval(text))}


@given(
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.lists(st.integers(1, 2000), min_size=3, max_size=5, unique=True),
    st.integers(0, 4),
)
def test_what_is_affine_is_found_so_however_it_is_rounded(a: int, b: int, lengths: list[int], digits: int) -> None:
    exact = {length: Decimal(a) / 10**8 + length * Decimal(b) / 10**8 for length in lengths}
    assert not any(off_line(printed({length: f"{value:.{digits}f}" for length, value in exact.items()})))


@given(st.integers(-2000, 2000))
def test_a_line_is_missed_by_more_than_rounding_alone(off: int) -> None:
    (misfit,) = off_line(printed({750: "7.500", 75: "0.750", 400: f"{4 + Decimal(off) / 1000:.3f}"}))
    # half a thousandth on the line, half on the cell
    if abs(off) <= 1:
        assert misfit is None
    else:
        half = Fraction(1, 2000)
        assert misfit == (400, PrintedInterval(4 - half, 4 + half))


def test_each_cell_is_known_to_its_own_digits() -> None:
    # the line gives 4.0 within half a thousandth: 4.1 is off, 4 and 4.0 are not
    assert off_line(printed({75: "0.750", 400: "4.1", 750: "7.500"})) != [None]
    assert off_line(printed({75: "0.750", 400: "4.0", 750: "7.500"})) == [None]
    # known to a unit only, the outer cells let the middle be within half of one
    assert off_line(printed({75: "1", 400: "4.375", 750: "7"})) == [None]
    assert off_line(printed({75: "1", 400: "4.5", 750: "7"})) != [None]


def test_the_model_gives_every_printed_cost_but_two() -> None:
    tally = tallied(modelled, Paper([find_table("IX")]))
    assert tally.checked == 18
    # by hand from the sizes of its layers: 12,584,960 T + 6,147 T + 43,029 mult-adds, the linear layer once
    by_hand = {750: 12_584_960 * 750 + 6_147 * 750 + 43_029, 400: 12_584_960 * 400 + 6_147 * 400 + 43_029}
    assert [(found.place, found.recomputed) for found in tally.findings] == [
        (f"IX/testing-{length}: {FLOPS}", f"{flops / 1e9:.3f}") for length, flops in by_hand.items()
    ]


def test_a_size_off_by_its_last_digit_is_found() -> None:
    cells = {"training-750": ["84.16", "9.453", "106.02"], "testing-75": ["50.54", "0.944", "52.39"]}
    labels = {name: {"labels": ["Stage", "[1, 0, 2048]"]} for name in cells}
    changes: dict[str, Any] = {"labels": ["Model", "Input dimension"], "dataset": "", "number": "IX"}
    found = only(tallied(modelled, Paper([table([PARAMS, FLOPS, SIZE], cells, **changes, **labels)])))
    assert (found.place, found.printed, found.recomputed) == (f"IX/training-750: {SIZE}", "106.02", "106.01")
