"""`wstal-bench reproduce`: the main job."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.inputs import overrides_from, source_from
from harness.commands.options import EXIT_CODES, Commands, add_data_options, add_training_options, count, say
from wstal.errors import MissingDataError, UserError

if TYPE_CHECKING:
    from harness.data.source import DataSource
    from harness.plans import Row
    from harness.runner import RunSpec

MOST_SEEDS = 10_000
QUICK = 5


def add(commands: Commands) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "reproduce",
        help="train and score every method on a data set, then render its leaderboard (the main job)",
        description="Train every registered method, and every row of the paper's ablations, with several seeds on\n"
        "a data set, score each run under every evaluation protocol that applies, store the records and render\n"
        "the pages.\n\n"
        "Without --data the embedded synthetic data set is used: it shows that everything works, not how\n"
        "good a method is. Runs that are in the store already are not trained again.\n\n"
        "The quick profile trains one seed for a fifth of the schedule's epochs (pages name them), the full\n"
        "one trains as the schedule says, with all its seeds.",
        epilog="examples:\n"
        "  wstal-bench reproduce thumos14\n"
        "  wstal-bench reproduce thumos14 --profile full\n"
        "  wstal-bench reproduce thumos14 --data ~/thumos14 --seeds 0-4\n"
        "  wstal-bench reproduce thumos14 --data ~/thumos14 --table IV V\n"
        "  wstal-bench reproduce thumos14 --data ~/thumos14 --methods acmnet --set train.epochs=200\n\n" + EXIT_CODES,
    )
    command.add_argument("dataset", metavar="DATASET", help="thumos14, activitynet13, activitynet12 or fineaction")
    add_data_options(command)
    what = command.add_mutually_exclusive_group()
    what.add_argument(
        "--methods", nargs="+", metavar="M", help="only these methods (default: all registered, and all ablations)"
    )
    what.add_argument(
        "--table", nargs="+", metavar="T", help="only these ablations: IV, V, VI, VII, figure_5 or readings"
    )
    command.add_argument(
        "--profile", choices=("quick", "full"), help="default: quick on the embedded data, full with --data"
    )
    command.add_argument("--seeds", default=None, metavar="S", help="seeds, as 0-2 or 0,3,5 (default: the schedule's)")
    command.add_argument("--jobs", type=count, metavar="N", help="runs at once (default: one a core, one on a GPU)")
    command.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="records/ and leaderboards/ are written here (default: results)",
    )
    add_training_options(command)
    command.set_defaults(handle=handle)


def handle(arguments: argparse.Namespace) -> int:
    """The main job."""
    from harness.ablations import READINGS
    from harness.plans import find_plan, paper_tables
    from harness.registry import load_method, method_entries
    from harness.reproduce import Job, publish, run_jobs
    from harness.runner import pick_device
    from harness.schedules import schedule_for

    families = ("thumos14", "activitynet12", "activitynet13", "fineaction")
    if arguments.dataset not in families:
        raise UserError(f"Unknown data set {arguments.dataset!r}. Data sets: {', '.join(families)}.")
    if arguments.data is None and arguments.dataset != "thumos14":
        raise MissingDataError(
            f"{arguments.dataset} needs features: give --data DIR with DIR/features/ and annotations.json. "
            "Only thumos14 has a synthetic stand-in."
        )
    source = source_from(arguments)
    if source.family in families and source.family != arguments.dataset:
        raise UserError(f"{arguments.data} holds {source.family}, not {arguments.dataset}. Name it so.")
    overrides = overrides_from(arguments)
    quick = (arguments.profile or ("full" if arguments.data else "quick")) == "quick"
    seeds = _seeds(arguments.seeds) if arguments.seeds else (0,) if quick else None
    passed = _passed_options(arguments)
    jobs: dict[str, Job] = {}
    if not arguments.table:
        for method in arguments.methods or list(method_entries()):
            load_method(method)
            for seed in seeds or schedule_for(source.schedule).seeds:
                spec, shorter = _planned(method, seed, source, overrides, quick)
                what_runs = ("--method", method, "--seed", str(seed))
                jobs[spec.id] = Job(f"{method}-s{seed}", (*what_runs, *shorter, *passed))
    ablations = schedule_for(source.schedule).ablations
    if source.synthetic and READINGS in (arguments.table or ()):
        raise UserError("Readings are about real features: give --data DIR.")
    for table in arguments.table or ([] if arguments.methods else paper_tables()):
        plan = find_plan(table)
        for row in plan.rows:
            for seed in seeds or (ablations and ablations.seeds) or plan.seeds:
                # rows that several tables share are one run
                name = f"{table}/{row.id}"
                spec, shorter = _planned(row.method, seed, source, overrides, quick, row, name)
                what_runs = ("--row", name, "--seed", str(seed))
                jobs.setdefault(spec.id, Job(f"{name}-s{seed}", (*what_runs, *shorter, *passed)))
    on_gpu = pick_device(arguments.device).type == "cuda"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    at_once = arguments.jobs or (1 if on_gpu else min(cores, len(jobs)))
    threads = arguments.threads or (1 if source.synthetic else max(1, cores // at_once))
    say(f"{len(jobs)} runs on {source.name}, {at_once} at a time, {threads} thread(s) each")
    records = run_jobs(list(jobs.values()), at_once, threads)
    pages = publish(records, arguments.results)
    for page in pages:
        print(page.read_text())
    if source.synthetic:
        say(source.notes[0])
    say(f"Done: {len(records)} runs under {arguments.store / 'runs'}; records under {arguments.results / 'records'}; "
         f"leaderboard {', '.join(map(str, pages))}")  # fmt: skip
    return 0


def _planned(
    method: str,
    seed: int,
    source: DataSource,
    overrides: dict[str, Any],
    quick: bool,
    row: Row | None = None,
    name: str = "",
) -> tuple[RunSpec, tuple[str, ...]]:
    """A run, and the options that make it quick; an option that a row's method has not is an error with its name."""
    from harness.runner import plan_run

    try:
        spec = plan_run(method, seed, source, overrides, row)
        if not quick or "train.epochs" in overrides:
            return spec, ()
        shorter = {"train.epochs": -(-spec.recipe.train.epochs // QUICK)}
        return plan_run(method, seed, source, shorter | overrides, row), _assigned(shorter)
    except UserError as error:
        if row is None:
            raise
        raise UserError(f"Row {name}: {error}") from error


def _assigned(options: dict[str, Any]) -> tuple[str, ...]:
    return tuple(part for name, value in options.items() for part in ("--set", f"{name}={value}"))


def _passed_options(arguments: argparse.Namespace) -> list[str]:
    """Options of `reproduce` that each of its `run`s gets."""
    passed = ["--store", str(arguments.store), "--device", arguments.device, "--labels", arguments.labels]
    for name in ("data", "annotations", "descriptor", "held-out"):
        if (value := getattr(arguments, name.replace("-", "_"))) is not None:
            passed += [f"--{name}", str(value)]
    passed += [
        option for option in ("--allow-missing", "--full-size") if getattr(arguments, option[2:].replace("-", "_"))
    ]
    passed += ["--streams", *arguments.streams] if arguments.streams else []
    return passed + [part for assignment in arguments.assignments for part in ("--set", assignment)]


def _seeds(text: str) -> tuple[int, ...]:
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            some = range(int(first), int(last if dash else first) + 1)
            if len(some) > MOST_SEEDS:
                raise UserError(f"--seeds names {len(some)} seeds, more than {MOST_SEEDS}.")
            seeds += some
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"--seeds wants distinct seeds as 0-2 or 0,3,5, got {text!r}.")
    return tuple(seeds)
