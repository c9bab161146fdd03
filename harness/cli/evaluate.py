"""Command `wstal-bench evaluate`: score detections."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_json_option, add_results_option
from harness.cli.output import print_json, print_metrics, print_table
from harness.io.console import say
from wstal.errors import MissingDataError, UserError

if TYPE_CHECKING:
    from harness.studies.detection_score import ScoredFile

SOURCES = """\
--keep takes a file of detections by others, with one table each, and writes one record each to
DIR/rescored/NAME.json: numbers under each protocol that applies, digests and provenance, not the detections.
  [autoloc]
  detections = "detections/autoloc.json"        # ActivityNet-style
  annotations = "thumos14"                      # file, or folder with annotations.json
  method = "AutoLoc"
  source = "who released the file, where, which commit or entry"
  # optional: features, note, dataset, video_prefix (that annotations lack), strip_prefix (to leave off),
  # subset, protocols = [...], tious, published (a row of the published tables that the
  # numbers should give, as "table_I/autoloc")
"""


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "evaluate",
        handle=handle,
        help="score detections of a file or of a run under named evaluation protocols",
        description="Score ActivityNet-style detections against ActivityNet-style annotations, or a finished run\n"
        "against the ground truth that it keeps. mAPs are percent.",
        epilog=f"{SOURCES}\n"
        "examples:\n"
        "  wstal-bench evaluate detections.json --annotations thumos14/annotations.json --protocol all\n"
        "  wstal-bench evaluate detections.json --annotations anet13.json --subset validation \\\n"
        "      --tious 0.5:0.05:0.95 --json\n"
        "  wstal-bench evaluate runs/runs/RUN --per-class\n"
        "  wstal-bench evaluate my-sources.toml --keep",
    )
    what = "{'results': {video: [...]}}, or the folder of a finished run; with --keep a TOML of such files"
    command.add_argument("path", type=Path, metavar="FILE|RUN", help=what)
    truth = "file, or folder with annotations.json (and Ambiguous_test.txt); a run has its own"
    command.add_argument("--annotations", type=Path, metavar="GT.json", help=truth)
    command.add_argument("--subset", metavar="S", help="subset of the annotations (default: the test subset)")
    protocol = "a name of `wstal-bench ls protocols`, or all that apply (default: anet, of a run its headline)"
    command.add_argument("--protocol", metavar="P", help=protocol)
    command.add_argument("--tious", metavar="A:STEP:B", help="tIoU thresholds (default: the data set's)")
    prefix = "beginning of video names to leave off in the file that has it, as v_ (default: none)"
    command.add_argument("--strip-prefix", default="", metavar="P", help=prefix)
    command.add_argument("--per-class", action="store_true", help="list AP of every class too (JSON always does)")
    add_json_option(command)
    kept = command.add_argument_group("detections by others")
    kept.add_argument("--keep", action="store_true", help="score the files of a TOML and keep the numbers, see below")
    folder = "with --keep: folder that the TOML's paths are relative to (default: its own)"
    kept.add_argument("--data", type=Path, metavar="DIR", help=folder)
    add_results_option(kept, "with --keep: the records go to DIR/rescored (default: results)")


def handle(arguments: argparse.Namespace) -> int:
    """Score detections."""
    if arguments.keep:
        return _keep(arguments)
    if arguments.path.suffix == ".toml":
        raise UserError(f"{arguments.path} is no detection file. To score the files that it names, add --keep.")
    from wstal.evaluation import to_json

    scored = _scored(arguments)
    say(*scored.remarks)
    results = {name: to_json(result) for name, result in scored.results.items()}
    if arguments.json:
        print_json(results)
    else:
        print_metrics(results)
        if arguments.per_class:
            _print_classes(scored)
    truth = f"subset {scored.subset!r} of {scored.annotations.path}"
    say(f"Done: {len(scored.detections)} detections against {truth}")
    return 0


def _scored(arguments: argparse.Namespace) -> ScoredFile:
    """Score the file or the run that the options name."""
    from harness.studies.detection_score import score_file, score_run

    every = arguments.protocol == "all"
    if arguments.path.is_dir():
        if arguments.strip_prefix:
            raise UserError("--strip-prefix is for detection files; a run's videos have the names of its annotations.")
        named = [arguments.protocol] if arguments.protocol else ["headline"]
        protocols = None if every else named
        return score_run(arguments.path, arguments.annotations, arguments.subset, protocols, arguments.tious)
    if not arguments.path.exists():
        raise MissingDataError(
            f"{arguments.path} is not there. Name a detection file, or the folder of a finished run."
        )
    if arguments.annotations is None:
        raise UserError(f"Name the ground truth of {arguments.path} with --annotations.")
    protocols = None if every else [arguments.protocol or "anet"]
    return score_file(
        arguments.path, arguments.annotations, arguments.subset, protocols, arguments.tious, arguments.strip_prefix
    )


def _print_classes(scored: ScoredFile) -> None:
    """Print AP of each class, best first."""
    import numpy as np

    from wstal.evaluation import tiou_key

    for name, result in scored.results.items():
        means = result.ap.mean(axis=1)
        best_first = sorted(np.flatnonzero(result.positives).tolist(), key=lambda label: -means[label])
        rows = [
            [
                result.classes[label], result.positives[label], *(f"{100 * ap:.2f}" for ap in result.ap[label]),
                f"{100 * means[label]:.2f}",
            ]
            for label in best_first
        ]  # fmt: skip
        print(f"\nAP (%) of each class under {name}:\n")
        print_table(rows, ["class", "instances", *map(tiou_key, result.tious), "mean"])


def _keep(arguments: argparse.Namespace) -> int:
    """Score detections that their authors released, and keep the numbers."""
    from tabulate import tabulate

    from harness.pages.released import spread_rows
    from harness.studies.released import FOLDER, rescore, write_rescored

    # every file is scored before the first record is written
    notes: list[str] = []
    records = rescore(arguments.path, arguments.data, notes)
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
