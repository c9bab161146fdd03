"""Page of one of the paper's tables: published beside measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from harness.charts.comparisons import Compared, dumbbell
from harness.comparisons.paper import JUDGED, LITERATURE, JudgedCell, Measurement, cell_row, first_choice, headline
from harness.pages.model import Blocks, Page, Role, Table
from harness.paper.audit.intervals import Finding
from harness.paper.audit.quotations import alike_features, quoted
from harness.paper.audit.rules import the_paper
from harness.paper.tables import PublishedRow, PublishedTable
from harness.paper.verdicts import LEAST_SEEDS, REPRODUCTION_TOLERANCE, SHARE
from harness.records.words import SOURCES, bullets, computed_with, seed_list

SESSIONS = {
    "thumos14": "reproduce-thumos",
    "activitynet13": "reproduce-activitynet",
    "fineaction": "reproduce-fineaction",
}


def table_page(table: PublishedTable, lines: Sequence[Sequence[JudgedCell]]) -> Page:
    """Build the page of a table: as printed with a verdict on each row's headline, measured rows, all judged cells.

    Args:
        table: as printed.
        lines: its judged cells, by `compare`.
    """
    name, title = f"table_{table.number}", f"Table {table.number}: {table.title}"
    shown = {row: headline(line) for row, line in first_choice(lines).items()}
    rows = [
        cell.row.labels
        | {"source": cell.source, "judged": cell.column.name, "measured": cell.shown, "verdict": cell.verdict.kind}
        | cell.row.cells
        | {"why": cell.verdict.reason}
        for cell in shown.values()
    ]
    roles: dict[str, Role] = {column.name: "published" for column in table.columns}
    blocks: Blocks = [_facts(table, shown.values()), Table(name, title, rows, roles | {"measured": "measured"})]
    with_numbers = [(line, measurement) for line in lines if (measurement := line[0].measurement)]
    if with_numbers:
        caption = f"Table {table.number}: measured rows"
        blocks += [
            "## Measured",
            "The rows of which there are numbers, in the table's columns. Each is scored by the evaluator that gave "
            "its published number where that is known, so that protocols may differ between rows.",
            Table(f"{name}-measured", caption, [_row(*one) for one in with_numbers], dict.fromkeys(roles, "measured")),
        ]
        drawn = [_compared(headline(line)) for line, _ in with_numbers]
        blocks.append(dumbbell(drawn, name=name, caption=f"{caption}, against the printed number"))
    if judged := [cell for line, _ in with_numbers for cell in line if cell.verdict.kind in JUDGED]:
        caption = f"Table {table.number}: cell by cell"
        blocks += ["## Cell by cell", Table(f"{name}-cells", caption, list(map(cell_row, judged)))]
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
    return Page(f"leaderboards/{name}", title, blocks)


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


def _row(line: Sequence[JudgedCell], measurement: Measurement) -> dict[str, Any]:
    return {
        "row": line[0].row.label,
        "on": measurement.on,
        "source": line[0].source if measurement.records else None,
        "protocol": measurement.identity.protocol,
        "seeds": seed_list(measurement.records),
        **{cell.column.name: cell.measured for cell in line},
        "verdict": headline(line).verdict.kind,
        "why": headline(line).verdict.reason,
    }


def _audited(table: PublishedTable) -> list[str]:
    """Name the rows that print other numbers than those of their works."""
    paper, rows = the_paper(), f"{table.number}/"
    found = [one for rule in (quoted, alike_features) for one in rule(paper) if isinstance(one, Finding)]
    here = [f"{one.place.replace(rows, '')} ({one.kind})" for one in found if one.place.startswith(rows)]
    return [f"[audit](../audit.md): {', '.join(here)}; the numbers are judged as printed"] if here else []


def _facts(table: PublishedTable, shown: Iterable[JudgedCell]) -> str:
    kinds = Counter(cell.verdict.kind for cell in shown)
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
            "rows: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
            *_audited(table),
            f"rows that are `not run`: `nox -s {SESSIONS[table.dataset]} -- --data DIR` runs them, with "
            f"{LITERATURE} features",
        ]
    )
