"""From records to Markdown pages: the same records give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats
from tabulate import tabulate

from harness.files import atomic_write, canonical_json, sha256
from harness.store import read_record
from wstal.errors import UserError

Record = dict[str, Any]

CONFIDENCE = 0.95
SYNTHETIC_BANNER = (
    "> **Synthetic data.** These numbers come from generated features. They show that the methods learn and that the\n"
    "> harness works; they say nothing about how a method does on real video and are never compared with\n"
    "> published ones."
)


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and half the width of its 95 % Student-t interval (NaN for one value)."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return mean, math.nan
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return mean, float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)


def cell(values: Sequence[float], seeds: int) -> str:
    """`mean ± half width`, the mean alone for one seed, blank where any of the seeds has no value."""
    if len(values) < seeds or not values:
        return ""
    mean, half = mean_and_half_width(values)
    return f"{mean:.1f}" if math.isnan(half) else f"{mean:.1f} ± {half:.1f}"


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
    """Pages by file name: one for each data set, and `README.md` that leads to them."""
    by_dataset: dict[str, list[Record]] = {}
    for record in records:
        by_dataset.setdefault(record["data"]["name"], []).append(record)
    pages = {f"{name}.md": _dataset_page(members) for name, members in by_dataset.items()}
    pages["README.md"] = _index(by_dataset)
    return pages


def write(pages: dict[str, str], folder: Path) -> None:
    """Write pages into a folder, each whole or not at all, and remove those that belong to no record any more."""
    for stale in folder.glob("*.md") if folder.is_dir() else ():
        if stale.name not in pages:
            stale.unlink()
    for name, text in pages.items():
        atomic_write(folder / name, text.encode())


def drifted(pages: dict[str, str], folder: Path) -> list[str]:
    """Names of pages in the folder that differ from `pages`, are absent, or belong to no record."""
    stored = {path.name: path.read_text() for path in folder.glob("*.md")} if folder.is_dir() else {}
    return sorted(name for name in pages.keys() | stored.keys() if pages.get(name) != stored.get(name))


def _index(by_dataset: dict[str, list[Record]]) -> str:
    rows = [
        {
            "data set": f"[{records[0]['data']['title']}]({name}.md)",
            "features": records[0]["data"]["features"],
            "methods": len({record["method"] for record in records}),
            "runs": len(records),
            "kind": "synthetic" if records[0]["synthetic"] else "real",
        }
        for name, records in by_dataset.items()
    ]
    return (
        "# Leaderboards\n\nRendered from `results/records/` by `nox -s leaderboard`; do not edit by hand. "
        "One page a data set with its features: numbers on different pages are not comparable.\n\n"
        + _markdown(pd.DataFrame(rows))
    )


def _dataset_page(records: list[Record]) -> str:
    data = records[0]["data"]
    lines = [f"# {data['title']}", ""]
    if records[0]["synthetic"]:
        lines += [SYNTHETIC_BANNER, ""]
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
        ("protocol", f"`{headline}` on {_counts(records[0]['metrics'][headline])}, mAP in percent over tIoU"),
        ("checkpoint", "the last of a fixed schedule, never chosen on the scored videos"),
        ("cells", "mean ± half the 95 % Student-t interval over seeds"),
    ]
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(canonical_json([record["method"], record["recipe"]]).decode(), []).append(record)
    lines = [*(f"- {name}: {text}" for name, text in facts), ""]
    lines += [_markdown(pd.DataFrame([_headline_row(group, headline) for group in groups.values()])), ""]
    lines += ["Under every protocol that applies, mean over the range:", ""]
    lines += [_markdown(pd.DataFrame([_protocol_row(group) for group in groups.values()])), ""]
    chosen = f"chosen as `harness/data/schedules/{data['name'].removesuffix('-held-out')}.toml` says"
    lines += [f"Schedules, where they differ from the methods' own papers ({chosen}):", ""]
    lines += sorted({f"- {record['title']}: {_changes(record['schedule'])}" for record in records})
    lines += ["", "Computed with:", ""]
    lines += sorted({f"- {_environment(record['environment'])}" for record in records})
    return [*lines, ""]


def _counts(metrics: dict[str, Any]) -> str:
    return f"{metrics['videos']:,} videos with {metrics['instances']:,} instances"


def _label(group: list[Record]) -> str:
    overrides = group[0]["overrides"]
    return f"{group[0]['title']} ({_changes(overrides)})" if overrides else str(group[0]["title"])


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


def widest_average(averages: dict[str, float]) -> str:
    """The name of the average over the widest range of tIoUs."""

    def span(name: str) -> tuple[float, str]:
        low, high = map(float, name.split(":"))
        return high - low, name

    return max(averages, key=span)


def _seeds(group: list[Record]) -> str:
    return ", ".join(str(seed) for seed in sorted(record["seed"] for record in group))


def _changes(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items())) or "none"


def _environment(environment: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return (
        f"wstal-bench {environment['wstal-bench']}, Python {environment['python']}, {packages}; "
        f"{environment['device']} ({environment['cpu']}), {environment['threads']} thread(s) a run"
    )


def _markdown(frame: pd.DataFrame) -> str:
    columns = frame.fillna("").to_dict("list")
    table: str = tabulate(columns, headers="keys", tablefmt="github", disable_numparse=True)
    return table
