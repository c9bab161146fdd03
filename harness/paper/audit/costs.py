"""The columns of Table IX against each other and against the model."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from fractions import Fraction

from harness.paper.audit.intervals import Finding, Interval, Paper, Tally, interval, off_line, rounded
from harness.paper.tables import PublishedRow

PARAMS, FLOPS, SIZE, INPUT = "Params(M)", "FLOPs(G)", "Model Size(MB)", "Input dimension"
FLOAT32_BYTES = 4


def costs(paper: Paper) -> Tally:
    """Parameters do not depend on T, size and FLOPs are affine in T, and a model's weights are within its size."""
    tally = Tally()
    for table in paper.tables:
        if not {PARAMS, FLOPS, SIZE} <= {column.name for column in table.columns}:
            continue
        stages: dict[str, dict[int, PublishedRow]] = defaultdict(dict)
        for row in table.rows:
            stages[row.labels["Model"]][_length(row)] = row
        for stage, rows in stages.items():
            for finding in _stage_costs(f"{table.number}/{stage}", dict(sorted(rows.items()))):
                tally.check(finding)
    return tally


def modelled(paper: Paper) -> Tally:
    """Table IX's cells are what torchinfo prints of the model that its sizes fit; FLOPs to 0.1 %."""
    # the model needs torch, and its own module this one
    from harness.paper.profile import TOLERANCE, profile_costs

    tally = Tally()
    for table in paper.tables:
        if not {PARAMS, FLOPS, SIZE} <= {column.name for column in table.columns}:
            continue
        rows = {row.id: row for row in table.rows}
        for cost in profile_costs():
            if (row := rows.get(cost.row)) is None:
                continue
            for name, value in ((PARAMS, cost.params), (FLOPS, cost.flops), (SIZE, cost.size)):
                text, printed = row.cells[name], interval(row.cells[name])
                if printed is None:
                    continue
                counted = Fraction(value)
                slack = Fraction(TOLERANCE) * counted if name == FLOPS else Fraction(0)
                finding = None
                if not printed.meets(Interval(counted - slack, counted + slack)):
                    why = f"torchinfo counts so on the model that the table's sizes fit: {value / float(text) - 1:+.1%}"
                    digits = len(text.partition(".")[2])
                    finding = Finding("cost", f"{table.number}/{row.id}: {name}", text, rounded(counted, digits), why)
                tally.check(finding)
    return tally


def _length(row: PublishedRow) -> int:
    """T of an input `[1, T, 2048]`."""
    return int(re.findall(r"\d+", row.labels[INPUT])[1])


def _stage_costs(place: str, rows: Mapping[int, PublishedRow]) -> Iterator[Finding | None]:
    """The checks of one stage; rows by T, ascending."""

    def column(name: str) -> dict[int, Interval]:
        return {length: value for length, row in rows.items() if (value := interval(row.cells[name]))}

    def listed(name: str) -> str:
        return ", ".join(row.cells[name] for row in rows.values())

    params, sizes = column(PARAMS), column(SIZE)
    lengths = ", ".join(map(str, rows))
    finding = None
    if max(value.low for value in params.values()) > min(value.high for value in params.values()):
        why = f"parameters do not depend on T = {lengths}"
        finding = Finding("cost", f"{place}: {PARAMS}", listed(PARAMS), "one number", why)
    yield finding
    for name in (SIZE, FLOPS):
        for misfit in off_line(column(name)):
            finding = None
            if misfit is not None:
                middle, wanted = misfit
                digits = len(rows[middle].cells[name].partition(".")[2])
                finding = Finding(
                    "cost",
                    f"{place}: {name}",
                    listed(name),
                    f"{rounded(wanted.middle, digits)} at T = {middle}",
                    f"no model whose cost is affine in T prints these at T = {lengths}",
                )
            yield finding
    least = {length: FLOAT32_BYTES * params[length].low for length in params if length in sizes}
    over = [length for length, weight in least.items() if weight > sizes[length].high]
    finding = None
    if over:
        first = over[0]
        millions = params[first].middle / FLOAT32_BYTES
        finding = Finding(
            "cost",
            f"{place}: {PARAMS}",
            rows[first].cells[PARAMS],
            f"at most {rounded(sizes[first].middle / FLOAT32_BYTES, 2)}",
            f"so many million float32 weights take {rounded(FLOAT32_BYTES * params[first].middle, 1)} MB, more than "
            f"the model's size ({listed(SIZE)}); megabytes of {rounded(millions, 2)} M weights fit",
        )
    yield finding
