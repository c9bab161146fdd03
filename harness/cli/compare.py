"""Command `wstal-bench compare`: runs beside each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.options import Commands, add_json_option
from harness.cli.output import print_table
from harness.io.console import say


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "compare",
        handle=handle,
        help="judge runs of methods against each other",
        description="Compare finished runs of two methods or more: paired by seed (t-interval, exact sign-flip test)\n"
        "and by a paired bootstrap over test videos from the stored flags. `wstal-bench paper compare` puts the\n"
        "paper's numbers beside measured ones.",
        epilog="example:\n  wstal-bench compare runs/runs/thumos14-acmnet-* runs/runs/thumos14-rmgcl-gksa-*",
    )
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs of one data set")
    truth = "ground truth, for runs that stored no flags (older versions)"
    command.add_argument("--annotations", type=Path, metavar="PATH", help=truth)
    command.add_argument("--per-class", action="store_true", help="list every class")
    add_json_option(command)


def handle(arguments: argparse.Namespace) -> int:
    """Compare runs."""
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
