"""Command `sweep`: all runs of a plan."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import planning
from harness.cli.options import Commands, add_json_option, whole_number
from harness.cli.output import print_json
from harness.io.console import say
from wstal.errors import RunError, UserError

if TYPE_CHECKING:
    from harness.records.store import RunStatus
    from harness.sweeps.jobs import Job

MOST_RETRIES = 100
STATES = ("done", "running", "failed", "missing")


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "sweep",
        handle=handle,
        help="do all runs of a plan that are not done, on this machine or a cluster",
        description="Show which runs of a plan are done, running, failed or missing, and do those that are not done,\n"
        "each in a process of its own. Whatever is killed, the same command goes on; several sweeps may work on one\n"
        "store, and none does what another does.\n\n"
        "With --dry-run nothing is done: the runs are listed, or with --format lines printed as one complete\n"
        "`wstal-bench run` command a line, for the job array of any batch system. Paths are whole, so that the lines\n"
        "work from any folder. The bits of a run depend on its number of threads: give --threads, and export\n"
        "OMP_NUM_THREADS with the same number, where machines differ.\n\n"
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
        "A Slurm array of the lines (sbatch --array=1-$(wc -l < runs.txt) array.sh, where array.sh has this line):\n\n"
        '  eval "$(sed -n "${SLURM_ARRAY_TASK_ID}p" runs.txt)"\n\n'
        "examples:\n"
        "  wstal-bench sweep methods --dry-run\n"
        "  wstal-bench sweep IV --data ~/thumos14 --threads 4 --dry-run --format lines --only missing > runs.txt\n"
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
    listing = command.add_argument_group("listing")
    listing.add_argument(
        "--dry-run", action="store_true", help="do nothing but list (digests of feature files are cached in the store)"
    )
    formats = "with --dry-run: states of the runs, a command a line, or both as JSON (default: table)"
    listing.add_argument("--format", choices=("table", "lines", "json"), help=formats)
    only = f"with --dry-run: only runs of these states, of {', '.join(STATES)} (default: all)"
    listing.add_argument("--only", nargs="+", choices=STATES, metavar="STATE", help=only)
    add_json_option(command, "print the cells as JSON, and only that, on stdout")


def handle(arguments: argparse.Namespace) -> int:
    """Do the runs of a plan."""
    from harness.records.store import RunStatus, Store
    from harness.sweeps.sweep import failure_message, sweep

    _check_options(arguments)
    source, jobs, states = planning.listed(arguments)
    if arguments.dry_run:
        return _listing(arguments, jobs, states)
    store = Store(arguments.store)
    left = sum(state != RunStatus.DONE for state in states.values())
    failed = {}
    if left:
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
    say(f"Done: {len(states)} runs under {store.root / 'runs'}")
    return 0


def _listing(arguments: argparse.Namespace, jobs: Sequence[Job], states: dict[str, RunStatus]) -> int:
    """List the runs of a plan."""
    from harness.sweeps.jobs import unique

    chosen = [job for job in jobs if states[job.run] in (arguments.only or STATES)]
    # cells that are one run are one command
    commands = {run: job.request.command_line() for run, job in unique(chosen).items()}
    found = planning.cells(chosen, states)
    if arguments.json:
        print_json({"plan": arguments.plan, "store": str(arguments.store), "cells": found})
    elif arguments.format == "json":
        print_json([cell | {"command": commands[cell["run"]]} for cell in found])
    elif arguments.format == "lines":
        for command in commands.values():
            print(command)
    elif chosen:
        planning.print_states(chosen, states)
    say(f"{len(commands)} of {len(states)} runs listed", "Done: nothing was run")
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuse options that contradict each other, before anything is read."""
    if not arguments.dry_run and (arguments.format or arguments.only):
        raise UserError("--format and --only list runs: add --dry-run.")
    if arguments.engine != "dask" and (arguments.scheduler or arguments.cluster):
        raise UserError("--scheduler and --cluster go with --engine dask.")
    if arguments.scheduler and arguments.cluster:
        raise UserError("Give --scheduler or --cluster, not both.")
    if arguments.resources and not arguments.scheduler:
        raise UserError("--resources goes with --scheduler; a cluster file has its own.")
    if arguments.jobs and (arguments.engine == "inline" or arguments.scheduler or arguments.cluster):
        raise UserError("--jobs is of this machine's processes; inline is one at a time, a cluster has its workers.")
    planning.amounts_from(arguments.resources or ())
