"""Where runs live: one content-addressed folder a run, whole or absent.

A run works in `partial/<id>` and is moved to `runs/<id>` by one rename once its record is written, so what stands
under `runs/` is always complete.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.io.atomic import atomic_write, remove
from harness.io.locks import is_locked
from harness.records.reading import read_record
from harness.records.schema import RECORD
from wstal.errors import StoreError

__all__ = ["RECORD", "Store", "read_record", "remove"]


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

    def warmup_folder(self, digest: str) -> Path:
        """Where first epochs that several runs have in common are kept: a cache."""
        return self.root / "cache" / f"warmup-{digest[:16]}"

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


class RunStatus(StrEnum):
    """What has become of a run."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    MISSING = "missing"


def is_done(store: Store, run: str) -> bool:
    """Whether the run is among the finished ones, which are whole by the way they get there."""
    return (store.run_folder(run) / RECORD).exists()


def is_held(store: Store, run: str) -> bool:
    """Whether a process works on the run now."""
    return is_locked(store.lock_file(run))


def status_of(store: Store, run: str) -> RunStatus:
    """What has become of a run; nothing is written."""
    if is_done(store, run):
        return RunStatus.DONE
    if is_held(store, run) or is_locked(claim_file(store, run)):
        return RunStatus.RUNNING
    return RunStatus.FAILED if failure_file(store, run).exists() else RunStatus.MISSING


def failure_file(store: Store, run: str) -> Path:
    """Where the last failure of a run is kept: its command, how it ended, and what it said, traceback included."""
    return store.root / "failed" / f"{run}.json"


def claim_file(store: Store, run: str) -> Path:
    """What the sweep that has started a run holds."""
    return store.root / "locks" / f"{run}.claim.lock"
