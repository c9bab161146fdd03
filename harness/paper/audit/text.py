"""Rules on the text beside the numbers: gains that it quotes, citations, venues."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from harness.io.text import grouped
from harness.paper.audit.intervals import (
    Finding,
    Outcome,
    Paper,
    PrintedInterval,
    interval,
    names_work,
    place_of,
    rounded,
)
from harness.paper.tables import PublishedClaim, PublishedRow, PublishedTable, Reference

Unit = Literal["points", "%"]
Fit = Literal["printed", "rounding"]


@dataclass(frozen=True)
class Interpretation:
    """One way to read a claimed gain.

    Args:
        column: of the table.
        unit: `points` is better - worse, `%` is better / worse - 1.
        cells: the two printed cells.
        value: the gain of the printed cells.
        fit: `printed`, if that rounds to the quoted number; `rounding`, if cells that round to the printed ones can
            give it; None otherwise.
        allowed: the sentence may mean this column.
    """

    column: str
    unit: Unit
    cells: tuple[str, str]
    value: Fraction
    fit: Fit | None
    allowed: bool

    def __str__(self) -> str:
        return f"{rounded(self.value, 2)} {self.unit} ({self.cells[0]} over {self.cells[1]}, {self.column})"


def interpretations(claim: PublishedClaim, table: PublishedTable) -> list[Interpretation]:
    """Read a claim in each column, in points and in per cent of the worse row.

    Args:
        claim: the quoted gain.
        table: the table that it is about.
    """
    better = table.row(claim.better)
    if claim.worse is not None:
        rivals = [table.row(claim.worse)]
    else:
        rivals = [row for row in table.rows if row != better and table.group(row) == table.group(better)]
    quoted = interval(claim.quoted)
    assert quoted is not None  # the pattern of PublishedClaim
    found: list[Interpretation] = []
    for name in (column.name for column in table.columns):
        known = [(value, row.cells[name]) for row in rivals if (value := interval(row.cells[name]))]
        mine = interval(better.cells[name])
        if mine is None or not known:
            continue
        rival, text = max(known)
        gains: dict[Unit, tuple[Fraction, PrintedInterval]] = {"points": (mine.middle - rival.middle, mine - rival)}
        if rival.low > 0:
            gains["%"] = (
                100 * (mine.middle / rival.middle - 1),
                PrintedInterval(100 * (mine.low / rival.high - 1), 100 * (mine.high / rival.low - 1)),
            )
        for unit, (gain, possible) in gains.items():
            exact = quoted.low <= gain <= quoted.high
            fit: Fit | None = "printed" if exact else "rounding" if possible.meets(quoted) else None
            allowed = not claim.columns or name in claim.columns
            found.append(Interpretation(name, unit, (better.cells[name], text), gain, fit, allowed))
    return found


def claimed(paper: Paper) -> Iterator[Outcome]:
    """Require that a quoted gain is that of two cells, in points or per cent, in a column that the text may mean."""
    tables = {table.number: table for table in paper.tables}
    for claim in paper.claims:
        found = interpretations(claim, tables[claim.table])
        elsewhere = "; ".join(str(one) for one in found if one.fit)
        yield any(one.fit for one in found if one.allowed) or Finding(
            "claim",
            f"{claim.where}: {claim.about}",
            f"{claim.quoted} %",
            "; ".join(str(one) for one in found if one.allowed),
            f"no interpretation fits in {', '.join(claim.columns) or 'any column'}"
            + (f"; elsewhere: {elsewhere}" if elsewhere else ""),
        )
    for about, group in grouped(paper.claims, lambda claim: claim.about).items():
        if len(group) > 1:
            yield len({claim.quoted for claim in group}) == 1 or Finding(
                "claim",
                f"{' and '.join(dict.fromkeys(claim.where for claim in group))}: {about}",
                ", ".join(f"{claim.quoted} %" for claim in group),
                "one number",
                "the text quotes different numbers for one gain",
            )


def citations(paper: Paper) -> Iterator[Outcome]:
    """Require that a row cites the work that it names and a work has one number throughout."""
    numbers: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for table, row, cited in _cited(paper):
        right = ", ".join(str(entry.number) for entry in paper.references.values() if names_work(row, *entry.names))
        if names_work(row, *cited.names):
            numbers[cited.names[0]][cited.number].append(place_of(table, row))
        yield names_work(row, *cited.names) or Finding(
            "citation",
            place_of(table, row),
            f"{row.name} [{cited.number}]",
            f"[{right}]" if right else "no entry of the tables' references",
            f"[{cited.number}] is {cited.names[0]} ({cited.title})",
        )
    for found in numbers.values():
        places = [place for of_number in found.values() for place in of_number]
        if len(places) > 1:
            printed = ", ".join(f"[{number}]" for number in found)
            why = "the bibliography lists one work twice"
            yield len(found) == 1 or Finding("citation", ", ".join(places), printed, "one number", why)


def venues(paper: Paper) -> Iterator[Outcome]:
    """Require that the venue and year beside a row's name are those of the work that it cites."""
    for table, row, cited in _cited(paper):
        if not row.venue:
            continue
        if not names_work(row, *cited.names) or not cited.venue:
            yield None
            continue
        why = f"the bibliography's [{cited.number}] appeared at {cited.venue}"
        yield cited.venue == row.venue or Finding("venue", place_of(table, row), row.venue, cited.venue, why)


def _cited(paper: Paper) -> Iterator[tuple[PublishedTable, PublishedRow, Reference]]:
    """Yield every row that cites a reference."""
    for table, row in paper.rows():
        if row.citation is not None:
            yield table, row, paper.references[row.citation]
