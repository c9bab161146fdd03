"""Where runs live: one content-addressed folder a run, whole or absent.

A run works in `partial/<id>` and is moved to `runs/<id>` by one rename once its record is written, so what stands
under `runs/` is always complete.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.io.reading import atomic_write
from harness.records.schema import RECORD, read_record
from wstal.errors import StoreError

__all__ = ["RECORD", "Store", "read_record", "remove"]


def remove(paths: Iterable[Path]) -> None:
    """Remove files, as far as they are there.

    Raises:
        StoreError: their folder cannot be written.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"Cannot remove {path}: {error.strerror or error}. Make its folder writable.") from error


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

    def lock_file(self, run: str) -> Path:
        """What the process that does the run with this id holds."""
        return self.root / "locks" / f"{run}.lock"

    def trunk_folder(self, digest: str) -> Path:
        """Where first epochs that several runs have in common are kept: a cache."""
        return self.root / "cache" / f"trunk-{digest[:16]}"

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
        remove((probe, *folder.glob(".*.tmp")))
        return folder

    def is_complete(self, run: str) -> bool:
        """Whether an interrupted run had written its record and only waits to be moved."""
        return (self.partial_folder(run) / RECORD).exists()

    def finish(self, run: str) -> Path:
        """Move the working folder to its place among the finished runs and return that place.

        Raises:
            StoreError: the store cannot be written.
        """
        target = self.run_folder(run)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(self.partial_folder(run), target)
        except OSError as error:
            raise StoreError(
                f"Cannot move the finished run to {target}: {error.strerror}. Make room for it there; the same command "
                "then only moves it."
            ) from error
        return target

    def finished(self) -> list[Path]:
        """Folders of all finished runs, by id."""
        return sorted(path.parent for path in (self.root / "runs").glob(f"*/{RECORD}"))

    @contextlib.contextmanager
    def exclusive(self, run: str) -> Iterator[None]:
        """Hold a run for this process: another that wants it waits, and the system frees it if this one dies.

        Raises:
            StoreError: the store cannot be written.
        """
        lock = FileLock(self.lock_file(run))
        try:
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise StoreError(
                f"Cannot write {self.root}: {error.strerror}. Choose a folder that is writable and has room."
            ) from error
        try:
            yield
        finally:
            lock.release()
