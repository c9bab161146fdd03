"""Printed numbers as intervals, the cells that rules walk over, and what rules report.

A printed number stands for every number that rounds to it: 46.8 for [46.75, 46.85]. Arithmetic is on such intervals,
in exact fractions, so that a finding is what no rounding explains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import combinations
from typing import NamedTuple

from harness.paper.tables import (
    NUMBER,
    Column,
    PublishedClaim,
    PublishedRow,
    PublishedTable,
    Reference,
    SourceRow,
)


class PrintedInterval(NamedTuple):
    """Interval of the numbers that a printed number may stand for, both ends included."""

    low: Fraction
    high: Fraction

    @property
    def middle(self) -> Fraction:
        """Printed number itself, or the result of the printed numbers."""
        return (self.low + self.high) / 2

    @property
    def half_width(self) -> Fraction:
        """Half the width."""
        return (self.high - self.low) / 2

    def meets(self, other: PrintedInterval) -> bool:
        """Return whether one number can be both."""
        return self.low <= other.high and other.low <= self.high

    def __sub__(self, other: PrintedInterval) -> PrintedInterval:
        return PrintedInterval(self.low - other.high, self.high - other.low)


@cache
def interval(text: str) -> PrintedInterval | None:
    """Return half a unit of the last digit to either side of a printed number; None for a dash or a blank."""
    if not NUMBER.fullmatch(text):
        return None
    half = Fraction(1, 2 * 10 ** decimals(text))
    return PrintedInterval(Fraction(text) - half, Fraction(text) + half)


def mean(intervals: Sequence[PrintedInterval]) -> PrintedInterval:
    """Return the interval of the mean of printed numbers."""
    lows, highs = zip(*intervals, strict=True)
    return PrintedInterval(sum(lows) / Fraction(len(lows)), sum(highs) / Fraction(len(highs)))


def decimals(text: str) -> int:
    """Return the number of digits after the point of a printed number."""
    return len(text.partition(".")[2])


def rounded(number: Fraction, digits: int) -> str:
    """Format a number.

    Args:
        number: the number.
        digits: after the point.
    """
    return f"{float(number):.{digits}f}"


def off_line(values: Mapping[int, PrintedInterval]) -> list[tuple[int, PrintedInterval] | None]:
    """Look for costs that are not affine in T, in every three lengths.

    Args:
        values: intervals of printed numbers, by T.

    Returns:
        For each three lengths None where some a + b T gives all three values within their rounding, else the middle
        length and the interval that a line through the others has there.

    >>> third = {1: interval("0.1"), 2: interval("0.2")}
    >>> off_line(third | {4: interval("0.5")}), [at for at, _ in off_line(third | {4: interval("0.9")})]
    ([None], [2])
    """
    misfits: list[tuple[int, PrintedInterval] | None] = []
    for first, middle, last in combinations(sorted(values), 3):
        share = Fraction(middle - first, last - first)
        wanted = PrintedInterval(*(a + share * (b - a) for a, b in zip(values[first], values[last], strict=True)))
        misfits.append(None if wanted.meets(values[middle]) else (middle, wanted))
    return misfits


@dataclass(frozen=True)
class Finding:
    """Printed number that breaks a rule.

    Args:
        kind: which rule.
        place: `TABLE/ROW: COLUMN`, several rows separated by commas; the section for the text.
        printed: the printed text.
        recomputed: what the rule gives instead.
        why: one line.
        source: where the correction is from; empty where the paper contradicts itself.
    """

    kind: str
    place: str
    printed: str
    recomputed: str
    why: str
    source: str = ""


class PrintedCell(NamedTuple):
    """Printed number in its table."""

    table: PublishedTable
    row: PublishedRow
    column: Column
    value: PrintedInterval

    @property
    def text(self) -> str:
        """Printed text of the number."""
        return self.row.cells[self.column.name]

    @property
    def place(self) -> str:
        """`TABLE/ROW`."""
        return place_of(self.table, self.row)

    def finding(self, kind: str, recomputed: str, why: str, source: str = "") -> Finding:
        """Return a finding on this cell.

        Args:
            kind: which rule.
            recomputed: what the rule gives instead.
            why: one line.
            source: where the correction is from.
        """
        return Finding(kind, f"{self.place}: {self.column.name}", self.text, recomputed, why, source)


class Paper(NamedTuple):
    """Tables, claims and references that the rules are run over, and rows of the works that the tables quote."""

    tables: Sequence[PublishedTable]
    claims: Sequence[PublishedClaim] = ()
    references: Mapping[int, Reference] = {}
    sources: Sequence[SourceRow] = ()

    def rows(self) -> Iterator[tuple[PublishedTable, PublishedRow]]:
        """Yield all rows, table by table."""
        return ((table, row) for table in self.tables for row in table.rows)

    def cells(self) -> Iterator[PrintedCell]:
        """Yield all printed numbers, row by row."""
        return (cell for table, row in self.rows() for cell in cells_of(table, row))


def cells_of(table: PublishedTable, row: PublishedRow) -> list[PrintedCell]:
    """List the printed numbers of a row.

    Args:
        table: the row's.
        row: the row.
    """
    columns = ((column, interval(row.cells[column.name])) for column in table.columns)
    return [PrintedCell(table, row, column, value) for column, value in columns if value]


def names_work(row: PublishedRow, *names: str) -> bool:
    """Return whether a row's printed name is one of a work's names, without case and signs: BaS-Net is BasNet.

    Args:
        row: the row.
        names: of the work.
    """
    return _plain(row.name) in map(_plain, names)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def place_of(table: PublishedTable, row: PublishedRow) -> str:
    """Return `TABLE/ROW`.

    Args:
        table: the row's.
        row: the row.
    """
    return f"{table.number}/{row.id}"


@dataclass(frozen=True)
class Tally:
    """Result of a rule.

    Args:
        checked: number of places that could be judged; those without a finding agree.
        unknown: number of places that could not.
        findings: places that break the rule.
    """

    checked: int
    unknown: int
    findings: list[Finding]

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Tally:
        """Count the outcomes of a rule."""
        unknown = outcomes.count(None)
        findings = [outcome for outcome in outcomes if isinstance(outcome, Finding)]
        return cls(len(outcomes) - unknown, unknown, findings)


Outcome = Finding | bool | None
"""Of one place: True where a rule is kept, a finding where it is broken, None where it cannot be judged."""
