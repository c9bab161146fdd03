"""Rules on rows against the works that they are quoted from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from harness.paper.audit.intervals import Finding, Outcome, Paper, cells_of, interval, names_work, place_of
from harness.paper.tables import PublishedRow, PublishedTable, SourceRow

UNKNOWN = "no row of its own is known"


class Quotation(NamedTuple):
    """Row of a table with what is known of its work.

    Args:
        table: the row's.
        row: the row.
        own: rows of the named work on this data set.
        found: the known row, of whatever work, whose cells the table prints; None where it prints none of them.
    """

    table: PublishedTable
    row: PublishedRow
    own: list[SourceRow]
    found: SourceRow | None

    @property
    def foreign(self) -> bool:
        """Whether the cells are those of another work."""
        return self.found is not None and self.found not in self.own

    @property
    def place(self) -> str:
        """`TABLE/ROW`."""
        return place_of(self.table, self.row)

    @property
    def printed(self) -> str:
        """Printed cells that the known row has too."""
        quantities = self.found.cells if self.found else {}
        return ", ".join(cell.text for cell in cells_of(self.table, self.row) if cell.column.quantity in quantities)


def quoted(paper: Paper) -> Iterator[Outcome]:
    """Require that a row prints the numbers of the work that it names, where a source of that work has them."""
    quotations = _quotations(paper)
    for place, one in quotations.items():
        found = one.found
        if found is None or not one.foreign:
            yield None if found is None else True
            continue
        other = next((two for two in quotations.values() if _swapped(one, two)), None)
        if other is None:
            why = f"the numbers of {found.work}{f' with {found.features}' if found.features else ''}"
            if len(found.cells) == 1:
                why += ", of which one cell is known"
            sources = "; ".join(dict.fromkeys(source.source for source in (found, *one.own)))
            yield Finding("another work's row", place, one.printed, _texts(one.own) or UNKNOWN, why, sources)
        elif place < other.place:
            assert other.found
            yield Finding(
                "swapped rows",
                f"{place}, {other.place}",
                f"{one.printed}; {other.printed}",
                f"{_texts([other.found])}; {_texts([found])}",
                f"each has the numbers of the other: the first those of {found.work}, the second of {other.found.work}",
                f"{found.source}; {other.found.source}",
            )


def alike_features(paper: Paper) -> Iterator[Outcome]:
    """Require that the rows of a group are of one network's features, where their sources name them."""
    groups: dict[tuple[str, str], list[Quotation]] = {}
    quotations = _quotations(paper).values()
    for one in quotations:
        if one.found and one.found.features and (not one.foreign or any(_swapped(one, two) for two in quotations)):
            groups.setdefault((one.table.number, one.table.group(one.row)), []).append(one)
    for members in groups.values():
        if len(members) < 2:
            continue
        usual, count = Counter(one.found.features for one in members if one.found).most_common(1)[0]
        for one in members:
            assert one.found
            if one.found.features == usual:
                yield True
                continue
            same = [source for source in one.own if source.features == usual]
            yield Finding(
                "other features",
                one.place,
                one.printed,
                _texts(same) or UNKNOWN,
                f"its source has them with {one.found.features}; {count} rows of the group are with {usual}",
                "; ".join(dict.fromkeys(source.source for source in (one.found, *same))),
            )


def _quotations(paper: Paper) -> dict[str, Quotation]:
    """Return the rows with mAPs that name a work, by place."""
    found = {}
    for table, row in paper.rows():
        if table.dataset and row.citation is not None:
            known = [source for source in paper.sources if source.dataset == table.dataset]
            own = [source for source in known if names_work(row, source.work)]
            # the work's own rows first: where two works print one row, it is its own
            same = next((source for source in [*own, *known] if _prints(table, row, source)), None)
            found[place_of(table, row)] = Quotation(table, row, own, same)
    return found


def _prints(table: PublishedTable, row: PublishedRow, source: SourceRow) -> bool:
    """Return whether the row has all cells of a source's row, within rounding."""
    cells = {cell.column.quantity: cell.value for cell in cells_of(table, row)}
    wanted = {name: value for name, text in source.cells.items() if (value := interval(text))}
    # intervals that only touch are two numbers: 18.2 prints 18.24, 60.0 not 60.1
    return all(
        name in cells and max(cells[name].low, value.low) < min(cells[name].high, value.high)
        for name, value in wanted.items()
    )


def _swapped(one: Quotation, two: Quotation) -> bool:
    """Return whether two rows of a table each print the other's numbers."""
    if one.table.number != two.table.number or not (one.foreign and two.foreign):
        return False
    return one.found in two.own and two.found in one.own


def _texts(rows: list[SourceRow]) -> str:
    return "; ".join(", ".join(row.cells.values()) for row in rows)
