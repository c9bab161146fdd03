"""Locks of the system (flock), which are free again as soon as the process that holds them ends.

Two kinds keep processes apart: a run's own lock (`Store.exclusive`) ensures that only one process does the run, and a
sweep's claim on each run that it started makes another sweep take the next run instead of waiting for this one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from harness.io.atomic import cannot_write


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold a lock; wait for it where another process holds it.

    Raises:
        StoreError: it cannot be written.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield
    finally:
        lock.release()


def acquire(path: Path) -> FileLock | None:
    """Take a lock without waiting.

    Returns:
        The lock, held until it is released or this process ends, or None if another process holds it.

    Raises:
        StoreError: the lock file cannot be written.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        return None
    except OSError as error:
        raise cannot_write(path, error) from error
    return lock


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock, without making a lock file that does not exist."""
    if not path.exists():
        return False
    if (lock := acquire(path)) is None:
        return True
    lock.release()
    return False
