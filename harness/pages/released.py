"""Page of detections by their authors, scored by us under each protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.pages.model import Blocks, Page, Table
from harness.records.words import bullets, widest_average
from harness.seed_statistics import Estimate
from harness.studies.released import UNKNOWN, Rescored


def rescored_page(records: Sequence[Rescored]) -> Page:
    """Build the page: the scores of each file under each protocol, and the spread between protocols."""
    blocks: Blocks = [
        "Detections that others released, scored here: no training, so no seeds and no interval. Between protocols "
        "only the evaluator differs; `wstal-bench evaluate SOURCES.toml --keep` adds a file.",
        "## Spread between protocols",
        _table("rescored-spread", "One detection file under all protocols", spread_rows(records)),
        "Cells are the mean mAP in percent over the range of tIoUs named.",
    ]
    for dataset in dict.fromkeys(record.dataset or UNKNOWN for record in records):
        # tIoUs differ between data sets: each has a table with its own columns
        rows = score_rows([record for record in records if (record.dataset or UNKNOWN) == dataset])
        title = "Unknown data set" if dataset == UNKNOWN else dataset
        blocks += [f"## {title}", _table(f"rescored-{dataset}", f"{title}: mAP in percent over tIoU", rows)]
    blocks += ["## Provenance", bullets(_provenance(record) for record in records)]
    title = "Detections by their authors, scored by us"
    return Page("leaderboards/rescored", title, blocks, tab="Paper against measured")


def _table(name: str, caption: str, rows: Sequence[dict[str, Any]]) -> Table:
    cells = [
        {column: Estimate(value) if isinstance(value, float) else value for column, value in row.items()}
        for row in rows
    ]
    return Table(name, caption, cells)


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


def score_rows(records: Sequence[Rescored]) -> list[dict[str, Any]]:
    """Build one row for each detection file and protocol: counts, then mAP in percent by tIoU and by range."""
    return [
        {
            "detections": record.name,
            "method": record.method,
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


def spread_rows(records: Sequence[Rescored]) -> list[dict[str, Any]]:
    """Build one row for each detection file: the spread of its mean mAP between the protocols that apply, in points.

    A file whose thresholds make no usual average has no row. A row has the average's range (`over`), the lowest and
    the highest mean with the protocols that give them, and the difference, None where one protocol alone applies.
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
                "spread": high - low if len(means) > 1 else None,
            }
        )
    return rows
