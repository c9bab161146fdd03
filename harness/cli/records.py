"""`wstal-bench records`: list, compare and migrate the records of runs, and tidy their store."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.options import EXIT_CODES, Commands
from harness.io.console import say
from wstal.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from harness.records.diff import Diff

REFUSED = 2
DIFFER = 5
WIDTH = 48


def add(commands: Commands) -> None:
    """Declare the command."""
    records = commands.add_parser(
        "records", help="list, compare or migrate the records of runs", description="Work on the records of runs."
    )
    actions = records.add_subparsers(title="actions", metavar="ACTION", required=True)

    query = actions.add_parser(
        "query",
        help="records as a flat table",
        description="List records with chosen fields. A field is dotted, as in recipe.train.epochs or\n"
        "metrics.anet.mAP.0.5. A file that is refused is named on stderr and the exit code is 2; the others are\n"
        "listed. The default fields of a store's records are remembered in STORE/cache/records.index.",
        epilog="examples:\n"
        "  wstal-bench records query\n"
        "  wstal-bench records query --where data=thumos14-r2plus1d seed=0 --fields id,mean,recipe.train.epochs\n"
        "  wstal-bench records query --store runs --json\n\n" + EXIT_CODES,
    )
    where = query.add_mutually_exclusive_group()
    where.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")
    where.add_argument("--store", type=Path, metavar="STORE", help="list the runs of a store instead")
    query.add_argument(
        "--where", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help="only records where all hold"
    )
    query.add_argument("--fields", metavar="A,B,C", help="(default: id,data,method,row,overrides,seed,mean,commit)")
    query.add_argument("--json", action="store_true", help="print JSON, and only that, on stdout")
    query.set_defaults(handle=query_records)

    diff = actions.add_parser(
        "diff",
        help="say what differs between two runs that should agree",
        description="Compare two runs: what was run, with what, the numbers, the files. A and B are record files,\n"
        "folders of runs, or ids. They agree where what decides the numbers, and all numbers and files that both\n"
        f"have, are equal; where they do not, the exit code is {DIFFER}.",
        epilog="examples:\n"
        "  wstal-bench records diff runs/runs/RUN results/records/synthetic/RUN.json\n"
        "  wstal-bench records diff RUN OTHER-RUN --json\n\n" + EXIT_CODES,
    )
    diff.add_argument("first", metavar="A")
    diff.add_argument("second", metavar="B")
    diff.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="for ids (default: results)")
    diff.add_argument("--store", type=Path, default=Path("runs"), metavar="STORE", help="for ids (default: runs)")
    diff.add_argument("--json", action="store_true", help="print JSON, and only that, on stdout")
    diff.set_defaults(handle=diff_records)

    migrate = actions.add_parser(
        "migrate",
        help="rewrite records of older schemas in today's",
        description="Rewrite record files of an older schema in place; no number changes, and records of today's\n"
        "schema are left as they are. Older ones stay readable without it.",
        epilog="examples:\n"
        "  wstal-bench records migrate --check\n"
        "  wstal-bench records migrate results/records runs/runs/RUN\n\n" + EXIT_CODES,
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
    migrate.set_defaults(handle=migrate_records)

    gc = actions.add_parser(
        "gc",
        help="remove what no run of a store needs",
        description="Remove what killed processes left in a store: temporary files, checkpoints and partial folders\n"
        "of finished runs, failures that a success came after, empty partial folders, locks that nobody holds. A\n"
        "partial run that can go on, and whatever belongs to a run that a process works on, stays.",
        epilog="examples:\n  wstal-bench records gc --dry-run\n  wstal-bench records gc runs\n\n" + EXIT_CODES,
    )
    gc.add_argument("store", type=Path, nargs="?", default=Path("runs"), metavar="STORE", help="(default: runs)")
    gc.add_argument("--dry-run", action="store_true", help="show what would go; remove nothing")
    gc.set_defaults(handle=collect_garbage)

    schema = actions.add_parser(
        "schema",
        help="print the JSON Schema of the files in results/",
        description="Print the JSON Schema of a kind of file, which results/schema/ holds too.",
        epilog="example:\n  wstal-bench records schema record > record.schema.json",
    )
    schema.add_argument(
        "kind", choices=("record", "rescored", "cost"), help="of results/records, results/rescored or results/cost.json"
    )
    schema.set_defaults(handle=print_schema)


def query_records(arguments: argparse.Namespace) -> int:
    """List records with chosen fields."""
    from harness.records.index import list_outlines
    from harness.records.query import COLUMNS, select
    from harness.records.reading import list_records

    folder = arguments.store / "runs" if arguments.store else arguments.results / "records"
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder. Give the right --results or --store.")
    fields = COLUMNS if arguments.fields is None else tuple(arguments.fields.split(","))
    named = {*fields, *(test.partition("=")[0] for test in arguments.where)}
    # a store may hold thousands, and what all queries show of them is remembered
    short = arguments.store is not None and named <= set(COLUMNS)
    records, refused = list_outlines(arguments.store) if short else list_records(folder)
    rows = select(records, arguments.where, fields)
    if arguments.json:
        print(json.dumps(rows))
    elif rows:
        from tabulate import tabulate

        print(tabulate([[_text(row[name]) for name in fields] for row in rows], fields, disable_numparse=True))
    return _report(refused, f"{len(rows)} of {len(records)} records in {folder}")


def diff_records(arguments: argparse.Namespace) -> int:
    """Compare two runs."""
    from harness.records.diff import diff, find_record
    from harness.records.reading import read_record

    paths = [find_record(name, arguments.results, arguments.store) for name in (arguments.first, arguments.second)]
    found = diff(*(read_record(path) for path in paths))
    if arguments.json:
        print(json.dumps({"first": str(paths[0]), "second": str(paths[1]), **found.to_json()}))
    else:
        _print_diff(found)
    say(f"Done: {paths[0]} and {paths[1]} {'agree' if found.agree else 'differ'}")
    return 0 if found.agree else DIFFER


def migrate_records(arguments: argparse.Namespace) -> int:
    """Rewrite older records."""
    from harness.io.atomic import atomic_write
    from harness.io.encoding import pretty_json
    from harness.io.reading import read_json
    from harness.records.reading import read_record, record_files
    from harness.records.schema import SCHEMA

    older: list[tuple[Path, dict[str, Any]]] = []
    refused: list[tuple[Path, str]] = []
    files = list(dict.fromkeys(file for path in arguments.paths for file in record_files(path)))
    # all are read before the first is written
    for file in files:
        try:
            record = read_record(file)
        except UserError as error:
            refused.append((file, str(error)))
            continue
        if read_json(file)["schema"] < SCHEMA:
            older.append((file, record))
    for file, record in older:
        print(file)
        if not arguments.check:
            atomic_write(file, pretty_json(record))
    code = _report(refused, f"{len(older)} of {len(files)} {'would change' if arguments.check else 'rewritten'}")
    return REFUSED if arguments.check and older else code


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
    from tabulate import tabulate

    rows = [
        [part, field, _exact(first), _exact(second)]
        for part, pairs in (
            ("identity", found.identity),
            ("environment", found.environment),
            ("training", found.training),
            ("files", found.artefacts),
        )
        for field, (first, second) in pairs.items()
    ]
    if rows:
        print(tabulate(rows, ["", "field", "A", "B"], disable_numparse=True), end="\n\n")
    if found.metrics:
        moves = [
            [gap.protocol, *_move(gap.mean_ap, gap.tiou), *_move(gap.ap, gap.label, gap.label_tiou), gap.note]
            for gap in found.metrics
        ]
        headers = ["largest difference, B - A", "mAP", "at", "AP", "at", "also"]
        print(tabulate(moves, headers, disable_numparse=True), end="\n\n")
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
