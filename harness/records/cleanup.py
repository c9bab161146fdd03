"""Cleanup of a store: files that no run needs, and their removal; what a run can go on from is never touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.io.locks import acquire
from harness.records.store import TEMPORARY, Store
from wstal.errors import StoreError, UserError

CHECKPOINTS = "checkpoint*"  # `harness.runs.checkpoint`


@dataclass(frozen=True)
class Garbage:
    """A file or folder to be removed.

    Args:
        path: of the file or folder.
        why: what it is.
        size: bytes, of a folder those of its files.
    """

    path: Path
    why: str
    size: int


def collect(store: Store, dry_run: bool = False) -> list[Garbage]:
    """Remove what no run needs: temporary files, checkpoints and partial folders of finished runs, their failures,
    empty partial folders, locks that nobody holds, and first epochs kept for other runs.

    What belongs to a run that a process works on is left alone; while there is such a run, so is what belongs to no
    one run.

    Args:
        store: the store.
        dry_run: remove nothing.

    Returns:
        What was removed, or would be.

    Raises:
        UserError: there is no store.
        StoreError: it cannot be written.
    """
    folders = [store.runs, store.partial, store.failures, store.locks]
    if not any(folder.is_dir() for folder in folders):
        raise UserError(f"{store.root} is no store of runs. Give the folder that runs were written to.")
    runs = sorted({_run(path) for folder in folders if folder.is_dir() for path in folder.iterdir()})
    found: list[Garbage] = []
    busy = False
    for run in runs:
        if store.is_claimed(run):
            busy = True
        elif garbage := list(_of_run(store, run)):
            found += garbage if dry_run or _remove_of_run(store, run) else []
    if not busy:
        rest = [
            Garbage(path, "temporary file", _size(path))
            for folder in (store.cache, store.failures)
            for path in sorted(folder.glob(TEMPORARY))
        ]
        rest += [
            Garbage(path, "first epochs kept for other runs", _size(path))
            for path in sorted(store.cache.glob("warmup-*"))
        ]
        found += rest
        if not dry_run:
            _remove(rest)
    return found


def _run(path: Path) -> str:
    """Return the run that a member of the store's folders belongs to."""
    return path.name.removesuffix(".lock").removesuffix(".claim").removesuffix(".json")


def _of_run(store: Store, run: str) -> Iterator[Garbage]:
    partial, finished, done = store.partial_folder(run), store.run_folder(run), store.is_done(run)
    temporary = set(partial.glob(TEMPORARY))
    yield from (Garbage(path, "temporary file", _size(path)) for path in sorted(temporary))
    yield from (Garbage(path, "temporary file", _size(path)) for path in finished.glob(TEMPORARY))
    if partial.is_dir():
        rest = sum(_size(path) for path in partial.iterdir() if path not in temporary)
        if done:
            yield Garbage(partial, "partial folder of a finished run", rest)
        elif set(partial.iterdir()) <= temporary:
            yield Garbage(partial, "empty partial folder", 0)
    if done:
        yield from (Garbage(path, "checkpoint of a finished run", _size(path)) for path in finished.glob(CHECKPOINTS))
        if (failure := store.failure_file(run)).exists():
            yield Garbage(failure, "failure before a success", _size(failure))
    for lock in (store.claim_file(run), store.lock_file(run)):
        if lock.exists():
            yield Garbage(lock, "lock that nobody holds", _size(lock))


def _remove_of_run(store: Store, run: str) -> bool:
    """Remove a run's garbage while nobody else can begin it, and return False where somebody has.

    Its locks go while they are held: who waits for one sees that the file is gone and makes another.
    """
    held = [acquire(store.claim_file(run)), acquire(store.lock_file(run))]
    try:
        if not all(held):
            return False
        _remove(_of_run(store, run))
        return True
    finally:
        for lock in held:
            if lock is not None:
                lock.release()


def _remove(garbage: Iterable[Garbage]) -> None:
    for one in list(garbage):
        try:
            if one.path.is_dir() and not one.path.is_symlink():
                shutil.rmtree(one.path)
            else:
                one.path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"Cannot remove {one.path}: {error.strerror or error}. Make its folder writable."
            ) from error


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(inner.lstat().st_size for inner in path.rglob("*") if not inner.is_dir())
    return path.lstat().st_size
