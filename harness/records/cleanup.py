"""Cleanup of a store: files that no run needs, and their removal; what a run can go on from is never touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
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
        elif garbage := _of_run(store, run):
            found += garbage if dry_run or _remove_of_run(store, run) else []
    if not busy:
        rest = _garbage([*store.cache.glob(TEMPORARY), *store.failures.glob(TEMPORARY)], "temporary file")
        rest += _garbage(store.cache.glob("warmup-*"), "first epochs kept for other runs")
        found += rest
        if not dry_run:
            _remove(rest)
    return found


def _run(path: Path) -> str:
    """Return the run that a member of the store's folders belongs to."""
    return path.name.removesuffix(".lock").removesuffix(".claim").removesuffix(".json")


def _of_run(store: Store, run: str) -> list[Garbage]:
    partial, finished, done = store.partial_folder(run), store.run_folder(run), store.is_done(run)
    temporary = set(partial.glob(TEMPORARY))
    found = _garbage([*temporary, *finished.glob(TEMPORARY)], "temporary file")
    rest = set(partial.iterdir()) - temporary if partial.is_dir() else set()
    if partial.is_dir() and (done or not rest):
        why = "partial folder of a finished run" if done else "empty partial folder"
        found.append(Garbage(partial, why, sum(map(_size, rest))))
    if done:
        found += _garbage(finished.glob(CHECKPOINTS), "checkpoint of a finished run")
        found += _garbage([store.failure_file(run)], "failure before a success")
    return found + _garbage([store.claim_file(run), store.lock_file(run)], "lock that nobody holds")


def _garbage(paths: Iterable[Path], why: str) -> list[Garbage]:
    return [Garbage(path, why, _size(path)) for path in sorted(paths) if path.exists()]


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
    for one in garbage:
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
