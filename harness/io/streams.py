"""Standard streams that may be closed, full, or without a reader."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO

from wstal.errors import UserError

STDIN, STDOUT, STDERR = 0, 1, 2


class OutputError(UserError):
    """Error for a standard output that cannot be written."""

    exit_code = 4


class _Output(io.TextIOWrapper):
    """Standard output: what cannot be written is an `OutputError`; without a reader (head, less) it is dropped."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        # what is still in the buffers goes nowhere, now and at the interpreter's end
        _open_null(STDOUT, os.O_WRONLY)
        if not isinstance(error, BrokenPipeError):
            raise OutputError(
                f"Cannot write to standard output: {error.strerror or error}. Finished runs are kept; redirect the "
                "output to where it can be written."
            ) from error


class _Messages(io.TextIOWrapper):
    """Standard error: messages that cannot be written are dropped, since work must not end for want of a log."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def secure_streams() -> None:
    """Replace this process's standard streams by ones that survive being closed, full or without a reader.

    A closed descriptor is opened, so that no file gets its number, into which libraries then write their messages.
    """
    for descriptor, mode in ((STDIN, os.O_RDONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            _open_null(descriptor, mode)  # an output for reading alone: writing to it is the error that it was
    sys.stdout = _wrapped(_Output, STDOUT, sys.stdout, "strict")
    sys.stderr = _wrapped(_Messages, STDERR, sys.stderr, "backslashreplace")


def flush_streams() -> None:
    """Write what is buffered.

    Raises:
        OutputError: standard output cannot be written.
    """
    sys.stdout.flush()
    sys.stderr.flush()


def _wrapped(kind: type[io.TextIOWrapper], descriptor: int, stream: TextIO | None, errors: str) -> TextIO:
    """Return a stream of this kind in place of the interpreter's, which is None where its descriptor was closed."""
    return kind(
        os.fdopen(descriptor, "wb", closefd=False),
        encoding="utf-8" if stream is None else stream.encoding,
        errors=errors if stream is None else stream.errors,
        line_buffering=descriptor == STDERR or os.isatty(descriptor),
    )


def _open_null(descriptor: int, mode: int) -> None:
    opened = os.open(os.devnull, mode)
    os.dup2(opened, descriptor)
    if opened != descriptor:
        os.close(opened)
