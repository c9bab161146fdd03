"""Results that the README quotes: blocks between markers, filled from the tables of the rendered pages.

A block is `<!-- begin: NAME -->...<!-- end: NAME -->`, around whole lines or within one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.pages.formats import shown
from harness.pages.model import Page, Table
from wstal.types import Supervision

WEAK: Supervision = "weak"
THUMOS, UCF = "thumos14-r2plus1d", "ucf-untrimmed"
BLOCK = re.compile(r"(<!-- begin: (?P<name>[\w-]+) -->)(\n?)(.*?)(\n?<!-- end: (?P=name) -->)", re.DOTALL)
VERSIONED = re.compile(r"(?P<method>.+) \((?P<version>\d+(?:\.\d+)*)\)")
SWITCHES = ("RMGCL", "GKS", "GKA", "Pseudo")
# the README's rows of Table IV: how many switches are on, and the claim of the paper about the row
COMPONENTS = {
    "ACM-Net": (0, None),
    "+ RMGCL": (1, "RMGCL helps the baseline"),
    "+ RMGCL + GKSA, no pseudo labels": (3, "GKS and GKA without pseudo labels help the baseline"),
    "+ RMGCL + GKSA": (4, "the whole helps the baseline"),
}

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]


def read_readme(path: Path) -> str:
    """Return the text of a README that has blocks; nothing for another and where there is none."""
    text = path.read_text(errors="replace") if path.is_file() else ""
    return text if BLOCK.search(text) else ""


def fill_readme(text: str, pages: Sequence[Page]) -> str:
    """Fill the blocks of a README.

    Args:
        text: of the README.
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


def _methods(tables: Tables) -> str:
    """Return a row for each method of the newest version, by its own options."""
    seeds = {row["method"]: len(row["seeds"].split(", ")) for row in tables[THUMOS]}
    marks = {row["method"]: f" ({row['supervision']})" for row in tables[THUMOS] if row["supervision"] != WEAK}
    plain = _plain(tables)
    newest = max((version for _, version in plain), default=())
    return _markdown(
        ["mean mAP 0.1:0.7 (%)", "seeds", "its own localizer", "the common one"],
        [
            [method + marks.get(label, ""), seeds[label], row["its own localizer"], row["the common one"]]
            for (method, version), row in plain.items()
            for label in [row["method"]]
            if version == newest
        ],
    )


def _longer_schedule(tables: Tables) -> str:
    """Return ACM-Net's mean by its longer schedule, which version 0.1.0 had."""
    return str(_plain(tables)["ACM-Net", (0, 1, 0)]["its own localizer"])


def _plain(tables: Tables) -> dict[tuple[str, tuple[int, ...]], Row]:
    """Return the rows of methods by their own options, by method and version."""
    found = {}
    for row in tables[f"{THUMOS}-localizers"]:
        if label := VERSIONED.fullmatch(row["method"]):
            found[label["method"], tuple(map(int, label["version"].split(".")))] = row
    return found


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


def _spread(name: str, digits: int) -> Callable[[Tables], str]:
    """Return a block of how far protocols move the mAP of released detections.

    Args:
        name: of the detections.
        digits: after the decimal point.
    """

    def block(tables: Tables) -> str:
        row = _row(tables["rescored-spread"], {"detections": name})
        return f"{row['spread'].mean:.{digits}f}"

    return block


def _audit(tables: Tables) -> str:
    rows = tables["audit-rules"]
    return f"{sum(row['checked'] for row in rows)} checks, {sum(row['findings'] for row in rows)} findings"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table without padding, where an edited cell changes one line."""
    lines = [" ".join(["|", *(f"{shown(cell)} |".lstrip() for cell in line)]) for line in (headings, *rows)]
    lines.insert(1, "|---" * len(headings) + "|")
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[Tables], str]] = {
    "methods": _methods,
    "longer-schedule": _longer_schedule,
    "components": _components,
    "ucf-baseline": lambda tables: str(_component(tables, UCF, 0)["average"]),
    "ucf-whole": lambda tables: str(_component(tables, UCF, 4)["average"]),
    "ucf-change": _ucf_change,
    "stpn-spread": _spread("stpn", 1),
    "pmil-spread": _spread("pmil-base", 0),
    "audit": _audit,
}
