"""From stored results to pages and files: the same results give the same bytes."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.charts.comparisons import LINES, Curve, Seeds, curves, intervals
from harness.comparisons.paper import compare, table_page
from harness.data.held_out import SUFFIX, is_held_out
from harness.io.reading import atomic_write, canonical_json, sha256
from harness.pages.ablations import ablation_page, average, has_ablations, readings_page
from harness.pages.cost import cost_page
from harness.pages.formats import files
from harness.pages.html import html_report
from harness.pages.model import Figure, Page, Role, Table, estimate
from harness.pages.released import rescored_page
from harness.pages.reliability import FILE as RELIABILITY
from harness.pages.reliability import Reliability, load_reliability, reliability_page
from harness.paper.audit import audit_page
from harness.paper.tables import published_tables
from harness.records.schema import load_records
from harness.records.words import bullets, changes, computed_with, counts, widest_average
from harness.registry import load_method, method_entries
from harness.runs.schedules import schedule_for
from harness.runs.scoring import common_localizer
from harness.studies.cost import FILE as COST
from harness.studies.cost import CostFile, load_cost
from harness.studies.released import FOLDER as RESCORED
from harness.studies.released import Rescored, load_rescored
from wstal.errors import UserError

Record = dict[str, Any]

REPORT = "report.html"
SUFFIXES = (".md", ".csv", ".tex", ".svg")


@dataclass(frozen=True)
class Results:
    """All that is stored of one results folder.

    Args:
        records: of runs, by data set, method and id.
        rescored: detections by their authors.
        cost: measured cost of methods; None where it was not measured.
        reliability: figures of the stress tests; None where they were not run.
        refused: a message for each file that cannot be used.
    """

    records: Sequence[Record]
    rescored: Sequence[Rescored] = ()
    cost: CostFile | None = None
    reliability: Reliability | None = None
    refused: Sequence[str] = ()


def read_results(folder: Path) -> Results:
    """What a results folder holds; damaged files and those of a newer version are refused by name, the rest is read.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder. Name the one that holds records/ with --results.")
    records, bad_records = load_records(folder / "records")
    rescored, bad_rescored = load_rescored(folder / RESCORED)
    refused = [message for _, message in [*bad_records, *bad_rescored]]
    cost = reliability = None
    try:
        cost = load_cost(folder / COST) if (folder / COST).exists() else None
    except UserError as error:
        refused.append(str(error))
    try:
        reliability = load_reliability(folder / RELIABILITY) if (folder / RELIABILITY).exists() else None
    except UserError as error:
        refused.append(str(error))
    return Results(records, rescored, cost, reliability, refused)


def render(results: Results) -> dict[str, str]:
    """Every rendered file by path below the results folder."""
    made = pages(results)
    return files(made) | {REPORT: html_report(made)}


def pages(results: Results) -> list[Page]:
    """The entry page, then the published tables with verdicts, two pages for each data set (its methods, its
    ablations), the readings, rescored detections, the audit and the stress tests.
    """
    by_dataset: dict[str, list[Record]] = {}
    for record in results.records:
        by_dataset.setdefault(record["data"]["name"], []).append(record)
    real: list[Page] = []
    synthetic: list[Page] = []
    for members in by_dataset.values():
        of_data = synthetic if members[0]["synthetic"] else real
        if themselves := [record for record in members if record["ablation"] is None]:
            of_data.append(_dataset_page(themselves))
        if has_ablations(members):
            of_data.append(ablation_page(members))
    if readings := readings_page(results.records):
        real.append(readings)
    if results.rescored:
        real.append(rescored_page(results.rescored))
    tables = [
        table_page(table, compare(table, results.records, results.rescored))
        if table.dataset
        else cost_page(table, results.cost)
        for table in published_tables().values()
    ]
    sections = {
        "The paper's tables, published beside measured": [*tables, audit_page()],
        "Measured on real video": real,
        "Synthetic": synthetic,
        "The harness": [reliability_page(results.reliability)] if results.reliability else [],
    }
    return [_entry_page(sections, _overview(by_dataset)), *(page for members in sections.values() for page in members)]


