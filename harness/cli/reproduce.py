"""Command `reproduce`: the main job."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import options
from harness.cli.inputs import run_request, source_from
from harness.cli.output import print_table
from harness.cli.planning import add_jobs_option, add_seeds_option, engine_from, seeds_from
from harness.io.console import ProgressReport, say
from wstal.errors import MissingDataError, UserError

if TYPE_CHECKING:
    from harness.comparisons.ranking import Ranked

LINES = 10


def add(commands: options.Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "reproduce",
        handle=handle,
        help="train and score every method on a data set, then render its leaderboard (the main job)",
        description="Train every registered method, and every row of the paper's ablations, with several seeds on a\n"
        "data set, score each run under every protocol that applies, store the records and render the pages.\n\n"
        "Without --data the embedded synthetic data set is used: it shows that everything works, not how good a\n"
        "method is. It has one seed, other data sets have three, unless --seeds says otherwise. Runs that are in\n"
        "the store already are not trained again.",
        epilog="examples:\n"
        "  wstal-bench reproduce thumos14\n"
        "  wstal-bench reproduce thumos14 --seeds 0-2\n"
        "  wstal-bench reproduce thumos14 --data ~/thumos14 --seeds 0-4\n"
        "  wstal-bench reproduce thumos14 --data ~/thumos14 --table IV V\n"
        "  wstal-bench reproduce thumos14 --data ~/thumos14 --methods acmnet --set train.epochs=200",
    )
    known = "thumos14, activitynet13, activitynet12, fineaction, or your own data set's name"
    command.add_argument("dataset", metavar="DATASET", help=known)
    options.add_data_options(command)
    what = command.add_mutually_exclusive_group()
    options.add_methods_option(what, "only these methods (default: all registered, and all ablations)")
    tables = "only these ablations: IV, V, VI, VII, VIII, figure_5 or interpretations"
    what.add_argument("--table", type=options.plan_name, nargs="+", metavar="T", help=tables)
    # had a meaning in an earlier version, and scripts may give it
    command.add_argument("--profile", choices=("quick", "full"), help=argparse.SUPPRESS)
    add_seeds_option(command)
    add_jobs_option(command)
    where = "records/ and pages of these runs are written here (default: STORE/results)"
    command.add_argument("--results", type=Path, metavar="DIR", help=where)
    options.add_training_options(command)


def handle(arguments: argparse.Namespace) -> int:
    """Do the main job."""
    from harness.comparisons.ranking import ranking
    from harness.pages.run_page import PAGE, write_run_pages
    from harness.pages.site import REPORT, publish
    from harness.records.run_folder import FinishedRun
    from harness.records.store import Store
    from harness.registry import method_entries
    from harness.runs.advice import too_little_found
    from harness.runs.plans import INTERPRETATIONS, find_plan, paper_tables
    from harness.sweeps.jobs import Planner, unique
    from harness.sweeps.sweep import run_jobs
    from wstal.families import TRAINING_VIDEOS

    families = tuple(TRAINING_VIDEOS)
    if arguments.data is None and arguments.dataset not in families:
        raise UserError(f"Unknown data set {arguments.dataset!r}. Data sets: {', '.join(families)}.")
    if arguments.data is None and arguments.dataset != "thumos14":
        raise MissingDataError(
            f"{arguments.dataset} needs features: give --data DIR with DIR/features/ and annotations.json. "
            "Only thumos14 has a synthetic stand-in."
        )
    request = run_request(arguments)
    with ProgressReport() as progress:
        source = source_from(request, progress)
        # a data set of one's own goes by its name, or by any of these that a nox session gives
        names = (source.family, source.name) if source.family in families else (source.name, source.family, *families)
        if arguments.dataset not in names:
            raise UserError(f"{arguments.data} holds {names[0]}, not {arguments.dataset}. Name it so.")
        if arguments.profile:
            progress.say("--profile does nothing: there is one schedule. For more seeds: --seeds 0-2.")
        if source.synthetic and INTERPRETATIONS in (arguments.table or ()):
            raise UserError("Interpretations are about real features: give --data DIR.")
        planner = Planner(source, request, seeds_from(arguments.seeds) if arguments.seeds else None)
    jobs = [] if arguments.table else planner.methods(arguments.methods or method_entries())
    for table in arguments.table or ([] if arguments.methods else paper_tables()):
        jobs += planner.rows(find_plan(table), table, f"{table}/")
    # rows that several tables share are one run
    jobs = list(unique(jobs).values())
    store = Store(arguments.store)
    new = [job.run for job in jobs if not store.is_done(job.run)]
    with engine_from(arguments, source, len(jobs)) as engine:
        say(f"{len(jobs)} runs on {source.name}, {engine.slots} at a time, {engine.threads} thread(s) each")
        records = run_jobs(jobs, store, engine)
    write_run_pages([store.run_folder(run) for run in new], engine.slots)
    results = arguments.results or arguments.store / "results"
    pages = publish(records, results)
    runs = [FinishedRun.open(store.run_folder(job.run)) for job in jobs]
    print_ranking(ranking([job.row for job in jobs], runs), source.synthetic)
    say(*dict.fromkeys(advice for record in records if (advice := too_little_found(record))))
    if source.synthetic:
        say(source.notes[0])
    if new:
        say(f"A page of each new run: {arguments.store / 'runs' / '*' / PAGE}")
    say(f"Done: {len(records)} runs. All as pages: {results / REPORT}; as Markdown: {', '.join(map(str, pages))}")
    return 0


def print_ranking(ranked: Sequence[Ranked], synthetic: bool) -> None:
    """Print ten lines of a ranking on stdout, and how many of its rows are above random scores.

    Args:
        ranked: rows, best first.
        synthetic: whether the data are.
    """
    chance = [row for row in ranked if row.chance]
    shown = [row for row in ranked if not row.chance][: LINES - len(chance)] + chance
    print_table(
        [
            {
                "": "" if row.chance else ranked.index(row) + 1,
                "synthetic data" if synthetic else "method": row.name,
                f"mAP {row.tious}": f"{row.mean:.1f}",
                "@0.5": "" if row.at_half is None else f"{row.at_half:.1f}",
                "above random (95 % over videos)": ""
                if row.gain is None
                else f"{row.gain.difference:+.1f} ({row.gain.low:+.1f} to {row.gain.high:+.1f})",
            }
            for row in shown
        ]
    )
    if len(ranked) > len(shown):
        print(f"and {len(ranked) - len(shown)} more, on the pages")
    if judged := [row for row in ranked if row.gain is not None]:
        low = [f"{row.name} ({row.mean:.1f})" for row in judged if not row.above_random]
        others = f"; not: {', '.join(low)}" if low else ""
        print(f"{len(judged) - len(low)} of {len(judged)} rows are above random scores{others}")
