"""Engines: places where runs are done, one after another, several at once, or on a cluster (`sweeps.dask_engine`).

Every run is a process of its own, whose environment is set before its interpreter starts, under every engine: that is
what makes its bits the same under all of them. Several at once are forks of one process that has started and imported
all that they need (`harness.sweeps.fork_server`), where the system supports it.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Self

from harness.io.console import OnProgress
from harness.runs.process_environment import process_environment
from harness.runs.request import RunRequest
from harness.sweeps.fork_server import ForkServer

KEPT_LINES = 400  # of a run's stderr
FORK_TRIES = 3
PROGRESS_LINE = re.compile(r"^\S+ (\w+) (\d+)/(\d+) ?(.*)$")


@dataclass(frozen=True)
class Outcome:
    """End of a run's process.

    Args:
        code: its exit code; of a process that a signal ended, the signal's number below 0; None where the process was
            lost with its worker.
        stderr_tail: the last lines of its stderr, without progress.
        host: where it ran.
    """

    code: int | None
    stderr_tail: str
    host: str

    @property
    def summary(self) -> str:
        """Exit code or signal with the error message, or without one the last lines."""
        lines = self.stderr_tail.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        if self.code is None:
            ended = "lost"
        elif self.code < 0:
            ended = f"killed by signal {-self.code}"
        else:
            ended = f"exit {self.code}"
        return f"({ended}): " + "\n".join(errors or lines[-30:])


class GoingRuns:
    """Runs that an engine has started, each with the call that ends it; usable by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: set[Callable[[], None]] = set()
        self._ended = False

    @contextmanager
    def one(self, end: Callable[[], None]) -> Iterator[None]:
        """Count a run among those that go on.

        Args:
            end: ends it; called at once where all have been ended before.
        """
        with self._lock:
            self._ends.add(end)
            late = self._ended
        if late:
            end()
        try:
            yield
        finally:
            with self._lock:
                self._ends.discard(end)

    def end_all(self) -> None:
        """End all runs, and those that are yet to begin."""
        with self._lock:
            self._ended = True
            ends = list(self._ends)
        for end in ends:
            end()


class Engine(ABC):
    """Place where runs are done; a context manager, which leaves no process behind.

    Where an interruption leaves the context, the runs that go on are ended, else they are waited for.

    Args:
        threads: CPU threads of each run.
        slots: runs that can go on at once.
    """

    # errors that a future raises where its run could not be started or was lost
    losses: tuple[type[BaseException], ...] = (OSError,)

    def __init__(self, threads: int, slots: int = 1) -> None:
        self.threads = threads
        self._slots = slots

    @property
    def slots(self) -> int:
        """Runs that can go on at once, now."""
        return self._slots

    @abstractmethod
    def submit(self, request: RunRequest, on_progress: OnProgress) -> Future[Outcome]:
        """Start a run.

        Args:
            request: the run.
            on_progress: called as the run goes on, by engines that can follow it.
        """

    def stop(self) -> None:  # noqa: B027 - where nothing goes on there is nothing to do
        """End the runs that go on."""

    def close(self) -> None:  # noqa: B027 - where nothing is left there is nothing to do
        """Wait for the runs that were started and end all processes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is not None and not issubclass(kind, Exception):
                self.stop()
            self.close()
        except KeyboardInterrupt:  # while runs are waited for
            self.stop()
            raise


class Inline(Engine):
    """Engine that does one run after another."""

    def submit(self, request: RunRequest, on_progress: OnProgress) -> Future[Outcome]:
        """Do a run before returning."""
        future: Future[Outcome] = Future()
        try:
            future.set_result(run_process(request, on_progress))
        except OSError as error:
            future.set_exception(error)
        return future


class Processes(Engine):
    """Engine that does several runs at once on this machine.

    Args:
        threads: CPU threads of each run.
        slots: runs that can go on at once.
        fork: start them as forks of a process that has imported what they need, which saves each some seconds.
    """

    def __init__(self, threads: int, slots: int, fork: bool = False) -> None:
        super().__init__(threads, slots)
        self._pool = ThreadPoolExecutor(max_workers=slots)
        self._server = ForkServer(process_environment(threads)) if fork else None
        self._going = GoingRuns()

    def submit(self, request: RunRequest, on_progress: OnProgress) -> Future[Outcome]:
        """Start a run."""
        if self._server is not None:
            return self._pool.submit(_run_fork, self._server, request, on_progress, self._going)
        return self._pool.submit(run_process, request, on_progress, self._going)

    def stop(self) -> None:
        """End the runs that go on, and the fork server, which may still be importing."""
        if self._server is not None:
            self._server.kill()
        self._going.end_all()

    def close(self) -> None:
        """Wait for the runs that were started and end the fork server."""
        self._pool.shutdown()
        if self._server is not None:
            self._server.close()


def run_process(
    request: RunRequest,
    on_progress: OnProgress = lambda *_: None,
    going: GoingRuns | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """Do one run in a fresh interpreter of this Python and wait for its end.

    Its stdout is dropped: what it leaves is in the store. Its stderr is read to the end, so if this process dies, the
    run finds that nobody reads it and ends too.

    Args:
        request: the run.
        on_progress: called for each progress line.
        going: where to enter it, so that another thread can end it.
        environment: variables of the process besides its usual ones.
    """
    command = [sys.executable, "-m", "harness.runs.worker", request.to_json()]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        env=process_environment(request.threads) | dict(environment),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        try:
            with (going or GoingRuns()).one(process.kill):
                tail = _follow(process.stderr, on_progress)
                return Outcome(process.wait(), tail, socket.gethostname())
        except BaseException:
            process.kill()  # or leaving the context would wait for it
            raise


def _run_fork(server: ForkServer, request: RunRequest, on_progress: OnProgress, going: GoingRuns) -> Outcome:
    for _ in range(FORK_TRIES):
        run = server.fork(request)
        with run.stderr, run.ended, going.one(run.hang_up):
            tail = _follow(run.stderr, on_progress)
            begun, _, code = run.ended.read().partition("\n")
        if begun:
            break
        # the server was lost before it came to this run; the next request starts another
    return Outcome(int(code) if code else None, tail, socket.gethostname())


def _follow(stderr: IO[str], on_progress: OnProgress) -> str:
    """Report progress as it comes and return the last other lines."""
    tail: deque[str] = deque(maxlen=KEPT_LINES)
    for line in stderr:
        if match := PROGRESS_LINE.match(line.strip()):
            stage, done, total, note = match.groups()
            on_progress(stage, int(done), int(total), note)
        else:
            tail.append(line)
    return "".join(tail).strip()
