"""Command `wstal-bench leaderboard`: render the stored records."""

from __future__ import annotations

import argparse

from harness.cli.options import Commands, add_results_option
from harness.io.console import say
from wstal.errors import UserError


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "leaderboard",
        handle=handle,
        help="render leaderboards from the stored records",
        description="Render DIR/leaderboards/ (Markdown, CSV, LaTeX, figures), DIR/audit.md, DIR/interpretations.md\n"
        "and DIR/report.html from what DIR stores: records/, rescored/, cost.json, and the results\n"
        "that DIR/../README.md and docs/ quote between markers. The same files give the same bytes.\n"
        "A stored file that cannot be used is named, the rest is rendered, and the exit code is 2.",
        epilog="examples:\n  wstal-bench leaderboard\n  wstal-bench leaderboard --check",
    )
    add_results_option(command)
    command.add_argument("--check", action="store_true", help="write nothing; exit 2 if a page is out of date")


def handle(arguments: argparse.Namespace) -> int:
    """Render leaderboards, or check them."""
    from harness.pages.site import drifted, read_results, render, write

    folder = arguments.results
    results = read_results(folder)
    for message in results.refused:
        say(f"error: {message}")
    rendered = render(results)
    if arguments.check:
        if changed := drifted(rendered, folder):
            raise UserError(f"Out of date in {folder}: {', '.join(changed)}. Run `nox -s leaderboard` and commit.")
        say(f"{folder}: {len(rendered)} files are up to date")
    else:
        write(rendered, folder, keep_stale=bool(results.refused))
        left_out = f", {len(results.refused)} stored files left out" if results.refused else ""
        say(f"Done: {len(rendered)} files in {folder}{left_out}; begin at {folder / 'leaderboards' / 'README.md'}")
    return UserError.exit_code if results.refused else 0
