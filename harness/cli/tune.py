"""Command `tune`: choose a method's learning rate and epochs on held-out training videos."""

from __future__ import annotations

import argparse
import itertools

from harness.cli import options
from harness.cli.inputs import run_request
from harness.cli.output import print_json, print_table
from harness.cli.planning import add_jobs_option, engine_from
from harness.io.console import ProgressReport, say
from wstal.errors import UserError

RATES, EPOCHS = (1 / 3, 1.0, 3.0), (0.5, 1.0)
SHARE = 0.25


def add(commands: options.Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "tune",
        handle=handle,
        help="choose a method's learning rate and epochs on held-out training videos",
        description="Train a method with each pair of a learning rate and a number of epochs on three quarters of the\n"
        "training videos, score the others, and print a table, best first. By default the pairs are a third, once and\n"
        "three times the recipe's rate, with half of and all its epochs: six runs. The test videos are never read.\n"
        "Segments of the held-out training videos are read to score them, which a report must state.",
        epilog="examples:\n"
        "  wstal-bench tune acmnet --data ~/my-videos\n"
        "  wstal-bench tune cola --data ~/my-videos --rates 1e-4 1e-3 --epochs 50 200",
    )
    command.add_argument("method", type=options.method_name, metavar="METHOD", help="see `wstal-bench ls methods`")
    command.add_argument("--rates", type=positive, nargs="+", metavar="R", help="learning rates to try")
    command.add_argument(
        "--epochs", type=options.whole_number(1, 1_000_000), nargs="+", metavar="E", help="numbers of epochs to try"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of every run (default: 0)")
    options.add_data_options(command)
    options.add_training_options(command)
    add_jobs_option(command)
    options.add_json_option(command)


def positive(text: str) -> float:
    """Read a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def handle(arguments: argparse.Namespace) -> int:
    """Try the pairs and print the table."""
    from harness.records.grouping import average
    from harness.records.store import Store
    from harness.records.words import widest_average
    from harness.runs.overrides import parse_assignments
    from harness.runs.spec import plan_run
    from harness.sweeps.jobs import Planner
    from harness.sweeps.sweep import run_jobs

    given = parse_assignments(arguments.assignments)
    if taken := {"train.learning_rate": "--rates", "train.epochs": "--epochs"}.keys() & given.keys():
        raise UserError(
            f"tune chooses {' and '.join(sorted(taken))} itself: give --rates and --epochs in place of --set."
        )
    arguments.held_out = SHARE if arguments.held_out is None else arguments.held_out
    template = run_request(arguments).model_copy(update={"method": None})
    with ProgressReport() as progress:
        source = template.open(progress)
        if not len(source.ground_truth("test")):  # of the held-out videos
            raise UserError("The held-out training videos have no annotated instance, so they can choose nothing.")
        recipe = plan_run(arguments.method, arguments.seed, source, given).recipe.train
        rates = arguments.rates or [float(f"{factor * recipe.learning_rate:.2g}") for factor in RATES]
        epochs = arguments.epochs or sorted({max(1, round(factor * recipe.epochs)) for factor in EPOCHS})
        pairs, jobs = list(itertools.product(rates, epochs)), []
        for rate, count in pairs:
            assignments = (*template.overrides, f"train.learning_rate={rate:g}", f"train.epochs={count}")
            one = template.model_copy(update={"overrides": assignments})
            (job,) = Planner(source, one, (arguments.seed,)).methods([arguments.method])
            jobs.append(job)
    with engine_from(arguments, source, len(jobs)) as engine:
        say(f"{len(jobs)} runs on {source.name}, {engine.slots} at a time, {engine.threads} thread(s) each")
        records = run_jobs(jobs, Store(arguments.store), engine)
    over = widest_average(records[0].scored.averages)
    found = [
        {"rate": rate, "epochs": count, f"mAP {over}": average(record), "detections": record.scored.detections}
        for (rate, count), record in zip(pairs, records, strict=True)
    ]
    found.sort(key=lambda row: -row[f"mAP {over}"])
    if arguments.json:
        print_json(found)
        return 0
    print_table([row | {"rate": f"{row['rate']:g}", f"mAP {over}": f"{row[f'mAP {over}']:.1f}"} for row in found])
    best = found[0]
    if best[f"mAP {over}"] == 0:
        say("Nothing was found with any of them. Try more epochs (--epochs) or other rates (--rates).")
        return 0
    chosen = {"train.learning_rate": f"{best['rate']:g}", "train.epochs": best["epochs"]}
    request = template.model_copy(
        update={
            "method": arguments.method,
            "seed": arguments.seed,
            "data": template.data.model_copy(update={"held_out": None}),
            "overrides": (*template.overrides, *(f"{name}={value}" for name, value in chosen.items())),
        }
    )
    say(f"Best on the held-out training videos. To train on all: {request.command_line()}")
    return 0
