"""Parser and options that several commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from harness.io.text import did_you_mean, printable
from harness.registry import current_name

MOST_THREADS = 1024
EXIT_CODES = """\
exit codes:
  0  done
  1  an internal error: please report it with its traceback
  2  wrong usage or invalid input; the message names the problem, its place and the remedy
  3  data of a data set is missing
  4  the store or standard output cannot be written, or a run failed
  5  two runs that should agree differ (records diff, debug determinism)
  130, 143, 129  ended by Ctrl-C, SIGTERM or SIGHUP; the same command goes on
"""


class Parser(argparse.ArgumentParser):
    """Parser that takes whole option names only, prints descriptions as they are written and suggests what was meant.

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

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse words; one that this command does not know is an error here, where its options are known.

        Args:
            args: the words.
            namespace: object that takes the values.
        """
        args = sys.argv[1:] if args is None else args
        if not args and self._subparsers is not None:
            self.print_help(sys.stderr)
            self.exit(2)
        if args and not args[0].startswith("-") and not self._get_positional_actions():
            self.error(self._unknown_word(args[0]))
        # first: a mistyped option is often a required one
        for word in args:
            option = word.partition("=")[0]
            if option == "--" or (self._subparsers is not None and not option.startswith("-")):
                break
            if option.startswith("--") and option not in self._option_string_actions:
                self.error(self._unknown_option(option))
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0]
            self.error(f"unknown {'option' if word.startswith('-') else 'argument'} '{printable(word)}'")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Report wrong usage, where the help is found and, last, what is wrong, and end the program.

        Args:
            message: what is wrong.
        """
        self.exit(2, f"usage: {self.prog} ... (`{self.prog} --help` explains it)\nerror: {message}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is none of an argument's choices, and name the nearest one."""
        if action.choices is None or value in action.choices:
            return
        names, given = list(map(str, action.choices)), printable(str(value))
        message = f"'{given}'{did_you_mean(given, names)} Choose from: {', '.join(names)}"
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"unknown {str(action.metavar or 'command').lower()} {message}")
        raise argparse.ArgumentError(action, f"unknown value {message}")

    def _unknown_word(self, word: str) -> str:
        """Say that a command takes options alone, and which one may be meant: the first, after `--help`."""
        first = self._actions[1]
        meant = f"; did you mean `{first.option_strings[0]} {printable(word)}`?" if first.nargs is None else ""
        return f"unknown argument '{printable(word)}'{meant}"

    def _unknown_option(self, option: str) -> str:
        """Say that there is no such option, and which one may be meant, of the command or of the training."""
        known = {name: name for name in self._option_string_actions if name.startswith("--")}
        if "--set" in known:
            from harness.runs.overrides import training_options  # loads torch

            meant = training_options().items()
            known = {f"--{word.replace('_', '-')}": f"--set {name}=VALUE" for word, name in meant} | known
        near = get_close_matches(option.replace("_", "-"), known, n=1)
        return f"unknown option '{printable(option)}'" + (f"; did you mean `{known[near[0]]}`?" if near else "")


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
    if not required:
        descriptor += "; without --data activitynet13 or fineaction, to have the synthetic set that is like it"
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
    observe = "after every N epochs score the test set, judge pseudo labels and compare gradients of added losses,\n"
    observe += "beside the result and never for it"
    group.add_argument("--observe", type=count, metavar="N", help=observe)
    add_store_option(group)
    add_device_option(group)
    threads = "CPU threads per run (default: all cores, shared by the jobs; 1 on synthetic data)"
    group.add_argument("--threads", type=count, metavar="N", help=threads)
