"""Command `plan`: the runs of a plan as commands."""

from __future__ import annotations

import argparse

from harness.cli.options import Commands
from harness.cli.output import print_json
from harness.cli.planning import add_plan_options, cells, listed, print_states
from harness.io.console import say

STATES = ("done", "running", "failed", "missing")


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "plan",
        handle=handle,
        help="the runs of a plan as commands, for job arrays",
        description="List the runs of a plan: what has become of each, or one complete `wstal-bench run` command a\n"
        "line for the job array of any batch system. PLAN is as in `wstal-bench sweep`. Paths are whole, so that the\n"
        "lines work from any folder. The bits of a run depend on its number of threads: give --threads, and export\n"
        "OMP_NUM_THREADS with the same number, where machines differ.",
        epilog="examples:\n"
        "  wstal-bench plan IV --data ~/thumos14\n"
        "  wstal-bench plan IV --data ~/thumos14 --threads 4 --format lines --only failed missing > runs.txt\n\n"
        "A Slurm array of it (sbatch --array=1-$(wc -l < runs.txt) array.sh, where array.sh has the line below):\n\n"
        '  eval "$(sed -n "${SLURM_ARRAY_TASK_ID}p" runs.txt)"',
    )
    add_plan_options(command)
    command.add_argument(
        "--format", choices=("table", "lines", "json"), default="table", help="states, commands, or both as JSON"
    )
    command.add_argument("--only", nargs="+", choices=STATES, default=STATES, metavar="STATE", help=", ".join(STATES))


def handle(arguments: argparse.Namespace) -> int:
    """List the runs of a plan."""
    from harness.sweeps.jobs import unique

    _, jobs, states = listed(arguments)
    chosen = [job for job in jobs if states[job.run] in arguments.only]
    # cells that are one run are one command
    commands = {run: job.request.command_line() for run, job in unique(chosen).items()}
    if arguments.format == "lines":
        for command in commands.values():
            print(command)
    elif arguments.format == "json":
        print_json([cell | {"command": commands[cell["run"]]} for cell in cells(chosen, states)])
    elif chosen:
        print_states(chosen, states)
    say(f"Done: {len(commands)} of {len(states)} runs listed")
    return 0