def write(rendered: dict[str, str], results: Path, keep_stale: bool = False) -> None:
    """Write files below `results`, each whole or not at all, and remove those that belong to no page any more.

    Args:
        rendered: by `render`.
        results: the folder.
        keep_stale: leave them, because some record could not be read.
    """
    for name, stale in _rendered(results).items():
        if name not in rendered and not keep_stale:
            stale.unlink()
    for name, text in rendered.items():
        atomic_write(results / name, text.encode())


def drifted(rendered: dict[str, str], results: Path) -> list[str]:
    """Names of files below `results` that differ from `rendered`, are absent, or belong to no page."""
    stored = {name: path.read_bytes() for name, path in _rendered(results).items()}
    wanted = {name: text.encode() for name, text in rendered.items()}
    return sorted(name for name in wanted.keys() | stored.keys() if wanted.get(name) != stored.get(name))


def _rendered(results: Path) -> dict[str, Path]:
    """The files below `results` that `render` is answerable for, by path."""
    paths = [path for path in results.glob("leaderboards/**/*") if path.suffix in SUFFIXES]
    paths += [
        path for name in ("readings.md", "audit.md", "reliability.md", REPORT) if (path := results / name).exists()
    ]
    return {path.relative_to(results).as_posix(): path for path in paths}


def _overview(by_dataset: Mapping[str, list[Record]]) -> list[dict[str, Any]]:
    """The headline of every method on real test videos, by its own options."""
    rows = []
    for name, members in by_dataset.items():
        own = [record for record in members if record["ablation"] is None and not record["overrides"]]
        if not own or own[0]["synthetic"] or is_held_out(name):
            continue
        for label, group in _by_method(own).items():
            over = widest_average(group[0]["metrics"][group[0]["headline"]]["averages"])
            rows.append(
                {
                    "data set": group[0]["data"]["title"],
                    "method": label,
                    "seeds": _seeds(group),
                    "protocol": group[0]["headline"],
                    "mean of": over,
                    "mAP (%)": estimate([average(record) for record in group], len(group)),
                }
            )
    return rows


def _entry_page(sections: dict[str, list[Page]], overview: list[dict[str, Any]]) -> Page:
    blocks: list[str | Table | Figure] = [
        "Rendered from what `results/` stores by `nox -s leaderboard`; do not edit by hand. One page a data set with "
        "its features: numbers on different pages are not comparable. Each table also stands as CSV and LaTeX in "
        "[tables](tables), and all pages as one HTML file with sortable tables, [report.html](../report.html).",
    ]
    if overview:
        caption = "Methods by their own options on real test videos; rows of one data set alone compare"
        blocks.append(Table("overview", caption, overview, {"mAP (%)": "measured"}))
    for heading, members in sections.items():
        if members:
            links = [f"[{page.title}]({posixpath.relpath(page.path, 'leaderboards')}.md)" for page in members]
            blocks += [f"## {heading}", bullets(links)]
    return Page("leaderboards/README", "Leaderboards", blocks)


def _dataset_page(records: list[Record]) -> Page:
    data = records[0]["data"]
    blocks: list[str | Table | Figure] = []
    # runs on other files, lists or labels are other experiments: each gets a section of its own
    sections: dict[str, list[Record]] = {}
    for record in records:
        sections.setdefault(sha256(canonical_json(record["data"]))[:8], []).append(record)
    for digest, members in sections.items():
        several = len(sections) > 1
        if several:
            blocks.append(f"## Data {digest}")
        blocks += _section(members, f"{data['name']}-{digest}" if several else data["name"])
    return Page(f"leaderboards/{data['name']}", data["title"], blocks, synthetic=records[0]["synthetic"])


