"""Data sets and option values that parsed options describe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.io.console import say
from wstal.errors import UserError

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.data.source import DataSource


def source_from(arguments: argparse.Namespace) -> DataSource:
    """Open the data set that the options name and print its notes on stderr."""
    from harness.data.held_out import HeldOutSource
    from harness.data.synthetic_source import embedded_source

    source: DataSource
    if arguments.data is None:
        source = embedded_source(arguments.full_size)
    else:
        if arguments.full_size:
            raise UserError("--full-size is for the synthetic data set; leave it out with --data.")
        source = stored_from(arguments, arguments.store / "cache" / "digests.json")
    if arguments.held_out is not None:
        source = HeldOutSource.of(source, arguments.held_out)
    say(*source.notes)
    return source


def stored_from(arguments: argparse.Namespace, digest_cache: Path | None = None) -> Dataset:
    """Open the data set in the folder that `--data` names.

    Args:
        arguments: parsed options of `add_data_options`.
        digest_cache: JSON file that remembers digests of feature files.
    """
    from harness.data.opening import open_dataset

    return open_dataset(
        arguments.data,
        arguments.annotations,
        arguments.descriptor,
        label_source=arguments.labels,
        streams=arguments.streams,
        allow_missing=arguments.allow_missing,
        digest_cache=digest_cache,
    )


def overrides_from(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of `--set` by option."""
    from harness.runs.overrides import parse_assignments

    return parse_assignments(arguments.assignments)
