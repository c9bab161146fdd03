"""Command `wstal-bench evaluate`: score a detection file."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.options import Commands, add_json_option
from harness.cli.output import print_json, print_metrics
from harness.io.console import say


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "evaluate",
        handle=handle,
        help="score a detection file under named evaluation protocols",
        description="Score ActivityNet-style detections against ActivityNet-style annotations. mAPs are percent.",
        epilog="examples:\n"
        "  wstal-bench evaluate detections.json --annotations thumos14/annotations.json --protocol all\n"
        "  wstal-bench evaluate detections.json --annotations anet13.json --subset validation \\\n"
        "      --tious 0.5:0.05:0.95 --json",
    )
    command.add_argument("detections", type=Path, metavar="DETECTIONS.json", help="{'results': {video: [...]}}")
    command.add_argument(
        "--annotations",
        type=Path,
        required=True,
        metavar="GT.json",
        help="file, or folder with annotations.json (and Ambiguous_test.txt)",
    )
    command.add_argument("--subset", metavar="S", help="subset of the annotations (default: the test subset)")
    command.add_argument(
        "--protocol",
        default="anet",
        metavar="P",
        help="a name of `wstal-bench ls protocols`, or all that apply (default: anet)",
    )
    command.add_argument("--tious", metavar="A:STEP:B", help="tIoU thresholds (default: the protocol's)")
    command.add_argument(
        "--strip-prefix",
        default="",
        metavar="P",
        help="beginning of video names to leave off in the file that has it, as v_ (default: none)",
    )
    add_json_option(command)


def handle(arguments: argparse.Namespace) -> int:
    """Score a detection file."""
    from harness.studies.detection_score import score_file
    from wstal.evaluation import to_json

    protocols = None if arguments.protocol == "all" else [arguments.protocol]
    scored = score_file(
        arguments.detections,
        arguments.annotations,
        arguments.subset,
        protocols,
        arguments.tious,
        arguments.strip_prefix,
    )
    say(*scored.remarks)
    results = {name: to_json(result) for name, result in scored.results.items()}
    if arguments.json:
        print_json(results)
    else:
        print_metrics(results)
    say(f"Done: {len(scored.detections)} detections against subset {scored.subset!r} of {arguments.annotations}")
    return 0