def _section(records: list[Record], name: str) -> list[str | Table | Figure]:
    data, headline = records[0]["data"], records[0]["headline"]
    facts = {
        "features": data["features"],
        "training videos": f"{data['train']['videos']} ({data['train']['list']}), {data['labels']} video-level labels",
        "predicted test videos": f"{data['test']['videos']} ({data['test']['list']})",
        "protocol": f"`{headline}` on {counts(records[0]['metrics'][headline])}, mAP in percent over tIoU",
        "checkpoint": "the last of a fixed schedule, never chosen on the scored videos",
        "cells": "mean ± half the 95 % Student-t interval over seeds",
    }
    groups = _by_method(records)
    headline_rows = [_headline_row(label, group, headline) for label, group in groups.items()]
    protocol_rows = [_protocol_row(label, group) for label, group in groups.items()]
    caption = f"{data['title']}, `{headline}`, mAP in percent over tIoU"
    schedule = data["name"].removesuffix(SUFFIX)
    chosen = f" (chosen as `harness/shipped/schedules/{schedule}.toml` says)" if schedule_for(schedule).why else ""
    schedules = sorted({f"{record['title']}: {changes(record['schedule'])}" for record in records})
    return [
        bullets(f"{fact}: {text}" for fact, text in facts.items()),
        Table(name, caption, headline_rows, _measured(headline_rows)),
        *_figures(name, data["title"], groups, headline),
        "Under every protocol that applies, mean over the range:",
        Table(f"{name}-protocols", f"{data['title']}, every protocol", protocol_rows, _measured(protocol_rows)),
        *_localizers(name, data["title"], groups, headline),
        f"Schedules, where they differ from the methods' own papers{chosen}:",
        bullets(schedules),
        *_not_run(groups.values()),
        *computed_with(records),
    ]


def _not_run(groups: Iterable[list[Record]]) -> Iterator[str]:
    """The registered methods without a run by their own options."""
    groups = list(groups)
    own = {group[0]["method"] for group in groups if not group[0]["overrides"]}
    changed = {group[0]["method"] for group in groups} - own
    lacking = [load_method(name).title for name in method_entries() if name not in own | changed]
    others = [load_method(name).title for name in method_entries() if name in changed]
    said = [f"Not run here, so not ranked: {', '.join(lacking)}."] if lacking else []
    said += [f"Run here with other options alone: {', '.join(others)}."] if others else []
    if said:
        yield f"{' '.join(said)} `wstal-bench reproduce` with this data runs them by their own."


