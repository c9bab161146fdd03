"""Results that the README and docs/ quote: blocks between markers, filled from the tables of the rendered pages.

A block is `<!-- begin: NAME -->...<!-- end: NAME -->`, around whole lines or within one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from harness.pages.formats import shown
from harness.pages.model import Linked, Page, Table
from harness.seed_statistics import Estimate

THUMOS, UCF = "thumos14-r2plus1d", "ucf-untrimmed"
BLOCK = re.compile(r"(<!-- begin: (?P<name>[\w-]+) -->)(\n?)(.*?)(\n?<!-- end: (?P=name) -->)", re.DOTALL)
LEADERBOARDS = "results/leaderboards/"
EXCERPT, PAPER, CHANCE = 8, "RMGCL+GKSA (", "Random scores"
SHORT_SCHEDULE, PAPER_SCHEDULE = "60 epochs, T 64", "200 epochs, T 256"
SWITCHES = ("RMGCL", "GKS", "GKA", "Pseudo")
# the README's rows of Table IV: how many switches are on, and the claim of the paper about the row
COMPONENTS = {
    "ACM-Net": (0, None),
    "+ RMGCL": (1, "RMGCL helps the baseline"),
    "+ RMGCL + GKSA, no pseudo labels": (3, "GKS and GKA without pseudo labels help the baseline"),
    "+ RMGCL + GKSA": (4, "the whole helps the baseline"),
}

T = TypeVar("T")
Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]


def read_documents(results: Path) -> dict[str, str]:
    """Return the README and the pages of docs/ beside a results folder that have blocks, by path from the folder."""
    beside = results / ".."
    paths = [beside / "README.md", *sorted((beside / "docs").glob("*.md"))]
    texts = {path: path.read_text(errors="replace") for path in paths if path.is_file()}
    return {path.relative_to(results).as_posix(): text for path, text in texts.items() if BLOCK.search(text)}


def fill_blocks(text: str, pages: Sequence[Page]) -> str:
    """Fill the blocks of a document.

    Args:
        text: of the document.
        pages: all rendered pages; a block whose rows are not among them stays as it is.
    """
    tables = {block.name: block.rows for page in pages for block in page.blocks if isinstance(block, Table)}
    named = {name: rows for name, rows in tables.items() if name is not None}

    def fill(match: re.Match[str]) -> str:
        begin, name, newline, before, end = match.groups()
        try:
            filled = BLOCKS[name](named)
        except LookupError:
            filled = before
        return f"{begin}{newline}{filled}{end}"

    return BLOCK.sub(fill, text)


def excerpt(rows: Sequence[T], label: Callable[[T], str], weak: Callable[[T], bool]) -> list[T]:
    """Return the rows of a ranking that the README shows: the best, the paper's method, and chance.

    Args:
        rows: best first.
        label: of a row.
        weak: whether a row is of a method that learns from video-level labels.
    """
    chance = [row for row in rows if label(row).startswith(CHANCE)][:1]
    paper = [row for row in rows if label(row).startswith(PAPER)][:1]
    best = [row for row in rows if weak(row) and row not in paper]
    kept = [*best[: EXCERPT - len(paper + chance)], *paper, *chance]
    return [row for row in rows if row in kept]


def _ranking(tables: Tables) -> str:
    """Return the rows of the best methods on real THUMOS14; at tIoUs besides 0.5 the means alone, for want of room."""
    rows = excerpt(tables[THUMOS], lambda row: str(row["method"]), lambda row: row["supervision"] == "weak")

    def cell(name: str, value: Any) -> object:
        if isinstance(value, Linked):
            return value.under(LEADERBOARDS).markdown
        if name.startswith("@") and isinstance(value, Estimate):
            value = replace(value, half_width=math.nan)
        return shown(value).replace(" ", "\u00a0")  # a row is a line

    return _markdown(list(rows[0]), [[cell(name, value) for name, value in row.items()] for row in rows])


def _leader(tables: Tables) -> str:
    """Return who leads on real THUMOS14."""
    return str(_row(tables["overview"], {"evaluator": "anet-210, 0.1:0.7"})["result"])


def _longer_schedule(tables: Tables) -> str:
    """Return ACM-Net's mean by its longer schedule, which version 0.1.0 had."""
    return str(_row(tables[f"{THUMOS}-apart"], {"method": "ACM-Net (version 0.1.0)"})["average"])


def _paper_schedule(tables: Tables) -> str:
    """Return ACM-Net and the paper's method on real THUMOS14 by the paper's schedule, beside a short one of before."""
    cells = []
    for title in ("ACM-Net", PAPER):
        both = [_scheduled(tables, title, schedule) for schedule in (SHORT_SCHEDULE, PAPER_SCHEDULE)]
        seeds = " and ".join(str(row["seeds"]) for row in both)
        cells.append([title.removesuffix(" ("), *(row["avg 0.1:0.7"] for row in both), seeds])
    return _markdown(["mean mAP 0.1:0.7", SHORT_SCHEDULE, PAPER_SCHEDULE, "seeds"], cells)


