"""Command `wstal-bench ls`: list methods, options, data sets, protocols or runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from harness.cli.options import Commands, add_json_option, add_store_option, method_name
from harness.cli.output import print_rows
from harness.io.console import say
from wstal.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "ls",
        handle=handle,
        help="list methods and their options, data sets and their keys, protocols or runs",
        description="List what is registered, shipped or stored.",
        epilog="examples:\n  wstal-bench ls protocols\n  wstal-bench ls options acmnet",
    )
    command.add_argument(
        "what",
        choices=LISTS,
        help="options: those that --set changes, with each method's THUMOS14 default; "
        "keys: of dataset.toml; rows: of the ablation plans",
    )
    command.add_argument("methods", nargs="*", type=method_name, metavar="METHOD", help="of options: only of these")
    add_store_option(command, "for runs (default: runs)")
    add_json_option(command)


def handle(arguments: argparse.Namespace) -> int:
    """Print one list."""
    if arguments.methods and arguments.what != "options":
        raise UserError(f"`ls {arguments.what}` takes no METHOD; `ls options {arguments.methods[0]}` does.")
    rows = LISTS[arguments.what](arguments)
    wrapped = {"default": 30, "meaning": 72} if arguments.what in ("options", "keys") else {}
    print_rows(arguments, rows, widths=[wrapped.get(name) for row in rows[:1] for name in row], missing="none")
    if not rows:
        say(f"There are no {arguments.what}.")
    return 0


BOUNDS = ("gt", "ge", "lt", "le")


def methods(arguments: argparse.Namespace) -> list[dict[str, str]]:
    """List registered methods and the classes that implement them."""
    from harness.registry import method_entries

    return [{"method": name, "implemented in": entry.value} for name, entry in method_entries().items()]


def options(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """List the options that `--set` changes, with each method's THUMOS14 default."""
    from harness.registry import load_method, method_entries

    rows = []
    for method in arguments.methods or method_entries():
        recipe = load_method(method).recipe("thumos14")
        named = {} if len(arguments.methods) == 1 else {"method": method}
        for part, model in (("method", recipe.method), ("train", recipe.train), ("localizer", recipe.localizer)):
            rows += [named | row for row in _fields(part, model)]
    return rows


def _fields(name: str, model: BaseModel) -> list[dict[str, Any]]:
    """List options by dotted name, each option of a nested specification on its own row."""
    from pydantic import BaseModel
    from pydantic_core import to_jsonable_python

    found = []
    for field, info in type(model).model_fields.items():
        value = getattr(model, field)
        if isinstance(value, BaseModel):
            found += _fields(f"{name}.{field}", value)
        else:
            limits = [
                f"{kind} {getattr(bound, kind)}" for bound in info.metadata for kind in BOUNDS if hasattr(bound, kind)
            ]
            if get_origin(info.annotation) is Literal:
                limits.append(" | ".join(map(str, get_args(info.annotation))))
            meaning = " ".join([*(info.description or "").split(), *(f"[{limit}]" for limit in limits)])
            found.append({"option": f"{name}.{field}", "default": to_jsonable_python(value), "meaning": meaning})
    return found


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """List rows of the ablation plans, by their names for `run --row`."""
    from harness.runs.plans import plans

    return [
        {
            "row": f"{name}/{row.id}",
            "method": row.method,
            "cells": " | ".join(row.cells),
            "options": json.dumps(row.options) if row.options else "",
        }
        for name, plan in plans().items()
        for row in plan.rows
    ]


def keys(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """List the keys of a `dataset.toml`."""
    from harness.data.descriptor import DatasetDescriptor

    return [
        {
            "key": name,
            "default": "required" if field.is_required() else json.loads(json.dumps(field.default, default=dict)),
            "meaning": " ".join((field.description or "").split()),
        }
        for name, field in DatasetDescriptor.model_fields.items()
    ]


def datasets(arguments: argparse.Namespace) -> list[dict[str, str]]:
    """List the shipped data set descriptors."""
    from harness.data.descriptor import shipped_descriptors

    return [
        {"data set": name, "title": descriptor.title, "features": descriptor.extractor}
        for name, descriptor in shipped_descriptors().items()
    ]


def protocols(arguments: argparse.Namespace) -> list[dict[str, str]]:
    """List the evaluation protocols."""
    from wstal.evaluation import PROTOCOLS

    return [{"protocol": name, "meaning": protocol.meaning} for name, protocol in PROTOCOLS.items()]


def runs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """List the finished runs of the store, with averages in percent."""
    from harness.records.reading import list_records
    from harness.records.store import Store

    folder = Store(arguments.store).runs
    records, refused = list_records(folder)
    rows: list[dict[str, Any]] = []
    for record in records:
        row = {"run": str(folder / record.id), "status": record.status, "protocol": record.headline}
        if not record.evaluated:
            row["protocol"] = "none: no ground truth"
        averages = record.scored.averages if record.evaluated else {}
        rows.append(row | {name: round(value, 2) for name, value in averages.items()})
    return rows + [{"run": str(path.parent), "status": f"damaged: {message}"} for path, message in refused]


LISTS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    function.__name__: function for function in (methods, options, datasets, keys, protocols, rows, runs)
}
