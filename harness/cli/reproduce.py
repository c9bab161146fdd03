"""Command `reproduce`: the main job."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import options
from harness.cli.inputs import run_request
from harness.cli.output import print_table
from harness.cli.planning import add_jobs_option, add_seeds_option, engine_from, seeds_from
from harness.io.console import ProgressReport, say
from harness.io.text import did_you_mean
from wstal.errors import UserError

if TYPE_CHECKING:
    from harness.comparisons.ranking import Ranked
    from harness.data.source import DataSource

LINES = 10


def add(commands: options.Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "reproduce",
        handle=handle,
        help="train and score every method on a data set, then render its leaderboard (the main job)",
        description="Train every registered method, and every row of the paper's ablations, with several seeds on a\n"
        "data set, score each run under every protocol that applies, store the records and render the pages.\n\n"
        "DATASET may be left out: with --data it is what DIR holds. Another name than that is refused.\n"
        "Without --data an embedded synthetic data set is used: it shows that everything works, not how good a\n"
        "method is. Those like activitynet13 and fineaction train the methods of Tables II and III. Runs that\n"
        "are in the store already are not trained again. The embedded set has one seed, other data have three,\n"
        "unless --seeds says otherwise. Labels without times are enough: without ground truth of the test videos\n"
        "each run gives detections and a page, and there is no ranking.",
        epilog="examples:\n"
        "  wstal-bench reproduce\n"
        "  wstal-bench reproduce --seeds 0-2\n"
        "  wstal-bench reproduce activitynet13\n"
        "  wstal-bench reproduce --data ~/thumos14 --seeds 0-4\n"
        "  wstal-bench reproduce --data ~/thumos14 --table IV V\n"
        "  wstal-bench reproduce thumos14 --data ~/thumos14 --methods acmnet --set train.epochs=200",
    )
    known = "thumos14, activitynet13, activitynet12, fineaction, or your own data set's name"
    command.add_argument("dataset", nargs="?", metavar="DATASET", help=known)
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
    from harness.data.synthetic_families import FAMILIES
    from harness.pages.run_page import PAGE, write_run_pages
    from harness.pages.site import REPORT, publish
    from harness.records.files import DETECTIONS
    from harness.records.run_folder import FinishedRun
    from harness.records.store import Store
    from harness.registry import method_entries
    from harness.runs.advice import too_little_found
    from harness.runs.plans import INTERPRETATIONS, find_plan, paper_tables
    from harness.sweeps.jobs import Planner, unique
    from harness.sweeps.sweep import run_jobs

    if arguments.data is None and arguments.dataset is not None:
        _check_known(arguments.dataset)
        arguments.descriptor = arguments.dataset
    request = run_request(arguments)
    with ProgressReport() as progress:
        source = request.open(progress)
        if arguments.data is not None and arguments.dataset not in (None, source.name, source.family):
            raise UserError(
                f"{arguments.data} holds {source.name}, not {arguments.dataset}. Leave the name out: "
                "`wstal-bench reproduce --data DIR`, or `nox -s reproduce -- --data DIR`."
            )
        # those of two of the paper's tables are small: the whole schedules of these tables' methods
        stand_in = FAMILIES.get(source.family) if source.synthetic else None
        if arguments.profile:
            progress.say("--profile does nothing: there is one schedule. For more seeds: --seeds 0-2.")
        if source.synthetic and INTERPRETATIONS in (arguments.table or ()):
            raise UserError("Interpretations are about real features: give --data DIR.")
        planner = Planner(source, request, seeds_from(arguments.seeds) if arguments.seeds else None)
    methods = _methods_of(stand_in.table) if stand_in else _trainable(source, method_entries())
    jobs = [] if arguments.table else planner.methods(arguments.methods or methods)
    for table in arguments.table or ([] if arguments.methods or stand_in else paper_tables()):
        jobs += planner.rows(find_plan(table), table, f"{table}/")
    # rows that several tables share are one run
    jobs = list(unique(jobs).values())
    store = Store(arguments.store)
    new = [job.run for job in jobs if not store.is_done(job.run)]
    with engine_from(arguments, source, len(jobs)) as engine:
        say(f"{len(jobs)} runs on {source.name}, {engine.slots} at a time, {engine.threads} thread(s) each")
        records = run_jobs(jobs, store, engine)
    write_run_pages([store.run_folder(run) for run in new], engine.slots, arguments.data)
    advice = dict.fromkeys(advice for record in records if (advice := too_little_found(record)))
    if not records[0].evaluated:
        of_each = arguments.store / "runs" / "*"
        say("No ground truth of the test videos: no mAP, no ranking.", *advice)
        say(f"Done: {len(records)} runs. Detections: {of_each / DETECTIONS}; pages: {of_each / PAGE}")
        return 0
    results = arguments.results or arguments.store / "results"
    pages = publish(records, results)
    runs = [FinishedRun.open(store.run_folder(job.run)) for job in jobs]
    print_ranking(ranking([job.row for job in jobs], runs), source.synthetic)
    say(*advice)
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


def _check_known(name: str) -> None:
    """Refuse names of no known family of data sets."""
    from wstal.families import TRAINING_VIDEOS

    if name not in TRAINING_VIDEOS:
        remedy = "Give its folder with --data DIR."
        hint = did_you_mean(name, TRAINING_VIDEOS)
        raise UserError(f"Unknown data set {name!r}{hint} Known are {', '.join(TRAINING_VIDEOS)}. {remedy}")


def _trainable(source: DataSource, names: Iterable[str]) -> list[str]:
    """Return the methods that the training videos suffice for: those that train on times or counts need annotations."""
    from harness.registry import load_method

    try:
        timed = len(source.ground_truth("train")) > 0
    except UserError:  # labels without times
        timed = False
    chosen = [name for name in names if timed or load_method(name).supervision == "weak"]
    if left_out := [name for name in names if name not in chosen]:
        say(f"The training videos have labels without times, so these are left out: {', '.join(left_out)}.")
    return chosen


def _methods_of(table: str) -> list[str]:
    """Return the registered methods of a table's rows, and those by chance."""
    from harness.paper.tables import find_table
    from harness.registry import load_method, method_entries

    named = {row.method: None for row in find_table(table).rows}
    chance = {name: None for name in method_entries() if load_method(name).chance}
    return [name for name in named | chance if name in method_entries()]
