"""Command `wstal-bench paper cost`: what methods cost, at the inputs of Table IX."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_json_option, add_results_option, method_name
from harness.io.console import say
from wstal.errors import UserError

if TYPE_CHECKING:
    from harness.studies.cost import CostFile


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "cost",
        handle=handle,
        help="parameters, multiply-adds, memory and time of methods at the inputs of the paper's Table IX",
        description="Measure a training step and the scoring of a video at [1, 750 | 75 | 400, 2048], and store it in\n"
        "DIR/cost.json: parameters; multiply-adds of the forward pass, by fvcore and by torch; peak memory and\n"
        "time on the CPU, each step in a fresh process. Other work at the same time spoils the times. Table IX as\n"
        "published and as the paper counted is printed before it.",
        epilog="examples:\n"
        "  wstal-bench paper cost                       # every installed method, minutes each\n"
        "  wstal-bench paper cost --method rmgcl-gksa   # one, beside what the file holds of others\n"
        "  wstal-bench paper cost --stored              # what the file holds, in a second",
    )
    command.add_argument("--method", type=method_name, metavar="M", help="this method alone (default: all)")
    command.add_argument("--stored", action="store_true", help="measure nothing: show what is stored")
    add_results_option(command)
    add_json_option(command, "print the measurements as JSON")


def handle(arguments: argparse.Namespace) -> int:
    """Measure methods one by one, each stored as soon as it is done; or show what is stored."""
    from harness.io.encoding import pretty_json
    from harness.io.text import did_you_mean
    from harness.studies.cost import CostFile

    path = arguments.results / CostFile.FILE
    if arguments.stored:
        if not path.exists():
            raise UserError(f"{path} is not there. Measure with `wstal-bench paper cost`, or give the right --results.")
        cost = CostFile.load(path)
        names = list(cost.methods)
        if arguments.method is not None:
            if arguments.method not in names:
                hint = did_you_mean(arguments.method, names)
                raise UserError(f"{path} holds no {arguments.method!r}{hint} It holds: {', '.join(names) or 'none'}.")
            names = [arguments.method]
    else:
        cost, names = _measured(path, arguments.method)
    shown = cost.model_copy(update={"methods": {name: cost.methods[name] for name in names}})
    if arguments.json:
        print(pretty_json(shown.to_json()).decode(), end="")
    else:
        _print(shown)
    _say_uncounted(shown)
    if any(row.peak_mb is None for cost in shown.methods.values() for row in cost.rows):
        say("Peak memory was not measured: it is read from /proc, which only Linux has.")
    say(f"Done: {len(names)} method(s) {'read from' if arguments.stored else 'measured, in'} {path}")
    return 0


def _measured(path: Path, method: str | None) -> tuple[CostFile, list[str]]:
    """Measure one method or all; refuse before minutes of measuring what cannot be done."""
    from harness.io.atomic import check_writable
    from harness.registry import load_method, weak_methods
    from harness.studies.cost import CostFile, measure, store_cost

    names = weak_methods() if method is None else [method]
    for name in names:
        load_method(name)
    if path.exists():
        CostFile.load(path)
    check_writable(path.parent)
    for name in names:
        cost = store_cost(path, name, measure(name, say))
    return cost, names


def _print(cost: CostFile) -> None:
    from harness.pages.cost import cost_tables
    from harness.pages.formats import terminal_table
    from harness.paper.tables import find_table

    for table in cost_tables(find_table("IX"), cost):
        print(f"{table.caption}:\n\n{terminal_table(table)}\n")


def _say_uncounted(cost: CostFile) -> None:
    """Report the operators that fvcore does not count, with the most runs of each in a step."""
    from harness.studies.cost_counting import IGNORABLE

    for name, method in cost.methods.items():
        for known, what in ((True, "without multiply-adds"), (False, "not declared, below 0.1 %")):
            most: Counter[str] = Counter()
            for row in method.rows:
                most |= Counter({name: n for name, n in row.unsupported.items() if (name in IGNORABLE) == known})
            if most:
                listed = ", ".join(f"{operator.removeprefix('aten::')} {times}" for operator, times in most.items())
                say(f"{name}: operators that fvcore does not count, {what}, and how often a step runs them: {listed}")
