"""Entry point of `wstal-bench`: parses the command line and runs one command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from harness.cli.former import current_words
from harness.cli.options import EXIT_CODES, Parser
from harness.io.exits import exit_code

# modules of this room, in the order of `--help`
COMMANDS = "reproduce run tune sweep predict evaluate diagnose compare show data ls records leaderboard paper debug"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: words of the command line (default: this process's).
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    parsed = build_parser().parse_args(current_words(words))
    return exit_code(lambda: int(parsed.handle(parsed)))


def build_parser() -> Parser:
    """Return the parser of every command."""
    parser = Parser(
        prog="wstal-bench",
        description="Benchmark and reproducibility harness for weakly supervised temporal action localization.",
        epilog="`wstal-bench COMMAND --help` explains a command with examples.\n\n" + EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"wstal-bench {version('wstal-bench')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS.split():
        import_module(f"harness.cli.{name}").add(commands)
    return parser
