"""How records become words and tables: what all rendered pages share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from harness.statistics import mean_and_half_width


def cell(values: Sequence[float], seeds: int) -> str:
    """`mean ± half width`, the mean alone for one seed, blank where any of the seeds has no value."""
    if len(values) < seeds or not values:
        return ""
    mean, half = mean_and_half_width(values)
    return f"{mean:.1f}" if math.isnan(half) else f"{mean:.1f} ± {half:.1f}"


def changes(values: dict[str, Any]) -> str:
    """Options by name as `name=value, ...`; `none` where there are none."""
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items())) or "none"


def counts(metrics: dict[str, Any]) -> str:
    """What a protocol scored."""
    return f"{metrics['videos']:,} videos with {metrics['instances']:,} instances"


def computed_with(records: Sequence[dict[str, Any]]) -> list[str]:
    """The environments of records as list items, each once."""
    return ["Computed with:", "", *sorted({f"- {_environment(record['environment'])}" for record in records}), ""]


def _environment(environment: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return (
        f"wstal-bench {environment['wstal-bench']}, Python {environment['python']}, {packages}; "
        f"{environment['device']} ({environment['cpu']}), {environment['threads']} thread(s) a run"
        + (f"; commit {environment['commit'][:7]}" if environment.get("commit") else "")
    )


def widest_average(averages: dict[str, float]) -> str:
    """The name of the average over the widest range of tIoUs."""

    def span(name: str) -> tuple[float, str]:
        low, high = map(float, name.split(":"))
        return high - low, name

    return max(averages, key=span)


def markdown(frame: pd.DataFrame) -> str:
    """A GitHub table; absent cells are blank."""
    columns = frame.fillna("").to_dict("list")
    table: str = tabulate(columns, headers="keys", tablefmt="github", disable_numparse=True)
    return table
