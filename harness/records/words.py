"""Words for records, shared by all rendered pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from harness.records.schema import Environment, Metrics, Options, Record

SOURCES = (
    "what the implementation follows; where no code was released that is the paper, and `paper, partly` where it "
    "leaves a part of the structure open, which the method's docstring names"
)


def bullets(items: Iterable[str]) -> str:
    """Return a Markdown list."""
    return "\n".join(f"- {item}" for item in items)


def changes(values: Mapping[str, Any]) -> str:
    """Return options by name as `name=value, ...`, or `none` where there are none."""
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items())) or "none"


def counts(metrics: Metrics) -> str:
    """Return how many videos and instances a protocol scored."""
    return f"{metrics.videos:,} videos with {metrics.instances:,} instances"


def seed_list(records: Iterable[Record]) -> str:
    """Return how many seeds records have, and which, sorted, neighbours as a range: `4 (0-2, 5)`."""
    seeds = sorted(record.seed for record in records)
    runs = [[seed for _, seed in run] for _, run in groupby(enumerate(seeds), lambda place: place[1] - place[0])]
    listed = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return f"{len(seeds)} ({listed})" if seeds else ""


def computed_with(records: Sequence[Record]) -> list[str]:
    """Return the environments of records, each once, with the commits that ran in it."""
    commits: dict[str, set[str]] = {}
    for record in records:
        commit = record.environment.commit
        commits.setdefault(_environment(record.environment), set()).update([commit[:7]] if commit else [])
    return [
        "Computed with:",
        bullets(
            environment + (f"; commit{'s' * (len(found) > 1)} {', '.join(sorted(found))}" if found else "")
            for environment, found in sorted(commits.items())
        ),
    ]


def _environment(environment: Environment) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    return (
        f"wstal-bench {environment.wstal_bench}, Python {environment.python}, {packages}; "
        f"{environment.device} ({environment.cpu}), {environment.threads} thread(s) a run"
    )


def widest_average(averages: Mapping[str, float]) -> str:
    """Return the name of the average over the widest range of tIoUs."""

    def span(name: str) -> tuple[float, str]:
        low, high = map(float, name.split(":"))
        return high - low, name

    return max(averages, key=span)


def option_words(options: Options) -> list[str]:
    """Return options as `name=value`, by the last part of the name where that is clear."""
    last = [key.rpartition(".")[2] for key in options]
    return [
        f"{short if last.count(short) == 1 else key}={value}"
        for (key, value), short in sorted(zip(options.items(), last, strict=True))
    ]
