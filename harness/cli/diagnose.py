"""Command `wstal-bench diagnose`: where the errors of detections are."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.options import Commands, add_json_option
from harness.cli.output import print_json
from harness.io.console import say


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "diagnose",
        handle=handle,
        help="show which kinds of errors detections have and what each costs",
        description="Sort false positives into five kinds, say what removing each would gain, and show which\n"
        "instances are missed by coverage, length and number of instances in the video (Alwassel et al., ECCV 2018).\n"
        "Several files or runs are put side by side; runs of one method are its seeds.",
        epilog="examples:\n"
        "  wstal-bench diagnose detections.json --annotations thumos14/annotations.json --protocol anet-210\n"
        "  wstal-bench diagnose runs/runs/thumos14-acmnet-* runs/runs/thumos14-rskp-* --annotations thumos14\n"
        "  wstal-bench diagnose detections.json --annotations thumos14 --out diagnosis",
    )
    command.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="detection files, or folders of finished runs"
    )
    command.add_argument(
        "--annotations", type=Path, metavar="GT.json", help="ground truth: file, or folder with annotations.json"
    )
    command.add_argument("--subset", metavar="S", help="subset of the annotations (default: the test subset)")
    command.add_argument(
        "--protocol", default="anet", metavar="P", help="list of videos: anet, anet-210 or anet-212 (default: anet)"
    )
    command.add_argument("--tious", metavar="A:STEP:B", help="tIoU thresholds (default: the data set's)")
    command.add_argument(
        "--coverage",
        choices=("clip", "drop"),
        default="clip",
        help="keep instances that are longer than their video, or drop them as the released tool does (default: clip)",
    )
    command.add_argument("--as-released", action="store_true", help="repeat two faults of the released tool")
    command.add_argument("--out", type=Path, metavar="DIR", help="write Markdown, CSV, figures and one HTML file here")
    add_json_option(command)


def handle(arguments: argparse.Namespace) -> int:
    """Diagnose detections."""
    from harness.io.atomic import atomic_write
    from harness.pages.diagnosis import diagnosis_page
    from harness.pages.formats import files, terminal_table
    from harness.pages.html import html_report
    from harness.pages.model import SYNTHETIC_BANNER, Table
    from harness.studies.diagnosis import DiagnosisOptions, diagnose_all, to_json

    options = DiagnosisOptions(
        arguments.annotations,
        arguments.subset,
        arguments.protocol,
        arguments.tious,
        arguments.coverage,
        arguments.as_released,
    )
    found = diagnose_all(arguments.paths, options)
    page = diagnosis_page(found)
    if arguments.json:
        print_json([to_json(one) for one in found])
    else:
        if page.synthetic:
            print(SYNTHETIC_BANNER, end="\n\n")
        print(page.blocks[0])
        for table in (block for block in page.blocks if isinstance(block, Table)):
            print(f"\n{table.caption}\n{terminal_table(table)}")
    if arguments.out:
        for name, text in files([page]).items():
            atomic_write(arguments.out / name, text.encode())
        atomic_write(arguments.out / "diagnosis.html", html_report([page], "Diagnosis of detections").encode())
    say(*(f"{one.name}: {note}" for one in found for note in one.notes))
    where = f"; {arguments.out / 'diagnosis.html'}" if arguments.out else ""
    truth = arguments.annotations or "the ground truth that the runs keep"
    say(f"Done: {sum(len(one.seeds) for one in found)} diagnosed against {truth}{where}")
    return 0
