"""How records become words: what all rendered pages share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def bullets(items: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {item}" for item in items)


def changes(values: dict[str, Any]) -> str:
    """Options by name as `name=value, ...`; `none` where there are none."""
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items())) or "none"


def counts(metrics: dict[str, Any]) -> str:
    """What a protocol scored."""
    return f"{metrics['videos']:,} videos with {metrics['instances']:,} instances"


def computed_with(records: Sequence[dict[str, Any]]) -> list[str]:
    """The environments of records, each once, with the commits that ran in it."""
    commits: dict[str, set[str]] = {}
    for record in records:
        environment = record["environment"]
        commit = environment.get("commit")
        commits.setdefault(_environment(environment), set()).update([commit[:7]] if commit else [])
    return [
        "Computed with:",
        bullets(
            environment + (f"; commit{'s' * (len(found) > 1)} {', '.join(sorted(found))}" if found else "")
            for environment, found in sorted(commits.items())
        ),
    ]


def _environment(environment: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return (
        f"wstal-bench {environment['wstal-bench']}, Python {environment['python']}, {packages}; "
        f"{environment['device']} ({environment['cpu']}), {environment['threads']} thread(s) a run"
    )


def widest_average(averages: dict[str, float]) -> str:
    """The name of the average over the widest range of tIoUs."""

    def span(name: str) -> tuple[float, str]:
        low, high = map(float, name.split(":"))
        return high - low, name

    return max(averages, key=span)
