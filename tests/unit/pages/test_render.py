"""Pages as files: what each form shows, full precision in CSV, LaTeX that compiles by its own rules, synthetic said."""

from __future__ import annotations

import csv
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.charts.figure import Figure
from harness.pages.formats import csv_table, files, latex_table, markdown_page, markdown_table, terminal_table
from harness.pages.model import Page, Table
from harness.seed_statistics import Estimate, estimate

TABLE = Table(
    "sample",
    "Methods & their 95 % intervals",
    [
        {"method": "A_1", "published": "24.0", "0.5": Estimate(20.25, 1.125, 3)},
        {"method": "B", "published": "-", "0.5": "not run", "p": 0.031},
        {"method": "C", "0.5": Estimate(19.5)},
    ],
    {"0.5": "measured", "published": "published"},
)


def rows(table: Table, synthetic: bool = False) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_table(table, synthetic))))


def test_estimates_are_means_with_half_of_the_interval() -> None:
    two = estimate([1.0, 2.0], 2)
    assert two is not None
    # t(0.975, 1) = 12.7062, s = sqrt(1/2)
    assert two.half_width == pytest.approx(12.7062 * math.sqrt(0.5) / math.sqrt(2), rel=1e-5)
    assert str(two) == "1.5 ± 6.4"
    assert str(Estimate(0.5, 0.25, 6, signed=True)) == "+0.5 ± 0.2"
    assert str(Estimate(-0.5, signed=True)) == "-0.5"


def test_markdown_has_each_column_once_and_blanks_where_nothing_is() -> None:
    lines = markdown_page(Page("a", "A", ["Words.", TABLE])).splitlines()
    assert lines[:4] == ["# A", "", "Words.", ""]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    assert cells[0] == ["method", "published", "0.5", "p"]
    assert cells[2:] == [["A_1", "24.0", "20.2 ± 1.1", ""], ["B", "-", "not run", "0.031"], ["C", "", "19.5", ""]]


def markdown_cells(line: str) -> list[str]:
    """Read a row of a GitHub table: a backslash escapes the next character, a bare bar ends a cell."""
    cells, escaped = [""], False
    for mark in line:
        if mark == "|" and not escaped:
            cells.append("")
            continue
        cells[-1] += mark
        escaped = mark == "\\" and not escaped
    return [cell.strip() for cell in cells[1:-1]]


def test_the_terminal_shows_cells_as_they_are_and_wraps_long_ones() -> None:
    long = "one two three four five six seven eight nine ten eleven"
    table = Table(None, "", [{"time": "1,161.1", "step": "1,161", "same": "False", "note": long}])
    lines = terminal_table(table).splitlines()
    assert lines[2].split()[:3] == ["1,161.1", "1,161", "False"]
    assert " ".join(lines[2].split()[3:] + lines[3].split()) == long
    assert len(lines) == 4


def test_a_cell_of_a_markdown_table_is_text_and_a_link_survives() -> None:
    table = Table(None, "", [{"a | b": "one | two\n\n<script>alert(1)</script>", "link": "[A](b.md) **c**"}])
    assert markdown_table(table).splitlines()[0].count("|") == 4
    (head, _, row) = map(markdown_cells, markdown_table(table).splitlines())
    assert head == [r"a \| b", "link"]
    assert row == [r"one \| two  &lt;script>alert(1)&lt;/script>", "[A](b.md) **c**"]
    # the terminal and CSV show it as it is
    assert "<script>" in terminal_table(table)
    assert rows(table)[0]["a | b"].startswith("one | two\n\n<script>")


@given(st.text("ab|\\<\n", max_size=8), st.text("ab|\\<\n", max_size=8))
def test_no_text_makes_another_cell_row_or_tag(first: str, second: str) -> None:
    lines = markdown_table(Table(None, "", [{"x": first, "y": second, "z": "end"}])).splitlines()
    assert [len(markdown_cells(line)) for line in (lines[0], lines[2])] == [3, 3]
    assert len(lines) == 3
    assert "<" not in lines[2]


def test_csv_keeps_full_precision_and_what_is_printed() -> None:
    first, second, third = rows(TABLE)
    assert first == {
        "method": "A_1", "published": "24.0", "0.5": "20.25", "0.5 half width": "1.125", "0.5 seeds": "3", "p": "",
    }  # fmt: skip
    assert (second["0.5"], second["0.5 half width"], second["p"]) == ("not run", "", "0.031")
    assert (third["0.5"], third["0.5 half width"], third["0.5 seeds"]) == ("19.5", "", "1")


def test_latex_has_rules_and_no_bare_special_character() -> None:
    text = latex_table(TABLE, synthetic=False)
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"A\_1", r"20.2 $\pm$ 1.1", r"Methods \& their 95 \%"):
        assert part in text
    assert r"\begin{tabular}{lrrl}" in text
    assert text.count("\\\\\n") == 4


@given(st.text("a\\^~&%$#_{}<>\n", max_size=8).map("a{}".format))
def test_every_special_character_of_latex_is_a_command(text: str) -> None:
    commands = {
        "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": "$<$", ">": "$>$",
        "a": "a", "\n": " ",
    }  # fmt: skip
    table = Table("t", text, [{"x": 1}])
    expected = "".join(commands.get(mark, f"\\{mark}") for mark in text.removesuffix("\n"))
    assert rf"\caption{{{expected}}}" in latex_table(table, synthetic=False)


def test_synthetic_is_said_in_every_form() -> None:
    page = Page("leaderboards/s", "S", [TABLE], synthetic=True)
    written = files([page])
    assert set(written) == {f"leaderboards/{name}" for name in ("s.md", "tables/sample.csv", "tables/sample.tex")}
    assert all("ynthetic" in text for text in written.values())
    assert {row["data"] for row in rows(TABLE, synthetic=True)} == {"synthetic"}
    assert not any("ynthetic" in text for text in files([Page("leaderboards/s", "S", [TABLE])]).values())


def test_figures_are_linked_from_where_the_page_stands() -> None:
    figure = Figure("bars", "Bars of a thing", "<svg/>")
    written = files([Page("leaderboards/a", "A", [figure]), Page("audit", "B", [Table(None, "t", [{"x": 1}])])])
    assert "![Bars of a thing](figures/bars.svg)" in written["leaderboards/a.md"]
    assert written["leaderboards/figures/bars.svg"] == "<svg/>"
    assert set(written) == {"leaderboards/a.md", "leaderboards/figures/bars.svg", "audit.md"}
    assert "![Bars of a thing](leaderboards/figures/bars.svg)" in files([Page("audit", "A", [figure])])["audit.md"]


def test_two_pages_cannot_write_one_file() -> None:
    with pytest.raises(ValueError, match=r"sample\.csv"):
        files([Page("a", "A", [TABLE]), Page("b", "B", [TABLE])])
