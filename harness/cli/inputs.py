"""Parsed options as requests."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.runs.request import DataRequest, RunRequest
    from wstal.spec import Spec


def data_request(arguments: argparse.Namespace) -> DataRequest:
    """Return the data set that the options name."""
    from harness.runs.request import DataRequest

    return DataRequest(**_stated(arguments, DataRequest))


def run_request(arguments: argparse.Namespace) -> RunRequest:
    """Return the run that the options ask for; of commands without `--method` and `--row`, a template."""
    from harness.runs.request import RunRequest

    parts = {"data": data_request(arguments), "overrides": arguments.assignments}
    return RunRequest(**_stated(arguments, RunRequest) | parts)


def _stated(arguments: argparse.Namespace, request: type[Spec]) -> dict[str, Any]:
    """Return the options that are fields of a request."""
    return {name: value for name, value in vars(arguments).items() if name in request.model_fields}


def stored_from(arguments: argparse.Namespace) -> Dataset:
    """Open the data set in the folder that `--data` names."""
    return data_request(arguments).open_folder()
