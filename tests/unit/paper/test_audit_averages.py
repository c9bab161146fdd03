"""Rules of averages on tables made for them, worked by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.paper.audit.averages import averages, bounds
from harness.paper.audit.cells import rising
from harness.paper.audit.intervals import Paper
from tests.helpers.printed_tables import half_up, only, table, tallied, thousandths

THREE = ["0.1", "0.2", "0.3", "AVG (0.1:0.3)"]


@pytest.mark.parametrize(
    ("average", "fits"),
    # (60 + 50 + 41) / 3 = 50.33, the cells' rounding adds 0.05 and the average's own 0.05
    [("50.3", True), ("50.4", True), ("50.5", False), ("50.2", False), ("50.33", True), ("50.39", False)],
)
def test_an_average_is_the_mean_of_its_cells(average: str, fits: bool) -> None:
    tally = tallied(averages, Paper([table(THREE, {"a": ["60.0", "50.0", "41.0", average]})]))
    assert (tally.checked, tally.unknown) == (1, 0)
    assert [finding.kind for finding in tally.findings] == ([] if fits else ["average"])
    if not fits:
        assert (only(tally).place, only(tally).recomputed) == ("I/a: AVG (0.1:0.3)", "50.33")


def test_an_average_of_other_tious_stands_in_the_wrong_column() -> None:
    columns = ["0.1", "0.2", "0.3", "0.4", "0.5", "AVG (0.1:0.3)", "AVG (0.3:0.5)"]
    cells = ["60.0", "50.0", "40.0", "30.0", "20.0"]
    found = only(tallied(averages, Paper([table(columns, {"a": [*cells, "30.0", "-"]})])))
    assert (found.kind, found.printed, found.recomputed) == ("wrong column", "30.0", "50.00")
    assert "AVG (0.3:0.5)" in found.why
    assert tallied(averages, Paper([table(columns, {"a": [*cells, "50.0", "30.0"]})])).findings == []


def test_an_average_without_all_its_cells_is_not_judged() -> None:
    tally = tallied(averages, Paper([table(THREE, {"a": ["60.0", "-", "40.0", "99.0"], "b": ["1.0", "1.0", "", "-"]})]))
    assert (tally.checked, tally.unknown, tally.findings) == (0, 1, [])


@pytest.mark.parametrize(
    ("average", "fits"),
    # at least (60 + 40 + 40 + 10 + 10) / 5 = 32, at most (60 + 60 + 40 + 40 + 10) / 5 = 42, each 0.05 and 0.05 more
    [("32.0", True), ("31.9", True), ("31.8", False), ("42.1", True), ("42.2", False)],
)
def test_an_average_over_unprinted_tious_has_bounds(average: str, fits: bool) -> None:
    tally = tallied(bounds, Paper([table(["0.1", "0.3", "0.5", "AVG"], {"a": ["60.0", "40.0", "10.0", average]})]))
    assert (tally.checked, tally.unknown) == (1, 0)
    assert [finding.recomputed for finding in tally.findings] == ([] if fits else ["31.95 to 42.05"])


def test_bounds_leave_out_what_can_be_recomputed_and_what_has_no_cell() -> None:
    tally = tallied(bounds, Paper([table(THREE, {"a": ["60.0", "50.0", "40.0", "99.0"], "b": ["-", "-", "-", "9.0"]})]))
    assert (tally.checked, tally.unknown, tally.findings) == (0, 1, [])


@given(st.lists(thousandths, min_size=5, max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_what_is_only_rounded_is_never_found(values: list[Fraction], shown: list[bool]) -> None:
    """True mAPs and their true average, each printed with one decimal, some cells left out."""
    values = sorted(values, reverse=True)
    cells = [half_up(value) if show else "-" for value, show in zip(values, shown, strict=True)]
    rows = {"a": [*cells, half_up(sum(values, Fraction()) / 5)]}
    paper = Paper([table(["0.1", "0.2", "0.3", "0.4", "0.5", "AVG"], rows)])
    for rule in (averages, bounds, rising):
        assert tallied(rule, paper).findings == []
