"""Results of a command on stdout: JSON where `--json` is given, else a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value))


def print_table(
    rows: Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Any]] | Iterable[Sequence[Any]],
    headers: Sequence[str] = "keys",
    widths: Sequence[int | None] | None = None,
    end: str = "\n",
    missing: str = "",
) -> None:
    """Print a table for a terminal, each value as it is.

    Args:
        rows: one mapping or sequence per row, or the columns by name.
        headers: names of the columns (by default the keys of the mappings).
        widths: characters after which each column is wrapped, None for never.
        end: text after the table.
        missing: word for None.
    """
    from tabulate import tabulate

    print(tabulate(rows, headers=headers, disable_numparse=True, maxcolwidths=widths, missingval=missing), end=end)


def print_rows(arguments: argparse.Namespace, rows: Sequence[Mapping[str, Any]], **layout: Any) -> None:
    """Print rows as JSON where `--json` is given, else as a table, and nothing where there are none.

    Args:
        arguments: parsed options of a command with `add_json_option`.
        rows: one mapping per row.
        layout: further arguments of `print_table`.
    """
    if arguments.json:
        print_json(rows)
    elif rows:
        print_table(rows, **layout)


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print mAPs by protocol as a table."""
    columns: list[str] = []
    for entry in metrics.values():
        columns += [name for name in (*entry["mAP"], *entry["averages"]) if name not in columns]
    rows = []
    for protocol, entry in metrics.items():
        cells = entry["mAP"] | entry["averages"]
        counts = [f"{entry[name]}" for name in ("videos", "instances", "detections")]
        rows.append([protocol, *(f"{cells[name]:.2f}" if name in cells else "" for name in columns), *counts])
    headers = ["mAP (%)", *columns, "videos", "instances", "detections"]
    print_table(rows, headers)
