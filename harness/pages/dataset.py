"""Leaderboard page of one data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from harness.charts.comparisons import curves, heat_map, intervals
from harness.charts.figure import Figure
from harness.data.held_out import SUFFIX, is_held_out
from harness.pages.model import Blocks, Page, Tab, Table
from harness.pages.ranking import (
    RULE,
    Standing,
    means,
    ranking_table,
    rankings,
    schedule_words,
    set_apart,
    standings,
    verdict,
)  # fmt: skip
from harness.records.grouping import average, by_data
from harness.records.schema import Record
from harness.records.words import bullets, changes, computed_with, counts, seed_list, widest_average
from harness.registry import load_method, method_entries
from harness.runs.schedules import schedule_for
from harness.runs.scoring import common_localizer
from harness.seed_statistics import estimate

CURVES = 5  # methods of the figure of mAP over tIoU: more cannot be told apart


def dataset_page(records: list[Record]) -> Page:
    """Build the leaderboard page of one data set from its records."""
    data = records[0].data
    blocks: Blocks = []
    # runs on other files, lists or labels are other experiments: each gets a section of its own
    sections = by_data(records)
    for digest, members in sections.items():
        name = f"{data.name}-{digest}" if len(sections) > 1 else data.name
        if len(sections) > 1:
            blocks.append(f"## Data {digest}")
        first, *others = rankings(members)
        if others:
            apart = " and ".join(one[0].version for one in others)
            blocks.append(
                f"Runs of version {first[0].version}, of which most methods have some. Those of version {apart}, whose "
                "schedules may differ, are ranked apart, further down."
            )
        blocks += _section(first, name, alone=not others)
        for other in others:
            version = other[0].version
            blocks += [f"## Version {version} of the harness", "Its default schedules may differ: see the last column."]
            blocks += _section(other, f"{name}-{version}", alone=False)
    tab: Tab = "Harness" if is_held_out(data.name) else "Results"
    return Page(f"leaderboards/{data.name}", data.title, blocks, synthetic=records[0].synthetic, tab=tab)


def _section(records: list[Record], name: str, *, alone: bool) -> Blocks:
    data, headline = records[0].data, records[0].headline
    found = standings(records)
    facts = {
        "features": data.features,
        "training videos": f"{data.train.videos} ({data.train.list}), {data.labels} video-level labels",
        "predicted test videos": f"{data.test.videos} ({data.test.list})",
        "evaluator": f"`{headline}` on {counts(records[0].scored)}, mAP in percent over tIoU; `avg` is their mean",
        "checkpoint": "the last of a fixed schedule, never chosen on the scored videos",
        "cells": "mean ± half the 95 % Student-t interval over seeds",
    }
    notes = [RULE]
    if any(one.records[0].supervision != "weak" for one in found):
        notes.append("methods that are given more than video-level labels stand apart, without a rank")
    if any(one.chance for one in found):
        notes.append("chance (last rows): the classes of a linear classifier, and no knowledge of time")
    caption = f"{data.title}, `{headline}`, mAP in percent over tIoU"
    schedule = data.name.removesuffix(SUFFIX)
    chosen = f" (why: `harness/shipped/schedules/{schedule}.toml`)" if schedule_for(schedule).why else ""
    several = len({record.version for record in records}) > 1
    schedules = sorted(
        {f"{one.title}{f' ({one.version})' if several else ''}: {changes(one.schedule)}" for one in records}
    )
    return [
        verdict(found),
        ranking_table(name, caption, found),
        bullets(notes),
        *_figures(name, data.title, found, headline),
        "## What was run",
        bullets(f"{fact}: {text}" for fact, text in facts.items()),
        *_not_run(found, "here" if alone else f"by version {records[0].version}"),
        *_set_apart(name, records),
        "## Every evaluator",
        "The same detections under each evaluator that applies, mean over the range; one evaluator a column.",
        Table(f"{name}-protocols", f"{data.title}, every evaluator", [_protocol_row(one) for one in found]),
        *_localizers(name, data.title, found),
        "## Schedules",
        f"Where they differ from the methods' own papers{chosen}:",
        bullets(schedules),
        *computed_with(records),
    ]


def _set_apart(name: str, records: Sequence[Record]) -> Iterator[str | Table]:
    """Show runs that the ranking leaves out."""
    if others := set_apart(records):
        yield "Not ranked: runs of an older version of the harness, and of another precision."
        rows = [
            {"method": one.label, "average": one.mean, "seeds": seed_list(one.records)}
            | {"schedule": schedule_words(one.records[0])}
            for one in others
        ]
        yield Table(f"{name}-apart", f"{records[0].data.title}: runs that are not ranked", rows)


def _not_run(found: Sequence[Standing], where: str) -> Iterator[str]:
    """Name the registered methods without a run by their own options; `where` they were not run."""
    own = {one.method for one in found if not one.records[0].overrides}
    changed = {one.method for one in found} - own
    names = {
        f"Not run {where}, so not ranked": [name for name in method_entries() if name not in own | changed],
        f"Run {where} with other options alone": [name for name in method_entries() if name in changed],
    }
    notes = [f"{note}: {', '.join(load_method(one).title for one in found)}." for note, found in names.items() if found]
    if notes:
        yield f"{' '.join(notes)} `wstal-bench reproduce` with this data runs them by their own."


def _figures(name: str, title: str, found: Sequence[Standing], headline: str) -> Iterator[Figure]:
    """Draw the mean over the widest range with its seeds, AP by class, and mAP over tIoU of the best methods."""
    first = found[0].records[0]
    widest = widest_average(first.metrics[headline].averages)
    yield intervals(
        {one.label: [average(record) for record in one.records] for one in found},
        name=f"{name}-intervals",
        caption=f"{title}: mean mAP {widest}, a dot a seed",
        axis=f"mean mAP {widest} (%)",
        synthetic=first.synthetic,
    )
    best = [one for one in found if one.contends][:CURVES] or found[:CURVES]
    lines = {}
    for one in best:
        metrics = [record.metrics[headline].mean_ap for record in one.records]
        lines[one.label] = {float(tiou): value for tiou, value in means(metrics).items()}
    yield curves(
        lines,
        name=f"{name}-curves",
        caption=f"{title}: mAP over tIoU of the best {len(lines)} methods",
        synthetic=first.synthetic,
    )
    classes = list(first.ap_by_class())
    yield heat_map(
        {one.label: [_class_mean(one.records, label) for label in classes] for one in found},
        classes,
        name=f"{name}-classes",
        caption=f"{title}: AP of each class, mean over tIoU and seeds",
        axis="AP (%)",
        synthetic=first.synthetic,
    )


def _class_mean(group: Sequence[Record], label: str) -> float:
    """Return a class's AP under the headline protocol, mean over tIoUs and seeds."""
    return fmean(value for record in group for value in record.ap_by_class()[label].values())


