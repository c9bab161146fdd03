"""Where runs live: one content-addressed folder a run, whole or absent.

A run works in `partial/<id>` and is moved to `runs/<id>` by one rename once its record is written, so what stands
under `runs/` is always complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import atomic_write, read_json
from wstal.errors import StoreError, UserError

RECORD = "record.json"


@dataclass(frozen=True)
class Store:
    """A store of runs in the folder `root`, made at the first write."""

    root: Path

    def run_folder(self, run: str) -> Path:
        """Where the finished run with this id is, or will be."""
        return self.root / "runs" / run

    def partial_folder(self, run: str) -> Path:
        """Where the run with this id works until it is finished."""
        return self.root / "partial" / run

    def find(self, run: str) -> dict[str, Any] | None:
        """The record of a finished run, or None.

        Raises:
            UserError: the record is damaged.
        """
        path = self.run_folder(run) / RECORD
        return read_record(path) if path.exists() else None

    def begin(self, run: str) -> Path:
        """The run's working folder, with what an interrupted try left in it.

        Raises:
            StoreError: the store cannot be written.
        """
        folder = self.partial_folder(run)
        probe = folder / ".writable"
        atomic_write(probe, b"")
        probe.unlink(missing_ok=True)
        return folder

    def finish(self, run: str) -> Path:
        """Move the working folder to its place among the finished runs and return that place."""
        target = self.run_folder(run)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(self.partial_folder(run), target)
        except OSError as error:
            # another process finished the same run first: its result is the same by construction
            if (target / RECORD).exists():
                shutil.rmtree(self.partial_folder(run), ignore_errors=True)
                return target
            raise StoreError(f"Cannot move the finished run to {target}: {error.strerror}.") from error
        return target

    def records(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Folder and record of every finished run, by id."""
        for path in sorted((self.root / "runs").glob(f"*/{RECORD}")):
            yield path.parent, read_record(path)


def read_record(path: Path) -> dict[str, Any]:
    """A record as a run wrote it.

    Raises:
        UserError: not a record of this schema.
    """
    record = read_json(path)
    if not isinstance(record, dict) or record.get("schema") != 1:
        raise UserError(f"{path} is not a record of schema 1; it was written by another version, or is no record.")
    return record
