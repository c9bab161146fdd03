"""What has become of each run of a store, and who works on it.

Two locks keep processes apart, both the system's (flock), so both are free when their owner dies: a run holds its own
(`Store.exclusive`), which makes sure that it is done once; a sweep holds a claim on each run that it has started, so
that another sweep takes the next one and does not wait for this one.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from wstal.errors import StoreError


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
