"""From records to pages: the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.ablations import ablation_page, has_ablations, readings_page
from harness.files import atomic_write, canonical_json, sha256
from harness.pages import Figure, Page, Role, Table, estimate
from harness.prose import bullets, changes, computed_with, counts, widest_average
from harness.render import files
from harness.store import read_record
from wstal.errors import UserError

Record = dict[str, Any]


def load_records(folder: Path) -> list[Record]:
    """All records below a folder, by dataset, method and seed.

    Raises:
        UserError: a file is no record, holds an impossible mAP, or two files hold one run.
    """
    records: dict[str, Record] = {}
    for path in sorted(folder.glob("**/*.json")):
        record = read_record(path)
        for protocol, metrics in record["metrics"].items():
            for tiou, value in {**metrics["mAP"], **metrics["averages"]}.items():
                if not (isinstance(value, (int, float)) and 0 <= value <= 100):
                    raise UserError(f"{path}: mAP {value!r} at {tiou} under {protocol} is not a percentage.")
        if record["id"] in records:
            raise UserError(f"{path}: run {record['id']} is stored twice. Remove one.")
        records[record["id"]] = record
    return sorted(records.values(), key=lambda r: (r["data"]["name"], r["method"], r["id"], r["seed"]))


def render(records: Sequence[Record]) -> dict[str, str]:
    """Every rendered file by path below `results`."""
    return files(pages(records))


def pages(records: Sequence[Record]) -> list[Page]:
    """Two pages for each data set (its methods, its ablations), the readings, and the entry page that leads to them."""
    by_dataset: dict[str, list[Record]] = {}
    for record in records:
        by_dataset.setdefault(record["data"]["name"], []).append(record)
    ablations = {name: members for name, members in by_dataset.items() if has_ablations(members)}
    methods = {
        name: themselves
        for name, members in by_dataset.items()
        if (themselves := [record for record in members if record["ablation"] is None])
    }
    rendered = [_dataset_page(members) for members in methods.values()]
    rendered += [ablation_page(members) for members in ablations.values()]
    if readings := readings_page(records):
        rendered.append(readings)
    return [_index(methods, ablations), *rendered]


def write(pages: dict[str, str], results: Path) -> None:
    """Write pages below `results`, each whole or not at all, and remove those that belong to no record any more."""
    for name, stale in _rendered(results).items():
        if name not in pages:
            stale.unlink()
    for name, text in pages.items():
        atomic_write(results / name, text.encode())


def drifted(pages: dict[str, str], results: Path) -> list[str]:
    """Names of pages below `results` that differ from `pages`, are absent, or belong to no record."""
    stored = {name: path.read_text() for name, path in _rendered(results).items()}
    return sorted(name for name in pages.keys() | stored.keys() if pages.get(name) != stored.get(name))


def _rendered(results: Path) -> dict[str, Path]:
    """The files below `results` that `render` is answerable for, by path."""
    paths = [path for path in results.glob("leaderboards/**/*") if path.is_file()] + list(results.glob("readings.md"))
    return {path.relative_to(results).as_posix(): path for path in paths}


def _index(methods: dict[str, list[Record]], ablations: dict[str, list[Record]]) -> Page:
    rows = [
        {
            "page": f"[{records[0]['data']['title']}{suffix}]({name}{file})",
            "features": records[0]["data"]["features"],
            "methods": len({record["method"] for record in records}),
            "runs": len(records),
            "kind": "synthetic" if records[0]["synthetic"] else "real",
        }
        for by_dataset, suffix, file in ((methods, "", ".md"), (ablations, ": ablations", "-ablations.md"))
        for name, records in by_dataset.items()
    ]
    text = (
        "Rendered from `results/records/` by `nox -s leaderboard`; do not edit by hand. "
        "One page a data set with its features: numbers on different pages are not comparable."
    )
    return Page("leaderboards/README", "Leaderboards", [text, Table(None, "All pages", rows)])


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
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(canonical_json([record["method"], record["recipe"]]).decode(), []).append(record)
    headline_rows = [_headline_row(group, headline) for group in groups.values()]
    protocol_rows = [_protocol_row(group) for group in groups.values()]
    caption = f"{data['title']}, `{headline}`, mAP in percent over tIoU"
    chosen = f"chosen as `harness/data/schedules/{data['name'].removesuffix('-held-out')}.toml` says"
    schedules = sorted({f"{record['title']}: {changes(record['schedule'])}" for record in records})
    return [
        bullets(f"{fact}: {text}" for fact, text in facts.items()),
        Table(name, caption, headline_rows, _measured(headline_rows)),
        "Under every protocol that applies, mean over the range:",
        Table(f"{name}-protocols", f"{data['title']}, every protocol", protocol_rows, _measured(protocol_rows)),
        f"Schedules, where they differ from the methods' own papers ({chosen}):",
        bullets(schedules),
        *computed_with(records),
    ]


def _measured(rows: Sequence[dict[str, Any]]) -> dict[str, Role]:
    return {name: "measured" for row in rows for name in row if name not in ("method", "seeds")}


def _label(group: list[Record]) -> str:
    overrides = group[0]["overrides"]
    return f"{group[0]['title']} ({changes(overrides)})" if overrides else str(group[0]["title"])


def _headline_row(group: list[Record], headline: str) -> dict[str, Any]:
    metrics = [record["metrics"][headline] for record in group]
    row: dict[str, Any] = {"method": _label(group), "seeds": _seeds(group)}
    for part in ("mAP", "averages"):
        for name in metrics[0][part]:
            values = [one[part][name] for one in metrics if name in one[part]]
            row[f"avg {name}" if part == "averages" else name] = estimate(values, len(group))
    return row


def _protocol_row(group: list[Record]) -> dict[str, Any]:
    row: dict[str, Any] = {"method": _label(group)}
    for protocol, metrics in group[0]["metrics"].items():
        if metrics["averages"]:
            widest = widest_average(metrics["averages"])
            values = [record["metrics"][protocol]["averages"][widest] for record in group]
            row[f"{protocol} {widest} ({metrics['videos']} videos)"] = estimate(values, len(group))
    return row


def _seeds(group: list[Record]) -> str:
    return ", ".join(str(seed) for seed in sorted(record["seed"] for record in group))
