"""Command `wstal-bench data`: make, check or convert a data set."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.cli import convert, extract
from harness.cli.options import Commands, add_json_option
from harness.cli.output import print_json
from harness.io.console import ProgressReport, say


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    what = "make, check or convert a data set"
    data = commands.add_parser("data", help=what, description=f"{what.capitalize()}.")
    actions = data.add_subparsers(title="actions", metavar="ACTION", required=True)
    extract.add(actions)
    verify = actions.add_parser(
        "verify",
        handle=verify_data,
        help="check every file of a data set",
        description="Check each feature file (shape, width, type, finite values, length against duration), that every\n"
        "listed video exists, that labels are known, and the SHA-256 manifest if there is one.",
        epilog="example:\n  wstal-bench data verify ~/thumos14",
    )
    verify.add_argument("data", type=Path, metavar="DIR", help="folder with features/")
    verify.add_argument("--annotations", type=Path, metavar="PATH", help="file or folder (default: found beside DIR)")
    verify.add_argument("--descriptor", metavar="D", help="a shipped descriptor's name or a dataset.toml")
    verify.add_argument("--write-manifest", action="store_true", help="write DIR/SHA256SUMS of all feature files")
    add_json_option(verify)
    convert.add(actions)


def verify_data(arguments: argparse.Namespace) -> int:
    """Check a data set and return the report's exit code."""
    from rich.console import Console

    from harness.data.verify import MANIFEST, verify

    with ProgressReport() as progress:
        report = verify(
            arguments.data,
            arguments.annotations,
            arguments.descriptor,
            write_manifest=arguments.write_manifest,
            on_progress=progress.reading,
        )
    say(*report.notes)
    if arguments.json:
        print_json(report.to_json())
    else:
        Console(soft_wrap=not sys.stdout.isatty()).print(report.table())
    if arguments.write_manifest:
        say(f"Wrote {arguments.data / MANIFEST}")
    notes = "nothing is bad or missing; read the notes in the table" if report.failed("note") else "all is well"
    verdict = {0: notes, 2: "some files are bad", 3: "data are missing"}[report.exit_code]
    say(f"Done: {arguments.data}: {verdict}")
    return report.exit_code
