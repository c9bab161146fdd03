"""A disk that fills up, a store that turns read-only, a kill: at a run's writes, one after the other.

What stands in the store after each is a whole run or none, and the same command without the fault gives the bits of
the undisturbed run. The shim stands in for the kernel at every call that changes a file.
"""

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

import pytest

from harness.cli.main import main
from harness.runs import execute as runner
from harness.runs import training as trainer
from tests.tiny import write_tiny

RUN = ["run", "--method", "acmnet", "--threads", "1", "--device", "cpu", "--set", "train.epochs=3",
       "train.temporal_length=8", "train.test_length=16", "train.learning_rate=3e-3"]  # fmt: skip
NEEDS_ROOM = {"open", "mkdir", "write"}
CHANGES = NEEDS_ROOM | {"fsync", "chmod", "replace", "rename", "unlink"}
EVERY = 11  # calls, here; tests/stress has them all


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


def no_room() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only() -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS))


FAULTS: dict[str, tuple[Callable[[], BaseException], set[str]]] = {
    "full": (no_room, NEEDS_ROOM), "read-only": (read_only, CHANGES), "killed": (Killed, CHANGES),
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), train=3, test=2)


@pytest.fixture
def many_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each epoch, and no time for a figure."""
    monkeypatch.setattr(runner, "train", functools.partial(trainer.train, checkpoint_seconds=0))
    monkeypatch.setattr(runner, "draw", lambda history, record: b"<svg/>")


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
    assert len(undisturbed) == 7
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


@pytest.mark.usefixtures("many_checkpoints")
@pytest.mark.parametrize(("kind", "first"), [("full", 0), ("read-only", 2), ("killed", 4)])
def test_a_run_is_whole_or_absent_whatever_call_fails(
    kind: str, first: int, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_faults(kind, tiny, tmp_path, range(first, 1000, EVERY), capsys) > 6
