"""Command `replay`: do a failed training step again."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.options import EXIT_CODES, Commands
from harness.io.console import say


def add(commands: Commands) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "replay",
        help="do a failed training step again and say what is not finite",
        description="A training whose loss is not finite keeps the step: batch, weights before it, and random state.\n"
        "This does its forward pass again on the CPU and prints each loss term and the cause.",
        epilog="example:\n  wstal-bench replay runs/partial/RUN/failed-step.safetensors\n\n" + EXIT_CODES,
    )
    command.add_argument("step", type=Path, metavar="FILE", help="failed-step.safetensors of the run's folder")
    command.set_defaults(handle=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Do a failed training step again."""
    from harness.runs.failed_step import cause
    from harness.runs.failed_step import replay as replay_step

    method, batch, terms = replay_step(arguments.step)
    for name, value in terms.items():
        print(f"{name}\t{value:g}")
    print(f"videos\t{', '.join(batch.videos)}")
    finite = bool(terms["total"].isfinite())
    say("Done: " + ("the loss is finite here, on the CPU" if finite else cause(method, batch)))
    return 0
