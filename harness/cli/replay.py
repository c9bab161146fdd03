"""Command `wstal-bench debug replay`: repeat a failed training step."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.options import Commands
from harness.io.console import say


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "replay",
        handle=handle,
        help="repeat a failed training step and report what is not finite",
        description="A training whose loss is not finite stores the step: batch, weights before it, and random state.\n"
        "This command repeats its forward pass on the CPU and prints each loss term and the cause.",
        epilog="example:\n  wstal-bench debug replay runs/partial/RUN/failed-step.safetensors",
    )
    command.add_argument("step", type=Path, metavar="FILE", help="failed-step.safetensors of the run's folder")


def handle(arguments: argparse.Namespace) -> int:
    """Repeat a failed training step."""
    from harness.runs.failed_step import cause
    from harness.runs.failed_step import replay as replay_step

    method, batch, terms = replay_step(arguments.step)
    for name, value in terms.items():
        print(f"{name}\t{value:g}")
    print(f"videos\t{', '.join(batch.videos)}")
    finite = bool(terms["total"].isfinite())
    say("Done: " + ("the loss is finite here, on the CPU" if finite else cause(method, batch)))
    return 0
