"""The README's blocks: filled from tables, everything else as it was. `leaderboard --check` compares the real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.pages.model import Link, Linked, Page, Table
from harness.pages.readme import BLOCK, BLOCKS, fill_blocks, read_documents
from harness.seed_statistics import Estimate

ROOT = Path(__file__).parents[3]


def page(name: str, rows: Sequence[Mapping[str, object]]) -> Page:
    return Page("page", "Page", ["text", Table(name, "caption", rows)])


def standing(rank: int | None, name: str, supervision: str = "weak") -> dict[str, object]:
    cell = Linked((Link(name, f"methods/{name[:1].lower()}.md"), " ", Link("2020", "https://a.org")))
    numbers = {"avg 0.1:0.7": Estimate(9.0, 0.5, 3), "@0.1": Estimate(7.0, 0.5, 3)}
    return {"rank": rank, "method": cell} | numbers | {"supervision": supervision, "schedule": "60 epochs, T 64"}


def test_the_best_methods_the_papers_and_chance_are_quoted() -> None:
    text = "before\n<!-- begin: ranking -->\nold\n<!-- end: ranking -->\nafter\n"
    names = ["A", "B", "C", "D", "E", "F", "G", "H", "RMGCL+GKSA (Zhang & Zhao)", "I"]
    rows = [standing(1 + place, name) for place, name in enumerate(names)]
    rows = [standing(None, "Told more", "full"), *rows, standing(None, "Random scores"), standing(None, "Whole video")]
    before, begin, heading, rule, first, *others, end, after = fill_blocks(
        text, [page("thumos14-r2plus1d", rows)]
    ).splitlines()
    assert (before, begin, end, after) == ("before", "<!-- begin: ranking -->", "<!-- end: ranking -->", "after")
    assert heading == "|rank|method|avg 0.1:0.7|@0.1|supervision|schedule|"
    assert rule == "|---|---|---|---|---|---|"
    # at other tIoUs the mean alone, and no cell breaks in two lines
    link = "[A](results/leaderboards/methods/a.md) [2020](https://a.org)"
    assert first.replace("\u00a0", " ") == f"|1|{link}|9.0 ± 0.5|7.0|weak|60 epochs, T 64|"
    assert " " not in first.replace(link, "")
    assert [line.split("[")[1].split("]")[0] for line in others] == [
        "B", "C", "D", "E", "F", "RMGCL+GKSA (Zhang & Zhao)", "Random scores",
    ]  # fmt: skip


def test_the_leader_is_quoted() -> None:
    overview = [
        {"evaluator": "anet, 0.1:0.7", "result": "B leads"},
        {"evaluator": "anet-210, 0.1:0.7", "result": "A leads"},
    ]
    text = "<!-- begin: leader -->old<!-- end: leader -->"
    assert fill_blocks(text, [page("overview", overview)]) == text.replace("old", "A leads")


def test_a_number_within_a_line_is_filled() -> None:
    text = "It has <!-- begin: audit -->1 checks, 1 findings<!-- end: audit -->, as printed."
    filled = fill_blocks(text, [page("audit-rules", [{"checked": 5, "findings": 1}, {"checked": 7, "findings": 0}])])
    assert filled == text.replace("1 checks, 1 findings", "12 checks, 1 findings")


def test_the_papers_pseudo_labels_are_quoted_by_epoch() -> None:
    looks = [
        {"method": method, "epoch": epoch, "seeds": "3", "AP of main": Estimate(38.04, 0.5, 3), "AUC of main": 64.7}
        | {"AP of auxiliary": None if epoch == 10 else Estimate(46.1, 0.2, 3), "AP gained": None}
        for method in ("TSCN", "RMGCL+GKSA (Zhang & Zhao)")
        for epoch in (10, 20)
    ]
    text = "<!-- begin: pseudo-labels -->\nold\n<!-- end: pseudo-labels -->"
    filled = fill_blocks(text, [page("thumos14-r2plus1d-pseudo-labels", looks)]).splitlines()[1:-1]
    assert filled == [
        "|epoch|AP of main|AP of auxiliary|AP gained|",
        "|---|---|---|---|",
        "|10|38.0 ± 0.5|||",
        "|20|38.0 ± 0.5|46.1 ± 0.2||",
    ]


def test_the_papers_schedule_stands_beside_the_one_before() -> None:
    def row(method: str, average: float, seeds: int, schedule: str) -> dict[str, Any]:
        return {"method": method, "avg 0.1:0.7": Estimate(average, 1.0, seeds), "seeds": seeds, "schedule": schedule}

    short, long = "60 epochs, T 64", "200 epochs, T 256"
    first = [row("ACM-Net", 26.9, 6, short), row("RMGCL+GKSA (Zhang & Zhao)", 22.4, 6, short)]
    apart = [row("RMGCL+GKSA (Zhang & Zhao)", 28.4, 3, long), row("ACM-Net", 30.7, 3, long)]
    pages = [page("thumos14-r2plus1d", first), page("thumos14-r2plus1d-0.3.0", apart)]
    pages.append(page("thumos14-r2plus1d-localizers", [{"method": "ACM-Net", "schedule": long}]))
    text = "<!-- begin: paper-schedule -->\n\n<!-- end: paper-schedule -->"
    assert fill_blocks(text, pages).splitlines()[3:-1] == [
        "|ACM-Net|26.9 ± 1.0|30.7 ± 1.0|6 and 3|",
        "|RMGCL+GKSA|22.4 ± 1.0|28.4 ± 1.0|6 and 3|",
    ]


@pytest.mark.parametrize("name", [*BLOCKS, "unknown"])
def test_a_block_without_results_stays(name: str) -> None:
    text = f"a\n<!-- begin: {name} -->\nb\n<!-- end: {name} -->\nc <!-- begin: {name} -->d<!-- end: {name} -->\n"
    assert fill_blocks(text, []) == text
    others = [page(table, [{"method": "A"}]) for table in ("thumos14-r2plus1d-localizers", "rescored-spread")]
    assert fill_blocks(text, others) == text


def test_every_block_of_the_documents_is_one_that_is_filled() -> None:
    documents = read_documents(ROOT / "results")
    assert documents.keys() == {"../README.md", "../docs/findings.md", "../docs/numbers.md", "../docs/results.md"}
    named = {match["name"] for text in documents.values() for match in BLOCK.finditer(text)}
    assert named == set(BLOCKS)
    assert documents["../README.md"] == (ROOT / "README.md").read_text()


def test_a_document_without_blocks_is_left_alone(tmp_path: Path) -> None:
    assert read_documents(tmp_path / "results") == {}
    (tmp_path / "README.md").write_text("My project.")
    assert read_documents(tmp_path / "results") == {}


def test_the_readme_is_short_and_has_what_a_reader_needs_first() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 700
    first = text[: text.index("## Start")]
    for part in ("nox -s reproduce-thumos", "nox -s tests", "docs/figures/timeline-dark.png", "begin: ranking"):
        assert part in first
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
