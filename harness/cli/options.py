"""What several commands share: the parser, options, and how a command speaks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TypeAlias

from harness.io.console import say
from harness.registry import RENAMED

MOST_THREADS = 1024
EXIT_CODES = """\
exit codes:
  0  done
  1  an internal error: please report it with its traceback
  2  wrong usage or bad input; the message says what, where and the remedy
  3  data that a data set lists is missing
  4  the store cannot be written, or a run failed
  5  two runs that should agree differ (records diff, check determinism)
"""


class Parser(argparse.ArgumentParser):
    """Whole option names only, and descriptions printed as they are written."""

    def __init__(self, **keywords: object) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **keywords,  # type: ignore[arg-type]
        )


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def count(text: str) -> int:
    """An option that is a whole number from 1."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST_THREADS:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {MOST_THREADS}, got {text!r}")
    return int(text)


def method_name(text: str) -> str:
    """Read a method's name; a name of an earlier version still works, and the new one is told."""
    if text in RENAMED:
        say(f"The method `{text}` is now called `{RENAMED[text]}`.")
    return RENAMED.get(text, text)


def add_data_options(command: argparse.ArgumentParser, required: bool = False) -> None:
    """Options that name a data set."""
    group = command.add_argument_group("data")
    group.add_argument(
        "--data",
        type=Path,
        required=required,
        metavar="DIR",
        help="folder with features/" + ("" if required else " (default: the embedded synthetic data set)"),
    )
    group.add_argument("--annotations", type=Path, metavar="PATH", help="file or folder (default: found beside DIR)")
    group.add_argument(
        "--descriptor",
        metavar="D",
        help="a shipped descriptor's name or a dataset.toml (default: DIR/dataset.toml, else recognised)",
    )
    group.add_argument(
        "--labels",
        choices=("official", "annotations"),
        default="official",
        help="where video-level training labels come from, if both exist (default: official)",
    )
    group.add_argument("--streams", nargs="+", metavar="S", help="use these feature streams only, for example rgb")
    group.add_argument("--allow-missing", action="store_true", help="go on with the videos that have features")


def add_training_options(command: argparse.ArgumentParser) -> None:
    """Options of commands that train."""
    group = command.add_argument_group("training")
    group.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="change options of the recipe, for example train.epochs=20",
    )
    group.add_argument(
        "--held-out",
        type=float,
        metavar="SHARE",
        help="score this share of the training videos in place of the test set, to choose options",
    )
    group.add_argument("--full-size", action="store_true", help="synthetic data at 2048 columns and T = 750")
    group.add_argument(
        "--store", type=Path, default=Path("runs"), metavar="STORE", help="folder of runs (default: runs)"
    )
    group.add_argument("--device", default="auto", metavar="D", help="auto, cpu or cuda (default: auto)")
    group.add_argument(
        "--threads",
        type=count,
        metavar="N",
        help="CPU threads a run (default: all cores, shared by the jobs; 1 on synthetic data)",
    )


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print mAPs by protocol as a table."""
    from tabulate import tabulate

    columns: list[str] = []
    for entry in metrics.values():
        columns += [name for name in (*entry["mAP"], *entry["averages"]) if name not in columns]
    rows = []
    for protocol, entry in metrics.items():
        cells = entry["mAP"] | entry["averages"]
        counts = [f"{entry[name]}" for name in ("videos", "instances", "detections")]
        rows.append([protocol, *(f"{cells[name]:.2f}" if name in cells else "" for name in columns), *counts])
    headers = ["mAP (%)", *columns, "videos", "instances", "detections"]
    print(tabulate(rows, headers=headers, disable_numparse=True))
