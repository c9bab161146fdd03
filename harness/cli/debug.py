"""Command `wstal-bench debug`: what to do about runs that fail or differ."""

from __future__ import annotations

from harness.cli import determinism, replay, sensitivity
from harness.cli.options import Commands


def add(commands: Commands) -> None:
    """Declare the command and its actions."""
    command = commands.add_parser(
        "debug",
        help="look into a run that failed, or into runs that differ",
        description="Find the cause of a training whose loss is not finite, or of runs that should agree and do not,\n"
        "and measure how far they differ where they may.",
        epilog="examples:\n"
        "  wstal-bench debug replay runs/partial/RUN/failed-step.safetensors\n"
        "  wstal-bench debug determinism rmgcl-gksa\n"
        "  wstal-bench debug sensitivity acmnet --data ~/thumos14",
    )
    actions = command.add_subparsers(title="actions", metavar="ACTION", required=True)
    for module in (replay, determinism, sensitivity):
        module.add(actions)
