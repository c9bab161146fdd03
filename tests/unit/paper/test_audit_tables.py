"""Rules of cells against cells on tables made for them."""

from __future__ import annotations

from typing import Any

import pytest

from harness.paper.audit.cells import alike, bold, recurring, rising
from harness.paper.audit.intervals import Paper, Tally
from tests.helpers.printed_tables import only, table, tallied


def twice(first: str, second: str, **changes: Any) -> Tally:
    tables = [
        table(["0.1"], {"full": [first]}, number="IV", full={"same": "rmgcl-gksa"}),
        table(["0.1"], {"rmgcl-gksa": [second]}, number="I", **changes),
    ]
    return tallied(recurring, Paper(tables))


@pytest.mark.parametrize(
    ("first", "second", "agree"),
    [("59.4", "59.4", True), ("59.4", "59.5", False), ("59.4", "59.44", True), ("59.4", "59.46", False)],
)
def test_one_configuration_has_one_number(first: str, second: str, agree: bool) -> None:
    tally = twice(first, second)
    assert tally.checked == 1
    assert [finding.printed for finding in tally.findings] == ([] if agree else [f"{first}, {second}"])


def test_a_difference_is_named_with_its_places() -> None:
    found = only(twice("46.8", "46.6"))
    assert (found.place, found.recomputed) == ("IV/full, I/rmgcl-gksa: 0.1", "0.2 apart")


def test_another_data_set_or_range_is_another_quantity() -> None:
    assert twice("46.8", "25.3", dataset="fineaction").checked == 0
    tables = [
        table(["0.1", "0.2", "0.3", "AVG (0.1:0.3)"], {"a": ["60.0", "50.0", "40.0", "50.0"]}),
        table(["0.1", "AVG"], {"a": ["60.0", "45.0"]}, number="II"),
    ]
    tally = tallied(recurring, Paper(tables))
    assert (tally.checked, tally.findings) == (1, [])  # 0.1 alone


@pytest.mark.parametrize(
    ("second", "kind"),
    [
        (["-", "50.0", "43.2", "40.0"], "same row"),
        (["61.0", "50.0", "43.2", "40.0"], None),
        (["-", "50.0", "42.3", "40.0"], "transposed digits"),
        (["-", "50.0", "43.3", "40.0"], None),
        (["-", "05.0", "42.3", "40.0"], None),  # two cells differ
        (["-", "50.0", "43.2", "-"], None),  # two cells are too few
    ],
)
def test_rows_that_are_alike(second: list[str], kind: str | None) -> None:
    columns = ["0.1", "0.2", "0.3", "0.4"]
    tally = tallied(alike, Paper([table(columns, {"a": ["60.0", "50.0", "43.2", "40.0"], "b": second})]))
    assert [finding.kind for finding in tally.findings] == ([kind] if kind else [])


def test_rows_of_one_configuration_may_be_alike() -> None:
    cells = {"a": ["60.0", "50.0", "43.2"]}
    tables = [table(["0.1", "0.2", "0.3"], cells, number=number) for number in ("I", "II")]
    assert tallied(alike, Paper(tables)).findings == []


BOLD = {"a": ["60.0", "50.0"], "b": ["61.0", "50.0"]}


@pytest.mark.parametrize(
    ("a", "b", "places"),
    [
        ([], ["0.1"], ["I/: 0.2"]),
        (["0.2"], ["0.1", "0.2"], []),
        (["0.1", "0.2"], ["0.2"], ["I/a: 0.1"]),
        ([], [], []),  # no bold, no rule
    ],
)
def test_the_best_are_in_bold(a: list[str], b: list[str], places: list[str]) -> None:
    tally = tallied(bold, Paper([table(["0.1", "0.2"], BOLD, a={"bold": a}, b={"bold": b})]))
    assert [finding.place for finding in tally.findings] == places


def test_a_wrong_bold_is_named() -> None:
    found = only(tallied(bold, Paper([table(["0.1"], {"a": ["60.0"], "b": ["61.0"]}, a={"bold": ["0.1"]})])))
    assert (found.printed, found.recomputed) == ("60.0", "61.0 (b)")
    assert found.why == "in bold but not the best: a; the best but not in bold: b"


def test_the_best_is_sought_within_the_group() -> None:
    rows = {"full": ["90.0"], "weak": ["60.0"], "rmgcl-gksa": ["61.0"]}
    labels = {name: {"labels": [name, kind]} for name, kind in zip(rows, ("Full", "Weak", "Weak"), strict=True)}
    labels["rmgcl-gksa"]["bold"] = ["0.1"]
    grouped = table(["0.1"], rows, **{"labels": ["Method", "Supervision"], "best_within": "Supervision"}, **labels)
    tally = tallied(bold, Paper([grouped]))
    assert (tally.checked, tally.findings) == (1, [])
    assert len(tallied(bold, Paper([grouped.model_copy(update={"best_within": ""})])).findings) == 1


def test_map_does_not_rise_with_the_tiou() -> None:
    columns = ["0.3", "0.1", "0.5"]  # the order is that of the numbers
    tally = tallied(rising, Paper([table(columns, {"a": ["40.0", "60.0", "40.1"], "b": ["-", "60.0", "60.2"]})]))
    assert tally.checked == 3
    # 40.05 prints as 40.0 and as 40.1
    assert [(found.place, found.recomputed) for found in tally.findings] == [("I/b: 0.5", "at most 60.0")]
