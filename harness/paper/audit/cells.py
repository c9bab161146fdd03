"""Rules on cells and other cells: printed twice, rows that are alike, the best in bold, mAP over tIoU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from harness.io.text import grouped
from harness.paper.audit.intervals import Finding, Outcome, Paper, PrintedCell, cells_of, decimals, rounded

ENOUGH = 3  # cells that two rows have to share before their agreement says anything


def recurring(paper: Paper) -> Iterator[Outcome]:
    """Require that a quantity of one configuration printed more than once has the same digits everywhere."""
    places = grouped(paper.cells(), lambda cell: (cell.table.dataset, cell.row.configuration, cell.column.quantity))
    for (_, configuration, quantity), cells in places.items():
        if len(cells) < 2:
            continue
        middles = [cell.value.middle for cell in cells]
        # one number prints as 59.4 or as 59.5, not as both: intervals that only touch do not agree
        agree = max(cell.value.low for cell in cells) < min(cell.value.high for cell in cells)
        yield agree or Finding(
            "printed differently",
            f"{', '.join(cell.place for cell in cells)}: {quantity}",
            ", ".join(cell.text for cell in cells),
            f"{rounded(max(middles) - min(middles), max(decimals(cell.text) for cell in cells))} apart",
            f"rows of one configuration, {configuration}, do not print one number",
        )


def alike(paper: Paper) -> Iterator[Outcome]:
    """Require that no row repeats another of its data set in all cells, or in all but one with transposed digits."""
    earlier: dict[str, list[list[PrintedCell]]] = defaultdict(list)
    for table, row in paper.rows():
        cells = cells_of(table, row)
        if table.dataset and len(cells) >= ENOUGH:
            yield next(filter(None, (_alike(other, cells) for other in earlier[table.dataset])), True)
            earlier[table.dataset].append(cells)


def _alike(first: list[PrintedCell], second: list[PrintedCell]) -> Finding | None:
    """Compare two rows, the earlier one first; those of one configuration may be alike."""
    theirs, mine = ({cell.column.quantity: cell.text for cell in cells} for cells in (first, second))
    shared = [name for name in mine if name in theirs]
    if first[0].row.configuration == second[0].row.configuration or len(shared) < ENOUGH:
        return None
    place = f"{first[0].place}, {second[0].place}"
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


def bold(paper: Paper) -> Iterator[Outcome]:
    """Require that in a group of rows with cells in bold each column's best are in bold, and only they."""
    groups = grouped(paper.cells(), lambda cell: (cell.table.number, cell.table.group(cell.row)))
    for (number, group), members in groups.items():
        if not any(cell.column.name in cell.row.bold for cell in members):
            continue
        for column in members[0].table.columns:
            cells = [cell for cell in members if cell.column == column]
            if not cells:
                continue
            top = max(cell.value.middle for cell in cells)
            best = [cell for cell in cells if cell.value.middle == top]
            marked = [cell for cell in cells if column.name in cell.row.bold]
            wrong = {
                "in bold but not the best": [cell.row.id for cell in marked if cell not in best],
                "the best but not in bold": [cell.row.id for cell in best if cell not in marked],
            }
            yield not any(wrong.values()) or Finding(
                "bold",
                f"{number}/{', '.join(cell.row.id for cell in marked) or group}: {column.name}",
                ", ".join(cell.text for cell in marked) or "none in bold",
                f"{best[0].text} ({', '.join(cell.row.id for cell in best)})",
                "; ".join(f"{what}: {', '.join(names)}" for what, names in wrong.items() if names),
            )


def rising(paper: Paper) -> Iterator[Outcome]:
    """Require that a row's mAP does not rise with the tIoU: a hit at 0.5 is one at 0.4."""
    for table, row in paper.rows():
        known = [cell for cell in cells_of(table, row) if cell.column.tiou is not None]
        for cell, later in pairwise(sorted(known, key=lambda cell: cell.column.tiou or 0)):
            why = f"{cell.text} at {cell.column.name}, {later.text} at {later.column.name}"
            falls = later.value.low <= cell.value.high
            yield falls or later.finding("rising mAP", f"at most {cell.text}", why)
