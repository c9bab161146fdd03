"""The published tables: every cell is the paper's, mistakes in the files are named."""

from __future__ import annotations

import csv
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.paper.tables import (
    PublishedClaim,
    PublishedTable,
    claims,
    find_table,
    published_tables,
    references,
    training_logs,
)
from harness.runs.plans import find_plan
from wstal.errors import UserError

# Where the first cell of a row is blank, it is merged with the one above; in IV a blank is a blank.
MERGED = ("I", "II", "III", "VI", "IX")
VENUES = {
    "AAAI": "aaai conference",
    "CVPR": "computer vision and pattern recognition",
    "ECCV": "european conference|eccv",
    "ICCV": "international conference on computer vision",
    "ICLR": "conference on learning representations",
    "KDD": "kdd",
    "TIP": "ieee trans. image process|ieee transactions on image processing",
}


@pytest.fixture(scope="module")
def paper(shared: Path) -> str:
    path = shared / "paper.md"
    if not path.is_file():
        pytest.skip(f"the paper is not at {path}")
    return path.read_text(encoding="utf-8")


def printed(paper: str, number: str) -> tuple[str, list[list[str]], list[list[str]]]:
    """A table's caption, its header and its other lines, cells split at tabs."""
    match = re.search(rf"^TABLE {number} *\n+(.+)\n+((?:.*\t.*\n)+)", paper, re.MULTILINE)
    assert match is not None
    lines = [line.split("\t") for line in match[2].splitlines()]
    headings = 2 if "mAP @ IoU" in match[2] else 1
    return match[1].strip(), lines[:headings], lines[headings:]


def as_rows(number: str, lines: list[list[str]]) -> list[list[str]]:
    """Rows with their tags: `Ours`, shifted by the missing supervision, is moved back; merged cells are filled."""
    rows: list[list[str]] = []
    for line in lines:
        cells = ["", *line[:-1]] if "Ours" in line[0] else list(line)
        if number in MERGED and not cells[0]:
            cells[0] = rows[-1][0]
        rows.append(cells)
    return rows


@pytest.mark.shared
@pytest.mark.parametrize("number", published_tables())
def test_every_cell_is_the_papers(paper: str, number: str) -> None:
    table = find_table(number)
    caption, header, lines = printed(paper, number)
    assert table.caption == caption.replace("*", "")
    headings = [next(filter(None, reversed(cells)), "") for cells in zip(*header, strict=True)]
    width = len(table.labels)
    assert [column.name for column in table.columns] == headings[width:]
    # the second label of VI has no heading of its own
    assert list(table.labels) == (["Kind", "Method"] if number == "VI" else headings[:width])
    wanted = [
        [(re.sub("<[^>]+>", "", cell), cell.startswith("<b>")) for cell in cells] for cells in as_rows(number, lines)
    ]
    stored = [[(text, name in row.bold) for name, text in (row.labels | row.cells).items()] for row in table.rows]
    assert stored == wanted


@pytest.mark.shared
def test_the_parser_sees_the_whole_of_the_tables(paper: str) -> None:
    """Against counts by eye, so that an empty parse cannot pass."""
    sizes = {number: [len(line) for line in printed(paper, number)[2]] for number in published_tables()}
    rows = {"I": 28, "II": 14, "III": 10, "IV": 6, "V": 4, "VI": 6, "VII": 6, "VIII": 6, "IX": 6}
    assert {number: len(widths) for number, widths in sizes.items()} == rows
    assert {number: set(widths) for number, widths in sizes.items()} == {
        "I": {13}, "II": {6}, "III": {6}, "IV": {7}, "V": {4}, "VI": {5}, "VII": {5}, "VIII": {5}, "IX": {5},
    }  # fmt: skip


@pytest.mark.shared
@pytest.mark.parametrize("number", [number for number in published_tables() if number != "IX"])
def test_citations_and_venues_are_the_papers(paper: str, number: str) -> None:
    text = "\n".join("\t".join(line) for line in printed(paper, number)[2])
    rows = find_table(number).rows
    assert [str(row.citation) for row in rows if row.citation] == re.findall(r"\[(\d+)\]", text)
    assert [row.venue for row in rows if row.venue] == re.findall(r"\((\w+'\d\d)\)", text)


