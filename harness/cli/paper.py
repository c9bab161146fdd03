"""Command `wstal-bench paper`: the paper's printed numbers, and what was measured beside them."""

from __future__ import annotations

import argparse
from typing import Any

from harness.cli import audit, cost, robustness
from harness.cli.options import Commands, add_json_option, add_results_option
from harness.cli.output import print_json
from harness.io.console import say
from wstal.errors import UserError


def add(commands: Commands) -> None:
    """Declare the command and its actions."""
    command = commands.add_parser(
        "paper",
        help="put the paper's tables beside measured numbers, audit them, measure cost and robustness",
        description="Work on the paper (RMGCL and GKSA): its tables, its claims, its numbers.",
        epilog="examples:\n"
        "  wstal-bench paper compare --table I\n"
        "  wstal-bench paper audit\n"
        "  wstal-bench paper cost --stored",
    )
    actions = command.add_subparsers(title="actions", metavar="ACTION", required=True)
    compare = actions.add_parser(
        "compare",
        handle=compare_tables,
        help="judge measured numbers against the published ones",
        description="Put the stored records, and detections kept by `evaluate --keep`, beside the paper's tables and\n"
        "judge every cell: reproduced, consistent, above, below, inconclusive, not comparable, not run or not\n"
        "implemented.",
        epilog="examples:\n  wstal-bench paper compare --table I\n  wstal-bench paper compare --json",
    )
    compare.add_argument("--table", nargs="+", metavar="T", help="I to VIII (default: all)")
    add_results_option(compare)
    add_json_option(compare)
    for module in (audit, cost, robustness):
        module.add(actions)


def compare_tables(arguments: argparse.Namespace) -> int:
    """Judge cells."""
    from harness.comparisons.paper import cell_row, compare, headline
    from harness.pages.formats import terminal_table
    from harness.pages.model import Table
    from harness.pages.site import read_results
    from harness.paper.tables import find_table, published_tables

    tables = [find_table(name) for name in arguments.table or published_tables()]
    if arguments.table and (costs := [table.number for table in tables if not table.dataset]):
        raise UserError(f"Table {', '.join(costs)} holds no mAPs: `wstal-bench paper cost` is for it.")
    tables = [table for table in tables if table.dataset]
    stored = read_results(arguments.results)
    for message in stored.refused:
        say(f"error: {message}")
    judged = {table.number: compare(table, stored.records, stored.rescored) for table in tables}
    if arguments.json:
        # every cell, where the terminal shows a line for each row
        cells = [
            {"table": number, "id": cell.row.id} | cell_row(cell)
            for number, lines in judged.items()
            for line in lines
            for cell in line
        ]
        print_json([{name: _plain(value) for name, value in cell.items()} for cell in cells])
    else:
        rows = [{"table": number} | cell_row(headline(line)) for number, lines in judged.items() for line in lines]
        print(terminal_table(Table(None, "", rows)))
    say(f"Done: {len(tables)} tables against {len(stored.records)} records and {len(stored.rescored)} rescored "
        f"detection files in {arguments.results}")  # fmt: skip
    return UserError.exit_code if stored.refused else 0


def _plain(value: Any) -> Any:
    from harness.seed_statistics import Estimate

    if isinstance(value, Estimate):
        return {"mean": value.mean, "half_width": value.half_width if value.seeds > 1 else None, "seeds": value.seeds}
    return value
