"""Parser and options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from harness.registry import current_name

MOST_THREADS = 1024
EXIT_CODES = """\
exit codes:
  0  done
  1  an internal error: please report it with its traceback
  2  wrong usage or invalid input; the message names the problem, its place and the remedy
  3  data of a data set is missing
  4  the store or standard output cannot be written, or a run failed
  5  two runs that should agree differ (records diff, check determinism)
  130, 143, 129  ended by Ctrl-C, SIGTERM or SIGHUP; the same command goes on
"""


class Parser(argparse.ArgumentParser):
    """Parser that takes whole option names only and prints descriptions as they are written.

    Args:
        handle: function that does the command's work and returns its exit code. The help of such a command ends with
            the exit codes.
        keywords: further arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, handle: Callable[[argparse.Namespace], int] | None = None, **keywords: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **keywords)
        if handle is not None:
            self.epilog = f"{self.epilog}\n\n{EXIT_CODES}" if self.epilog else EXIT_CODES
            self.set_defaults(handle=handle)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers.

    Args:
        least: smallest number that it accepts.
        most: largest number that it accepts.
    """

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text!r}")
        return int(text)

    return parse


count = whole_number(1, MOST_THREADS)


# types of arguments: a name of an earlier version is translated, with a note on stderr
method_name, plan_name = partial(current_name, "method"), partial(current_name, "plan")


def add_methods_option(command: argparse._ActionsContainer, help: str) -> None:
    """Add `--methods`, names of several."""
    command.add_argument("--methods", type=method_name, nargs="+", metavar="M", help=help)


def add_json_option(
    command: argparse._ActionsContainer, help: str = "print JSON, and only that, on stdout", **keywords: Any
) -> None:
    """Add `--json`, which `harness.cli.output.print_rows` follows.

    Args:
        command: parser or group.
        help: description of the option.
        keywords: further arguments of `add_argument`.
    """
    command.add_argument("--json", action="store_true", help=help, **keywords)


def add_results_option(command: argparse._ActionsContainer, help: str = "(default: results)") -> None:
    """Add `--results`, the folder of stored results."""
    command.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help=help)


def add_store_option(command: argparse._ActionsContainer, help: str = "folder of runs (default: runs)") -> None:
    """Add `--store`, the folder of runs."""
    command.add_argument("--store", type=Path, default=Path("runs"), metavar="STORE", help=help)


def add_device_option(command: argparse._ActionsContainer) -> None:
    """Add `--device`."""
    command.add_argument("--device", default="auto", metavar="D", help="auto, cpu or cuda (default: auto)")


def add_set_option(command: argparse._ActionsContainer) -> None:
    """Add `--set`, whose values are `assignments`."""
    changes = "change options of the recipe, for example train.epochs=20"
    command.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", dest="assignments", help=changes
    )


def add_data_options(command: argparse.ArgumentParser, required: bool = False) -> None:
    """Add the options that name a data set.

    Args:
        command: parser to add them to.
        required: whether `--data` must be given.
    """
    group = command.add_argument_group("data")
    folder = "folder with features/" + ("" if required else " (default: the embedded synthetic data set)")
    group.add_argument("--data", type=Path, required=required, metavar="DIR", help=folder)
    group.add_argument("--annotations", type=Path, metavar="PATH", help="file or folder (default: found beside DIR)")
    descriptor = "a shipped descriptor's name or a dataset.toml (default: DIR/dataset.toml, else recognised)"
    group.add_argument("--descriptor", metavar="D", help=descriptor)
    labels = "source of video-level training labels, if both exist (default: official)"
    group.add_argument("--labels", choices=("official", "annotations"), default="official", help=labels)
    group.add_argument("--streams", nargs="+", metavar="S", help="only feature streams to use, for example rgb")
    group.add_argument("--allow-missing", action="store_true", help="continue with the videos that have features")


def add_training_options(command: argparse.ArgumentParser) -> None:
    """Add the options of commands that train."""
    group = command.add_argument_group("training")
    add_set_option(group)
    held_out = "score this share of the training videos instead of the test set, to choose options"
    group.add_argument("--held-out", type=float, metavar="SHARE", help=held_out)
    scores = "npz file of videos and scores: classes of proposals, with --set localizer.class_score=file"
    group.add_argument("--class-scores", type=Path, metavar="FILE", help=scores)
    group.add_argument("--full-size", action="store_true", help="synthetic data at 2048 columns and T = 750")
    observe = "after every N epochs score the test set and judge pseudo labels, beside the result and never for it"
    group.add_argument("--observe", type=count, metavar="N", help=observe)
    add_store_option(group)
    add_device_option(group)
    threads = "CPU threads per run (default: all cores, shared by the jobs; 1 on synthetic data)"
    group.add_argument("--threads", type=count, metavar="N", help=threads)
