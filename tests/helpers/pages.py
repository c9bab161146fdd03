"""Records and rendered pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.pages.site import Results
from harness.pages.site import render as render_results
from harness.records.schema import Record
from tests.helpers.records import make_record, unchecked


def render(records: Sequence[dict[str, Any] | Record] | Results) -> dict[str, str]:
    return render_results(
        records
        if isinstance(records, Results)
        else Results([unchecked(one) if isinstance(one, dict) else one for one in records])
    )


def record(method: str = "acmnet", seed: int = 0, value: float = 20.0, **changes: Any) -> dict[str, Any]:
    """A record with two tIoUs alone: `value` and `value - 5`."""
    made = make_record(method, seed, value, **changes)
    metrics = {"mAP": {"0.1": value, "0.2": value - 5}, "averages": {"0.1:0.2": value - 2.5}}
    per_class = [[value + away, value - 5 + away] for away in (1, -1)]
    return made | {"metrics": {"anet": made["metrics"]["anet"] | metrics}, "per_class": per_class}
