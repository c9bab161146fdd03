"""The page of detections by their authors, scored by us under each protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.pages import Estimate, Figure, Page, Role, Table
from harness.prose import bullets
from harness.rescore import UNKNOWN, Rescored, rescored_frame, spread_frame


def rescored_page(records: Sequence[Rescored]) -> Page:
    """What each released detection file gives under each protocol, and how far apart these are."""
    blocks: list[str | Table | Figure] = [
        "Detections that others released, scored here: no training, so no seeds and no interval. Between protocols "
        "only the evaluator differs; `wstal-bench rescore` adds a file.",
        "## Spread between protocols",
        _table("rescored-spread", "One detection file under all protocols", spread_frame(records).to_dict("records")),
        "Cells are the mean mAP in percent over the range of tIoUs named.",
    ]
    for dataset in dict.fromkeys(record.dataset or UNKNOWN for record in records):
        # tIoUs differ between data sets: each has a table with its own columns
        frame = rescored_frame([record for record in records if (record.dataset or UNKNOWN) == dataset])
        hidden = ["data set", "features", "source", "published"]
        shown = frame.drop(columns=hidden).dropna(axis="columns", how="all").to_dict("records")
        title = "Unknown data set" if dataset == UNKNOWN else dataset
        blocks += [f"## {title}", _table(f"rescored-{dataset}", f"{title}: mAP in percent over tIoU", shown)]
    blocks += ["## Provenance", bullets(_provenance(record) for record in records)]
    return Page("leaderboards/rescored", "Detections by their authors, scored by us", blocks)


def _table(name: str, caption: str, rows: Sequence[dict[Any, Any]]) -> Table:
    cells = [{column: _cell(value) for column, value in row.items()} for row in rows]
    roles: dict[str, Role] = {
        column: "measured" for row in cells for column, value in row.items() if isinstance(value, Estimate)
    }
    return Table(name, caption, cells, roles)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else Estimate(value)
    return value


def _provenance(record: Rescored) -> str:
    facts = [
        record.source,
        record.note,
        record.features and f"features {record.features}",
        record.annotations.list and f"videos of the list {record.annotations.list}",
        record.unnamed and f"data set unknown: {record.unnamed}",
        record.published and f"stands beside {record.published}",
    ]
    return f"{record.name}: " + "; ".join(fact for fact in facts if fact)
