"""`wstal-bench leaderboard`: render the stored records."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.commands.options import EXIT_CODES, Commands, say
from wstal.errors import UserError


def add(commands: Commands) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "leaderboard",
        help="render leaderboards from the stored records",
        description="Render results/leaderboards/*.md from results/records/. The same records give the same bytes.",
        epilog="examples:\n  wstal-bench leaderboard\n  wstal-bench leaderboard --check\n\n" + EXIT_CODES,
    )
    command.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")
    command.add_argument("--check", action="store_true", help="write nothing; exit 2 if a page is out of date")
    command.set_defaults(handle=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Render leaderboards, or check them."""
    from harness.leaderboard import drifted, load_records, render, write

    pages = render(load_records(arguments.results / "records"))
    results = arguments.results
    if arguments.check:
        if changed := drifted(pages, results):
            raise UserError(f"Out of date in {results}: {', '.join(changed)}. Run `nox -s leaderboard` and commit.")
        say(f"{results}: {len(pages)} pages are up to date")
        return 0
    write(pages, results)
    say(f"Done: {len(pages)} pages in {results}")
    return 0
