"""Entry point of `wstal-bench`: parses the command line and runs one command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from harness.cli import (
    audit,
    compare,
    cost,
    data,
    diagnose,
    evaluate,
    leaderboard,
    localize,
    ls,
    plan,
    records,
    replay,
    reproduce,
    rescore,
    robustness,
    run,
    sweep,
)
from harness.cli.options import EXIT_CODES, Parser
from wstal.errors import RunError, UserError

# in the order of `--help`
COMMANDS = (
    reproduce, run, sweep, plan, replay, localize, evaluate, rescore, data, ls, records, leaderboard, compare, audit,
    cost, diagnose, robustness,
)  # fmt: skip


LONGEST = 3000  # characters of an error message


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: words of the command line (by default those of this process).
    """
    parsed = build_parser().parse_args(arguments)
    try:
        return int(parsed.handle(parsed))
    except UserError as error:
        print(f"error: {_shortened(str(error))}", file=sys.stderr)
        return error.exit_code
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        print("error: out of memory. Lower train.batch_size, train.temporal_length or what --set made large.",
              file=sys.stderr)  # fmt: skip
        return RunError.exit_code
    except MemoryError:
        print("error: out of memory. Lower train.batch_size or train.temporal_length.", file=sys.stderr)
        return RunError.exit_code
    except KeyboardInterrupt:
        print("interrupted; finished epochs are kept, and the same command continues from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader (head, less) has closed the pipe: the interpreter's flush at exit must not fail on it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _shortened(message: str) -> str:
    """Cut the middle out of a long message, which may repeat a long input."""
    return message if len(message) <= LONGEST else f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"


def build_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="wstal-bench",
        description="Benchmark and reproducibility harness for weakly supervised temporal action localization.",
        epilog="`wstal-bench COMMAND --help` explains a command with examples.\n\n" + EXIT_CODES,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser
