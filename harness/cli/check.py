"""Command `check`: runs compared with their own repeats."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from harness.cli.options import EXIT_CODES, Commands, add_data_options, count, method_name
from harness.io.console import say
from wstal.errors import RunError, UserError

if TYPE_CHECKING:
    from harness.studies.determinism import DeterminismCheck

DIFFER = 5
ALL = "all"


def add(commands: Commands) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "check",
        help="check that a method's runs, repeated, give the same bits",
        description="Checks of the harness and its methods on this machine.",
        epilog="example:\n  wstal-bench check determinism rmgcl-gksa\n\n" + EXIT_CODES,
    )
    add_determinism(command.add_subparsers(title="checks", metavar="determinism", required=True))


def add_determinism(commands: Commands) -> argparse.ArgumentParser:
    """Declare `determinism` and return its parser."""
    command = commands.add_parser(
        "determinism",
        help="run a method several times and compare weights, scores, detections and records bit by bit",
        description="Repeat the run of a method, each time in a fresh process and a store of its own, and compare the\n"
        f"files. On one number of threads all bits must agree, else the exit code is {DIFFER}. Another seed must give\n"
        "other bits. How far another number of threads moves them is reported, not judged. On CUDA, operators without\n"
        "a deterministic implementation are named. Without --data the runs are short and on a small generated data\n"
        "set, under a minute a method; with it they are whole runs: --set train.epochs=10 makes them shorter.",
        epilog="examples:\n"
        "  wstal-bench check determinism rmgcl-gksa\n"
        "  wstal-bench check determinism all --threads 1,2,4 --json\n"
        "  wstal-bench check determinism acmnet --data ~/thumos14 --set train.epochs=10 --device cuda\n\n" + EXIT_CODES,
    )
    command.add_argument("method", type=method_name, metavar="METHOD", help=f"see `wstal-bench ls methods`, or {ALL}")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="the control has N + 1 (default: 0)")
    command.add_argument(
        "--threads", type=_counts, default=(1, 2), metavar="N,N", help="numbers of CPU threads (default: 1,2)"
    )
    command.add_argument("--repeats", type=count, default=2, metavar="N", help="runs on each number (default: 2)")
    command.add_argument("--device", default="auto", metavar="D", help="auto, cpu or cuda (default: auto)")
    command.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="change options of the recipe",
    )
    add_data_options(command)
    # without a default of its own, which would undo `audit --json determinism`
    command.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, and only that, on stdout"
    )
    command.set_defaults(handle=handle_determinism)
    return command


def handle_determinism(arguments: argparse.Namespace) -> int:
    """Repeat runs, compare them, and print what was found."""
    import tempfile
    from pathlib import Path

    from harness.cli.inputs import data_request
    from harness.data.tiny import write_tiny
    from harness.registry import load_method, method_entries
    from harness.runs.request import RunRequest
    from harness.studies.determinism import QUICK, check_determinism

    if arguments.repeats < 2:
        raise UserError("--repeats wants 2 or more: one run has nothing to agree with.")
    names = list(method_entries()) if arguments.method == ALL else [arguments.method]
    for name in names:
        load_method(name)
    quick = () if arguments.data else QUICK  # what --set states of the same options comes later and wins
    checks: dict[str, DeterminismCheck] = {}
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="wstal-bench-check-") as folder:
        data = data_request(arguments)
        if not arguments.data:
            data = data.model_copy(update={"data": write_tiny(Path(folder))})
        for name in names:
            request = RunRequest(
                method=name,
                seed=arguments.seed,
                data=data,
                overrides=(*quick, *arguments.assignments),
                device=arguments.device,
            )
            try:
                checks[name] = check_determinism(request, arguments.threads, arguments.repeats, say)
            except RunError as error:
                failures.append(f"{name}: {error}")  # the others are checked
    if getattr(arguments, "json", False):
        found = {
            name: {"device": check.device, "operators": check.operators, "pairs": [p.to_json() for p in check.pairs]}
            for name, check in checks.items()
        }
        print(json.dumps(found))
    else:
        _print(checks)
    if failures:
        raise RunError("\n".join(failures))
    pairs = [pair for check in checks.values() for pair in check.pairs]
    wrong = [pair for pair in pairs if not pair.good]
    for pair in wrong:
        say(f"{pair.method}, {pair.threads} thread(s), beside {pair.beside}: {pair.complaint}")
    repeats = [pair for pair in pairs if pair.kind == "repeat"]
    agree = sum(pair.good for pair in repeats)
    say(f"Done: {len(checks)} method(s), {agree} of {len(repeats)} pairs of repeats agree, {len(wrong)} finding(s)")
    return DIFFER if wrong else 0


def _counts(text: str) -> tuple[int, ...]:
    found = tuple(map(count, text.split(",")))
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"expected distinct numbers, got {text!r}")
    return found


def _print(checks: dict[str, DeterminismCheck]) -> None:
    from tabulate import tabulate

    from harness.studies.determinism import rows

    print(tabulate(rows(checks.values()), headers="keys", disable_numparse=True), end="\n\n")
    print("Weights, scores and mAP: the largest difference. Operators that CUDA cannot repeat:")
    for name, check in checks.items():
        if check.operators is None:
            again = f"`wstal-bench check determinism {name} --device cuda`"
            print(f"  {name}: not measured here, the runs were on the CPU; {again}")
        else:
            print(f"  {name} on {check.device}: {', '.join(check.operators) or 'none'}")
