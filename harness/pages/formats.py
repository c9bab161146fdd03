"""Writers of pages as Markdown, CSV and LaTeX: the same pages give the same bytes."""

from __future__ import annotations

import csv
import io
import math
import posixpath
import re
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
from tabulate import tabulate

from harness.charts.figure import Figure
from harness.pages.model import Linked, Page, Table
from harness.seed_statistics import Estimate

TABLES, FIGURES = "leaderboards/tables", "leaderboards/figures"
WRAPPED = 40  # characters
LATEX = str.maketrans(
    {mark: f"\\{mark}" for mark in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": "$<$", ">": "$>$"}
    | {"±": r"$\pm$", "†": r"$\dagger$", "≥": r"$\geq$", "≤": r"$\leq$", "✓": r"$\checkmark$"}
)


def files(pages: Sequence[Page]) -> dict[str, str]:
    """Write all pages and return the content of each file by its path below `results`.

    Raises:
        ValueError: two tables or figures have the same name.
    """
    written: dict[str, str] = {}
    for page in pages:
        mine = {f"{page.path}.md": markdown_page(page)}
        for block in page.blocks:
            if isinstance(block, Table) and block.name is not None:
                mine[f"{TABLES}/{block.name}.csv"] = csv_table(block, page.synthetic)
                mine[f"{TABLES}/{block.name}.tex"] = latex_table(block, page.synthetic)
            elif isinstance(block, Figure):
                mine[f"{FIGURES}/{block.name}.svg"] = block.svg
        if twice := mine.keys() & written.keys():
            raise ValueError(f"two pages write {', '.join(sorted(twice))}")
        written |= mine
    return written


def markdown_page(page: Page) -> str:
    """Write a page in GitHub's Markdown, with figures as links to their files."""
    parts = [_text(f"# {page.title}")]
    if page.synthetic:
        parts.append(page.banner)
    for block in page.blocks:
        if isinstance(block, Table):
            parts.append(markdown_table(block))
        elif isinstance(block, Figure):
            target = posixpath.relpath(f"{FIGURES}/{block.name}.svg", posixpath.dirname(page.path) or ".")
            parts.append(_text(f"![{block.caption}]({target})"))
        else:
            parts.append(_text(block))
    if page.contents:
        parts.append(_text(page.contents))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """Write a table in GitHub's Markdown, names of shaded rows in italics."""
    head = next(iter(table.columns), None) if "method" not in table.columns else "method"

    def written(value: Any, row: int, column: str) -> str:
        text = _markdown(value.markdown if isinstance(value, Linked) else shown(value))
        return f"*{text}*" if row in table.shaded and column == head else text

    return _tabulated(table, "github", _markdown, written)


def terminal_table(table: Table) -> str:
    """Write a table for a terminal, with wrapped columns."""
    # not tabulate's own wrapping: it reads "1,161.1" as a number in spite of disable_numparse and fails
    wrapped = partial(textwrap.fill, width=WRAPPED)
    return _tabulated(table, "simple", wrapped, lambda value, _row, _column: wrapped(shown(value)))


def _tabulated(table: Table, style: str, heading: Callable[[str], str], written: Callable[[Any, int, str], str]) -> str:
    columns = {
        heading(name): [written(value, row, name) for row, value in enumerate(table.column(name))]
        for name in table.columns
    }
    text: str = tabulate(columns, headers="keys", tablefmt=style, disable_numparse=True)
    return text


def csv_table(table: Table, synthetic: bool) -> str:
    """Write a table as CSV at full precision, an estimate in three columns: mean, half width and seeds.

    Args:
        table: the table.
        synthetic: whether its numbers come from generated features: a first column then says so.
    """
    columns: dict[str, list[Any]] = {"data": ["synthetic"] * len(table.rows)} if synthetic else {}
    for name in table.columns:
        values = table.column(name)
        estimates = [value if isinstance(value, Estimate) else None for value in values]
        columns[name] = [value.mean if isinstance(value, Estimate) else _plain(value) for value in values]
        if any(estimates):
            columns[f"{name} half width"] = [_half_width(value) for value in estimates]
            columns[f"{name} seeds"] = [value.seeds if value else None for value in estimates]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def latex_table(table: Table, synthetic: bool) -> str:
    """Write a table in LaTeX, with the rules of the booktabs package.

    Args:
        table: the table.
        synthetic: whether its numbers come from generated features: the caption then says so.
    """
    cells = pd.DataFrame(
        {_latex(name): [_latex(shown(value)) for value in table.column(name)] for name in table.columns}
    )
    text: str = cells.to_latex(
        index=False,
        column_format="".join("l" if table.role(name) in ("fact", "verdict") else "r" for name in table.columns),
        caption=_latex(("Synthetic data: " if synthetic else "") + table.caption),
        label=f"tab:{table.name}",
        position="t",
    )
    return text


def shown(value: Any) -> str:
    """Return the text of a cell."""
    return "" if value is None else str(value)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Linked) else value


def _half_width(value: Estimate | None) -> float | None:
    return value.half_width if value and not math.isnan(value.half_width) else None


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def _text(text: str) -> str:
    """Escape what would begin HTML in a text, since names and titles come from files."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def _markdown(text: str) -> str:
    """Escape what would end a cell of a Markdown table or begin HTML, but keep links and emphasis."""
    # backslashes before a bar are doubled: each would escape the next character
    return re.sub(r"(\\*)\|", r"\1\1\\|", _one_line(text)).replace("<", "&lt;")


def _latex(text: str) -> str:
    return _one_line(text).translate(LATEX)
