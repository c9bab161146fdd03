"""`wstal-bench sweep`: all runs of a plan; and what it shares with `plan` and `reproduce`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.inputs import overrides_from, source_from
from harness.cli.options import (
    EXIT_CODES,
    Commands,
    add_data_options,
    add_training_options,
    count,
    say,
)
from wstal.errors import RunError, UserError

if TYPE_CHECKING:
    from harness.data.source import DataSource
    from harness.io.locks import State
    from harness.records.store import Store
    from harness.sweeps.engines import Engine
    from harness.sweeps.sweep import Job, Planner

METHODS = "methods"
MOST_SEEDS = 10_000
MOST_RETRIES = 100


def add(commands: Commands) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "sweep",
        help="do all runs of a plan that are not done, on this machine or a cluster",
        description="Show which runs of a plan are done, running, failed or missing, and do those that are not done,\n"
        "each in a process of its own. Whatever is killed, the same command goes on; several sweeps may work on one\n"
        "store, and none does what another does.\n\n"
        "PLAN is `methods`, a shipped plan (IV, table_VIII, readings, ...; see `wstal-bench ls rows`), or a plan\n"
        "TOML of your own in the same form as those in harness/shipped/plans.\n\n"
        "A run that fails is tried again after the others (--retries); its last failure stands in\n"
        "STORE/failed/RUN.json, command and traceback included, until it succeeds. A failure is never counted as\n"
        "done: if a run is missing at the end, the exit code is 4.\n\n"
        "Runs are held by locks of the system (flock), which frees them when their holder dies. A store that several\n"
        "machines share must be on a file system where flock works between machines: NFS 4 does, NFS 3 with\n"
        "`nolock` and Lustre without `-o flock` do not.",
        epilog="Dask (pip install wstal-bench[dask]): --engine dask starts workers on this machine, on loopback;\n"
        "--scheduler ADDRESS uses a scheduler that is there; --cluster FILE.toml submits workers to a batch system:\n\n"
        '  kind = "slurm"                        # or pbs, lsf, sge\n'
        "  cores = 8                             # of a worker, which is one job\n"
        '  memory = "32GB"\n'
        '  walltime = "12:00:00"\n'
        '  queue = "gpu"\n'
        "  workers = 4\n"
        "  resources = { gpu = 1 }\n"
        "  runs_per_gpu = 2\n"
        '  directives = ["--gres=gpu:1"]         # more lines of the job\'s head\n'
        '  prologue = ["module load cuda"]       # shell lines before the worker starts\n'
        '  interface = "ib0"                     # that scheduler and workers talk over\n'
        "  tls = true                            # encrypted, with certificates for this sweep\n"
        '  shared_folder = "/home/me/.wstal"     # where workers find these certificates\n\n'
        "Data, store and plan must have the same paths on all workers. Whoever reaches a Dask scheduler can run code\n"
        "as you: outside a network of your own use TLS (tls = true, or a scheduler at tls://HOST:PORT).\n\n"
        "examples:\n"
        "  wstal-bench sweep methods --dry-run\n"
        "  wstal-bench sweep methods --methods acmnet ours --data ~/thumos14 --seeds 0-9 --jobs 4 --threads 1\n"
        "  wstal-bench sweep IV --data ~/thumos14 --engine dask --cluster slurm.toml --threads 4\n"
        "  wstal-bench sweep my-plan.toml --data ~/thumos14 --retries 3 --json\n\n" + EXIT_CODES,
    )
    add_plan_options(command)
    engine = command.add_argument_group("engine")
    engine.add_argument(
        "--engine",
        choices=("inline", "processes", "dask"),
        default="processes",
        help="one run after another, some at once, or on Dask workers (default: processes)",
    )
    add_jobs_option(engine)
    engine.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler, as tcp://HOST:8786 (engine dask)")
    engine.add_argument("--cluster", type=Path, metavar="FILE", help="TOML of a batch system, see below (engine dask)")
    engine.add_argument(
        "--resources",
        nargs="+",
        metavar="NAME=AMOUNT",
        help="what a run takes of a worker's --resources, as gpu=0.5 (with --scheduler)",
    )
    engine.add_argument(
        "--retries", type=_retries, default=1, metavar="N", help="tries after a run's first failure (default: 1)"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="show the table only (digests of feature files are cached in the store)"
    )
    command.add_argument("--json", action="store_true", help="print the cells as JSON, and only that, on stdout")
    command.set_defaults(handle=handle)


def add_plan_options(command: argparse.ArgumentParser) -> None:
    """Options that name a plan and its runs."""
    command.add_argument("plan", metavar="PLAN", help="methods, a shipped plan's name, or a plan TOML")
    command.add_argument(
        "--methods", nargs="+", metavar="M", help="of the plan `methods`, only these (default: all registered)"
    )
    add_seeds_option(command)
    add_data_options(command)
    add_training_options(command)


def add_seeds_option(command: argparse.ArgumentParser) -> None:
    """`--seeds`."""
    command.add_argument("--seeds", default=None, metavar="S", help="seeds, as 0-2 or 0,3,5 (default: the schedule's)")


def add_jobs_option(command: argparse._ActionsContainer) -> None:
    """`--jobs`."""
    command.add_argument("--jobs", type=count, metavar="N", help="runs at once (default: one a core, one on a GPU)")


def handle(arguments: argparse.Namespace) -> int:
    """Do the runs of a plan."""
    from harness.io.locks import State
    from harness.records.store import Store
    from harness.sweeps.sweep import failure_message, sweep

    _check_engine(arguments)
    source, jobs = planned(arguments)
    store = Store(arguments.store)
    states = states_of(jobs, store)
    left = sum(state != State.DONE for state in states.values())
    say(f"{len(states)} runs on {source.name}: {counted(states.values())}")
    if arguments.dry_run or not left:
        show(arguments, jobs, states)
        say("Done: nothing was run" if arguments.dry_run else f"Done: {len(states)} runs under {store.root / 'runs'}")
        return 0
    with engine_from(arguments, source, left) as engine:
        say(f"{engine.slots} at a time, {engine.threads} thread(s) each")
        failed = sweep(jobs, store, engine, arguments.retries)
    show(arguments, jobs, states_of(jobs, store))
    if failed:
        raise RunError(f"{failure_message(jobs, failed)}\nAll they said is in {store.root / 'failed'}.")
    say(f"Done: {len(states)} runs under {store.root / 'runs'}")
    return 0


def planned(arguments: argparse.Namespace) -> tuple[DataSource, list[Job]]:
    """The data set and the cells of the plan that the options name."""
    from harness.registry import method_entries
    from harness.runs.plans import SUFFIX, open_plan
    from harness.runs.schedules import schedule_for

    rows = arguments.plan != METHODS
    if rows and arguments.methods:
        raise UserError(f"--methods goes with the plan `{METHODS}`; a plan's rows name their methods themselves.")
    plan = open_plan(arguments.plan) if rows else None
    source = source_from(arguments)
    schedule = schedule_for(source.schedule)
    planner = planner_from(arguments, source)
    seeds = seeds_from(arguments.seeds) if arguments.seeds else None
    if plan is None:
        methods = dict.fromkeys(arguments.methods or method_entries())
        return source, [planner.method(method, seed) for method in methods for seed in seeds or schedule.seeds]
    # workers and job arrays may start elsewhere
    name = str(Path(arguments.plan).absolute()) if arguments.plan.endswith(SUFFIX) else arguments.plan
    seeds = seeds or (schedule.ablations and schedule.ablations.seeds) or plan.seeds
    return source, [planner.row(row, seed, f"{name}/{row.id}", row.id) for row in plan.rows for seed in seeds]


def planner_from(arguments: argparse.Namespace, source: DataSource, quick: bool = False) -> Planner:
    """A planner whose runs get the options of this command."""
    from harness.sweeps.sweep import Planner

    return Planner(source, overrides_from(arguments), _passed_options(arguments), quick)


def engine_from(arguments: argparse.Namespace, source: DataSource, runs: int) -> Engine:
    """The engine that the options name.

    Args:
        arguments: of `sweep`; of another command, those of its training.
        source: the data set: small synthetic data need one thread a run.
        runs: how many are to be done.
    """
    from harness.sweeps.engines import Inline, Processes

    kind = getattr(arguments, "engine", "processes")
    if kind == "dask":
        from harness.sweeps import dask_engine

        # what the workers have decides, not this machine
        if arguments.cluster is not None:
            return dask_engine.submit_workers(dask_engine.read_cluster(arguments.cluster), arguments.threads or 1)
        if arguments.scheduler is not None:
            share = _amounts(arguments.resources or ())
            return dask_engine.connect(arguments.scheduler, arguments.threads or 1, share)
    from harness.runs.execute import pick_device

    on_gpu = pick_device(arguments.device).type == "cuda"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    at_once = 1 if kind == "inline" else arguments.jobs or (1 if on_gpu else min(cores, runs))
    threads = arguments.threads or (1 if source.synthetic else max(1, cores // at_once))
    if kind == "inline":
        return Inline(threads)
    if kind == "dask":
        return dask_engine.local(at_once, threads)
    # CUDA does not outlive a fork, and elsewhere libraries of the system do not
    return Processes(at_once, threads, fork=sys.platform == "linux" and not on_gpu)


def states_of(jobs: Iterable[Job], store: Store) -> dict[str, State]:
    """What has become of each run, by its id; cells that share a run are one."""
    from harness.io.locks import state_of
    from harness.sweeps.sweep import unique

    return {run: state_of(store, run) for run in unique(jobs)}


def counted(states: Iterable[State]) -> str:
    """How many runs are in each state."""
    from harness.io.locks import State

    tally = Counter(states)
    return ", ".join(f"{tally[state]} {state}" for state in State)


def cells(jobs: Sequence[Job], states: dict[str, State]) -> list[dict[str, Any]]:
    """The cells of a plan, for JSON."""
    return [{"row": job.row, "seed": job.seed, "run": job.run, "state": states[job.run]} for job in jobs]


def table(jobs: Sequence[Job], states: dict[str, State]) -> str:
    """The states as a table, a line a row, a column a seed."""
    from tabulate import tabulate

    seeds = list(dict.fromkeys(job.seed for job in jobs))
    rows: dict[str, dict[int, str]] = {}
    for job in jobs:
        rows.setdefault(job.row, {})[job.seed] = states[job.run]
    lines = [[row, *(found.get(seed, "") for seed in seeds)] for row, found in rows.items()]
    return tabulate(lines, ["row", *(f"seed {seed}" for seed in seeds)], disable_numparse=True)


def show(arguments: argparse.Namespace, jobs: Sequence[Job], states: dict[str, State]) -> None:
    """Print the states, as a table or as JSON."""
    if arguments.json:
        print(json.dumps({"plan": arguments.plan, "store": str(arguments.store), "cells": cells(jobs, states)}))
    else:
        print(table(jobs, states))


def seeds_from(text: str) -> tuple[int, ...]:
    """Seeds as `0-2` or `0,3,5`.

    Raises:
        UserError: none, one twice, too many, or no seeds at all.
    """
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


def _check_engine(arguments: argparse.Namespace) -> None:
    """Whether the engine's options fit each other; found before anything is read."""
    if arguments.engine != "dask" and (arguments.scheduler or arguments.cluster):
        raise UserError("--scheduler and --cluster go with --engine dask.")
    if arguments.scheduler and arguments.cluster:
        raise UserError("Give --scheduler or --cluster, not both.")
    if arguments.resources and not arguments.scheduler:
        raise UserError("--resources goes with --scheduler; a cluster file has its own.")
    if arguments.jobs and (arguments.engine == "inline" or arguments.scheduler or arguments.cluster):
        raise UserError("--jobs is of this machine's processes; inline is one at a time, a cluster has its workers.")
    _amounts(arguments.resources or ())


