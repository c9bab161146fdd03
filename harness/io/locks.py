"""What has become of each run of a store, and who works on it.

Two locks keep processes apart, both the system's (flock), so both are free when their owner dies: a run holds its own
(`Store.exclusive`), which makes sure that it is done once; a sweep holds a claim on each run that it has started, so
that another sweep takes the next one and does not wait for this one.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from harness.records.store import RECORD, Store
from wstal.errors import StoreError


class State(StrEnum):
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


def state_of(store: Store, run: str) -> State:
    """What has become of a run; nothing is written."""
    if is_done(store, run):
        return State.DONE
    if is_held(store, run) or is_locked(claim_file(store, run)):
        return State.RUNNING
    return State.FAILED if failure_file(store, run).exists() else State.MISSING


def failure_file(store: Store, run: str) -> Path:
    """Where the last failure of a run is kept: its command, how it ended, and what it said, traceback included."""
    return store.root / "failed" / f"{run}.json"


def claim_file(store: Store, run: str) -> Path:
    """What the sweep that has started a run holds."""
    return store.root / "locks" / f"{run}.claim.lock"


def acquire(path: Path) -> FileLock | None:
    """The lock, held until it is released or this process dies; None where another holds it.

    Raises:
        StoreError: it cannot be written.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        return None
    except OSError as error:
        raise StoreError(
            f"Cannot write {path}: {error.strerror or error}. Choose a folder that is writable and has room."
        ) from error
    return lock


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock; a lock that was never taken is not made by looking."""
    if not path.exists():
        return False
    if (lock := acquire(path)) is None:
        return True
    lock.release()
    return False
