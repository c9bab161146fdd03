"""Page of one of the paper's tables: published beside measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from harness.charts.comparisons import Compared, dumbbell
from harness.comparisons.paper import (
    AS_COMPARED,
    AUTHORS,
    JUDGED,
    LITERATURE,
    JudgedCell,
    Measurement,
    cell_row,
    first_choice,
    headline,
    main_version,
)
from harness.pages.model import Blocks, Link, Linked, Page, Role, Table
from harness.paper.audit.intervals import Finding
from harness.paper.audit.quotations import alike_features, quoted
from harness.paper.audit.rules import the_paper
from harness.paper.tables import METHOD, PublishedRow, PublishedTable
from harness.paper.verdicts import LEAST_SEEDS, REPRODUCTION_TOLERANCE, SHARE, Verdict
from harness.records.words import SOURCES, bullets, computed_with, seed_list
from harness.runs.plans import plans

RECIPE = "recipe: the data set's schedule (on the method's page) in place of the published one"
SESSIONS = {
    "thumos14": "reproduce-thumos",
    "activitynet13": "reproduce-activitynet",
    "fineaction": "reproduce-fineaction",
}


class Footnotes:
    """Reasons of verdicts, each once, by letter in order of appearance."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def of(self, verdict: Verdict) -> str:
        """Return the letters of a verdict's reasons, which are noted."""
        reasons = [
            RECIPE if one.startswith("recipe: ") and AS_COMPARED not in one else one
            for one in verdict.reason.split("; ")
        ]
        for reason in reasons:
            self._letters.setdefault(reason, _letter(len(self._letters)))
        return " ".join(self._letters[reason] for reason in reasons)

    @property
    def text(self) -> str:
        """All reasons that were noted, as a list."""
        return bullets(f"**{letter}** {reason}" for reason, letter in self._letters.items())


def _letter(number: int) -> str:
    """Return a, b, ..., z, aa, ab, ..."""
    before, last = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("a") + last)


def table_page(table: PublishedTable, lines: Sequence[Sequence[JudgedCell]]) -> Page:
    """Build the page of a table: published beside measured averages with verdicts, as printed, measured rows, cells.

    Args:
        table: as printed.
        lines: its judged cells, by `compare`.
    """
    name, title = f"table_{table.number}", f"Table {table.number}: {table.title}"
    chosen = first_choice(lines)
    notes = Footnotes()
    rows = [_beside(table, line, notes) for line in chosen.values()]
    printed = [line[0].row.labels | line[0].row.cells for line in chosen.values()]
    published: dict[str, Role] = {column.name: "published" for column in table.columns}
    measured: dict[str, Role] = {name: "measured" for name in rows[0] if name.startswith("measured")}
    narrow = [heading for heading in rows[0] if heading == METHOD or heading.startswith(("published", "measured"))]
    blocks: Blocks = [
        _answer(chosen.values(), table),
        Table(name, title, rows, measured, narrow=narrow[:1] + narrow[-2:]),
        "",
        "## As printed",
        Table(f"{name}-printed", f"Table {table.number} as printed", printed, published),
        _facts(table),
    ]
    with_numbers = [(line, measurement) for line in lines if (measurement := line[0].measurement)]
    if with_numbers:
        caption = f"Table {table.number}: measured rows"
        blocks += [
            "## Measured",
            "The rows of which there are numbers, in the table's columns. Each is scored by the evaluator that gave "
            "its published number where that is known, so that evaluators may differ between rows.",
            Table(
                f"{name}-measured",
                caption,
                [_row(*one, notes) for one in with_numbers],
                dict.fromkeys(published, "measured"),
            ),
        ]
        drawn = [_compared(headline(line)) for line, _ in with_numbers]
        blocks.append(dumbbell(drawn, name=name, caption=f"{caption}, against the printed number"))
    if judged := [cell for line, _ in with_numbers for cell in line if cell.verdict.kind in JUDGED]:
        caption = f"Table {table.number}: cell by cell"
        cells = [_without_why(cell_row(cell)) | {"reasons": notes.of(cell.verdict)} for cell in judged]
        blocks += ["## Cell by cell", Table(f"{name}-cells", caption, cells)]
    if known := [row for row in table.rows if row.source]:
        caption = f"Table {table.number}: what is known of the rows' sources"
        blocks += [
            "## Sources of the rows",
            "Where it is known how a published number was scored: its protocol, which names the list of test videos, "
            "and its checkpoint.",
            Table(f"{name}-sources", caption, list(map(_source_row, known))),
        ]
    if records := [record for _, measurement in with_numbers for record in measurement.records]:
        blocks += computed_with(records)
    # last, when all are noted
    blocks[2] = f"Reasons:\n\n{notes.text}"
    return Page(f"leaderboards/{name}", title, blocks, tab="Paper against measured")


