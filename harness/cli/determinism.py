"""Command `wstal-bench debug determinism`: runs compared with their own repeats."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.cli import options
from harness.cli.inputs import run_request
from harness.cli.output import print_json, print_table
from harness.io.console import say
from wstal.errors import RunError, UserError

if TYPE_CHECKING:
    from harness.studies.determinism import DeterminismCheck

DIFFER = 5
ALL = "all"


def add(commands: options.Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "determinism",
        handle=handle,
        help="run a method several times and compare weights, scores, detections and records bit by bit",
        description="Repeat the run of a method, each time in a fresh process and a store of its own, and compare the\n"
        f"files. On one number of threads all bits must agree, else the exit code is {DIFFER}. Another seed must give\n"
        "other bits. How far another number of threads moves them is reported, not judged. On CUDA, operators without\n"
        "a deterministic implementation are named. Without --data the runs are short and on a small generated data\n"
        "set, under a minute a method; with it they are whole runs: --set train.epochs=10 makes them shorter.",
        epilog="examples:\n"
        "  wstal-bench debug determinism rmgcl-gksa\n"
        "  wstal-bench debug determinism all --threads 1,2,4 --json\n"
        "  wstal-bench debug determinism acmnet --data ~/thumos14 --set train.epochs=10 --device cuda",
    )
    methods = f"see `wstal-bench ls methods`, or {ALL}"
    command.add_argument("method", type=options.method_name, metavar="METHOD", help=methods)
    command.add_argument("--seed", type=int, default=0, metavar="N", help="the control has N + 1 (default: 0)")
    numbers = "numbers of CPU threads (default: 1,2)"
    command.add_argument("--threads", type=_counts, default=(1, 2), metavar="N,N", dest="counts", help=numbers)
    repeats = "runs on each number (default: 2)"
    command.add_argument("--repeats", type=options.count, default=2, metavar="N", help=repeats)
    command.add_argument("--twins", type=options.count, dest="repeats", help=argparse.SUPPRESS)  # its former name
    options.add_device_option(command)
    options.add_set_option(command)
    options.add_data_options(command)
    options.add_json_option(command)


def handle(arguments: argparse.Namespace) -> int:
    """Repeat runs, compare them, and print what was found."""
    import tempfile
    from pathlib import Path

    from harness.data.tiny import write_tiny
    from harness.registry import load_method, method_entries
    from harness.studies.determinism import QUICK, check_determinism

    if arguments.repeats < 2:
        raise UserError("--repeats wants 2 or more: one run has nothing to agree with.")
    names = list(method_entries()) if arguments.method == ALL else [arguments.method]
    for name in names:
        load_method(name)
    checks: dict[str, DeterminismCheck] = {}
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="wstal-bench-check-") as folder:
        if not arguments.data:
            # what --set states of the same options comes later and wins
            arguments.data, arguments.assignments = write_tiny(Path(folder)), [*QUICK, *arguments.assignments]
        request = run_request(arguments)
        for name in names:
            try:
                named = request.model_copy(update={"method": name})
                checks[name] = check_determinism(named, arguments.counts, arguments.repeats, say)
            except RunError as error:
                failures.append(f"{name}: {error}")  # the others are checked
    if arguments.json:
        print_json({name: check.to_json() for name, check in checks.items()})
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
    found = tuple(map(options.count, text.split(",")))
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"expected distinct numbers, got {text!r}")
    return found


def _print(checks: dict[str, DeterminismCheck]) -> None:
    from harness.studies.determinism import rows

    print_table(rows(checks.values()), end="\n\n")
    print("Weights, scores and mAP: the largest difference. Operators that CUDA cannot repeat:")
    for name, check in checks.items():
        if check.operators is None:
            again = f"`wstal-bench debug determinism {name} --device cuda`"
            print(f"  {name}: not measured here, the runs were on the CPU; {again}")
        else:
            print(f"  {name} on {check.device}: {', '.join(check.operators) or 'none'}")