@pytest.mark.shared
def test_claims_are_all_the_gains_that_the_text_quotes(paper: str) -> None:
    text = re.sub(r"\s+", " ", paper)
    assert [claim.quoted for claim in claims()] == re.findall(r"(\d+\.\d+)%", text)
    for claim in claims():
        assert claim.quote in text
        assert f"{claim.quoted}%" in claim.quote


@pytest.mark.shared
def test_references_are_the_papers(paper: str) -> None:
    cited = {row.citation for table in published_tables().values() for row in table.rows} - {None}
    # 31 is cited in Table III, 75 in Table I, both for W-TALC
    assert set(references()) == cited
    for reference in references().values():
        entry = re.search(rf"^- \[{reference.number}\] (.+)$", paper, re.MULTILINE)
        assert entry is not None
        assert reference.title in entry[1]
        if reference.venue:
            venue, year = reference.venue.split("'")
            assert re.search(VENUES[venue], entry[1].casefold()), reference
            assert re.search(rf"\b(19|20){year}\b", entry[1]), reference


@pytest.mark.parametrize("number", ["IV", "V", "VI", "VII"])
def test_rows_of_ablations_are_the_plans(number: str) -> None:
    assert [row.id for row in find_table(number).rows] == [row.id for row in find_plan(number).rows]
    assert [row.method for row in find_table(number).rows] == [row.method for row in find_plan(number).rows]


def test_where_protocols_are_known_the_source_is_named() -> None:
    rows = {f"{table.number}/{row.id}": row for table in published_tables().values() for row in table.rows}
    assert {table.protocol for table in published_tables().values()} == {"unstated"}
    assert rows["IV/baseline"].test_looks == 1000
    assert (rows["I/bas-net"].protocol, rows["I/bas-net"].test_looks) == ("anet-210", 1500)
    assert (rows["I/rskp"].protocol, rows["I/rskp"].selection) == ("segments-best-212", "best_on_test")
    own = {f"I/{name}": rows[f"I/{name}"].protocol for name in ("fac-net", "w-talc")}
    assert own == {"I/fac-net": "segments-best-212", "I/w-talc": "segments-first-212"}
    # ActivityNet: whose lists of videos are known have ACM-Net's
    lists = {name: row.protocol for name, row in rows.items() if name.startswith("II/")}
    assert {name for name, protocol in lists.items() if protocol == "anet-4427"} == {
        "II/fac-net", "II/rskp", "II/asm-loc"
    }  # fmt: skip
    assert {protocol for protocol in lists.values() if protocol != "anet-4427"} == {"unstated", "anet"}
    assert rows["I/rmgcl-gksa"].protocol == rows["I/rmgcl-gksa"].selection == "unstated"
    assert rows["VIII/bas-net"].protocol == "unstated"  # no quote of the published row, but a run of unknown protocol