def _amounts(assignments: Iterable[str]) -> dict[str, float]:
    """`gpu=0.5` -> {"gpu": 0.5}."""
    amounts: dict[str, float] = {}
    for text in assignments:
        name, equals, amount = text.partition("=")
        try:
            amounts[name] = float(amount)
        except ValueError:
            amounts[name] = 0.0
        if not name or not equals or not 0 < amounts[name] < float("inf"):
            raise UserError(f"--resources wants NAME=AMOUNT above 0, as gpu=0.5, got {text!r}.")
    return amounts


def _passed_options(arguments: argparse.Namespace) -> list[str]:
    """Options that each `run` gets; paths are whole, because workers and job arrays may start elsewhere."""
    passed = ["--store", str(arguments.store.absolute()), "--device", arguments.device, "--labels", arguments.labels]
    for name in ("data", "annotations"):
        if (path := getattr(arguments, name)) is not None:
            passed += [f"--{name}", str(path.absolute())]
    if (descriptor := arguments.descriptor) is not None:
        passed += ["--descriptor", str(Path(descriptor).absolute()) if descriptor.endswith(".toml") else descriptor]
    if arguments.held_out is not None:
        passed += ["--held-out", str(arguments.held_out)]
    passed += [
        option for option in ("--allow-missing", "--full-size") if getattr(arguments, option[2:].replace("-", "_"))
    ]
    passed += ["--streams", *arguments.streams] if arguments.streams else []
    return passed + [part for assignment in arguments.assignments for part in ("--set", assignment)]


def _retries(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_RETRIES:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {MOST_RETRIES}, got {text!r}")
    return int(text)
