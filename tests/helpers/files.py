"""Counts of what a test's code asks the system about feature files."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from harness.data import features
from harness.io.encoding import sha256_file

_listening: list[Counter[Path]] = []


@dataclass
class Looks:
    """How often each `.npy` file was opened, asked for its status, parsed and digested, by path."""

    opened: Counter[Path] = field(default_factory=Counter)
    asked: Counter[Path] = field(default_factory=Counter)
    parsed: Counter[Path] = field(default_factory=Counter)
    digested: Counter[Path] = field(default_factory=Counter)


def _listen(event: str, details: tuple[Any, ...]) -> None:
    if event == "open" and _listening and isinstance(details[0], (str, Path)) and str(details[0]).endswith(".npy"):
        _listening[-1][Path(details[0])] += 1


sys.addaudithook(_listen)  # hears every way to open a file, and stays


@contextmanager
def looks() -> Iterator[Looks]:
    """Count while the context is open."""
    found = Looks()
    parse, stat = features.parse_header, os.stat

    def parsed(file: Any) -> Any:
        found.parsed[_path_of(file)] += 1
        return parse(file)

    def digested(path: Path) -> str:
        found.digested[path] += 1
        return sha256_file(path)

    def asked(path: Any, **options: Any) -> os.stat_result:
        if str(path).endswith(".npy"):
            found.asked[Path(path)] += 1
        return stat(path, **options)

    _listening.append(found.opened)
    try:
        with (
            patch.object(features, "parse_header", parsed),
            patch("harness.data.digests.sha256_file", digested),
            patch.object(os, "stat", asked),
        ):
            yield found
    finally:
        _listening.pop()


def _path_of(file: Any) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{file.fileno()}"))