def test_values_have_their_columns() -> None:
    row = find_table("table_I").row("ssn")
    assert row.value("0.1") == 60.3
    assert row.value("0.6") is None
    assert (row.labels["Supervision"], row.feature, row.name, row.citation, row.venue) == (
        "Full",
        "-",
        "SSN",
        27,
        "ICCV'17",
    )
    assert find_table("IV").row("baseline").labels["GKS"] == ""
    assert [column.tious for column in find_table("I").columns[-3:]] == [
        ("0.1", "0.2", "0.3", "0.4", "0.5"),
        ("0.3", "0.4", "0.5", "0.6", "0.7"),
        ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"),
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("UntrimmedNet [28], (CVPR'17)", ("UntrimmedNet", 28, "CVPR'17")),
        ("Huang et al. [3]", ("Huang et al.", 3, "")),
        ("Latent codewords (ours)", ("Latent codewords (ours)", None, "")),
        ("BasNet + ours", ("BasNet + ours", None, "")),
        ("40", ("40", None, "")),
    ],
)
def test_a_printed_method_has_name_citation_and_venue(text: str, parts: tuple[str, int | None, str]) -> None:
    row = PublishedTable.model_validate(table(rows=[{"id": "a", "labels": [text], "cells": ["1.0"]}])).rows[0]
    assert (row.name, row.citation, row.venue) == parts


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: find_table("XX"), "Unknown table 'XX'.*Tables: I, II"),
        (lambda: find_table("table_IIX"), "Unknown table 'table_IIX'; did you mean 'I"),
        (lambda: find_table("I").row("basnet"), "Unknown row 'basnet' of table I; did you mean 'bas-net'"),
        (lambda: find_table("I").row("rmgcl-gksa").value("AVG (0.1:0.6)"), r"Unknown column.*did you mean 'AVG"),
    ],
)
def test_what_is_not_there_is_named(ask: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ask()


def table(**changes: Any) -> dict[str, Any]:
    return {
        "number": "I",
        "title": "T",
        "caption": "C",
        "dataset": "thumos14",
        "source": "S",
        "unit": "%",
        "protocol": "unstated",
        "selection": "unstated",
        "labels": ["Method"],
        "columns": [{"name": "0.1"}],
        "rows": [{"id": "a", "labels": ["A"], "cells": ["1.0"]}],
    } | changes


def row(**changes: Any) -> dict[str, Any]:
    return {"rows": [{"id": "a", "labels": ["A"], "cells": ["1.0"]} | changes]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (row(cells=["1.0", "2.0"]), "row a: 2 cells for 1 columns"),
        (row(labels=[]), "row a: 0 labels for 1 columns"),
        (row(cells=["1,0"]), "'1,0' under 0.1 is neither a number, '-' nor blank"),
        (row(cells=["-1.0"]), "neither a number"),
        (row(cells=["nan"]), "neither a number"),
        (row(bold=["0.2"]), "row a: no column 0.2 to be bold"),
        (row(protocol="anet-211", source="S"), "unknown protocol 'anet-211'"),
        (row(protocol="anet"), "without a source"),
        (row(test_looks=0, source="S"), "test_looks"),
        (row(colour="red"), "colour"),
        ({"rows": row()["rows"] * 2}, "two rows have one id"),
        ({"columns": [{"name": "Method"}]}, "two columns have one heading"),
        ({"columns": [{"name": "AVG", "mean_of": "0.1:0.3:0.5"}]}, "whole steps"),
        ({"best_within": "Supervision"}, "neither a label nor `method`"),
        ({"selection": "best"}, "selection"),
    ],
)
def test_inconsistent_tables_are_refused(changes: dict[str, Any], message: str) -> None:
    PublishedTable.model_validate(table())
    with pytest.raises((ValidationError, UserError), match=message):
        PublishedTable.model_validate(table(**changes))


def test_a_claim_needs_a_number() -> None:
    claim = claims()[0].model_dump()
    assert PublishedClaim.model_validate(claim | {"quoted": "2.5"}).quoted == "2.5"
    with pytest.raises(ValidationError, match="quoted"):
        PublishedClaim.model_validate(claim | {"quoted": "2.5%"})


def test_what_public_training_logs_gave_is_what_their_table_gives(shared: Path) -> None:
    path = shared / "data" / "training_logs" / "runs.csv"
    if not path.is_file():
        pytest.skip(f"the training logs are not at {path}")
    with path.open(encoding="utf-8") as file:
        runs = [run for run in csv.DictReader(file) if int(run["evaluations"]) >= 40 and float(run["best"]) > 0]
    for logs in training_logs():
        own = [run for run in runs if run["repository"].partition(" ")[0] in (logs.repository, logs.repository.lower())]
        gains = [float(run["best"]) - float(run["mean_of_last_quarter"]) for run in own]
        assert len(gains) == logs.runs
        stated = [logs.median, logs.least, logs.most]  # to two digits
        assert [statistics.median(gains), min(gains), max(gains)] == pytest.approx(stated, abs=0.00501), logs.work
        assert all(logs.dataset in run["metric"] for run in own)
