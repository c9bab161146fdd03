"""`wstal-bench ls`: list what there is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from harness.cli.options import Commands, say


def add(commands: Commands) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "ls",
        help="list methods and their options, data sets and their keys, protocols or runs",
        description="List what is registered, shipped or stored.",
        epilog="examples:\n  wstal-bench ls protocols\n  wstal-bench ls options",
    )
    command.add_argument(
        "what",
        choices=("methods", "options", "datasets", "keys", "protocols", "rows", "runs"),
        help="options: what --set can change, with each method's THUMOS14 default; "
        "keys: of dataset.toml; rows: of the ablation plans",
    )
    command.add_argument("--store", type=Path, default=Path("runs"), metavar="STORE", help="for runs (default: runs)")
    command.add_argument("--json", action="store_true", help="print JSON, and only that, on stdout")
    command.set_defaults(handle=handle)


def handle(arguments: argparse.Namespace) -> int:
    """List what there is."""
    from harness.cli.listing import LISTS

    rows = LISTS[arguments.what](arguments.store)
    if arguments.json:
        print(json.dumps(rows))
    elif rows:
        from tabulate import tabulate

        wrapped = {"default": 30, "meaning": 72} if arguments.what in ("options", "keys") else {}
        widths = [wrapped.get(name) for name in rows[0]]
        print(tabulate(rows, headers="keys", disable_numparse=True, maxcolwidths=widths))
    else:
        say(f"There are no {arguments.what}.")
    return 0
