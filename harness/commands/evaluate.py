"""`wstal-bench evaluate`: score a detection file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from harness.commands.options import EXIT_CODES, Commands, print_metrics, say
from wstal.errors import UserError


def add(commands: Commands) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "evaluate",
        help="score a detection file under named evaluation protocols",
        description="Score ActivityNet-style detections against ActivityNet-style annotations. mAPs are percent.",
        epilog="examples:\n"
        "  wstal-bench evaluate detections.json --annotations thumos14/annotations.json --protocol all\n"
        "  wstal-bench evaluate detections.json --annotations anet13.json --subset validation \\\n"
        "      --tious 0.5:0.05:0.95 --json\n\n" + EXIT_CODES,
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
    command.add_argument("--json", action="store_true", help="print JSON, and only that, on stdout")
    command.set_defaults(handle=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Score a detection file."""
    from harness.data.annotations import read_annotations
    from harness.data.detections import read_detections
    from wstal.evaluation import default_tious, get_protocol, parse_tious, protocols_for, to_json
    from wstal.evaluation import evaluate as evaluate_detections

    annotations = read_annotations(arguments.annotations)
    subset = arguments.subset or annotations.default_test_subset()
    truth = annotations.ground_truth(subset)
    named = arguments.protocol != "all"
    protocols = (get_protocol(arguments.protocol),) if named else protocols_for(truth)
    tious = parse_tious(arguments.tious) if arguments.tious is not None else default_tious(_family(annotations.classes))
    detections = read_detections(arguments.detections, annotations.classes)
    if not len(detections):
        raise UserError(f"{arguments.detections} has no detections: every list in `results` is empty.")
    silent = set(truth.videos) - {detections.videos[index] for index in set(detections.video.tolist())}
    if silent:
        say(f"{len(silent)} of the {len(truth.videos)} videos of subset {subset!r} have no detection")
    results = {}
    for protocol in protocols:
        result = evaluate_detections(detections, truth, protocol, tious)
        results[protocol.name] = to_json(result)
        if protocol.expected_videos not in (None, result.videos):
            say(f"{protocol.name}: {result.videos} videos, where published numbers have {protocol.expected_videos}")
        if result.unlisted:
            fate = "were left out" if protocol.drops_unlisted else "count as false positives"
            say(f"{protocol.name}: {result.unlisted} detections in videos that are not evaluated {fate}")
    if arguments.json:
        print(json.dumps(results))
    else:
        print_metrics(results)
    say(f"Done: {len(detections)} detections against subset {subset!r} of {arguments.annotations}")
    return 0


def _family(classes: tuple[str, ...]) -> str:
    """The shipped data set with exactly these classes, by family; empty where there is none."""
    from harness.data.descriptor import list_digest, shipped_descriptors

    digest = list_digest(classes)
    return next((d.family for d in shipped_descriptors().values() if digest in d.class_sets), "")
