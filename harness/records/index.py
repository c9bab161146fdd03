"""What a query shows of a store's records, remembered: thousands are listed without reading and checking them again.

A record that was read and found good is remembered by its file's status; one that changed is read again. The index is a
cache: it may be removed at any time.
"""

from __future__ import annotations

import contextlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from harness.io.atomic import atomic_write
from harness.io.encoding import canonical_json, sha256
from harness.records.reading import read_record
from harness.records.schema import RECORD
from harness.registry import method_entries
from wstal.errors import StoreError, UserError

FORMAT = 1


def list_outlines(store: Path) -> tuple[list[dict[str, Any]], list[tuple[Path, str]]]:
    """All runs of a store, each with the parts of its record that `harness.records.query.COLUMNS` are made of.

    Args:
        store: the store; the index is its `cache/records.index`, written where it can be.

    Returns:
        As `harness.records.schema.list_records`, in its order and with the same refusals.
    """
    index = store / "cache" / "records.index"
    known = _read(index)
    methods = method_entries()
    entries: dict[str, list[Any]] = {}
    paths: dict[str, str] = {}
    refused: list[tuple[Path, str]] = []
    runs = store / "runs"
    for name in sorted(os.listdir(runs)):
        path = os.path.join(runs, name, RECORD)  # of thousands, pathlib alone takes a fifth of the time
        try:
            found = os.stat(path)
        except OSError:
            continue  # no run
        # the change time and the inode show a file that was replaced with its size and modification time kept
        status = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        entry = known.get(name)
        try:
            if entry is None or entry[0] != status or entry[1]["method"] not in methods:
                entry = [status, _outline(read_record(Path(path)))]
            if (other := paths.setdefault(entry[1]["id"], path)) != path:
                raise UserError(f"{path}: run {entry[1]['id']} is stored twice, also in {other}. Remove one.")
        except UserError as error:
            refused.append((Path(path), str(error)))
        else:
            entries[name] = entry
    if entries != known:
        with contextlib.suppress(StoreError):  # a store that can only be read is read
            content = canonical_json(entries)
            atomic_write(index, _head(content) + content)
    outlines = [entry[1] for entry in entries.values()]
    return sorted(outlines, key=lambda one: (one["data"]["name"], one["method"], one["id"])), refused


def _outline(record: dict[str, Any]) -> dict[str, Any]:
    headline = record["headline"]
    return {name: record[name] for name in ("id", "method", "seed", "overrides", "headline")} | {
        "data": {"name": record["data"]["name"]},
        "ablation": record["ablation"] and {"row": record["ablation"]["row"]},
        "metrics": {headline: {"averages": record["metrics"][headline]["averages"]}},
        "environment": {"commit": record["environment"]["commit"]},
    }


def _read(path: Path) -> dict[str, list[Any]]:
    """The entries of an index that this version wrote and nobody changed."""
    try:
        head, _, content = path.read_bytes().partition(b"\n")
    except OSError:
        return {}
    return dict(from_json(content)) if head + b"\n" == _head(content) else {}


def _head(content: bytes) -> bytes:
    return f"{FORMAT} {version('wstal-bench')} {sha256(content)}\n".encode()
