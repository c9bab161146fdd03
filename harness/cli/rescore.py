"""Command `wstal-bench rescore`: score detections that their authors released."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.options import Commands, add_json_option, add_results_option
from harness.cli.output import print_json, print_metrics
from harness.io.console import say


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "rescore",
        handle=handle,
        help="score released detection files under each protocol and keep the numbers",
        description="Score detections by their authors under each protocol that applies, as `evaluate` does, and\n"
        "write one record a file to DIR/rescored/NAME.json: numbers, digests and provenance, not the detections.",
        epilog="SOURCES.toml has one table a detection file:\n"
        "  [autoloc]\n"
        '  detections = "detections/autoloc.json"        # ActivityNet-style\n'
        '  annotations = "thumos14"                      # file, or folder with annotations.json\n'
        '  method = "AutoLoc"\n'
        '  source = "who released the file, where, which commit or entry"\n'
        "  # optional: features, note, dataset, video_prefix (that annotations lack), strip_prefix (to leave off),\n"
        "  # subset, protocols = [...], tious, published (a row of the published tables that the numbers should give,\n"
        '  # as "table_I/autoloc")\n\n'
        "examples:\n"
        "  wstal-bench rescore my-sources.toml\n"
        "  wstal-bench rescore results/rescored/sources.toml --data ~/released --json",
    )
    command.add_argument("sources", type=Path, metavar="SOURCES.toml", help="detection files with their provenance")
    command.add_argument(
        "--data", type=Path, metavar="DIR", help="folder that its paths are relative to (default: that of SOURCES.toml)"
    )
    add_results_option(command)
    add_json_option(command)


def handle(arguments: argparse.Namespace) -> int:
    """Score detections that their authors released."""
    from tabulate import tabulate

    from harness.pages.released import spread_rows
    from harness.studies.released import FOLDER, rescore, write_rescored

    # every file is scored before the first record is written
    notes: list[str] = []
    records = rescore(arguments.sources, arguments.data, notes)
    say(*dict.fromkeys(notes))
    paths = write_rescored(records, arguments.results / FOLDER)
    dumped = [record.to_json() for record in records]
    if arguments.json:
        print_json(dumped)
    else:
        print("Detections by their authors, scored by us under each protocol:\n")
        for record in dumped:
            print(f"{record['name']}: {record['method']} ({record['source']})")
            print_metrics(record["metrics"])
            print()
        print("Mean mAP between protocols:")
        print(tabulate(spread_rows(records), headers="keys", floatfmt=".2f"))
    for path in paths:
        say(str(path))
    say(f"Done: {len(records)} detection file(s) rescored")
    return 0
