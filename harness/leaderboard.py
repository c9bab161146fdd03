"""From records to Markdown pages: the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.ablations import ablation_page, has_ablations, readings_page
from harness.files import atomic_write, canonical_json, sha256
from harness.markdown import cell, changes, computed_with, counts, markdown, widest_average
from harness.store import read_record
from wstal.errors import UserError

Record = dict[str, Any]

SYNTHETIC_BANNER = (
    "> **Synthetic data.** These numbers come from generated features. They show that the methods learn and that the\n"
    "> harness works; they say nothing about how a method does on real video and are never compared with\n"
    "> published ones."
)


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
    """Pages by path below `results`: two for each data set (its methods, its ablations), `leaderboards/README.md` that
    leads to them, and `readings.md`.
    """
    by_dataset: dict[str, list[Record]] = {}
    for record in records:
        by_dataset.setdefault(record["data"]["name"], []).append(record)
    ablations = {name: members for name, members in by_dataset.items() if has_ablations(members)}
    methods = {
        name: themselves
        for name, members in by_dataset.items()
        if (themselves := [record for record in members if record["ablation"] is None])
    }
    pages = {f"leaderboards/{name}.md": _dataset_page(members) for name, members in methods.items()}
    for name, members in ablations.items():
        pages[f"leaderboards/{name}-ablations.md"] = ablation_page(members, _banner(members))
    if readings := readings_page(records):
        pages["readings.md"] = readings
    pages["leaderboards/README.md"] = _index(methods, ablations)
    return pages


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
    """The pages below `results` that `render` is answerable for, by path."""
    paths = [*results.glob("leaderboards/*.md"), *results.glob("readings.md")]
    return {path.relative_to(results).as_posix(): path for path in paths}


def _banner(records: Sequence[Record]) -> list[str]:
    return [SYNTHETIC_BANNER, ""] if records[0]["synthetic"] else []


def _index(methods: dict[str, list[Record]], ablations: dict[str, list[Record]]) -> str:
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
    return (
        "# Leaderboards\n\nRendered from `results/records/` by `nox -s leaderboard`; do not edit by hand. "
        "One page a data set with its features: numbers on different pages are not comparable.\n\n"
        + markdown(pd.DataFrame(rows))
        + "\n"
    )


def _dataset_page(records: list[Record]) -> str:
    data = records[0]["data"]
    lines = [f"# {data['title']}", "", *_banner(records)]
    # runs on other files, lists or labels are other experiments: each gets a section of its own
    sections: dict[str, list[Record]] = {}
    for record in records:
        sections.setdefault(sha256(canonical_json(record["data"]))[:8], []).append(record)
    for digest, members in sections.items():
        if len(sections) > 1:
            lines += [f"## Data {digest}", ""]
        lines += _section(members)
    return "\n".join(lines)


def _section(records: list[Record]) -> list[str]:
    data, headline = records[0]["data"], records[0]["headline"]
    facts = [
        ("features", data["features"]),
        (
            "training videos",
            f"{data['train']['videos']} ({data['train']['list']}), {data['labels']} video-level labels",
        ),
        ("predicted test videos", f"{data['test']['videos']} ({data['test']['list']})"),
        ("protocol", f"`{headline}` on {counts(records[0]['metrics'][headline])}, mAP in percent over tIoU"),
        ("checkpoint", "the last of a fixed schedule, never chosen on the scored videos"),
        ("cells", "mean ± half the 95 % Student-t interval over seeds"),
    ]
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(canonical_json([record["method"], record["recipe"]]).decode(), []).append(record)
    lines = [*(f"- {name}: {text}" for name, text in facts), ""]
    lines += [markdown(pd.DataFrame([_headline_row(group, headline) for group in groups.values()])), ""]
    lines += ["Under every protocol that applies, mean over the range:", ""]
    lines += [markdown(pd.DataFrame([_protocol_row(group) for group in groups.values()])), ""]
    chosen = f"chosen as `harness/data/schedules/{data['name'].removesuffix('-held-out')}.toml` says"
    lines += [f"Schedules, where they differ from the methods' own papers ({chosen}):", ""]
    lines += sorted({f"- {record['title']}: {changes(record['schedule'])}" for record in records})
    return [*lines, "", *computed_with(records)]


def _label(group: list[Record]) -> str:
    overrides = group[0]["overrides"]
    return f"{group[0]['title']} ({changes(overrides)})" if overrides else str(group[0]["title"])


def _headline_row(group: list[Record], headline: str) -> dict[str, str]:
    metrics = [record["metrics"][headline] for record in group]
    row = {"method": _label(group), "seeds": _seeds(group)}
    for part in ("mAP", "averages"):
        for name in metrics[0][part]:
            values = [one[part][name] for one in metrics if name in one[part]]
            row[f"avg {name}" if part == "averages" else name] = cell(values, len(group))
    return row


def _protocol_row(group: list[Record]) -> dict[str, str]:
    row = {"method": _label(group)}
    for protocol, metrics in group[0]["metrics"].items():
        if metrics["averages"]:
            widest = widest_average(metrics["averages"])
            values = [record["metrics"][protocol]["averages"][widest] for record in group]
            row[f"{protocol} {widest} ({metrics['videos']} videos)"] = cell(values, len(group))
    return row


def _seeds(group: list[Record]) -> str:
    return ", ".join(str(seed) for seed in sorted(record["seed"] for record in group))
