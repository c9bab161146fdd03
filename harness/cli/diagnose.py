"""Command `wstal-bench diagnose`: draw the training of finished runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.options import Commands
from harness.io.console import say


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "diagnose",
        handle=handle,
        help="draw the training of finished runs: loss terms, memory bank, a method's other diagnostics",
        description="Draw each run's loss terms by step and its method's diagnostics by epoch (filled memory slots by\n"
        "class, cosines within and between classes) as RUN/diagnostics.svg, or DIR/ID.svg with the run's id.",
        epilog="examples:\n"
        "  wstal-bench diagnose runs/runs/RUN\n"
        "  wstal-bench diagnose runs/runs/thumos14-rmgcl-gksa-* --out figures",
    )
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a finished run")
    command.add_argument("--out", type=Path, metavar="DIR", help="(default: each run's own folder)")


def handle(arguments: argparse.Namespace) -> int:
    """Draw the training of finished runs."""
    from harness.charts.training import draw
    from harness.io.atomic import atomic_write
    from harness.records.files import FIGURE
    from harness.records.run_folder import FinishedRun, chart_run

    # every run is read before the first figure is written
    runs = [(run, run.history()) for run in map(FinishedRun.open, arguments.runs)]
    for run, history in runs:
        path = arguments.out / f"{run.record.id}.svg" if arguments.out else run.folder / FIGURE
        atomic_write(path, draw(history, chart_run(run.record)))
        print(path)
    say(f"Done: {len(runs)} figure(s)")
    return 0
