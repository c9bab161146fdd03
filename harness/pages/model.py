"""Model of a page: text, figures, and tables whose columns have roles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from harness.charts.figure import Figure
from harness.seed_statistics import Estimate

Role = Literal["fact", "published", "measured", "difference", "verdict"]
Blocks = list["str | Table | Figure"]

BRACKETS, BACKSLASHED = r"[\\\[\]]", r"\\\g<0>"
# parts of the HTML report
Tab = Literal["Results", "Methods", "Ablations", "Paper against measured", "Harness"]
TABS: tuple[Tab, ...] = get_args(Tab)

SYNTHETIC_BANNER = (
    "> **Synthetic data.** These numbers come from generated features. They show that the methods learn and that the\n"
    "> harness works; they say nothing about how a method does on real video and are never compared with\n"
    "> published ones."
)


@dataclass(frozen=True)
class Link:
    """Words that lead somewhere.

    Args:
        text: the words.
        target: address, or the path of another page from that of this one.
    """

    text: str
    target: str


@dataclass(frozen=True)
class Linked:
    """Cell with links, which files without links show as words."""

    parts: tuple[Link | str, ...]

    def __str__(self) -> str:
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)

    def under(self, folder: str) -> Linked:
        """Return the cell for a page from which the other pages are in `folder`, which ends in a slash."""
        moved = (
            part if isinstance(part, str) or "://" in part.target else Link(part.text, folder + part.target)
            for part in self.parts
        )
        return Linked(tuple(moved))

    @property
    def markdown(self) -> str:
        """Cell in Markdown."""
        return "".join(
            part if isinstance(part, str) else f"[{re.sub(BRACKETS, BACKSLASHED, part.text)}]({part.target})"
            for part in self.parts
        )


@dataclass(frozen=True)
class Table:
    """Table whose columns have roles.

    Args:
        name: of its CSV and LaTeX files, unique among all pages; None for a table that has none.
        caption: one line.
        rows: cells by column: text, a number, an `Estimate`, or None for an empty cell.
        roles: of columns by name, where heading and cells do not tell: `published ...` and `verdict` are what they say,
            signed estimates are differences, other estimates are measured, and all else are facts.
        shaded: numbers of rows that stand apart, as those of chance.
        narrow: columns that a narrow screen keeps (default: all).
    """

    name: str | None
    caption: str
    rows: Sequence[Mapping[str, Any]]
    roles: Mapping[str, Role] = field(default_factory=dict)
    shaded: frozenset[int] = frozenset()
    narrow: Sequence[str] = ()

    @property
    def columns(self) -> list[str]:
        """Headings, in the order in which rows first have them."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def column(self, name: str) -> list[Any]:
        """Return the cells of a column."""
        return [row.get(name) for row in self.rows]

    def role(self, column: str) -> Role:
        """Return the role of a column."""
        if column in self.roles:
            return self.roles[column]
        if column.startswith("published"):
            return "published"
        if column == "verdict":
            return "verdict"
        estimates = [value for value in self.column(column) if isinstance(value, Estimate)]
        if any(value.signed for value in estimates):
            return "difference"
        return "measured" if estimates else "fact"


@dataclass(frozen=True)
class Page:
    """Page of the results.

    Args:
        path: below `results`, without suffix: `leaderboards/table_I`.
        title: heading of the page.
        blocks: Markdown paragraphs, tables and figures, in order.
        synthetic: whether its numbers come from generated features; Markdown, LaTeX, CSV and HTML then say so.
        banner: note on top of a synthetic page.
        tab: part of the HTML report that it stands in.
        contents: Markdown at its end that leads to the other pages, which the HTML report has as navigation.
    """

    path: str
    title: str
    blocks: Sequence[str | Table | Figure]
    synthetic: bool = False
    banner: str = SYNTHETIC_BANNER
    tab: Tab = "Results"
    contents: str = ""