def _beside(table: PublishedTable, line: Sequence[JudgedCell], notes: Footnotes) -> dict[str, Any]:
    """Return a row: its labels, its averages as printed and as measured, the verdict on the last printed one."""
    judged = headline(line)
    averages = [cell for cell in line if cell.column.mean_of] or [line[-1]]
    row: dict[str, Any] = dict(line[0].row.labels)
    if METHOD in row and line[0].source:
        row[METHOD] = Linked((Link(row[METHOD], f"methods/{line[0].method}.md"),))
    for cell in averages if judged in averages else [*averages, judged]:
        row[f"published {cell.column.name}"] = cell.row.cells[cell.column.name]
        row[f"measured {cell.column.name}"] = cell.shown if cell is judged else cell.measured
    return row | {"verdict": judged.verdict.kind, "reasons": notes.of(judged.verdict), "source": line[0].source}


def _without_why(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "why"}


def _answer(lines: Collection[Sequence[JudgedCell]], table: PublishedTable) -> str:
    kinds = Counter(headline(line).verdict.kind for line in lines)
    counted = f"Of {kinds.total()} rows: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) + "."
    if (version := main_version(lines)) is None:
        return counted
    answer = f"{counted} Measured are runs of version {version} of the harness."
    if f"table_{table.number}" not in plans():
        return answer
    return (
        f"{answer} How they differ from each other, by one evaluator and paired by seed, is on the pages of ablations."
    )


def _source_row(row: PublishedRow) -> dict[str, Any]:
    return {
        "row": row.label,
        "protocol": row.protocol,
        "selection": row.selection.replace("_", " "),
        "looks": row.test_looks,
        "known from": row.source,
    }


def _compared(cell: JudgedCell) -> Compared:
    published = cell.row.value(cell.column.name)
    return Compared(f"{cell.row.label}: {cell.column.name}", published, cell.shown, cell.verdict.kind in JUDGED)


def _row(line: Sequence[JudgedCell], measurement: Measurement, notes: Footnotes) -> dict[str, Any]:
    records = measurement.records
    return {
        "row": line[0].row.label,
        "on (version)": f"{measurement.on} ({records[0].version})" if records else AUTHORS,
        "evaluator": measurement.identity.protocol,
        "seeds": seed_list(records),
        **{cell.column.name: cell.measured for cell in line},
        "verdict": headline(line).verdict.kind,
        "reasons": notes.of(headline(line).verdict),
    }


def _audited(table: PublishedTable) -> list[str]:
    """Name the rows that print other numbers than those of their works."""
    paper, rows = the_paper(), f"{table.number}/"
    found = [one for rule in (quoted, alike_features) for one in rule(paper) if isinstance(one, Finding)]
    here = [f"{one.place.replace(rows, '')} ({one.kind})" for one in found if one.place.startswith(rows)]
    return [f"[audit](../audit.md): {', '.join(here)}; the numbers are judged as printed"] if here else []


def _facts(table: PublishedTable) -> str:
    return bullets(
        [
            f"published: {table.source}, as printed, in {table.unit}; protocol {table.protocol}, checkpoint selection "
            f"{table.selection} by the paper; what is known of a row's own source decides its verdict",
            "measured: the last checkpoint of a fixed schedule; mean ± half the 95 % t-interval over seeds",
            "verdict: on each row's last printed number; `reproduced` where two one-sided t-tests show the mean within "
            f"± {REPRODUCTION_TOLERANCE:g} of the published value ({100 * SHARE:g} % of values below ten); other data, "
            "features, protocol, test videos or schedule: `not comparable`; "
            f"under {LEAST_SEEDS} seeds, or where the source does not name its evaluator and they disagree: "
            "`inconclusive`",
            f"source: {SOURCES}",
            *_audited(table),
            f"rows that are `not run`: `nox -s {SESSIONS[table.dataset]} -- --data DIR` runs them, with "
            f"{LITERATURE} features",
        ]
    )
