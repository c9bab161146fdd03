"""Writes that leave a complete file or none, and the removal of files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from wstal.errors import StoreError


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file completely or not at all: a temporary file beside it is flushed to disk and renamed.

    Args:
        path: the file, whose folder is made if absent.
        data: its content.

    Raises:
        StoreError: as `atomic_write_parts`.
    """
    atomic_write_parts(path, [data])


def atomic_write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a file as `atomic_write` does, part after part, so that its content need not be in memory as a whole.

    Args:
        path: the file, whose folder is made if absent.
        parts: its content.

    Raises:
        StoreError: the folder cannot be written or the disk is full, and `path` is unchanged.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a store may be shared, so follow the process's umask as open() does
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> StoreError:
    """Return the error for a file that cannot be written.

    Args:
        path: the file.
        error: error of the system, which the message quotes.
    """
    return StoreError(f"Cannot write {path}: {error.strerror or error}. Choose a folder that is writable and has room.")


def check_writable(folder: Path) -> None:
    """Make a folder and check that files can be written there, before hours of work whose result it will hold.

    Raises:
        StoreError: files cannot be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StoreError(
            f"Cannot write to {folder}: {error.strerror or error}. Choose a folder that is writable."
        ) from error


def remove(paths: Iterable[Path]) -> None:
    """Remove files, ignoring those that do not exist.

    Raises:
        StoreError: a file cannot be removed.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"Cannot remove {path}: {error.strerror or error}. Make its folder writable.") from error
