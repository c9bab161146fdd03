"""Rules on the columns of Table IX: against each other and against the model."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction

from harness.paper.audit.intervals import (
    Finding,
    Outcome,
    Paper,
    PrintedCell,
    PrintedInterval,
    cells_of,
    decimals,
    off_line,
    rounded,
)
from harness.paper.tables import COSTS, FLOPS, PARAMS, SIZE, PublishedTable

INPUT = "Input dimension"
FLOAT32_BYTES = 4


def costs(paper: Paper) -> Iterator[Outcome]:
    """Require that parameters do not depend on T, size and FLOPs are affine in T, and weights are within the size."""
    for table in _cost_tables(paper):
        stages: dict[str, dict[int, dict[str, PrintedCell]]] = defaultdict(dict)
        for row in table.rows:
            length = int(re.findall(r"\d+", row.labels[INPUT])[1])  # of `[1, T, 2048]`
            stages[row.labels["Model"]][length] = {cell.column.name: cell for cell in cells_of(table, row)}
        for stage, rows in stages.items():
            yield from _stage_costs(f"{table.number}/{stage}", dict(sorted(rows.items())))


def modelled(paper: Paper) -> Iterator[Outcome]:
    """Require that Table IX's cells are what torchinfo prints of the model that its sizes fit, FLOPs to 0.1 %."""
    # the model needs torch
    from harness.paper.profile import FLOPS_TOLERANCE, profile_costs

    counts = {cost.row: cost.cells for cost in profile_costs()}
    for table in _cost_tables(paper):
        for cell in (cell for row in table.rows if row.id in counts for cell in cells_of(table, row)):
            value = counts[cell.row.id][cell.column.name]
            counted = Fraction(value)
            slack = Fraction(FLOPS_TOLERANCE) * counted if cell.column.name == FLOPS else Fraction(0)
            off = f"{value / float(cell.text) - 1:+.1%}"
            yield cell.value.meets(PrintedInterval(counted - slack, counted + slack)) or cell.finding(
                "cost",
                rounded(counted, decimals(cell.text)),
                f"torchinfo counts so on the model that the table's sizes fit: {off}",
            )


def _cost_tables(paper: Paper) -> Iterator[PublishedTable]:
    return (table for table in paper.tables if set(COSTS) <= {column.name for column in table.columns})


def _stage_costs(place: str, rows: dict[int, dict[str, PrintedCell]]) -> Iterator[Outcome]:
    """Check one stage; its cells by column, by T ascending."""
    columns = {name: {length: cells[name] for length, cells in rows.items() if name in cells} for name in COSTS}
    params, sizes = columns[PARAMS], columns[SIZE]
    printed = {name: ", ".join(cell.text for cell in column.values()) for name, column in columns.items()}
    lengths = ", ".join(map(str, rows))

    def finding(name: str, text: str, recomputed: str, why: str) -> Finding:
        return Finding("cost", f"{place}: {name}", text, recomputed, why)

    one = max(cell.value.low for cell in params.values()) <= min(cell.value.high for cell in params.values())
    why = f"parameters do not depend on T = {lengths}"
    yield one or finding(PARAMS, printed[PARAMS], "one number", why)
    for name in (SIZE, FLOPS):
        for misfit in off_line({length: cell.value for length, cell in columns[name].items()}):
            if misfit is None:
                yield True
                continue
            middle, wanted = misfit
            recomputed = f"{rounded(wanted.middle, decimals(columns[name][middle].text))} at T = {middle}"
            why = f"no model whose cost is affine in T prints these at T = {lengths}"
            yield finding(name, printed[name], recomputed, why)
    over = [at for at in params if at in sizes and FLOAT32_BYTES * params[at].value.low > sizes[at].value.high]
    if not over:
        yield True
        return
    weights, size = params[over[0]].value.middle, sizes[over[0]].value.middle
    yield finding(
        PARAMS,
        params[over[0]].text,
        f"at most {rounded(size / FLOAT32_BYTES, 2)}",
        f"so many million float32 weights take {rounded(FLOAT32_BYTES * weights, 1)} MB, more than the model's "
        f"size ({printed[SIZE]}); megabytes of {rounded(weights / FLOAT32_BYTES, 2)} M weights fit",
    )
