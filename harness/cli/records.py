"""Command `wstal-bench records`: list, compare and migrate the records of runs, and tidy their store."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.options import Commands, add_json_option, add_results_option, add_store_option
from harness.cli.output import print_json, print_rows, print_table
from harness.io.console import say
from wstal.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from harness.records.diff import Diff

REFUSED = 2
DIFFER = 5
WIDTH = 48


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    records = commands.add_parser(
        "records", help="list, compare or migrate the records of runs", description="Work on the records of runs."
    )
    actions = records.add_subparsers(title="actions", metavar="ACTION", required=True)

    query = actions.add_parser(
        "query",
        handle=query_records,
        help="records as a flat table",
        description="List records with chosen fields. A field is dotted, as in recipe.train.epochs or\n"
        "metrics.anet.mAP.0.5. A record that is refused is named on stderr and the exit code is 2; the others are\n"
        "listed.",
        epilog="examples:\n"
        "  wstal-bench records query\n"
        "  wstal-bench records query --where data=thumos14-r2plus1d seed=0 --fields id,mean,recipe.train.epochs\n"
        "  wstal-bench records query --store runs --json",
    )
    where = query.add_mutually_exclusive_group()
    add_results_option(where)
    where.add_argument("--store", type=Path, metavar="STORE", help="list the runs of a store instead")
    query.add_argument(
        "--where", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help="only records where all hold"
    )
    query.add_argument("--fields", metavar="A,B,C", help="(default: id,data,method,row,overrides,seed,mean,commit)")
    add_json_option(query)

    diff = actions.add_parser(
        "diff",
        handle=diff_records,
        help="say what differs between two runs that should agree",
        description="Compare two runs: what was run, with what, the numbers, the files. A and B are record files,\n"
        "folders of runs, or ids; of a file of several records it is the one with the other's id. They agree where\n"
        "what decides the numbers, and all numbers and files that both have, are equal; where they do not, the exit\n"
        f"code is {DIFFER}.",
        epilog="examples:\n"
        "  wstal-bench records diff runs/runs/RUN results/records/synthetic/acmnet.jsonl\n"
        "  wstal-bench records diff RUN OTHER-RUN --json",
    )
    diff.add_argument("first", metavar="A")
    diff.add_argument("second", metavar="B")
    add_results_option(diff, "for ids (default: results)")
    add_store_option(diff, "for ids (default: runs)")
    add_json_option(diff)

    migrate = actions.add_parser(
        "migrate",
        handle=migrate_records,
        help="rewrite records of older schemas in today's",
        description="Bring records of older schemas, and of methods that were renamed, to today's; no number changes,\n"
        "and records of today are left as they are. Files and folders of runs are rewritten in place. The records of\n"
        "other folders go to DATA/METHOD.jsonl, one record a line. Older ones stay readable without it.",
        epilog="examples:\n"
        "  wstal-bench records migrate --check\n"
        "  wstal-bench records migrate results/records runs/runs/RUN",
    )
    migrate.add_argument(
        "paths",
        type=Path,
        nargs="*",
        default=[Path("results/records")],
        metavar="PATH",
        help="record files, or folders of them (default: results/records)",
    )
    migrate.add_argument("--check", action="store_true", help="write nothing; exit 2 if a file would change")

    gc = actions.add_parser(
        "gc",
        handle=collect_garbage,
        help="remove what no run of a store needs",
        description="Remove what killed processes left in a store: temporary files, checkpoints and partial folders\n"
        "of finished runs, failures that a success came after, empty partial folders, locks that nobody holds. A\n"
        "partial run that can go on, and whatever belongs to a run that a process works on, stays.",
        epilog="examples:\n  wstal-bench records gc --dry-run\n  wstal-bench records gc runs",
    )
    gc.add_argument("store", type=Path, nargs="?", default=Path("runs"), metavar="STORE", help="(default: runs)")
    gc.add_argument("--dry-run", action="store_true", help="show what would go; remove nothing")

    schema = actions.add_parser(
        "schema",
        handle=print_schema,
        help="print the JSON Schema of the files in results/",
        description="Print the JSON Schema of a kind of file, which results/schema/ holds too.",
        epilog="example:\n  wstal-bench records schema record > record.schema.json",
    )
    schema.add_argument(
        "kind", choices=("record", "rescored", "cost"), help="of results/records, results/rescored or results/cost.json"
    )


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Pause Python's collector of cycles, which records have none of: of 10,000 it takes half of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@_without_collector()
def query_records(arguments: argparse.Namespace) -> int:
    """List records with chosen fields."""
    from harness.records.query import COLUMNS, select
    from harness.records.reading import list_records
    from harness.records.store import Store

    folder = Store(arguments.store).runs if arguments.store else arguments.results / "records"
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder. Give the right --results or --store.")
    fields = COLUMNS if arguments.fields is None else tuple(arguments.fields.split(","))
    records, refused = list_records(folder)
    rows = select(records, arguments.where, fields)
    shown = rows if arguments.json else [{name: _text(value) for name, value in row.items()} for row in rows]
    print_rows(arguments, shown)
    if "mean" in fields and (bare := sum(not record.evaluated for record in records)):
        say(f"{bare} without mean: their test videos had no ground truth.")
    return _report(refused, f"{len(rows)} of {len(records)} records in {folder}")


def diff_records(arguments: argparse.Namespace) -> int:
    """Compare two runs."""
    from harness.records.diff import diff, find_records
    from harness.records.store import Store

    names = (arguments.first, arguments.second)
    (first, one), (second, other) = find_records(names, arguments.results, Store(arguments.store))
    found = diff(one, other)
    if arguments.json:
        print_json({"first": str(first), "second": str(second), **found.to_json()})
    else:
        _print_diff(found)
    say(f"Done: {first} and {second} {'agree' if found.agree else 'differ'}")
    return 0 if found.agree else DIFFER


def migrate_records(arguments: argparse.Namespace) -> int:
    """Rewrite older records."""
    from harness.records.collection import plan_migration

    # all are read before the first is written
    plan = plan_migration(arguments.paths)
    for file in plan.changed:
        print(file)
    if not arguments.check:
        plan.apply()
    done = f"{len(plan.changed)} files {'would change' if arguments.check else 'changed'}, of {plan.total} records"
    code = _report(plan.refused, done)
    return REFUSED if arguments.check and plan.changed else code


def collect_garbage(arguments: argparse.Namespace) -> int:
    """Remove what no run needs."""
    from harness.records.cleanup import collect
    from harness.records.store import Store

    removed = collect(Store(arguments.store), arguments.dry_run)
    for one in removed:
        print(f"{one.path}: {one.why}")
    freed = sum(one.size for one in removed)
    say(f"Done: {len(removed)} {'would go' if arguments.dry_run else 'removed'}, {freed:,} bytes")
    return 0


def print_schema(arguments: argparse.Namespace) -> int:
    """Print a JSON Schema."""
    from harness.io.encoding import pretty_json
    from harness.records.schema import Record, json_schema
    from harness.studies.cost import CostFile
    from harness.studies.released import Rescored

    models: dict[str, type[BaseModel]] = {"record": Record, "rescored": Rescored, "cost": CostFile}
    print(pretty_json(json_schema(models[arguments.kind])).decode(), end="")
    return 0


def _report(refused: list[tuple[Path, str]], done: str) -> int:
    say(*(f"error: {message}" for _, message in refused))
    say(f"Done: {done}" + (f"; {len(refused)} refused" if refused else ""))
    return REFUSED if refused else 0


def _print_diff(found: Diff) -> None:
    rows = [
        ["files" if part == "artefacts" else part, field, _exact(first), _exact(second)]
        for part in ("identity", "environment", "training", "artefacts")
        for field, (first, second) in getattr(found, part).items()
    ]
    if rows:
        print_table(rows, ["", "field", "A", "B"], end="\n\n")
    if found.metrics:
        moves = [
            [gap.protocol, *_move(gap.mean_ap, gap.tiou), *_move(gap.ap, gap.label, gap.label_tiou), gap.note]
            for gap in found.metrics
        ]
        print_table(moves, ["largest difference, B - A", "mAP", "at", "AP", "at", "also"], end="\n\n")
    print(found.verdict)


def _move(points: float | None, *place: str | None) -> tuple[str, str]:
    return ("", "") if points is None else (f"{points:+.3g}", " ".join(filter(None, place)))


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else _exact(value)


def _exact(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
