"""Command `wstal-bench predict`: apply a trained run to other videos."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.inputs import stored_from
from harness.cli.options import Commands, add_data_options, add_device_option
from harness.io.console import say
from wstal.errors import UserError

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.data.source import Subset


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "predict",
        handle=handle,
        help="find actions in other videos with a trained run",
        description="Score the videos of a folder with the weights of a finished run and write their detections.\n"
        "The folder may hold one subset only. annotations.json must list its videos; its times are not used.",
        epilog="example:\n  wstal-bench predict runs/runs/RUN --data ~/my-videos --subset test --out detections.json",
    )
    command.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    add_data_options(command, required=True)
    command.add_argument("--subset", required=True, metavar="S", help="train, test, or the annotation file's own name")
    command.add_argument("--out", type=Path, required=True, metavar="DETECTIONS.json", help=".json or .json.gz")
    add_device_option(command)


def handle(arguments: argparse.Namespace) -> int:
    """Apply a trained run to other videos."""
    from harness.data.detections import write_detections
    from harness.io.console import ProgressReport
    from harness.runs.devices import pick_device
    from harness.runs.prediction import predict

    if not arguments.out.name.endswith((".json", ".json.gz")):
        raise UserError(f"{arguments.out}: detections are JSON. Give --out a name that ends in .json or .json.gz.")
    source = stored_from(arguments)
    say(*source.notes)
    videos = source.videos(_subset(source, arguments.subset))
    with ProgressReport() as progress:
        detections = predict(arguments.run, videos, pick_device(arguments.device), progress.update)
    write_detections(arguments.out, detections)
    say(f"Done: {len(detections)} detections in {len(videos)} videos, written to {arguments.out}")
    return 0


def _subset(data: Dataset, name: str) -> Subset:
    """Return the subset with this name, either `train` or `test` or the annotation file's own name."""
    names: dict[str, Subset] = {"train": "train", "test": "test"}
    names |= {files.name: subset for subset, files in data.subsets.items() if files.name is not None}
    if name not in names:
        raise UserError(f"Unknown subset {name!r} of {data.data_dir}. Subsets: {', '.join(names)}.")
    return names[name]
