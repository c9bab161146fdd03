"""Parsed options as requests."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.io.console import say

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.data.source import DataSource
    from harness.runs.request import DataRequest, RunRequest


def data_request(arguments: argparse.Namespace) -> DataRequest:
    """Return the data set that the options name."""
    from harness.runs.request import DataRequest

    return DataRequest(**{name: value for name, value in vars(arguments).items() if name in DataRequest.model_fields})


def run_request(arguments: argparse.Namespace) -> RunRequest:
    """Return the run that the options ask for; of commands without `--method` and `--row`, a template."""
    from harness.runs.request import RunRequest

    return RunRequest(
        **{name: getattr(arguments, name) for name in ("method", "row", "seed") if hasattr(arguments, name)},
        data=data_request(arguments),
        overrides=arguments.assignments,
        store=arguments.store,
        device=arguments.device,
        threads=arguments.threads,
    )


def source_from(request: RunRequest) -> DataSource:
    """Open the data set of a request and report on stderr what was assumed."""
    source = request.data.open(request.store)
    say(*source.notes)
    return source


def stored_from(arguments: argparse.Namespace) -> Dataset:
    """Open the data set in the folder that `--data` names."""
    return data_request(arguments).open_folder()
