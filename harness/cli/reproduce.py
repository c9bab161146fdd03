"""Command `reproduce`: the main job."""

from __future__ import annotations

import argparse

from harness.cli import options
from harness.cli.inputs import run_request, source_from
from harness.cli.planning import add_jobs_option, add_seeds_option, engine_from, seeds_from
from harness.io.console import ProgressReport, say
from harness.io.text import did_you_mean
from wstal.errors import UserError


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
        "method is. Those like activitynet13 and fineaction train the methods of Tables II and III. Runs that are\n"
        "in the store already are not trained again.\n\n"
        "The quick profile trains one seed for a fifth of the schedule's epochs (pages name them), the full one\n"
        "trains as the schedule says, with all its seeds.",
        epilog="examples:\n"
        "  wstal-bench reproduce\n"
        "  wstal-bench reproduce --profile full\n"
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
    command.add_argument(
        "--profile", choices=("quick", "full"), help="default: quick on the embedded data, full with --data"
    )
    add_seeds_option(command)
    add_jobs_option(command)
    options.add_results_option(command, "records/ and leaderboards/ are written here (default: results)")
    options.add_training_options(command)


def handle(arguments: argparse.Namespace) -> int:
    """Do the main job."""
    from harness.data.synthetic_families import FAMILIES
    from harness.pages.run_page import PAGE, write_run_pages
    from harness.pages.site import publish
    from harness.records.store import Store
    from harness.registry import method_entries
    from harness.runs.plans import INTERPRETATIONS, find_plan, paper_tables
    from harness.sweeps.jobs import Planner, unique
    from harness.sweeps.sweep import run_jobs

    if arguments.data is None and arguments.dataset is not None:
        _check_known(arguments.dataset)
        arguments.descriptor = arguments.dataset
    request = run_request(arguments)
    with ProgressReport() as progress:
        source = source_from(request, progress)
        if arguments.data is not None and arguments.dataset not in (None, source.name, source.family):
            raise UserError(
                f"{arguments.data} holds {source.name}, not {arguments.dataset}. Leave the name out: "
                "`wstal-bench reproduce --data DIR`, or `nox -s reproduce -- --data DIR`."
            )
        # those of two of the paper's tables are small: the whole schedules of these tables' methods
        stand_in = FAMILIES.get(source.family) if source.synthetic else None
        quick = (arguments.profile or ("full" if arguments.data or stand_in else "quick")) == "quick"
        if source.synthetic and INTERPRETATIONS in (arguments.table or ()):
            raise UserError("Interpretations are about real features: give --data DIR.")
        seeds = seeds_from(arguments.seeds) if arguments.seeds else (0,) if quick else None
        planner = Planner(source, request, seeds, quick)
    methods = _methods_of(stand_in.table) if stand_in else list(method_entries())
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
    pages = publish(records, arguments.results)
    for page in pages:
        print(page.read_text())
    if source.synthetic:
        say(source.notes[0])
    if new:
        say(f"A page of each new run: {arguments.store / 'runs' / '*' / PAGE}")
    say(f"Done: {len(records)} runs under {arguments.store / 'runs'}; records under {arguments.results / 'records'}; "
         f"leaderboard {', '.join(map(str, pages))}")  # fmt: skip
    return 0


def _check_known(name: str) -> None:
    """Refuse names of no known family of data sets."""
    from wstal.families import TRAINING_VIDEOS

    if name not in TRAINING_VIDEOS:
        remedy = "Give its folder with --data DIR."
        hint = did_you_mean(name, TRAINING_VIDEOS)
        raise UserError(f"Unknown data set {name!r}{hint} Known are {', '.join(TRAINING_VIDEOS)}. {remedy}")


def _methods_of(table: str) -> list[str]:
    """Return the registered methods of a table's rows, and those by chance."""
    from harness.paper.tables import find_table
    from harness.registry import load_method, method_entries

    entries = method_entries()
    rows = [row.method for row in find_table(table).rows if row.method in entries]
    return [*dict.fromkeys(rows), *(name for name in entries if load_method(name).chance)]
