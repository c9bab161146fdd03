"""The page of Table IX: published, as the paper counted, and what the methods really cost."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.pages.model import Figure, Page, Role, Table
from harness.paper.profile import Published, flops_frame, size_frame
from harness.paper.tables import PublishedTable
from harness.records.words import bullets
from harness.studies.cost import CostFile, true_cost_frame

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
