"""Command `run`: train and score one method with one seed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_data_options, add_json_option, add_training_options, method_name
from harness.cli.output import print_json, print_metrics
from harness.runs.process_environment import FIXED_WORKSPACE

if TYPE_CHECKING:
    from harness.records.schema import Record


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "run",
        handle=handle,
        help="train and score one method with one seed",
        description="Train one method with one seed, localize the test videos and score them under every protocol\n"
        "that applies. A finished run is not repeated; an interrupted one goes on from its last checkpoint.",
        epilog="examples:\n"
        "  wstal-bench run --method acmnet --seed 0\n"
        "  wstal-bench run --method acmnet --data ~/thumos14 --seed 0 --set train.epochs=20 --json",
    )
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--method", type=method_name, metavar="M", help="see `wstal-bench ls methods`")
    what.add_argument("--row", metavar="TABLE/ROW", help="a row of an ablation plan, see `wstal-bench ls rows`")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="decides every random draw (default: 0)")
    add_data_options(command)
    add_training_options(command)
    add_json_option(command, "print the record as JSON, and only that, on stdout")


def handle(arguments: argparse.Namespace) -> int:
    """Train and score one method with one seed."""
    os.environ.update(FIXED_WORKSPACE | os.environ)  # before torch is imported
    from harness.cli.inputs import run_request
    from harness.runs.worker import do_run

    def show(folder: Path, record: Record, reused: bool) -> None:
        if arguments.json:
            print_json(record.to_json() | {"run": str(folder), "reused": reused})
        elif record.evaluated:
            print_metrics(record.to_json()["metrics"])
        sys.stdout.flush()  # before the last line, which goes to stderr

    do_run(run_request(arguments), show)
    return 0
