"""Page of Table IX: published, as the paper counted, and what the methods really cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.pages.model import Blocks, Page, Role, Table
from harness.paper.audit.intervals import decimals, interval, off_line
from harness.paper.profile import FLOPS_TOLERANCE, STAGE_NAMES, WIDTH, ProfileCost
from harness.paper.tables import FLOPS, PARAMS, SIZE, PublishedTable
from harness.records.words import bullets
from harness.registry import load_method, weak_methods
from harness.studies.cost import CostFile


def cost_page(table: PublishedTable, cost: CostFile | None) -> Page:
    """Build the page of Table IX.

    Args:
        table: as printed.
        cost: as `wstal-bench paper cost` measured it; None where it did not.
    """
    path, title = f"leaderboards/table_{table.number}", f"Table {table.number}: {table.title}"
    if cost is None:
        rows = [
            row.labels | row.cells | {"measured": "not run: `wstal-bench paper cost` measures it"} for row in table.rows
        ]
        roles: dict[str, Role] = {column.name: "published" for column in table.columns}
        return Page(path, title, [Table("table_IX", title, rows, roles)], tab="Paper against measured")
    sizes, flops, true_cost = cost_tables(table, cost)
    blocks: Blocks = [
        f"Published: {table.source}. Its Params(M) are megabytes of float32 and its model size is what torchinfo "
        "prints: input, outputs and parameters, without the projections of attention layers.",
        "## Sizes as the paper counted",
        "The profile model, one decoder layer on 40 codewords in training, under torchinfo.",
        sizes,
        "## FLOPs as the paper counted",
        "torchinfo's mult-adds, which count a linear layer once a sample and not once a snippet.",
        flops,
        "## True cost",
        f"{len(cost.methods)} methods at batch 1 on 2,048 columns{_unmeasured(cost)}. Multiply-adds of "
        "the forward pass by fvcore, with attention "
        "counted, beside torch's counter; the gap between them is LayerNorm, which torch does not count. "
        "A training step is timed with backward pass and optimiser, its memory bank full; a test step is the scoring "
        "of a video without localization. Each is the median of several in a fresh process.",
        true_cost,
        "Measured on:",
        bullets(_hardware(cost)),
    ]
    return Page(path, title, blocks, tab="Paper against measured")


def _unmeasured(cost: CostFile) -> str:
    """Name the weak methods that were not measured, in brackets."""
    missing = [load_method(name) for name in weak_methods() if name not in cost.methods]
    titles = [method.title for method in missing if not method.chance]
    return f" (not measured: {', '.join(titles)})" if titles else ""


def cost_tables(table: PublishedTable, cost: CostFile) -> tuple[Table, Table, Table]:
    """Build the tables of sizes and of FLOPs as the paper counted, and of the true cost.

    Args:
        table: Table IX as printed.
        cost: the stored measurements and profile.
    """
    printed = {row.id: row.cells for row in table.rows}
    return (
        profile_table("table_IX-sizes", "Table IX: parameters and model size", printed, cost.profile, (PARAMS, SIZE)),
        profile_table("table_IX-flops", "Table IX: FLOPs", printed, cost.profile, (FLOPS,)),
        true_cost_table(cost),
    )


def profile_table(
    name: str,
    caption: str,
    printed: Mapping[str, Mapping[str, str]],
    costs: Sequence[ProfileCost],
    columns: Sequence[str],
) -> Table:
    """Build a table of printed cells beside the profile model's, and how far they agree.

    A cell that is off by more than 0.1 % is unexplained where its stage's cells lie on no line in T: the cost of
    convolutions and linear layers is affine in T, so no such model prints all three.

    Args:
        name: of the table's files.
        caption: of the table.
        printed: cells of Table IX, by row and column.
        costs: of `profile_costs`.
        columns: of Table IX.
    """
    rows = [
        {
            "stage": STAGE_NAMES[cost.stage],
            "input": f"[1, {cost.length}, {WIDTH}]",
            "column": column,
            "published": (text := printed[cost.row][column]),
            "as the paper counted": f"{cost.cells[column]:.{decimals(text)}f}",
            "agreement": _agreement(cost, column, printed, costs),
        }
        for cost in costs
        for column in columns
    ]
    return Table(name, caption, rows)


def _agreement(
    cost: ProfileCost, column: str, printed: Mapping[str, Mapping[str, str]], costs: Sequence[ProfileCost]
) -> str:
    text, value = printed[cost.row][column], cost.cells[column]
    if f"{value:.{decimals(text)}f}" == text:
        return "to the printed digit"
    ratio = value / float(text) - 1
    difference = f"{100 * ratio:+.2f} %"
    if abs(ratio) <= FLOPS_TOLERANCE:
        return f"within 0.1 % ({difference})"
    stage = {one.length: interval(printed[one.row][column]) for one in costs if one.stage == cost.stage}
    if any(off_line({length: found for length, found in stage.items() if found})):
        return f"unexplained ({difference}): no count affine in T gives this stage's three cells"
    return f"differs ({difference})"


def true_cost_table(cost: CostFile) -> Table:
    """Build the table of what the methods really cost, one row for each method, stage and T.

    `difference` is fvcore's count against torch's, which does not count normalisation.
    """
    rows = [
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
    return Table("table_IX-true", "True cost of every method", rows)


def _hardware(cost: CostFile) -> Iterator[str]:
    for method in cost.methods.values():
        where = method.environment
        yield (
            f"{method.title}: {where['cpu']}, {where['threads']} thread(s), wstal-bench {where['wstal-bench']}, "
            f"torch {where['packages']['torch']}, commit {str(where['commit'])[:7]}"
            + ("" if method.load is None else f"; load {method.load:g} over the minute before")
        )
