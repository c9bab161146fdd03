"""Store of runs: one content-addressed folder a run, whole or absent.

A run works in `partial/<id>` and is moved to `runs/<id>` by one rename once its record is written, so what stands
under `runs/` is always complete.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.io.atomic import atomic_write, remove
from harness.io.locks import hold, is_locked
from harness.records.files import RECORD
from harness.records.reading import read_record
from harness.records.schema import Record
from wstal.errors import StoreError

TEMPORARY = ".*.tmp"  # of `harness.io.atomic.atomic_write`


class RunStatus(StrEnum):
    """Status of a run in a store."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    MISSING = "missing"


@dataclass(frozen=True)
class Store:
    """A store of runs in the folder `root`, made at the first write."""

    root: Path

    @property
    def runs(self) -> Path:
        """Folder of the finished runs."""
        return self.root / "runs"

    @property
    def partial(self) -> Path:
        """Folder of the runs that were begun and are not finished."""
        return self.root / "partial"

    @property
    def failures(self) -> Path:
        """Folder of the last failures of runs."""
        return self.root / "failed"

    @property
    def locks(self) -> Path:
        """Folder of the locks of runs and of the sweeps that start them."""
        return self.root / "locks"

    @property
    def cache(self) -> Path:
        """Folder of what can be computed again."""
        return self.root / "cache"

    @property
    def digest_cache(self) -> Path:
        """File of the digests of feature files."""
        return self.cache / "digests.json"

    def run_folder(self, run: str) -> Path:
        """Return the folder where the finished run with this id is, or will be."""
        return self.runs / run

    def record_file(self, run: str) -> Path:
        """Return the record of the finished run with this id, there or not."""
        return self.runs / run / RECORD

    def partial_folder(self, run: str) -> Path:
        """Return the folder where the run with this id works until it is finished."""
        return self.partial / run

    def lock_file(self, run: str) -> Path:
        """Return the lock that the process which does the run holds."""
        return self.locks / f"{run}.lock"

    def claim_file(self, run: str) -> Path:
        """Return the lock that the sweep which has started the run holds."""
        return self.locks / f"{run}.claim.lock"

    def failure_file(self, run: str) -> Path:
        """Return the file of the run's last failure: its command, exit code and stderr with the traceback."""
        return self.failures / f"{run}.json"

    def warmup_folder(self, digest: str) -> Path:
        """Return the cache of first epochs that several runs have in common."""
        return self.cache / f"warmup-{digest[:16]}"

    def find(self, run: str) -> Record | None:
        """Return the record of a finished run, or None.

        Raises:
            UserError: the record is damaged.
        """
        return read_record(self.record_file(run)) if self.is_done(run) else None

    def is_done(self, run: str) -> bool:
        """Return whether the run is among the finished ones, which are always whole."""
        return self.record_file(run).exists()

    def is_held(self, run: str) -> bool:
        """Return whether a process works on the run now."""
        return is_locked(self.lock_file(run))

    def is_claimed(self, run: str) -> bool:
        """Return whether a process works on the run now, or a sweep has started it."""
        return self.is_held(run) or is_locked(self.claim_file(run))

    def status(self, run: str) -> RunStatus:
        """Return the status of the run; nothing is written."""
        if self.is_done(run):
            return RunStatus.DONE
        if self.is_claimed(run):
            return RunStatus.RUNNING
        return RunStatus.FAILED if self.failure_file(run).exists() else RunStatus.MISSING

    def begin(self, run: str) -> Path:
        """Return the run's working folder, with what an interrupted try left in it.

        Raises:
            StoreError: the store cannot be written.
        """
        folder = self.partial_folder(run)
        probe = folder / ".writable"
        atomic_write(probe, b"")
        remove((probe, *folder.glob(TEMPORARY)))
        return folder

    def is_complete(self, run: str) -> bool:
        """Return whether an interrupted run had written its record and only waits to be moved."""
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
        """Return the folders of all finished runs, by id."""
        return sorted(path.parent for path in self.runs.glob(f"*/{RECORD}"))

    def exclusive(self, run: str) -> AbstractContextManager[None]:
        """Hold a run for this process; another that wants it waits until this one releases it or dies.

        Raises:
            StoreError: the store cannot be written.
        """
        return hold(self.lock_file(run))