def _by_method(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The runs of one method, recipe and version together, by what tells them from the others, the best first."""
    groups: dict[bytes, list[Record]] = {}
    for record in records:
        version = record["environment"]["wstal-bench"]
        groups.setdefault(canonical_json([record["method"], record["recipe"], version]), []).append(record)
    versions = {record["environment"]["wstal-bench"] for record in records}
    labelled: dict[str, list[Record]] = {}
    for group in groups.values():
        first = group[0]
        said = [changes(first["overrides"])] if first["overrides"] else []
        said += [first["environment"]["wstal-bench"]] if len(versions) > 1 else []
        label = f"{first['title']} ({', '.join(said)})" if said else str(first["title"])
        # two recipes that say the same of themselves: a default changed within a version
        labelled[f"{label} ({first['digest'][:8]})" if label in labelled else label] = group
    return dict(sorted(labelled.items(), key=lambda item: -fmean(map(average, item[1]))))


def _figures(name: str, title: str, groups: Mapping[str, list[Record]], headline: str) -> Iterator[Figure]:
    """The mean over the widest range with its seeds, and mAP over tIoU."""
    first = next(iter(groups.values()))[0]
    widest = widest_average(first["metrics"][headline]["averages"])
    yield intervals(
        [Seeds(label, [average(record) for record in group]) for label, group in groups.items()],
        name=f"{name}-intervals",
        caption=f"{title}: mean mAP {widest}, a dot a seed",
        axis=f"mean mAP {widest} (%)",
        synthetic=first["synthetic"],
    )
    lines = []
    for label, group in list(groups.items())[: len(LINES)]:
        metrics = [record["metrics"][headline]["mAP"] for record in group]
        values = [estimate([one[tiou] for one in metrics if tiou in one], len(group)) for tiou in metrics[0]]
        lines.append(Curve(label, [float(tiou) for tiou in metrics[0]], values))
    yield curves(lines, name=f"{name}-curves", caption=f"{title}: mAP over tIoU", synthetic=first["synthetic"])


def _measured(rows: Sequence[dict[str, Any]]) -> dict[str, Role]:
    return {name: "measured" for row in rows for name in row if name not in ("method", "seeds")}


def _headline_row(label: str, group: list[Record], headline: str) -> dict[str, Any]:
    metrics = [record["metrics"][headline] for record in group]
    row: dict[str, Any] = {"method": label, "seeds": _seeds(group)}
    for part in ("mAP", "averages"):
        for name in metrics[0][part]:
            values = [one[part][name] for one in metrics if name in one[part]]
            row[f"avg {name}" if part == "averages" else name] = estimate(values, len(group))
    return row


def _protocol_row(label: str, group: list[Record]) -> dict[str, Any]:
    row: dict[str, Any] = {"method": label}
    for protocol, metrics in group[0]["metrics"].items():
        if metrics["averages"]:
            widest = widest_average(metrics["averages"])
            values = [one for record in group if (one := _average_under(record, protocol, widest)) is not None]
            row[f"{protocol} {widest} ({metrics['videos']} videos)"] = estimate(values, len(group))
    return row


def _localizers(name: str, title: str, groups: Mapping[str, list[Record]], headline: str) -> Iterator[str | Table]:
    """The same scores localized by the method's own settings and by those that all have in common."""
    first = next(iter(groups.values()))[0]
    if not any(record["common"] for group in groups.values() for record in group):
        return
    widest = widest_average(first["metrics"][headline]["averages"])
    rows = []
    for label, group in groups.items():
        own = [average(record) for record in group]
        common = [value for record in group if (value := _common_average(record, widest)) is not None]
        gain = [a - b for a, b in zip(own, common, strict=True)] if len(common) == len(own) else []
        rows.append(
            {
                "method": label,
                "its own localizer": estimate(own, len(own)),
                "the common one": estimate(common, len(own)),
                "own - common": replace(mean, signed=True) if (mean := estimate(gain, len(own))) else None,
            }
        )
    yield (
        f"The same snippet scores localized by the method's own settings and by ACM-Net's, which work on each method's "
        f"class probabilities and foreground attention (mean mAP {widest}): what is left between two methods in the "
        "second column is the models', as far as their scores are on one scale. Those of W-TALC, CoLA, FAC-Net and "
        "UntrimmedNet are relative to each video, which the methods' docstrings say."
    )
    yield Table(
        f"{name}-localizers",
        f"{title}, own and common localizer",
        rows,
        {"its own localizer": "measured", "the common one": "measured", "own - common": "difference"},
    )


def _common_average(record: Record, over: str) -> float | None:
    """Under the common localizer; None for a run that was not localized by it."""
    if record["common"]:
        value: float = record["common"][record["headline"]]["averages"][over]
        return value
    settings = (common_localizer(family).model_dump(mode="json") for family in ("thumos14", "activitynet13"))
    return average(record) if record["recipe"]["localizer"] in settings else None


def _average_under(record: Record, protocol: str, over: str) -> float | None:
    value: float | None = record["metrics"].get(protocol, {"averages": {}})["averages"].get(over)
    return value


def _seeds(group: list[Record]) -> str:
    return ", ".join(str(seed) for seed in sorted(record["seed"] for record in group))
