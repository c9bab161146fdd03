"""The page of detections by their authors, scored by us under each protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.charts.figure import Figure
from harness.pages.model import Page, Role, Table
from harness.records.words import bullets, widest_average
from harness.seed_statistics import Estimate
from harness.studies.released import UNKNOWN, Rescored


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


def rescored_frame(records: Sequence[Rescored]) -> pd.DataFrame:
    """One row a detection file and protocol.

    Columns: detections (the record's name), method, features, source, data set, published (on the headline's row
    only, the one to compare), protocol, counts as in `Metrics`, then mAP in percent by tIoU (`0.5`) and by range
    (`avg 0.1:0.7`). Absent cells are NaN: data sets differ in their tIoUs.
    """
    rows = [
        {
            "detections": record.name,
            "method": record.method,
            "features": record.features,
            "source": record.source,
            "data set": record.dataset or UNKNOWN,
            "published": record.published if protocol == record.headline else None,
            "protocol": protocol,
            "videos": metrics.videos,
            "instances": metrics.instances,
            "ranked": metrics.detections,
            "unlisted": metrics.unlisted,
            "dropped": metrics.dropped,
        }
        | metrics.mAP
        | {f"avg {name}": value for name, value in metrics.averages.items()}
        for record in records
        for protocol, metrics in record.metrics.items()
    ]
    return pd.DataFrame(rows)


def spread_frame(records: Sequence[Rescored]) -> pd.DataFrame:
    """How far one detection file's mean mAP moves between the protocols that apply, in points.

    One row a detection file whose thresholds make a usual average: its range (`over`), the lowest and the highest
    mean with the protocols that give them, and the difference; NaN where one protocol alone applies.
    """
    rows = []
    for record in records:
        averages = {protocol: metrics.averages for protocol, metrics in record.metrics.items()}
        if not averages[record.headline]:
            continue
        over = widest_average(averages[record.headline])
        means = {protocol: values[over] for protocol, values in averages.items()}
        low, high = min(means.values()), max(means.values())
        rows.append(
            {
                "detections": record.name,
                "method": record.method,
                "data set": record.dataset or UNKNOWN,
                "over": over,
                "protocols": len(means),
                "lowest": low,
                "lowest under": ", ".join(name for name, mean in means.items() if mean == low),
                "highest": high,
                "highest under": ", ".join(name for name, mean in means.items() if mean == high),
                "spread": high - low if len(means) > 1 else math.nan,
            }
        )
    return pd.DataFrame(rows)
