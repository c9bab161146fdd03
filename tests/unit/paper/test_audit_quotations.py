"""Rules of rows against the works that they are quoted from, on rows made for them and on the paper's."""

from __future__ import annotations

from typing import Any

import pytest

from harness.paper.audit.averages import averages
from harness.paper.audit.intervals import Finding, Paper, Tally
from harness.paper.audit.quotations import alike_features, quoted
from harness.paper.audit.rules import tallies, the_paper
from harness.paper.tables import SourceRow, published_tables, source_rows
from tests.helpers.printed_tables import only, table, tallied

COLUMNS = ["0.1", "0.2", "0.3"]
BSN, BMN, TSP = ["60.0", "50.0", "40.0"], ["61.0", "51.0", "41.0"], ["70.0", "62.0", "55.0"]


def source(work: str, cells: list[str], features: str = "", dataset: str = "thumos14") -> SourceRow:
    named = dict(zip(COLUMNS, cells, strict=False))
    return SourceRow(work=work, dataset=dataset, cells=named, features=features, source=f"{work}'s own page")


SOURCES = [source("BSN", BSN, "TSN"), source("BMN", BMN, "TSN")]


def paper(rows: dict[str, list[str]], sources: list[SourceRow], **changes: Any) -> Paper:
    """Rows `bsn` are of `BSN [1]`."""
    labels = {name: {"labels": [f"{name.upper()} [1]"]} for name in rows}
    return Paper([table(COLUMNS, rows, **labels, **changes)], sources=sources)


def found(*arguments: Any, **changes: Any) -> Tally:
    return tallied(quoted, paper(*arguments, **changes))


def test_a_row_of_its_own_work_is_no_finding() -> None:
    tally = found({"bsn": BSN, "bmn": BMN}, SOURCES)
    assert (tally.checked, tally.unknown, tally.findings) == (2, 0, [])


def test_two_rows_with_each_others_numbers_are_one_finding_with_both_sources() -> None:
    finding = only(found({"bsn": BMN, "bmn": BSN}, SOURCES))
    assert (finding.kind, finding.place) == ("swapped rows", "I/bmn, I/bsn")
    assert finding.printed == "60.0, 50.0, 40.0; 61.0, 51.0, 41.0"
    assert finding.recomputed == "61.0, 51.0, 41.0; 60.0, 50.0, 40.0"
    assert finding.source == "BSN's own page; BMN's own page"


def test_a_copied_row_is_corrected_from_its_own_source() -> None:
    finding = only(found({"bsn": BSN, "bmn": BSN}, SOURCES))
    assert (finding.kind, finding.place, finding.recomputed) == ("another work's row", "I/bmn", "61.0, 51.0, 41.0")
    assert finding.why == "the numbers of BSN with TSN"


def test_a_work_of_which_nothing_is_known_may_still_print_anothers_row() -> None:
    finding = only(found({"bmn": BSN}, SOURCES[:1]))
    assert (finding.recomputed, finding.source) == ("no row of its own is known", "BSN's own page")


@pytest.mark.parametrize(
    "cells",
    [["60.1", "50.0", "40.0"], ["60.0", "50.0", "-"], ["61.2", "51.0", "41.0"]],  # of another, of another, of itself
)
def test_what_agrees_in_part_is_not_judged(cells: list[str]) -> None:
    tally = found({"bmn": cells}, SOURCES)
    assert (tally.checked, tally.unknown) == (0, 1)


def test_digits_that_a_source_does_not_print_are_no_difference() -> None:
    assert found({"bmn": ["61.04", "51", "41.0"]}, SOURCES).checked == 1


def test_another_data_set_and_rows_without_a_citation_are_left_alone() -> None:
    assert found({"bmn": BSN}, [source("BSN", BSN, dataset="fineaction")]).unknown == 1
    assert tallied(quoted, Paper([table(COLUMNS, {"ours": BSN})], sources=SOURCES)) == Tally(0, 0, [])


def test_a_works_own_row_counts_before_an_equal_one_of_another() -> None:
    assert found({"bmn": BSN}, [*SOURCES, source("BMN", BSN)]).findings == []


def test_features_other_than_the_groups_are_named_with_the_row_of_the_groups_features() -> None:
    sources = [*SOURCES, source("TadTR", TSP, "TSP"), source("TadTR", ["66.0", "59.0", "50.0"], "TSN")]
    rows = {"bsn": BMN, "bmn": BSN, "tadtr": TSP}  # the swap leaves the features as they are
    tally = tallied(alike_features, paper(rows, sources))
    finding = only(tally)
    assert (tally.checked, finding.place, finding.recomputed) == (3, "I/tadtr", "66.0, 59.0, 50.0")
    assert finding.why == "its source has them with TSP; 2 rows of the group are with TSN"


def test_features_of_one_row_or_of_another_works_row_say_nothing() -> None:
    sources = [*SOURCES, source("TadTR", TSP, "TSP")]
    assert tallied(alike_features, paper({"bsn": BSN}, sources)).checked == 0
    assert tallied(alike_features, paper({"bsn": TSP, "bmn": BMN}, sources)).checked == 0


def test_an_average_may_be_that_of_another_row_of_the_work() -> None:
    columns, cells = [*COLUMNS, "AVG (0.1:0.3)"], ["57.0", "47.0", "37.0", "50.0"]
    printed = table(columns, {"bsn": cells}, bsn={"labels": ["BSN [1]"]})
    finding = only(tallied(averages, Paper([printed], sources=SOURCES)))
    assert (finding.kind, finding.recomputed, finding.source) == ("average", "47.00", "BSN's own page")
    assert finding.why.endswith("that of another row of the work: 60.0, 50.0, 40.0")
    assert only(tallied(averages, Paper([printed]))).source == ""


def test_what_the_paper_prints_of_other_works() -> None:
    rules = tallies(the_paper())
    rows = {one.place: one for one in rules["rows against their sources"].findings}
    assert {place: one.kind for place, one in rows.items()} == {
        "I/g-tad": "another work's row",
        "II/bmn, II/g-tad": "swapped rows",
        "III/bsn": "another work's row",
        "III/tadtr": "another work's row",
        "III/bas-net": "another work's row",
    }
    assert rows["III/bsn"].why == "the numbers of DBG"
    assert rows["I/g-tad"].recomputed == "54.5, 47.6, 40.2, 30.8, 23.4"
    # FineAction's other five and BSN, TadTR on ActivityNet, BSN and BMN on THUMOS14 are as their sources have them
    assert rules["rows against their sources"].checked - len(rows) == 10
    (features,) = rules["features of a group"].findings
    assert (features.place, features.recomputed) == ("II/tadtr", "51.29, 34.99, 9.49, 34.64")
    corrected = [
        *rows.values(),
        features,
        *(one for one in rules["averages"].findings if one.place.startswith("I/ssn")),
    ]
    assert all(one.source for one in corrected)


def test_source_rows_are_of_the_tables_data_sets_and_quantities() -> None:
    tables = published_tables().values()
    for row in source_rows():
        quantities = {column.quantity for one in tables if one.dataset == row.dataset for column in one.columns}
        assert set(row.cells) <= quantities, row
        assert all(Finding("k", "p", text, "", "").printed.replace(".", "").isdigit() for text in row.cells.values())
