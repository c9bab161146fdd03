"""What systems other than Linux lack: another way, or one message that names it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from harness.io import locks
from harness.io.locks import acquire, hold, is_locked
from harness.io.machine import ASSUMED_MEMORY, core_count, memory_size
from wstal.errors import StoreError


def test_memory_is_that_of_the_system_or_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_size() >= 2**28
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}[name])
    assert memory_size() == 4_096_000
    monkeypatch.setattr(os, "sysconf", lambda name: -1 if name == "SC_PHYS_PAGES" else 4096)
    assert memory_size() == ASSUMED_MEMORY

    def unknown(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown)
    assert memory_size() == ASSUMED_MEMORY
    monkeypatch.delattr(os, "sysconf")
    assert memory_size() == ASSUMED_MEMORY


def test_cores_are_those_of_the_process_or_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7}, raising=False)
    assert core_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert core_count() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert core_count() == 1


def test_without_locks_of_the_system_no_other_kind_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(locks, "has_fcntl", False)
    with pytest.raises(StoreError, match=r"no `fcntl`.*Linux or macOS"):
        acquire(tmp_path / "a.lock")
    with pytest.raises(StoreError, match="no `fcntl`"), hold(tmp_path / "a.lock"):
        pass
    assert not is_locked(tmp_path / "a.lock")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_flock_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match="has no flock"):
        acquire(tmp_path / "a.lock")
    with pytest.raises(StoreError, match="has no flock"), hold(tmp_path / "a.lock"):
        pass
