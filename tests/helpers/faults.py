"""Fail or kill a run at any of its writes."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from harness.cli.main import main

NEEDS_ROOM = {"open", "mkdir", "write"}


def no_room() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only() -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS))


RUN = ["run", "--method", "acmnet", "--threads", "1", "--device", "cpu", "--set", "train.epochs=3",
       "train.temporal_length=8", "train.test_length=16", "train.learning_rate=3e-3"]  # fmt: skip


CHANGES = NEEDS_ROOM | {"fsync", "chmod", "replace", "rename", "unlink"}


class Killed(BaseException):
    """The process is gone: no handler of errors runs."""


class Faults:
    """Calls that change files, from number `first` on those of `kinds`, raise `error()`; `count` is of all calls."""

    def __init__(self, first: float, error: Callable[[], BaseException], kinds: set[str]) -> None:
        self.first, self.error, self.kinds = first, error, kinds
        self.count, self.hit = 0, False

    def call(self, kind: str) -> None:
        self.count += 1
        if self.count > self.first and kind in self.kinds:
            self.hit = True
            raise self.error()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """While these faults are there."""
        faults, fdopen = self, os.fdopen

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                try:
                    faults.call("write")
                except BaseException:
                    super().write(bytes(data)[: len(data) // 2])  # some of it fits
                    raise
                return super().write(data)

        def opened(descriptor: int, mode: str = "r", *given: Any, **options: Any) -> Any:
            written = mode == "wb"
            return io.BufferedWriter(File(descriptor, mode)) if written else fdopen(descriptor, mode, *given, **options)

        def counted(kind: str) -> Callable[..., Any]:
            real = getattr(os, kind)

            @functools.wraps(real)
            def call(*given: Any, **options: Any) -> Any:
                if kind != "open" or given[1] & (os.O_WRONLY | os.O_RDWR):
                    self.call(kind)
                return real(*given, **options)

            return call

        with contextlib.ExitStack() as patches:
            for kind in CHANGES - {"write"}:
                patches.enter_context(mock.patch.object(os, kind, counted(kind)))
            patches.enter_context(mock.patch.object(os, "fdopen", opened))
            yield


FAULTS: dict[str, tuple[Callable[[], BaseException], set[str]]] = {
    "full": (no_room, NEEDS_ROOM), "read-only": (read_only, CHANGES), "killed": (Killed, CHANGES),
}  # fmt: skip


def finished(store: Path) -> dict[str, bytes]:
    """The files of finished runs, but for manifests, which say when, and the commit, which may come while tests run."""
    return {
        str(file.relative_to(store)): re.sub(rb'"commit": "[0-9a-f]+"', b"", file.read_bytes())
        for file in store.glob("runs/*/*")
        if file.name != "manifest.json"
    }


def check_faults(kind: str, tiny: Path, folder: Path, numbers: Iterable[int], capsys: Any) -> int:
    """Do a run with the fault from each of these calls on, then without; how many runs it hit."""
    error, kinds = FAULTS[kind]
    assert main([*RUN, "--data", str(tiny), "--store", str(folder / "undisturbed")]) == 0
    undisturbed = finished(folder / "undisturbed")
    assert len(undisturbed) == 8
    for hits, number in enumerate(numbers):
        store, faults = folder / str(number), Faults(number, error, kinds)
        command = [*RUN, "--data", str(tiny), "--store", str(store)]
        capsys.readouterr()
        code = None
        with faults.active(), contextlib.suppress(Killed):
            code = main(command)
        out, err = capsys.readouterr()
        assert finished(store) in ({}, undisturbed), number
        if not faults.hit:
            assert code == 0
            return hits
        if kind != "killed":
            assert (code, out) == (4, ""), f"{number}: {err}"
            assert err.splitlines()[-1].startswith("error: "), number
            assert err.count("error: ") == 1, number
            assert error().strerror in err  # type: ignore[attr-defined]
        assert main(command) == 0, number
        assert finished(store) == undisturbed, number
        assert list(store.glob("partial/*")) == [], number
        assert list(store.glob("runs/*/.*")) == [], number
    raise AssertionError("a fault was met to the end: give more numbers")
