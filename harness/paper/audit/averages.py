"""Printed averages against the cells of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from harness.paper.audit.intervals import Finding, Interval, Paper, Tally, interval, mean, place_of, rounded
from harness.paper.tables import NUMBER, Column, PublishedRow, PublishedTable


def averages(paper: Paper) -> Tally:
    """A printed average is the mean of its row's cells; one that fits another range stands in the wrong column."""
    tally = Tally()
    for table, row, column, printed in _averages(paper):
        cells = _known(row)
        wanted = _mean_of(column, cells)
        if wanted is None:
            tally.unknown += 1
            continue
        finding = None
        if not wanted.meets(printed):
            others = [
                other.name
                for other in table.columns
                if other != column and (value := _mean_of(other, cells)) and value.meets(printed)
            ]
            finding = Finding(
                "wrong column" if others else "average",
                place_of(table, row, column.name),
                row.cells[column.name],
                rounded(wanted.middle, 2),
                f"it is what the cells give for {', '.join(others)}"
                if others
                else f"off by {rounded(abs(wanted.middle - printed.middle), 2)}; rounding explains at most "
                f"{rounded((wanted.high - wanted.low + printed.high - printed.low) / 2, 2)}",
            )
        tally.check(finding)
    return tally


def bounds(paper: Paper) -> Tally:
    """An average over tIoUs that are not all printed lies between bounds, as mAP does not rise with the tIoU."""
    tally = Tally()
    for table, row, column, printed in _averages(paper):
        cells = _known(row)
        if _mean_of(column, cells) is not None:
            continue
        inside = [tiou for tiou in column.tious if tiou in cells]
        if not inside:
            tally.unknown += 1
            continue
        low = mean([_nearest(cells, tiou, above=True) for tiou in column.tious]).low
        high = mean([_nearest(cells, tiou, above=False) for tiou in column.tious]).high
        finding = None
        if not Interval(low, high).meets(printed):
            finding = Finding(
                "average out of bounds",
                place_of(table, row, column.name),
                row.cells[column.name],
                f"{rounded(low, 2)} to {rounded(high, 2)}",
                f"all that a mean over {column.mean_of} can be with the mAPs printed at {', '.join(inside)}",
            )
        tally.check(finding)
    return tally


def _averages(paper: Paper) -> Iterator[tuple[PublishedTable, PublishedRow, Column, Interval]]:
    """Every printed average."""
    for table in paper.tables:
        for row in table.rows:
            for column in table.columns:
                printed = interval(row.cells[column.name])
                if column.mean_of and printed:
                    yield table, row, column, printed


def _known(row: PublishedRow) -> dict[str, Interval]:
    """The row's mAPs at single tIoUs, by tIoU."""
    return {name: value for name, text in row.cells.items() if NUMBER.fullmatch(name) and (value := interval(text))}


def _mean_of(column: Column, cells: Mapping[str, Interval]) -> Interval | None:
    """What a column's average has to be; None for other columns and where a cell is missing."""
    if not column.tious or not cells.keys() >= set(column.tious):
        return None
    return mean([cells[tiou] for tiou in column.tious])


def _nearest(cells: Mapping[str, Interval], tiou: str, above: bool) -> Interval:
    """The mAP at the nearest tIoU from here up (a lower bound) or down (an upper bound); 0 or 100 where none is."""
    at = Fraction(tiou)
    if above:
        return cells[min(higher, key=Fraction)] if (higher := [t for t in cells if Fraction(t) >= at]) else _exactly(0)
    return cells[max(lower, key=Fraction)] if (lower := [t for t in cells if Fraction(t) <= at]) else _exactly(100)


def _exactly(number: int) -> Interval:
    return Interval(Fraction(number), Fraction(number))
