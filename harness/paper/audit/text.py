"""What stands beside the numbers: gains that the text quotes, citations, venues."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from harness.paper.audit.intervals import Finding, Interval, Paper, Tally, interval, place_of, rounded
from harness.paper.tables import Claim, PublishedRow, PublishedTable, Reference


@dataclass(frozen=True)
class Reading:
    """One way to read a claimed gain.

    Args:
        column: of the table.
        unit: `points` is better - worse, `%` is better / worse - 1.
        cells: the two printed cells.
        value: what they give.
        fit: `printed`, if that rounds to the quoted number; `rounding`, if cells that round to the printed ones can
            give it; None otherwise.
    """

    column: str
    unit: Literal["points", "%"]
    cells: tuple[str, str]
    value: Fraction
    fit: Literal["printed", "rounding"] | None

    def __str__(self) -> str:
        unit = " points" if self.unit == "points" else " %"
        return f"{rounded(self.value, 2)}{unit} ({self.cells[0]} over {self.cells[1]}, {self.column})"


def readings(claim: Claim, table: PublishedTable) -> list[Reading]:
    """A claim read in each column, in points and in per cent of the worse row."""
    better = table.row(claim.better)
    if claim.worse is not None:
        rivals = [table.row(claim.worse)]
    else:
        rivals = [row for row in table.rows if row != better and table.group(row) == table.group(better)]
    quoted = interval(claim.quoted)
    assert quoted is not None  # Claim's pattern
    found: list[Reading] = []
    for column in table.columns:
        known = [(value, row.cells[column.name]) for row in rivals if (value := interval(row.cells[column.name]))]
        mine = interval(better.cells[column.name])
        if mine is None or not known:
            continue
        rival, text = max(known)
        gains: dict[Literal["points", "%"], tuple[Fraction, Interval]] = {
            "points": (mine.middle - rival.middle, mine - rival)
        }
        if rival.low > 0:
            gains["%"] = (
                100 * (mine.middle / rival.middle - 1),
                Interval(100 * (mine.low / rival.high - 1), 100 * (mine.high / rival.low - 1)),
            )
        for unit, (gain, possible) in gains.items():
            fit: Literal["printed", "rounding"] | None = "rounding" if possible.meets(quoted) else None
            if quoted.low <= gain <= quoted.high:
                fit = "printed"
            found.append(Reading(column.name, unit, (better.cells[column.name], text), gain, fit))
    return found


def claimed(paper: Paper) -> Tally:
    """A gain that the text quotes is that of two cells, in points or per cent, in a column that it may mean."""
    tables = {table.number: table for table in paper.tables}
    tally = Tally()
    for claim in paper.claims:
        found = readings(claim, tables[claim.table])
        allowed = [reading for reading in found if not claim.columns or reading.column in claim.columns]
        finding = None
        if not any(reading.fit for reading in allowed):
            elsewhere = [str(reading) for reading in found if reading.fit]
            finding = Finding(
                "claim",
                f"{claim.where}: {claim.about}",
                f"{claim.quoted} %",
                "; ".join(map(str, allowed)),
                f"no reading fits in {', '.join(claim.columns) or 'any column'}"
                + (f"; elsewhere: {'; '.join(elsewhere)}" if elsewhere else ""),
            )
        tally.check(finding)
    by_subject: dict[str, list[Claim]] = defaultdict(list)
    for claim in paper.claims:
        by_subject[claim.about].append(claim)
    for about, group in by_subject.items():
        if len(group) > 1:
            finding = None
            if len({claim.quoted for claim in group}) > 1:
                finding = Finding(
                    "claim",
                    f"{' and '.join(dict.fromkeys(claim.where for claim in group))}: {about}",
                    ", ".join(f"{claim.quoted} %" for claim in group),
                    "one number",
                    "the text quotes different numbers for one gain",
                )
            tally.check(finding)
    return tally


def citations(paper: Paper) -> Tally:
    """A row cites the work that it names, and a work has one number throughout."""
    tally = Tally()
    numbers: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for table in paper.tables:
        for row in table.rows:
            if row.citation is None:
                continue
            finding = None
            if _cites_itself(row, paper.references):
                numbers[_plain(row.name)][row.citation].append(f"{table.number}/{row.id}")
            else:
                cited = paper.references[row.citation]
                right = [
                    entry.number for entry in paper.references.values() if _plain(row.name) in map(_plain, entry.names)
                ]
                finding = Finding(
                    "citation",
                    place_of(table, row),
                    f"{row.name} [{row.citation}]",
                    f"[{', '.join(map(str, right))}]" if right else "no entry of the tables' references",
                    f"[{row.citation}] is {cited.names[0]} ({cited.title})",
                )
            tally.check(finding)
    for found in numbers.values():
        places = [place for of_number in found.values() for place in of_number]
        if len(places) > 1:
            finding = None
            if len(found) > 1:
                finding = Finding(
                    "citation",
                    ", ".join(places),
                    ", ".join(f"[{number}]" for number in found),
                    "one number",
                    "the bibliography lists one work twice",
                )
            tally.check(finding)
    return tally


def venues(paper: Paper) -> Tally:
    """The venue and year beside a row's name are those of the work that it cites."""
    tally = Tally()
    for table in paper.tables:
        for row in table.rows:
            if row.citation is None or not row.venue:
                continue
            if not _cites_itself(row, paper.references) or not paper.references[row.citation].venue:
                tally.unknown += 1
                continue
            right = paper.references[row.citation].venue
            finding = None
            if right != row.venue:
                why = f"the bibliography's [{row.citation}] appeared at {right}"
                finding = Finding("venue", place_of(table, row), row.venue, right, why)
            tally.check(finding)
    return tally


def _cites_itself(row: PublishedRow, known: Mapping[int, Reference]) -> bool:
    """Whether the reference that a row cites goes by the row's name."""
    assert row.citation is not None  # the callers'
    return _plain(row.name) in map(_plain, known[row.citation].names)


def _plain(name: str) -> str:
    """A name without case and signs: BaS-Net is BasNet."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