def _scheduled(tables: Tables, title: str, schedule: str) -> Row:
    """Return a method's row in the ranking of real THUMOS14 that has this schedule."""
    rankings = [rows for name, rows in tables.items() if re.fullmatch(rf"{THUMOS}(-\d[\d.]*)?", name)]
    rows = [row for ranking in rankings for row in ranking if _is_titled(row, title)]
    return _row(rows, {"schedule": schedule})


def _by_the_paper(tables: Tables) -> str:
    """Return the means of ACM-Net and of the paper's method on real THUMOS14 by the paper's schedule."""
    both = [_scheduled(tables, title, PAPER_SCHEDULE)["avg 0.1:0.7"] for title in ("ACM-Net", PAPER)]
    return "ACM-Net has {} and RMGCL+GKSA {}".format(*both)


def _is_titled(row: Row, title: str) -> bool:
    """Return whether a row is of a method by its own options, whose label may end with its year."""
    label = str(row["method"])
    return label.startswith(title) if title.endswith("(") else re.fullmatch(rf"{title}( \d{{4}})?", label) is not None


def _components(tables: Tables) -> str:
    """Return the rows of Table IV that add one part after the other."""
    cells = []
    for name, (switched_on, claim) in COMPONENTS.items():
        row = _component(tables, THUMOS, switched_on)
        change = _claim(tables, THUMOS, claim)["measured"] if claim else ""
        cells.append([name, row["average"], change, row["published AVG"]])
    return _markdown(["mean mAP 0.1:0.7", "measured here", "against the baseline", "the paper, on I3D"], cells)


def _component(tables: Tables, data: str, switched_on: int) -> Row:
    switches = ["x"] * switched_on + [""] * (len(SWITCHES) - switched_on)
    return _row(tables[f"{data}-table_IV"], dict(zip(SWITCHES, switches, strict=True)))


def _claim(tables: Tables, data: str, claim: str) -> Row:
    return _row(tables[f"{data}-table_IV-claims"], {"the paper says": claim})


def _pseudo_labels(tables: Tables) -> str:
    """Return how good the paper's pseudo labels are on real THUMOS14, by epoch, of the system with the most seeds."""
    rows = [row for row in tables[f"{THUMOS}-pseudo-labels"] if str(row["method"]).startswith(PAPER)]
    seeds = {str(row["method"]): int(str(row["seeds"]).split()[0]) for row in rows}
    rows = [row for row in rows if row["method"] == max(seeds, key=lambda label: seeds[label], default="")]
    shown_columns = ["epoch", "AP of main", "AP of auxiliary", "AP gained"]
    return _markdown(shown_columns, [[row[name] for name in shown_columns] for row in rows])


def _row(rows: Sequence[Row], cells: Row) -> Row:
    """Return the row with these cells.

    Raises:
        LookupError: there is none.
    """
    for row in rows:
        if all(row.get(name) == cell for name, cell in cells.items()):
            return row
    raise LookupError(f"no row with {cells}")


def _ucf_change(tables: Tables) -> str:
    """Return what the whole method changes on UCF101-untrimmed, and whether that is resolved."""
    row = _claim(tables, UCF, "the whole helps the baseline")
    return f"{row['measured']} is {row['in these runs']}"


def _spread(rows: Sequence[Row], digits: int) -> str:
    """Return how far protocols move the mAP of released detections, at most.

    Args:
        rows: of the detections.
        digits: after the decimal point.

    Raises:
        LookupError: there are none.
    """
    if not rows:
        raise LookupError("no detections were scored")
    return f"{max(row['spread'].mean for row in rows):.{digits}f}"


def _audit(tables: Tables) -> str:
    rows = tables["audit-rules"]
    return f"{sum(row['checked'] for row in rows)} checks, {sum(row['findings'] for row in rows)} findings"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table without padding, where an edited cell changes one line."""
    lines = ["|".join(["", *map(shown, line), ""]) for line in (headings, *rows)]
    lines.insert(1, "|---" * len(headings) + "|")
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[Tables], str]] = {
    "ranking": _ranking,
    "leader": _leader,
    "longer-schedule": _longer_schedule,
    "components": _components,
    "paper-schedule": _paper_schedule,
    "pseudo-labels": _pseudo_labels,
    "ucf-baseline": lambda tables: str(_component(tables, UCF, 0)["average"]),
    "ucf-whole": lambda tables: str(_component(tables, UCF, 4)["average"]),
    "ucf-change": _ucf_change,
    "stpn-spread": lambda tables: _spread([_row(tables["rescored-spread"], {"detections": "stpn"})], 1),
    "largest-spread": lambda tables: _spread([row for row in tables["rescored-spread"] if row["spread"]], 0),
    "by-the-paper": _by_the_paper,
    "audit": _audit,
}
