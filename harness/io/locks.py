"""Locks of the system (flock), which are free again as soon as the process that holds them ends.

Two kinds keep processes apart: a run's own lock (`Store.exclusive`) ensures that only one process does the run, and a
sweep's claim on each run that it started makes another sweep take the next run instead of waiting for this one.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from harness.io.atomic import cannot_write
from wstal.errors import StoreError

with warnings.catch_warnings():
    # of its other kind of lock, which outlives its holder and is refused below
    warnings.filterwarnings("ignore", "only soft file lock")
    from filelock import FileLock, Timeout, has_fcntl


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold a lock; wait for it where another process holds it.

    Raises:
        StoreError: it cannot be written, or the system has no such locks.
    """
    lock = _system_lock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise _cannot_lock(path, error) from error
    try:
        yield
    finally:
        lock.release()


def acquire(path: Path) -> FileLock | None:
    """Take a lock without waiting.

    Returns:
        The lock, held until it is released or this process ends, or None if another process holds it.

    Raises:
        StoreError: the lock file cannot be written, or the system has no such locks.
    """
    lock = _system_lock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        return None
    except OSError as error:
        raise _cannot_lock(path, error) from error
    return lock


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock, without making a lock file that does not exist."""
    if not path.exists():
        return False
    if (lock := acquire(path)) is None:
        return True
    lock.release()
    return False


def _system_lock(path: Path) -> FileLock:
    if sys.platform != "win32" and not has_fcntl:
        raise StoreError(
            "This Python has no `fcntl`, whose locks keep the runs of a store apart. Use one that has it, on Linux or "
            "macOS; `evaluate` and `data` work without."
        )
    return FileLock(path, fallback_to_soft=False)


def _cannot_lock(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSYS, errno.ENOTSUP):
        return StoreError(f"The file system of {path.parent} has no flock. Choose a store on one that has it.")
    return cannot_write(path, error)
