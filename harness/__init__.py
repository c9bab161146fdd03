"""The harness: data, runs, records, leaderboards, command line. Python has the names of `harness.api`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import Evaluation, Plot, Run, build, diagnose, evaluate, load_data, load_run, results, train

__all__ = ["Evaluation", "Plot", "Run", "build", "diagnose", "evaluate", "load_data", "load_run", "results", "train"]


def __getattr__(name: str) -> Any:
    """Return a name of `harness.api`, which is imported when it is first needed: it loads torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from harness import api

    return getattr(api, name)
