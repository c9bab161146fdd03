"""Command `sweep`: all runs of a plan."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli import planning
from harness.cli.options import Commands, add_json_option, whole_number
from harness.cli.output import print_json
from harness.io.console import say
from wstal.errors import RunError, UserError

MOST_RETRIES = 100


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "sweep",
        handle=handle,
        help="do all runs of a plan that are not done, on this machine or a cluster",
        description="Show which runs of a plan are done, running, failed or missing, and do those that are not done,\n"
        "each in a process of its own. Whatever is killed, the same command goes on; several sweeps may work on one\n"
        "store, and none does what another does.\n\n"
        "PLAN is `methods`, a shipped plan (IV, table_VIII, interpretations, ...; see `wstal-bench ls rows`), or a\n"
        "plan TOML of your own in the same form as those in harness/shipped/plans.\n\n"
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
        "  wstal-bench sweep methods --methods acmnet rmgcl-gksa --data ~/thumos14 --seeds 0-9 --jobs 4 --threads 1\n"
        "  wstal-bench sweep IV --data ~/thumos14 --engine dask --cluster slurm.toml --threads 4\n"
        "  wstal-bench sweep my-plan.toml --data ~/thumos14 --retries 3 --json",
    )
    planning.add_plan_options(command)
    engine = command.add_argument_group("engine")
    engines = "one run after another, some at once, or on Dask workers (default: processes)"
    engine.add_argument("--engine", choices=("inline", "processes", "dask"), default="processes", help=engines)
    planning.add_jobs_option(engine)
    engine.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler, as tcp://HOST:8786 (engine dask)")
    engine.add_argument("--cluster", type=Path, metavar="FILE", help="TOML of a batch system, see below (engine dask)")
    resources = "what a run takes of a worker's --resources, as gpu=0.5 (with --scheduler)"
    engine.add_argument("--resources", nargs="+", metavar="NAME=AMOUNT", help=resources)
    retries = "tries after a run's first failure (default: 1)"
    engine.add_argument("--retries", type=whole_number(0, MOST_RETRIES), default=1, metavar="N", help=retries)
    command.add_argument(
        "--dry-run", action="store_true", help="show the table only (digests of feature files are cached in the store)"
    )
    add_json_option(command, "print the cells as JSON, and only that, on stdout")


def handle(arguments: argparse.Namespace) -> int:
    """Do the runs of a plan."""
    from harness.records.store import RunStatus, Store
    from harness.sweeps.sweep import failure_message, sweep

    _check_engine(arguments)
    source, jobs, states = planning.listed(arguments)
    store = Store(arguments.store)
    left = sum(state != RunStatus.DONE for state in states.values())
    failed = {}
    if left and not arguments.dry_run:
        with planning.engine_from(arguments, source, left) as engine:
            say(f"{engine.slots} at a time, {engine.threads} thread(s) each")
            failed = sweep(jobs, store, engine, arguments.retries)
        states = planning.statuses_of(jobs, store)
    if arguments.json:
        print_json({"plan": arguments.plan, "store": str(arguments.store), "cells": planning.cells(jobs, states)})
    else:
        planning.print_states(jobs, states)
    if failed:
        raise RunError(f"{failure_message(jobs, failed)}\nAll that they printed is in {store.root / 'failed'}.")
    say("Done: nothing was run" if arguments.dry_run else f"Done: {len(states)} runs under {store.root / 'runs'}")
    return 0


def _check_engine(arguments: argparse.Namespace) -> None:
    """Refuse options of the engine that contradict each other, before anything is read."""
    if arguments.engine != "dask" and (arguments.scheduler or arguments.cluster):
        raise UserError("--scheduler and --cluster go with --engine dask.")
    if arguments.scheduler and arguments.cluster:
        raise UserError("Give --scheduler or --cluster, not both.")
    if arguments.resources and not arguments.scheduler:
        raise UserError("--resources goes with --scheduler; a cluster file has its own.")
    if arguments.jobs and (arguments.engine == "inline" or arguments.scheduler or arguments.cluster):
        raise UserError("--jobs is of this machine's processes; inline is one at a time, a cluster has its workers.")
    planning.amounts_from(arguments.resources or ())
