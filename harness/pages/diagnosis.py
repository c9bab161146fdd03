"""Page of a diagnosis: kinds of errors, what each costs, and which instances are missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from harness.charts.diagnosis import grouped_bars, slab_chart
from harness.pages.model import Blocks, Page, Table
from harness.records.words import bullets
from harness.seed_statistics import Estimate, estimate
from harness.studies.diagnosis import MEAN, Diagnosed, frames
from wstal.evaluation.diagnosis import KINDS, SLABS

ABOUT = {
    "true positive": "matched with an instance",
    "double detection": "its instance is taken by a better detection",
    "wrong label": "reaches the tIoU with an instance of another class",
    "localization": "own class, tIoU from 0.1 to below the threshold",
    "confusion": "another class, tIoU from 0.1 to below the threshold",
    "background": "no instance, of any class, above tIoU 0.1",
}
EDGES = {
    "coverage": "share of its video that an instance covers",
    "length": "seconds of an instance",
    "instances": "instances of any class in the video",
}


SMALLEST_GAIN = 0.05  # points that a sentence names
HEADS = {"coverage": "coverage", "length": "length (s)", "instances": "instances in the video"}


def diagnosis_page(found: Sequence[Diagnosed], path: str = "diagnosis", title: str = "Diagnosis") -> Page:
    """Build the page of one or several systems, side by side.

    Args:
        found: the systems.
        path: of the page.
        title: of the page.
    """
    return Page(path, title, diagnosis_blocks(found), synthetic=any(one.synthetic for one in found))


def diagnosis_blocks(found: Sequence[Diagnosed]) -> Blocks:
    """Return the content of a page on one or several systems."""
    tables = {one.name: [frames(result) for result in one.seeds] for one in found}
    synthetic = any(one.synthetic for one in found)
    first = found[0].seeds[0]
    notes = list(dict.fromkeys(f"{one.name}: {note}" for one in found for note in one.notes))
    blocks: Blocks = [
        _answer(tables),
        Table(None, "Systems", [_system(one, tables[one.name]) for one in found], {"system": "fact"}),
        *([bullets(notes)] if notes else []),
        "## Kinds of errors",
        f"Of each class the best 10 G detections, G being its number of instances; tIoU {' '.join(_keys(first))} and "
        "their mean. `gain`: points of normalised mAP if the false positives of the kind were removed; gains do not "
        "add up. Removal only: a detection with bad boundaries is dropped, not mended.",
        Table("diagnosis-errors", "Kinds of errors, mean over tIoU", _errors(tables)),
        grouped_bars(
            "diagnosis-gains",
            "Gain in normalised mAP if a kind of error were removed",
            "gain (points)",
            {
                kind: {name: _values(rows, "errors", kind, "gain") for name, rows in tables.items()}
                for kind in KINDS[1:]
            },
            synthetic=synthetic,
        ),
    ]
    for number, (name, rows) in enumerate(tables.items()):
        shares = {kind: [_mean_share(rows, kind, slab) for slab in range(1, SLABS + 1)] for kind in KINDS}
        caption = f"{name}: kinds of its detections by rank, mean over tIoU"
        blocks.append(slab_chart(f"diagnosis-slabs-{number}", caption, shares, synthetic=synthetic))
    blocks += ["## Missed instances, and AP by kind of instance"]
    blocks += [
        "`missed`: no detection of normalised precision above 5 % is matched with the instance. Normalised mAP of a "
        "bucket counts its instances only and all false positives.",
    ]
    for name, buckets in first.buckets.items():
        blocks.append(Table(f"diagnosis-{name}", f"By {name}: {EDGES[name]}", _buckets(tables, name, buckets.edges)))
        groups = {
            bucket: {system: _bucket(rows, name, bucket, "missed") for system, rows in tables.items()}
            for bucket in buckets.names
        }
        caption = f"Missed instances by {name}, mean over tIoU"
        blocks.append(grouped_bars(f"diagnosis-missed-{name}", caption, "missed (%)", groups, synthetic=synthetic))
    blocks += ["## What the kinds mean", bullets(f"{kind}: {about}" for kind, about in ABOUT.items()), _definitions()]
    return blocks


def _definitions() -> str:
    return (
        "The nearest instance of any class decides; of equal ones, the first in the file. In THUMOS14 every "
        "CliffDiving instance is annotated as Diving too, so an unmatched Diving detection there is called a wrong "
        "label or confusion: that is no confusion of classes. Definitions: Alwassel et al., Diagnosing Error in "
        "Temporal Action Detectors, ECCV 2018; two faults of its released code are corrected (`--as-released` repeats "
        "them). Intervals are 95 % Student-t over seeds."
    )


def _keys(result: Any) -> list[str]:
    return [f"{tiou:.6g}" for tiou in result.tious]


def _answer(tables: dict[str, list[dict[str, pd.DataFrame]]]) -> str:
    """Return the costliest kind of error of each system in a sentence."""
    lines = []
    for name, rows in tables.items():
        gains = {kind: _values(rows, "errors", kind, "gain") for kind in KINDS[1:]}
        worst = max(gains, key=lambda kind: fmean(gains[kind]))
        missed = fmean(_overall_missed(row["buckets"]) for row in rows)
        cost = (
            f"{worst} errors cost most: without them normalised mAP would rise by {estimate(gains[worst], len(rows))}"
        )
        if fmean(gains[worst]) < SMALLEST_GAIN:
            cost = f"no kind of error costs more than {SMALLEST_GAIN:g}"
        lines.append(f"**{name}**: {cost} points; {missed:.0f} % of the instances are missed.")
    return "\n\n".join(lines)


def _overall_missed(buckets: pd.DataFrame) -> float:
    """Return the share of missed instances, from the buckets of one characteristic."""
    rows = buckets[(buckets["characteristic"] == "length") & (buckets["tiou"] == MEAN) & (buckets["instances"] > 0)]
    return float((rows["missed"] * rows["instances"]).sum() / rows["instances"].sum())


def _system(one: Diagnosed, rows: list[dict[str, pd.DataFrame]]) -> dict[str, Any]:
    def mean_ap(column: str) -> Estimate | None:
        return _estimate(rows, "ap", lambda table: table[(table["class"] == MEAN) & (table["tiou"] == MEAN)][column])

    first = one.seeds[0]
    return {
        "system": one.name,
        "seeds": len(one.seeds),
        "mAP": mean_ap("ap"),
        "normalised mAP": mean_ap("normalized_ap"),
        "missed (%)": estimate([_overall_missed(row["buckets"]) for row in rows], len(rows)),
        "instances": f"{len(first.truth):,}",
        "detections": f"{first.detections:,}",
    }


def _errors(tables: dict[str, list[dict[str, pd.DataFrame]]]) -> list[dict[str, Any]]:
    rows = []
    for name, seeds in tables.items():
        for kind in KINDS:
            cells: dict[str, Any] = {"system": name} if len(tables) > 1 else {}
            cells |= {"kind": kind}
            for column, heading in (("detections", "detections"), ("share", "share (%)"), ("gain", "gain (points)")):
                if kind == KINDS[0] and column == "gain":
                    cells[heading] = None
                    continue
                cells[heading] = estimate(_values(seeds, "errors", kind, column), len(seeds))
            rows.append(cells)
    return rows


def _buckets(
    tables: dict[str, list[dict[str, pd.DataFrame]]], name: str, edges: Sequence[float]
) -> list[dict[str, Any]]:
    first = next(iter(tables.values()))[0]["buckets"]
    part = first[(first["characteristic"] == name) & (first["tiou"] == MEAN)]
    rows = []
    for number, (bucket, instances) in enumerate(zip(part["bucket"], part["instances"], strict=True)):
        low, high = ([None, *edges, None][number], [*edges, None][number])
        bounds = f"up to {high:g}" if low is None else f"above {low:g}" if high is None else f"{low:g} to {high:g}"
        for system, seeds in tables.items():
            cells: dict[str, Any] = {HEADS[name]: f"{bucket} ({bounds})", "instances": f"{instances:,}"}
            cells |= {"system": system} if len(tables) > 1 else {}
            for column, heading in (("missed", "missed (%)"), ("normalized_map", "normalised mAP")):
                cells[heading] = estimate(_bucket(seeds, name, bucket, column), len(seeds))
            rows.append(cells)
    return rows


def _bucket(seeds: list[dict[str, pd.DataFrame]], name: str, bucket: str, column: str) -> list[float]:
    found = []
    for tables in seeds:
        table = tables["buckets"]
        rows = table[(table["characteristic"] == name) & (table["bucket"] == bucket) & (table["tiou"] == MEAN)]
        found += rows[column].dropna().tolist()
    return found


def _values(seeds: list[dict[str, pd.DataFrame]], part: str, kind: str, column: str) -> list[float]:
    return [
        float(table[(table["kind"] == kind) & (table["tiou"] == MEAN)][column].iloc[0])
        for table in (tables[part] for tables in seeds)
    ]


def _mean_share(seeds: list[dict[str, pd.DataFrame]], kind: str, slab: int) -> float:
    tables = [table["slabs"] for table in seeds]
    shares = [
        float(table[(table["kind"] == kind) & (table["slab"] == slab) & (table["tiou"] == MEAN)]["share"].iloc[0])
        for table in tables
    ]
    return fmean(shares)


def _estimate(
    seeds: list[dict[str, pd.DataFrame]], part: str, choose: Callable[[pd.DataFrame], pd.Series[float]]
) -> Estimate | None:
    return estimate([float(choose(tables[part]).iloc[0]) for tables in seeds], len(seeds))
