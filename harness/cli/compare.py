"""Command `wstal-bench compare`: published beside measured with verdicts, or runs beside each other."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.cli.options import Commands, add_json_option, add_results_option
from harness.cli.output import print_json, print_table
from harness.io.console import say
from wstal.errors import UserError


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "compare",
        handle=handle,
        help="judge measured numbers against the published ones, or runs against each other",
        description="Put the stored records, and detections scored by `rescore`, beside the paper's tables and judge\n"
        "every cell: reproduced, consistent, above, below, inconclusive, not comparable, not run or not\n"
        "implemented. With --runs, compare finished runs of two methods: paired by seed (t-interval, exact\n"
        "sign-flip test) and by a paired bootstrap over test videos from the stored flags.",
        epilog="examples:\n"
        "  wstal-bench compare --table I\n"
        "  wstal-bench compare --json\n"
        "  wstal-bench compare --runs runs/runs/thumos14-acmnet-* runs/runs/thumos14-rmgcl-gksa-*",
    )
    what = command.add_mutually_exclusive_group()
    what.add_argument("--table", nargs="+", metavar="T", help="I to VIII (default: all)")
    what.add_argument("--runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs of one data set")
    command.add_argument(
        "--annotations", type=Path, metavar="PATH", help="with --runs: ground truth, for runs that stored no flags"
    )
    command.add_argument("--per-class", action="store_true", help="with --runs: list every class")
    add_results_option(command)
    add_json_option(command)


def handle(arguments: argparse.Namespace) -> int:
    """Judge cells, or compare runs."""
    return _runs(arguments) if arguments.runs else _tables(arguments)


def _tables(arguments: argparse.Namespace) -> int:
    from harness.comparisons.paper import cell_row, compare, headline
    from harness.pages.formats import terminal_table
    from harness.pages.model import Table
    from harness.pages.site import read_results
    from harness.paper.tables import find_table, published_tables

    tables = [find_table(name) for name in arguments.table or published_tables()]
    if arguments.table and (costs := [table.number for table in tables if not table.dataset]):
        raise UserError(f"Table {', '.join(costs)} holds no mAPs: `wstal-bench cost` is for it.")
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


def _runs(arguments: argparse.Namespace) -> int:
    from harness.comparisons.runs import class_rows, compare_runs, comparison_table
    from harness.pages.model import SYNTHETIC_BANNER

    compared = compare_runs(arguments.runs, arguments.annotations)
    if arguments.json:
        print(compared.to_json(orient="records"))
    else:
        if compared["synthetic"].any():
            print(SYNTHETIC_BANNER, end="\n\n")
        print_table(comparison_table(compared))
        if rows := class_rows(compared, arguments.per_class):
            apart = "" if arguments.per_class else " that are told apart (intervals not corrected for their number)"
            print(f"\nClasses{apart}:")
            print_table(rows)
    say(f"Done: {len(arguments.runs)} runs, {len(compared)} pair(s) of systems")
    return 0


def _plain(value: Any) -> Any:
    from harness.seed_statistics import Estimate

    if isinstance(value, Estimate):
        return {"mean": value.mean, "half_width": value.half_width if value.seeds > 1 else None, "seeds": value.seeds}
    return value
