"""Runs that are forks of a process with everything imported: as fresh ones, and as mortal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest

from harness.runs.process_environment import THREADS
from harness.runs.request import DataRequest, RunRequest
from harness.sweeps.engines import Outcome, Processes, run_process
from harness.sweeps.fork_server import ForkServer
from tests.helpers.faults import finished
from tests.helpers.small_data import write_tiny

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs are forked on Linux alone")

SHORT = ("train.epochs=2", "train.temporal_length=16", "train.batch_size=2")
ENDLESS = ("train.epochs=1000000", "train.temporal_length=16", "train.batch_size=2")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), train=4, test=2)


@pytest.fixture(scope="module")
def engine() -> Iterator[Processes]:
    with Processes(threads=1, slots=2, fork=True) as engine:
        yield engine


def requested(data: Path | None, store: Path, *overrides: str, method: str = "acmnet") -> RunRequest:
    return RunRequest(
        method=method, data=DataRequest(data=data), store=store, device="cpu", threads=1, overrides=overrides
    )


def submit(engine: Processes, request: RunRequest) -> Future[Outcome]:
    return engine.submit(request, lambda stage, done, total, note: None)


def forks() -> list[psutil.Process]:
    """Runs that are going on."""
    servers = [child for child in psutil.Process().children() if "harness.sweeps.fork_server" in child.cmdline()]
    return [run for server in servers for watcher in server.children() for run in watcher.children()]


def begun(future: Future[Outcome], count: int = 1) -> list[psutil.Process]:
    while len(found := forks()) < count:
        assert not future.done(), future.result()
        time.sleep(0.01)
    return found


def test_a_fork_leaves_what_a_fresh_process_leaves(engine: Processes, tiny: Path, tmp_path: Path) -> None:
    reported: list[tuple[str, int, int, str]] = []
    outcome = engine.submit(requested(tiny, tmp_path / "fork", *SHORT), lambda *step: reported.append(step)).result()
    fresh = run_process(requested(tiny, tmp_path / "fresh", *SHORT))
    assert (outcome.code, fresh.code) == (0, 0)
    assert outcome.stderr_tail == fresh.stderr_tail.replace(str(tmp_path / "fresh"), str(tmp_path / "fork"))
    assert reported[0][:3] == ("train", 2, 2)
    assert len(finished(tmp_path / "fork")) == 8
    assert finished(tmp_path / "fork") == finished(tmp_path / "fresh")


def test_a_fork_reads_embedded_data_that_were_generated_once(engine: Processes, tmp_path: Path) -> None:
    requests = {
        name: requested(None, tmp_path / name, "train.epochs=1", method="random")
        for name in ("fork-0", "fork-1", "fresh")
    }
    for number in range(2):
        assert submit(engine, requests[f"fork-{number}"]).result().code == 0
    assert run_process(requests["fresh"]).code == 0
    assert finished(tmp_path / "fork-0") == finished(tmp_path / "fork-1") == finished(tmp_path / "fresh")


def test_forks_go_on_at_once_and_end_with_their_own_codes(engine: Processes, tiny: Path, tmp_path: Path) -> None:
    good = submit(engine, requested(tiny, tmp_path, *SHORT))
    bad = submit(engine, requested(tiny, tmp_path, "train.epoch=2"))
    assert bad.result().code == 2
    assert "did you mean 'epochs'" in bad.result().summary
    assert submit(engine, requested(tiny, tmp_path, method="nonsense")).result().code == 2
    assert good.result().code == 0


def test_the_environment_is_set_before_the_interpreter_starts(
    monkeypatch: pytest.MonkeyPatch, tiny: Path, tmp_path: Path
) -> None:
    for name in THREADS:
        monkeypatch.setenv(name, "7")
    with Processes(threads=1, slots=1, fork=True) as engine:
        future = submit(engine, requested(tiny, tmp_path, *ENDLESS))
        (run,) = begun(future)
        environment = run.environ()
        run.kill()
    assert {environment[name] for name in THREADS} == {"1"}
    assert environment["MALLOC_MMAP_MAX_"] == "0"


def test_a_killed_run_is_told_and_the_next_one_goes_on(engine: Processes, tiny: Path, tmp_path: Path) -> None:
    future = submit(engine, requested(tiny, tmp_path, *ENDLESS))
    (run,) = begun(future)
    run.kill()
    assert future.result().code == -9
    assert submit(engine, requested(tiny, tmp_path, *SHORT)).result().code == 0


def test_a_killed_server_is_replaced_and_its_run_goes_on(engine: Processes, tiny: Path, tmp_path: Path) -> None:
    future = submit(engine, requested(tiny, tmp_path, *ENDLESS))
    (run,) = begun(future)
    _, server = run.parents()[:2]
    server.kill()
    while server.status() != psutil.STATUS_ZOMBIE:  # its files are closed one after the other
        time.sleep(0.01)
    assert run.is_running()
    assert not future.done()
    run.kill()
    assert future.result().code == -9
    assert submit(engine, requested(tiny, tmp_path, *SHORT)).result().code == 0


def test_a_run_without_its_watcher_is_lost(engine: Processes, tiny: Path, tmp_path: Path) -> None:
    future = submit(engine, requested(tiny, tmp_path, *ENDLESS))
    (run,) = begun(future)
    watcher = run.parent()
    assert watcher is not None
    watcher.kill()
    run.kill()
    assert future.result().code is None
    assert submit(engine, requested(tiny, tmp_path, *SHORT)).result().code == 0


def test_a_server_that_cannot_start_is_a_loss(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with Processes(threads=1, slots=1, fork=True) as engine, pytest.raises(engine.losses):
        submit(engine, RunRequest(method="acmnet")).result()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Processes(threads=1, slots=1, fork=True) as engine:
        try:
            assert submit(engine, RunRequest(method="acmnet")).result().code is None
        except engine.losses:  # it had ended before it was asked
            return


def test_nothing_is_left_open_and_nobody_is_left(tiny: Path, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")), set(psutil.Process().children())
    server = ForkServer(os.environ)
    for _ in range(3):
        stderr, ended, _ = server.fork(requested(tiny, tmp_path, method="acmnett"))
        with stderr, ended:
            assert "did you mean 'acmnet'" in stderr.read()
            assert ended.read() == "begun\n2"
    with pytest.raises(OSError, match="a request of"):
        server.fork(requested(tiny, tmp_path, "x" * 300_000))
    server.close()
    server.close()
    assert (len(os.listdir("/proc/self/fd")), set(psutil.Process().children())) == before
