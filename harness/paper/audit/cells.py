"""Cells against other cells: printed twice, rows that are alike, the best in bold, mAP over tIoU."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from harness.paper.audit.intervals import Finding, Paper, Tally, interval, place_of, rounded
from harness.paper.tables import PublishedRow, PublishedTable

ENOUGH = 3  # cells that two rows have to share before their agreement says anything


def repeats(paper: Paper) -> Tally:
    """A quantity of one configuration that is printed more than once has the same digits everywhere."""
    places: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    for table in paper.tables:
        for row in table.rows:
            for column in table.columns:
                if interval(row.cells[column.name]):
                    key = (table.dataset, row.configuration, column.quantity)
                    places[key].append((f"{table.number}/{row.id}", row.cells[column.name]))
    tally = Tally()
    for (_, configuration, quantity), printed in places.items():
        if len(printed) < 2:
            continue
        values = [value for _, text in printed if (value := interval(text))]
        finding = None
        # one number prints as 59.4 or as 59.5, not as both: intervals that only touch do not agree
        if max(value.low for value in values) >= min(value.high for value in values):
            middles = [value.middle for value in values]
            digits = max(len(text.partition(".")[2]) for _, text in printed)
            finding = Finding(
                "printed differently",
                f"{', '.join(name for name, _ in printed)}: {quantity}",
                ", ".join(text for _, text in printed),
                f"{rounded(max(middles) - min(middles), digits)} apart",
                f"rows of one configuration, {configuration}, do not print one number",
            )
        tally.check(finding)
    return tally


def twins(paper: Paper) -> Tally:
    """A row does not repeat all cells of another of its data set, nor all but one whose digits are transposed."""
    tally = Tally()
    earlier: list[tuple[PublishedTable, PublishedRow]] = []
    for table in paper.tables:
        for row in table.rows if table.dataset else ():
            if len(_quantities(table, row)) >= ENOUGH:
                found = (_twin(table, row, *other) for other in earlier if other[0].dataset == table.dataset)
                tally.check(next(filter(None, found), None))
                earlier.append((table, row))
    return tally


def _quantities(table: PublishedTable, row: PublishedRow) -> dict[str, str]:
    """The row's printed numbers by what they measure."""
    return {column.quantity: row.cells[column.name] for column in table.columns if interval(row.cells[column.name])}


def _twin(table: PublishedTable, row: PublishedRow, other_table: PublishedTable, other: PublishedRow) -> Finding | None:
    """A finding if two rows of different configurations are alike."""
    mine, theirs = _quantities(table, row), _quantities(other_table, other)
    shared = [name for name in mine if name in theirs]
    if row.configuration == other.configuration or len(shared) < ENOUGH:
        return None
    place = f"{place_of(other_table, other)}, {place_of(table, row)}"
    equal = [mine[name] for name in shared if mine[name] == theirs[name]]
    different = [(theirs[name], mine[name], name) for name in shared if mine[name] != theirs[name]]
    if not different:
        why = "two methods with the same mAP in every cell that both have"
        return Finding("same row", place, ", ".join(equal), "two different rows", why)
    (before, after, name), *more = different
    if not more and sorted(before) == sorted(after):
        why = f"the rows' other cells are equal: {', '.join(equal)}"
        return Finding("transposed digits", f"{place}: {name}", f"{before}, {after}", "one of the two", why)
    return None


def bold(paper: Paper) -> Tally:
    """Where a group of rows has cells in bold, each column's best are in bold, and only they."""
    tally = Tally()
    for table in paper.tables:
        groups: dict[str, list[PublishedRow]] = defaultdict(list)
        for row in table.rows:
            groups[table.group(row)].append(row)
        for group, rows in groups.items():
            if not any(column.name in row.bold for column in table.columns for row in rows):
                continue
            for column in table.columns:
                values = {row.id: value for row in rows if (value := interval(row.cells[column.name]))}
                if not values:
                    continue
                top = max(value.middle for value in values.values())
                best = [name for name, value in values.items() if value.middle == top]
                marked = [row.id for row in rows if column.name in row.bold]
                wrong = {
                    "in bold but not the best": [name for name in marked if name not in best],
                    "the best but not in bold": [name for name in best if name not in marked],
                }
                finding = None
                if any(wrong.values()):
                    finding = Finding(
                        "bold",
                        f"{table.number}/{', '.join(marked) or group}: {column.name}",
                        ", ".join(table.row(name).cells[column.name] for name in marked) or "none in bold",
                        f"{table.row(best[0]).cells[column.name]} ({', '.join(best)})",
                        "; ".join(f"{what}: {', '.join(names)}" for what, names in wrong.items() if names),
                    )
                tally.check(finding)
    return tally


def rising(paper: Paper) -> Tally:
    """A row's mAP does not rise with the tIoU: a hit at 0.5 is one at 0.4."""
    tally = Tally()
    for table in paper.tables:
        ordered = sorted((column for column in table.columns if column.tiou is not None), key=lambda c: c.tiou or 0)
        for row in table.rows:
            known = [(column.name, value) for column in ordered if (value := interval(row.cells[column.name]))]
            for (name, value), (later, higher) in pairwise(known):
                finding = None
                if higher.low > value.high:
                    finding = Finding(
                        "rising mAP",
                        place_of(table, row, later),
                        row.cells[later],
                        f"at most {row.cells[name]}",
                        f"{row.cells[name]} at {name}, {row.cells[later]} at {later}",
                    )
                tally.check(finding)
    return tally
