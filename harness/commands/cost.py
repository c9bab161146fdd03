"""`wstal-bench cost`: what methods cost, at the inputs of Table IX."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.commands.options import EXIT_CODES, Commands, say


def add(commands: Commands) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "cost",
        help="parameters, multiply-adds, memory and time of methods at the inputs of the paper's Table IX",
        description="Measure a training step and the scoring of a video at [1, 750 | 75 | 400, 2048], and store it in\n"
        "RESULTS/cost.json: parameters; multiply-adds of the forward pass, by fvcore and by torch; peak memory and\n"
        "time on the CPU, each step in a fresh process. Other work at the same time spoils the times.",
        epilog="examples:\n"
        "  wstal-bench cost                           # every installed method, minutes each\n"
        "  wstal-bench cost --method ours             # one, beside what the file holds of others\n\n" + EXIT_CODES,
    )
    command.add_argument("--method", metavar="M", help="measure this method alone (default: all)")
    command.add_argument("--results", type=Path, default=Path("results"), metavar="RESULTS", help="(default: results)")
    command.add_argument("--json", action="store_true", help="print the measurements as JSON")
    command.set_defaults(handle=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Measure methods one by one; each is stored as soon as it is done."""
    from tabulate import tabulate

    from harness.cost import FILE, load_cost, measure, store_cost, true_cost_frame
    from harness.counting import IGNORABLE
    from harness.files import pretty_json
    from harness.registry import load_method, method_entries

    path = arguments.results / FILE
    names = list(method_entries()) if arguments.method is None else [arguments.method]
    for name in names:
        load_method(name)
    if path.exists():
        load_cost(path)  # a damaged file is told of now, not after minutes of measuring
    for name in names:
        cost = store_cost(path, name, measure(name, say))
    shown = cost.model_copy(update={"methods": {name: cost.methods[name] for name in names}})
    if arguments.json:
        print(pretty_json(shown.model_dump(mode="json", by_alias=True)).decode(), end="")
    else:
        print(tabulate(true_cost_frame(shown).to_dict("list"), headers="keys", disable_numparse=True))
    for name in names:
        rows = shown.methods[name].rows
        for known, what in ((True, "without multiply-adds"), (False, "not declared, below 0.1 %")):
            most: dict[str, int] = {}
            for row in rows:
                for operator, times in row.unsupported.items():
                    if (operator in IGNORABLE) == known:
                        most[operator] = max(times, most.get(operator, 0))
            if most:
                listed = ", ".join(f"{operator.removeprefix('aten::')} {times}" for operator, times in most.items())
                say(f"{name}: operators that fvcore does not count, {what}, and how often a step runs them: {listed}")
    say(f"Done: {len(names)} method(s) measured, in {path}")
    return 0
