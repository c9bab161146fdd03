"""Interpretations of quoted gains, citations and venues, on made-up tables; and the paper's own gains, by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given

from harness.paper.audit.intervals import Paper
from harness.paper.audit.text import citations, claimed, interpretations, venues
from harness.paper.tables import PublishedClaim, Reference, claims, find_table
from tests.helpers.printed_tables import half_up, only, table, tallied, thousandths


def claim(quoted: str, **changes: Any) -> PublishedClaim:
    said = {"id": quoted, "about": "gain", "where": "text", "quote": "by", "quoted": quoted, "table": "I"}
    return PublishedClaim.model_validate(said | {"better": "rmgcl-gksa", "columns": ["0.1"]} | changes)


GAINS = table(["0.1", "0.3"], {"a": ["40.0", "20.0"], "b": ["41.0", "19.0"], "rmgcl-gksa": ["42.0", "25.0"]})


def test_a_gain_is_read_in_points_and_per_cent_of_the_best_rival() -> None:
    found = interpretations(claim("1.0", columns=[]), GAINS)
    assert [(r.column, r.unit, r.cells, round(float(r.value), 4)) for r in found] == [
        ("0.1", "points", ("42.0", "41.0"), 1.0),
        ("0.1", "%", ("42.0", "41.0"), 2.439),
        ("0.3", "points", ("25.0", "20.0"), 5.0),
        ("0.3", "%", ("25.0", "20.0"), 25.0),
    ]
    named = interpretations(claim("2.0", worse="a"), GAINS)
    assert [r.cells for r in named if r.column == "0.1"] == [("42.0", "40.0")] * 2


@pytest.mark.parametrize(
    ("quoted", "fits"),
    [
        ("1.0", {"points": "printed"}),
        # 41.95 - 41.05 = 0.9 and 42.05 - 40.95 = 1.1, the quoted number's own 0.05 more
        ("0.9", {"points": "rounding"}),
        ("1.1", {"points": "rounding"}),
        ("0.8", {}),
        ("2.4", {"%": "printed"}),
        # 41.95 / 41.05 = 1.0219, 42.05 / 40.95 = 1.0269
        ("2.2", {"%": "rounding"}),
        ("2.7", {"%": "rounding"}),
        ("2.8", {}),
    ],
)
def test_a_gain_fits_as_printed_or_within_rounding(quoted: str, fits: dict[str, str]) -> None:
    said = claim(quoted)
    found = {r.unit: r.fit for r in interpretations(said, GAINS) if r.column == "0.1" and r.fit}
    assert found == fits
    tally = tallied(claimed, Paper([GAINS], [said]))
    assert (tally.checked, len(tally.findings)) == (1, 0 if fits else 1)


def test_a_gain_that_fits_elsewhere_only_is_a_finding_that_says_so() -> None:
    found = only(tallied(claimed, Paper([GAINS], [claim("5.0")])))
    assert found.recomputed == "1.00 points (42.0 over 41.0, 0.1); 2.44 % (42.0 over 41.0, 0.1)"
    assert found.why == "no interpretation fits in 0.1; elsewhere: 5.00 points (25.0 over 20.0, 0.3)"


def test_one_gain_is_quoted_with_one_number() -> None:
    found = only(tallied(claimed, Paper([GAINS], [claim("1.0"), claim("1.1", where="end")])))
    assert (found.place, found.printed) == ("text and end: gain", "1.0 %, 1.1 %")
    assert tallied(claimed, Paper([GAINS], [claim("1.0"), claim("1.0", where="end")])).findings == []


@given(thousandths, thousandths)
def test_a_gain_computed_before_rounding_always_fits(first: Fraction, second: Fraction) -> None:
    low, high = sorted((first, second))
    rows = {"a": [half_up(low)], "rmgcl-gksa": [half_up(high)]}
    found = interpretations(claim(half_up(high - low), columns=[]), table(["0.1"], rows))
    assert [one.fit is not None for one in found if one.unit == "points"] == [True]


def test_nothing_is_a_share_of_what_may_be_zero() -> None:
    found = interpretations(claim("1.0"), table(["0.1"], {"a": ["0.0"], "rmgcl-gksa": ["1.0"]}))
    assert [(one.unit, one.fit) for one in found] == [("points", "printed")]


def test_readings_of_the_quoted_gains() -> None:
    fits = {
        said.id: {(r.column, r.unit): r.fit for r in interpretations(said, find_table(said.table)) if r.fit}
        for said in claims()
    }
    # 71.5 / 67.5 = 1.0593: the paper's 5.9 % is relative and at 0.1, not of the average (45.3 - 42.4 = 2.9)
    assert fits["summarization"] == {("0.1", "%"): "printed"}
    # 46.8 - 45.3 = 1.5, and 72.6 / 71.5 = 1.0154
    assert fits["pseudo-labels"] == {("AVG", "points"): "printed", ("0.1", "%"): "printed"}
    # 46.8 - 45.1 = 1.7, which can be 1.8 before rounding
    assert fits["introduction-thumos14"]["AVG (0.1:0.7)", "points"] == "rounding"
    assert fits["introduction-fineaction"] == fits["conclusion-fineaction"] == {}
    # 41.6 / 41.0 = 1.0146, no average
    assert fits["results-activitynet13"] == {("0.5", "%"): "rounding"}


BOOKS = {
    1: Reference(number=1, title="Networks of bases", venue="AAAI'20", names=("BaS-Net",)),
    2: Reference(number=2, title="Pooling", venue="CVPR'18", names=("STPN",)),
    3: Reference(number=3, title="Bases, networks of", venue="AAAI'20", names=("BaS-Net",)),
    4: Reference(number=4, title="No venue", venue="", names=("None",)),
}


def cited(*methods: str) -> Paper:
    tables = [
        table(["0.1"], {"a": ["1.0"]}, a={"labels": [text]}, number=number)
        for number, text in zip(("I", "II"), methods, strict=False)
    ]
    return Paper(tables, references=BOOKS)


@pytest.mark.parametrize(
    ("methods", "recomputed"),
    [
        (["BasNet [1]", "BaS-Net [1]"], None),
        (["BasNet [2]"], "[1, 3]"),
        (["W-TALC [2]"], "no entry of the tables' references"),
        (["BasNet [1]", "BasNet [3]"], "one number"),
        (["Ours"], None),
    ],
)
def test_a_row_cites_what_it_names(methods: list[str], recomputed: str | None) -> None:
    found = tallied(citations, cited(*methods)).findings
    assert [finding.recomputed for finding in found] == ([recomputed] if recomputed else [])


@pytest.mark.parametrize(
    ("method", "counted", "right"),
    [
        ("BaS-Net [1] (AAAI'20)", (1, 0), None),
        ("BaS-Net [1], (AAAI'19)", (1, 0), "AAAI'20"),
        ("BaS-Net [2] (AAAI'20)", (0, 1), None),  # a wrong citation says nothing of the venue
        ("None [4] (AAAI'20)", (0, 1), None),
        ("BaS-Net [1]", (0, 0), None),
    ],
)
def test_a_venue_is_the_references(method: str, counted: tuple[int, int], right: str | None) -> None:
    tally = tallied(venues, cited(method))
    assert (tally.checked, tally.unknown) == counted
    assert [finding.recomputed for finding in tally.findings] == ([right] if right else [])
