"""Shared options and steps of `sweep` and `reproduce`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.inputs import run_request
from harness.cli.options import add_data_options, add_methods_option, add_training_options, count, plan_name
from harness.cli.output import print_table
from harness.io.console import ProgressReport, say
from harness.io.machine import core_count
from wstal.errors import UserError

if TYPE_CHECKING:
    from harness.data.source import DataSource
    from harness.records.store import RunStatus, Store
    from harness.sweeps.engines import Engine
    from harness.sweeps.jobs import Job

METHODS = "methods"
MOST_SEEDS = 10_000


def add_plan_options(command: argparse.ArgumentParser) -> None:
    """Add the options that name a plan and its runs."""
    command.add_argument("plan", type=plan_name, metavar="PLAN", help="methods, a shipped plan's name, or a plan TOML")
    add_methods_option(command, "only these of the plan `methods` (default: all)")
    add_seeds_option(command)
    add_data_options(command)
    add_training_options(command)


def add_seeds_option(command: argparse.ArgumentParser) -> None:
    """Add `--seeds`."""
    command.add_argument("--seeds", default=None, metavar="S", help="seeds, as 0-2 or 0,3,5 (default: the schedule's)")


def add_jobs_option(command: argparse._ActionsContainer) -> None:
    """Add `--jobs`."""
    command.add_argument("--jobs", type=count, metavar="N", help="runs at once (default: one a core, one on a GPU)")


def planned(arguments: argparse.Namespace) -> tuple[DataSource, list[Job]]:
    """Return the data set and the cells of the plan that the options name.

    Raises:
        UserError: an option, the plan, or the data set cannot be used.
    """
    from harness.registry import method_entries
    from harness.runs.plans import SUFFIX, open_plan
    from harness.sweeps.jobs import Planner

    name, rows = arguments.plan, arguments.plan != METHODS
    if rows and arguments.methods:
        raise UserError(f"--methods goes with the plan `{METHODS}`; a plan's rows name their methods themselves.")
    plan = open_plan(name) if rows else None
    request = run_request(arguments)
    with ProgressReport() as progress:
        source = request.open(progress)
        planner = Planner(source, request, seeds_from(arguments.seeds) if arguments.seeds else None)
    if plan is None:
        return source, planner.methods(dict.fromkeys(arguments.methods or method_entries()))
    # workers and job arrays may start in another folder
    return source, planner.rows(plan, str(Path(name).absolute()) if name.endswith(SUFFIX) else name)


def listed(arguments: argparse.Namespace) -> tuple[DataSource, list[Job], dict[str, RunStatus]]:
    """Return the data set, the cells of the plan and the status of each run by its id; report the counts on stderr.

    Raises:
        UserError: as `planned`.
    """
    from harness.records.store import RunStatus, Store

    source, jobs = planned(arguments)
    states = statuses_of(jobs, Store(arguments.store))
    tally = Counter(states.values())
    say(f"{len(states)} runs on {source.name}: " + ", ".join(f"{tally[state]} {state}" for state in RunStatus))
    return source, jobs, states


def engine_from(arguments: argparse.Namespace, source: DataSource, runs: int) -> Engine:
    """Return the engine that the options name.

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
            share = amounts_from(arguments.resources or ())
            return dask_engine.connect(arguments.scheduler, arguments.threads or 1, share)
    from harness.runs.devices import pick_device

    on_gpu = pick_device(arguments.device).type == "cuda"
    cores = core_count()
    at_once = 1 if kind == "inline" else arguments.jobs or (1 if on_gpu else min(cores, runs))
    threads = arguments.threads or (1 if source.synthetic else max(1, cores // at_once))
    if kind == "inline":
        return Inline(threads)
    if kind == "dask":
        return dask_engine.local(threads, at_once)
    # CUDA does not survive a fork, nor do libraries of systems other than Linux
    return Processes(threads, at_once, fork=sys.platform == "linux" and not on_gpu)


def statuses_of(jobs: Iterable[Job], store: Store) -> dict[str, RunStatus]:
    """Return the status of each run by its id; cells that share a run are one.

    Args:
        jobs: cells of a plan.
        store: where the runs are kept.
    """
    from harness.sweeps.jobs import unique

    return {run: store.status(run) for run in unique(jobs)}


def cells(jobs: Sequence[Job], states: dict[str, RunStatus]) -> list[dict[str, Any]]:
    """Return the cells of a plan as JSON values.

    Args:
        jobs: the cells.
        states: status of each run by its id.
    """
    return [{"row": job.row, "seed": job.seed, "run": job.run, "state": states[job.run]} for job in jobs]


def print_states(jobs: Sequence[Job], states: dict[str, RunStatus]) -> None:
    """Print the states as a table, a line a row, a column a seed.

    Args:
        jobs: cells of a plan.
        states: status of each run by its id.
    """
    seeds = list(dict.fromkeys(job.seed for job in jobs))
    rows: dict[str, dict[int, str]] = {}
    for job in jobs:
        rows.setdefault(job.row, {})[job.seed] = states[job.run]
    lines = [[row, *(found.get(seed, "") for seed in seeds)] for row, found in rows.items()]
    print_table(lines, ["row", *(f"seed {seed}" for seed in seeds)])


def seeds_from(text: str) -> tuple[int, ...]:
    """Read seeds such as `0-2` or `0,3,5`.

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


def amounts_from(assignments: Iterable[str]) -> dict[str, float]:
    """Read amounts: `gpu=0.5` gives {"gpu": 0.5}.

    Raises:
        UserError: a name or an amount above 0 is missing.
    """
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
