"""The page of Table IX: published, as the paper counted, and what the methods really cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import pandas as pd

from harness.charts.figure import Figure
from harness.pages.model import Page, Role, Table
from harness.paper.audit.intervals import interval, off_line
from harness.paper.profile import STAGE_NAMES, TOLERANCE, WIDTH, ProfileCost
from harness.paper.tables import PublishedTable
from harness.records.words import bullets
from harness.studies.cost import CostFile

ROLES: dict[str, Role] = {"published": "published"}


def cost_page(table: PublishedTable, cost: CostFile | None) -> Page:
    """Table IX.

    Args:
        table: as printed.
        cost: as `wstal-bench cost` measured it; None where it did not.
    """
    path, title = f"leaderboards/table_{table.number}", f"Table {table.number}: {table.title}"
    if cost is None:
        rows = [row.labels | row.cells | {"measured": "not run: `wstal-bench cost` measures it"} for row in table.rows]
        roles: dict[str, Role] = {column.name: "published" for column in table.columns}
        return Page(path, title, [Table("table_IX", title, rows, roles)])
    printed = printed_cells(table)
    blocks: list[str | Table | Figure] = [
        f"Published: {table.source}. Its Params(M) are megabytes of float32 and its model size is what torchinfo "
        "prints: input, outputs and parameters, without the projections of attention layers.",
        "## Sizes as the paper counted",
        "The profile model, one decoder layer on 40 codewords in training, under torchinfo.",
        _table("table_IX-sizes", "Table IX: parameters and model size", size_frame(printed, cost.profile), ROLES),
        "## FLOPs as the paper counted",
        "torchinfo's mult-adds, which count a linear layer once a sample and not once a snippet.",
        _table("table_IX-flops", "Table IX: FLOPs", flops_frame(printed, cost.profile), ROLES),
        "## True cost",
        "Every registered method at batch 1 on 2,048 columns. Multiply-adds of the forward pass by fvcore, with "
        "attention counted, beside torch's counter; the gap between them is LayerNorm, which torch does not count. "
        "A training step is timed with backward pass and optimiser, its memory bank full; a test step is the scoring "
        "of a video without localization. Each is the median of several in a fresh process.",
        _table("table_IX-true", "True cost of every method", true_cost_frame(cost), {}),
        "Measured on:",
        bullets(_hardware(cost)),
    ]
    return Page(path, title, blocks)


def printed_cells(table: PublishedTable) -> Published:
    """Table IX's cells as `size_frame` and `flops_frame` take them."""
    return {row.id: tuple(row.cells.values()) for row in table.rows}


def _table(name: str, caption: str, frame: pd.DataFrame, roles: dict[str, Role]) -> Table:
    rows = [{str(column): value for column, value in row.items()} for row in frame.to_dict("records")]
    return Table(name, caption, rows, {column: role for column, role in roles.items() if column in frame})


def _hardware(cost: CostFile) -> Sequence[str]:
    lines = []
    for method in cost.methods.values():
        where = method.environment
        lines.append(
            f"{method.title}: {where['cpu']}, {where['threads']} thread(s), wstal-bench {where['wstal-bench']}, "
            f"torch {where['packages']['torch']}, commit {str(where['commit'])[:7]}"
            + ("" if method.load is None else f"; load {method.load:g} over the minute before")
        )
    return lines


def true_cost_frame(cost: CostFile) -> pd.DataFrame:
    """What the methods really cost, one row a method, stage and T; display-ready.

    `difference` is fvcore's count against torch's: what fvcore counts for normalisation, and torch's does not.
    """
    return pd.DataFrame(
        [
            {
                "method": method.title,
                "stage": STAGE_NAMES[row.stage],
                "T": str(row.length),
                "classes": str(row.classes),
                "parameters (M)": f"{row.parameters / 1e6:.2f}",
                "GMACs": f"{row.macs / 1e9:.3f}",
                "torch's counter": f"{row.torch_macs / 1e9:.3f}",
                "difference": f"{100 * (row.macs / row.torch_macs - 1):+.3f} %",
                "peak (MB)": "not measured" if row.peak_mb is None else f"{row.peak_mb:,.0f}",
                "ms": f"{row.ms:,.1f}",
            }
            for method in cost.methods.values()
            for row in method.rows
        ]
    )


Published = Mapping[str, Sequence[str]]


def size_frame(published: Published, costs: Sequence[ProfileCost]) -> pd.DataFrame:
    """The 12 size cells: printed, as the paper counted, and whether they agree to the printed digit.

    Args:
        published: the printed cells.
        costs: of `profile_costs`.
    """
    rows = []
    for cost in costs:
        params, _, size = published[cost.row]
        for column, text, value in (("Params(M)", params, cost.params), ("Model Size(MB)", size, cost.size)):
            rows.append(_row(cost, column, text, value, _difference(text, value) or "to the printed digit"))
    return pd.DataFrame(rows)


def flops_frame(published: Published, costs: Sequence[ProfileCost]) -> pd.DataFrame:
    """The six FLOPs cells: printed, as the paper counted, and how far they agree.

    A cell that is off by more than 0.1 % is unexplained where its stage's cells lie on no line in T: the mult-adds of
    convolutions and linear layers are affine in T, so no such model prints all three.
    """
    rows = []
    for cost in costs:
        stage = {other.length: published[other.row][1] for other in costs if other.stage == cost.stage}
        text = stage[cost.length]
        rows.append(_row(cost, "FLOPs(G)", text, cost.flops, _flops_agreement(text, cost.flops, stage)))
    return pd.DataFrame(rows)


def _flops_agreement(printed: str, value: float, stage: Mapping[int, str]) -> str:
    difference = _difference(printed, value)
    if not difference:
        return "to the printed digit"
    if abs(value / float(printed) - 1) <= TOLERANCE:
        return f"within 0.1 % ({difference})"
    cells = {length: found for length, text in stage.items() if (found := interval(text))}
    if any(off_line(cells)):
        return f"unexplained ({difference}): no count affine in T gives this stage's three cells"
    return f"differs ({difference})"


def _difference(printed: str, value: float) -> str:
    """How far a value is from what is printed; empty where it rounds to it."""
    if Decimal(value).quantize(_unit(printed)) == Decimal(printed):
        return ""
    return f"{100 * (value / float(printed) - 1):+.2f} %"


def _unit(printed: str) -> Decimal:
    exponent = Decimal(printed).as_tuple().exponent
    assert isinstance(exponent, int)  # neither NaN nor infinite: a printed number
    return Decimal(1).scaleb(exponent)


def _row(cost: ProfileCost, column: str, printed: str, value: float, agreement: str) -> dict[str, str]:
    decimals = -int(_unit(printed).adjusted())
    return {
        "stage": STAGE_NAMES[cost.stage],
        "input": f"[1, {cost.length}, {WIDTH}]",
        "column": column,
        "published": printed,
        "as the paper counted": f"{value:.{decimals}f}",
        "agreement": agreement,
    }
