"""Leaderboard page of one data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from harness.charts.comparisons import curves, heat_map, intervals
from harness.charts.figure import Figure
from harness.charts.style import LINES
from harness.data.held_out import SUFFIX
from harness.pages.model import Blocks, Page, Table
from harness.records.grouping import average, by_data, by_method
from harness.records.schema import Record
from harness.records.words import SOURCES, bullets, changes, computed_with, counts, seed_list, widest_average
from harness.registry import load_method, method_entries, method_source
from harness.runs.schedules import schedule_for
from harness.runs.scoring import common_localizer
from harness.seed_statistics import Estimate, estimate


def dataset_page(records: list[Record]) -> Page:
    """Build the leaderboard page of one data set from its records."""
    data = records[0].data
    blocks: Blocks = []
    # runs on other files, lists or labels are other experiments: each gets a section of its own
    sections = by_data(records)
    for digest, members in sections.items():
        several = len(sections) > 1
        if several:
            blocks.append(f"## Data {digest}")
        blocks += _section(members, f"{data.name}-{digest}" if several else data.name)
    return Page(f"leaderboards/{data.name}", data.title, blocks, synthetic=records[0].synthetic)


def _section(records: list[Record], name: str) -> Blocks:
    data, headline = records[0].data, records[0].headline
    facts = {
        "features": data.features,
        "training videos": f"{data.train.videos} ({data.train.list}), {data.labels} video-level labels",
        "predicted test videos": f"{data.test.videos} ({data.test.list})",
        "protocol": f"`{headline}` on {counts(records[0].scored)}, mAP in percent over tIoU",
        "checkpoint": "the last of a fixed schedule, never chosen on the scored videos",
        "order": "best first; fully supervised references stand above the weak methods, those with counts after them",
        "source": SOURCES,
        "cells": "mean ± half the 95 % Student-t interval over seeds",
    }
    groups = by_method(records)
    headline_rows = [_headline_row(label, group, headline) for label, group in groups.items()]
    protocol_rows = [_protocol_row(label, group) for label, group in groups.items()]
    caption = f"{data.title}, `{headline}`, mAP in percent over tIoU"
    schedule = data.name.removesuffix(SUFFIX)
    chosen = f" (chosen as `harness/shipped/schedules/{schedule}.toml` says)" if schedule_for(schedule).why else ""
    schedules = sorted({f"{record.title}: {changes(record.schedule)}" for record in records})
    return [
        bullets(f"{fact}: {text}" for fact, text in facts.items()),
        Table(name, caption, headline_rows),
        *_figures(name, data.title, groups, headline),
        "Under every protocol that applies, mean over the range:",
        Table(f"{name}-protocols", f"{data.title}, every protocol", protocol_rows),
        *_localizers(name, data.title, groups),
        f"Schedules, where they differ from the methods' own papers{chosen}:",
        bullets(schedules),
        *_not_run(list(groups.values())),
        *computed_with(records),
    ]


def _not_run(groups: Sequence[list[Record]]) -> Iterator[str]:
    """Name the registered methods without a run by their own options."""
    own = {group[0].method for group in groups if not group[0].overrides}
    changed = {group[0].method for group in groups} - own
    names = {
        "Not run here, so not ranked": [name for name in method_entries() if name not in own | changed],
        "Run here with other options alone": [name for name in method_entries() if name in changed],
    }
    notes = [f"{note}: {', '.join(load_method(one).title for one in found)}." for note, found in names.items() if found]
    if notes:
        yield f"{' '.join(notes)} `wstal-bench reproduce` with this data runs them by their own."


def _figures(name: str, title: str, groups: Mapping[str, list[Record]], headline: str) -> Iterator[Figure]:
    """Draw the mean over the widest range with its seeds, and mAP over tIoU."""
    first = next(iter(groups.values()))[0]
    widest = widest_average(first.metrics[headline].averages)
    yield intervals(
        {label: [average(record) for record in group] for label, group in groups.items()},
        name=f"{name}-intervals",
        caption=f"{title}: mean mAP {widest}, a dot a seed",
        axis=f"mean mAP {widest} (%)",
        synthetic=first.synthetic,
    )
    lines = {}
    for label, group in list(groups.items())[: len(LINES)]:
        metrics = [record.metrics[headline].mean_ap for record in group]
        lines[label] = {float(tiou): value for tiou, value in _means(metrics).items()}
    classes = list(first.ap_by_class())
    yield heat_map(
        {label: [_class_mean(group, one) for one in classes] for label, group in groups.items()},
        classes,
        name=f"{name}-classes",
        caption=f"{title}: AP of each class, mean over tIoU and seeds",
        axis="AP (%)",
        synthetic=first.synthetic,
    )
    yield curves(lines, name=f"{name}-curves", caption=f"{title}: mAP over tIoU", synthetic=first.synthetic)


def _class_mean(group: Sequence[Record], label: str) -> float:
    """Return a class's AP under the headline protocol, mean over tIoUs and seeds."""
    return fmean(value for record in group for value in record.ap_by_class()[label].values())


def _headline_row(label: str, group: list[Record], headline: str) -> dict[str, Any]:
    metrics = [record.metrics[headline] for record in group]
    averages = {f"avg {name}": mean for name, mean in _means([one.averages for one in metrics]).items()}
    facts = {
        "method": label,
        "supervision": group[0].supervision,
        "source": method_source(group[0].method),
        "seeds": seed_list(group),
    }
    return facts | _means([one.mean_ap for one in metrics]) | averages


def _means(runs: Sequence[Mapping[str, float]]) -> dict[str, Estimate | None]:
    """Return the means over runs of numbers by name; None where a run lacks the number."""
    return {name: estimate([run[name] for run in runs if name in run], len(runs)) for name in runs[0]}


def _protocol_row(label: str, group: list[Record]) -> dict[str, Any]:
    row: dict[str, Any] = {"method": label}
    for protocol, metrics in group[0].metrics.items():
        if metrics.averages:
            widest = widest_average(metrics.averages)
            scored = [record.metrics[protocol].averages for record in group if protocol in record.metrics]
            values = [averages[widest] for averages in scored if widest in averages]
            row[f"{protocol} {widest} ({metrics.videos} videos)"] = estimate(values, len(group))
    return row


def _localizers(name: str, title: str, groups: Mapping[str, list[Record]]) -> Iterator[str | Table]:
    """Compare the same scores localized by the method's own settings and by those that all have in common."""
    first = next(iter(groups.values()))[0]
    if not any(record.common_localizer for group in groups.values() for record in group):
        return
    widest = widest_average(first.scored.averages)
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
