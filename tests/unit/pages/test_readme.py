"""The README's blocks: filled from tables, everything else as it was. `leaderboard --check` compares the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.pages.model import Page, Table
from harness.pages.readme import BLOCK, BLOCKS, fill_readme, read_readme
from harness.seed_statistics import Estimate

ROOT = Path(__file__).parents[3]


def page(name: str, rows: list[dict[str, object]]) -> Page:
    return Page("page", "Page", ["text", Table(name, "caption", rows)])


LOCALIZERS = [
    {"method": "A (0.9.0)", "its own localizer": Estimate(9.0, 0.5, 3), "the common one": Estimate(8.0, 0.5, 3)},
    {"method": "A (0.10.0)", "its own localizer": Estimate(7.0, 0.5, 3), "the common one": Estimate(6.0, 0.5, 3)},
    {"method": "A (x=1, 0.10.0)", "its own localizer": Estimate(5.0), "the common one": None},
    {"method": "B (of C) (0.10.0)", "its own localizer": Estimate(4.0), "the common one": None},
    {"method": "D (0.10.0)", "its own localizer": Estimate(8.0), "the common one": None},
]
SEEDS = [{"method": row["method"], "supervision": "weak", "seeds": "0, 1, 2"} for row in LOCALIZERS]
SEEDS[-1]["supervision"] = "weak+count"


def test_the_newest_version_by_its_own_options_is_listed() -> None:
    text = "before\n<!-- begin: methods -->\nold\n<!-- end: methods -->\nafter\n"
    pages = [page("thumos14-r2plus1d", SEEDS), page("thumos14-r2plus1d-localizers", LOCALIZERS)]
    assert fill_readme(text, pages).splitlines() == [
        "before",
        "<!-- begin: methods -->",
        "| mean mAP 0.1:0.7 (%) | seeds | its own localizer | the common one |",
        "|---|---|---|---|",
        "| A | 3 | 7.0 ± 0.5 | 6.0 ± 0.5 |",
        "| B (of C) | 3 | 4.0 | |",
        "| D (weak+count) | 3 | 8.0 | |",
        "<!-- end: methods -->",
        "after",
    ]


def test_a_number_within_a_line_is_filled() -> None:
    text = "It has <!-- begin: audit -->1 checks, 1 findings<!-- end: audit -->, as printed."
    filled = fill_readme(text, [page("audit-rules", [{"checked": 5, "findings": 1}, {"checked": 7, "findings": 0}])])
    assert filled == text.replace("1 checks, 1 findings", "12 checks, 1 findings")


@pytest.mark.parametrize("name", [*BLOCKS, "unknown"])
def test_a_block_without_results_stays(name: str) -> None:
    text = f"a\n<!-- begin: {name} -->\nb\n<!-- end: {name} -->\nc <!-- begin: {name} -->d<!-- end: {name} -->\n"
    assert fill_readme(text, []) == text
    others = [page(table, [{"method": "A"}]) for table in ("thumos14-r2plus1d-localizers", "rescored-spread")]
    assert fill_readme(text, others) == text


def test_every_block_of_the_readme_is_one_that_is_filled() -> None:
    assert sorted(match["name"] for match in BLOCK.finditer((ROOT / "README.md").read_text())) == sorted(BLOCKS)


def test_a_readme_without_blocks_is_left_alone(tmp_path: Path) -> None:
    assert read_readme(tmp_path / "README.md") == ""
    (tmp_path / "README.md").write_text("My project.")
    assert read_readme(tmp_path / "README.md") == ""
    assert read_readme(ROOT / "README.md") == (ROOT / "README.md").read_text()