def _protocol_row(one: Standing) -> dict[str, Any]:
    row: dict[str, Any] = {"method": one.label}
    for protocol, metrics in one.records[0].metrics.items():
        scored = [record.metrics[protocol].averages for record in one.records if protocol in record.metrics]
        widest = widest_average(metrics.averages) if metrics.averages else None
        for name in metrics.averages if protocol == one.records[0].headline else filter(None, [widest]):
            values = [averages[name] for averages in scored if name in averages]
            row[f"{protocol} {name} ({metrics.videos} videos)"] = estimate(values, len(one.records))
    return row


def _localizers(name: str, title: str, found: Sequence[Standing]) -> Iterator[str | Table]:
    """Compare the same scores localized by the method's own settings and by those that all have in common."""
    first = found[0].records[0]
    if not any(record.common_localizer for one in found for record in one.records):
        return
    widest = widest_average(first.scored.averages)
    rows = []
    for one in found:
        own = [average(record) for record in one.records]
        common = [value for record in one.records if (value := _common_average(record, widest)) is not None]
        gain = [a - b for a, b in zip(own, common, strict=True)] if len(common) == len(own) else []
        rows.append(
            {
                "method": one.label,
                "its own localizer": one.mean,
                "the common one": estimate(common, len(own)),
                "own - common": replace(mean, signed=True) if (mean := estimate(gain, len(own))) else None,
            }
        )
    yield "## Own and common localizer"
    yield (
        f"The same snippet scores localized by the method's own settings and by ACM-Net's, which work on each method's "
        f"class probabilities and foreground attention (mean mAP {widest}): what is left between two methods in the "
        "second column is the models', as far as their scores are on one scale. Those of W-TALC, 3C-Net, A2CL-PT, "
        "CoLA, FAC-Net, UntrimmedNet and CMCS are relative to each video, which the methods' docstrings say."
    )
    yield Table(f"{name}-localizers", f"{title}, own and common localizer", rows)


def _common_average(record: Record, over: str) -> float | None:
    """Return the average under the common localizer, or None for a run that was not localized by it."""
    if record.common_localizer:
        return record.common_localizer.averages[over]
    settings = (common_localizer(family).model_dump(mode="json") for family in ("thumos14", "activitynet13"))
    return average(record) if record.recipe.localizer in settings else None
