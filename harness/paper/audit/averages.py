"""Rules on printed averages and the cells of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from harness.paper.audit.intervals import (
    Outcome,
    Paper,
    PrintedCell,
    PrintedInterval,
    interval,
    mean,
    names_work,
    rounded,
)
from harness.paper.tables import NUMBER, Column, PublishedRow, SourceRow


def averages(paper: Paper) -> Iterator[Outcome]:
    """Require that a printed average is the mean of its row's cells and stands in the column of its range."""
    for cell, known in _averages(paper):
        wanted = _mean_of(cell.column, known)
        if wanted is None:
            yield None
            continue
        others = [
            other.name
            for other in cell.table.columns
            if other != cell.column and (value := _mean_of(other, known)) and value.meets(cell.value)
        ]
        if wanted.meets(cell.value):
            yield True
        elif others:
            why = f"it is what the cells give for {', '.join(others)}"
            yield cell.finding("wrong column", rounded(wanted.middle, 2), why)
        else:
            off, slack = abs(wanted.middle - cell.value.middle), wanted.half_width + cell.value.half_width
            why = f"off by {rounded(off, 2)}; rounding explains at most {rounded(slack, 2)}"
            if other := _of_another_row(paper, cell):
                why += f"; it is that of another row of the work: {', '.join(other.cells.values())}"
            yield cell.finding("average", rounded(wanted.middle, 2), why, other.source if other else "")


def bounds(paper: Paper) -> Iterator[Outcome]:
    """Require that an average over tIoUs not all printed lies between bounds, as mAP does not rise with the tIoU."""
    for cell, known in _averages(paper):
        column = cell.column
        if _mean_of(column, known) is not None:
            continue
        inside = [tiou for tiou in column.tious if tiou in known]
        if not inside:
            yield None
            continue
        low = mean([_nearest(known, tiou, above=True) for tiou in column.tious]).low
        high = mean([_nearest(known, tiou, above=False) for tiou in column.tious]).high
        why = f"all that a mean over {column.mean_of} can be with the mAPs printed at {', '.join(inside)}"
        yield PrintedInterval(low, high).meets(cell.value) or cell.finding(
            "average out of bounds", f"{rounded(low, 2)} to {rounded(high, 2)}", why
        )


def _of_another_row(paper: Paper, cell: PrintedCell) -> SourceRow | None:
    """Return the row of a work's own source whose cells have this average."""
    for source in paper.sources:
        if source.dataset == cell.table.dataset and names_work(cell.row, source.work):
            values = {name: value for name, text in source.cells.items() if (value := interval(text))}
            average = _mean_of(cell.column, values)
            if average is not None and average.meets(cell.value):
                return source
    return None


def _averages(paper: Paper) -> Iterator[tuple[PrintedCell, dict[str, PrintedInterval]]]:
    """Yield every printed average and its row's mAPs at single tIoUs."""
    return ((cell, _known(cell.row)) for cell in paper.cells() if cell.column.mean_of)


def _known(row: PublishedRow) -> dict[str, PrintedInterval]:
    return {name: value for name, text in row.cells.items() if NUMBER.fullmatch(name) and (value := interval(text))}


def _mean_of(column: Column, cells: Mapping[str, PrintedInterval]) -> PrintedInterval | None:
    """Return what a column's average has to be; None for other columns and where a cell is missing."""
    if not column.tious or not cells.keys() >= set(column.tious):
        return None
    return mean([cells[tiou] for tiou in column.tious])


def _nearest(cells: Mapping[str, PrintedInterval], tiou: str, above: bool) -> PrintedInterval:
    """Return the mAP at the nearest tIoU from here up (a lower bound) or down (an upper one), else 0 or 100."""
    at = Fraction(tiou)
    if above:
        return cells[min(higher, key=Fraction)] if (higher := [t for t in cells if Fraction(t) >= at]) else _exactly(0)
    return cells[max(lower, key=Fraction)] if (lower := [t for t in cells if Fraction(t) <= at]) else _exactly(100)


def _exactly(number: int) -> PrintedInterval:
    return PrintedInterval(Fraction(number), Fraction(number))
