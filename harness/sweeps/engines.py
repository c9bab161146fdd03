"""Where runs are done: one after another, some at once, or on a cluster (`harness.sweeps.dask_engine`).

Every run is a process of its own, whose environment is set before its interpreter starts, under every engine: that is
what makes its bits the same under all of them. Some at once are forks of one process that has started and imported all
that they need (`harness.sweeps.fork_server`), where the system can.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Protocol

from harness.runs.environment import KEEP_MEMORY
from harness.sweeps.fork_server import ForkServer

# torch and NumPy read one of these each; dask's workers come with values of their own
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
KEPT_LINES = 400  # of what a run says
PROGRESS_LINE = re.compile(r"^\S+ (\w+) (\d+)/(\d+) ?(.*)$")

Heard = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Outcome:
    """How a run's process ended.

    Args:
        code: its exit code; of a process that a signal ended, the signal's number below 0; None where the process was
            lost with its worker.
        said: the last lines of its stderr, without progress.
        host: where it ran.
    """

    code: int | None
    said: str
    host: str

    @property
    def why(self) -> str:
        """The exit and the message alone, else the last lines."""
        lines = self.said.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        if self.code is None:
            ended = "lost"
        elif self.code < 0:
            ended = f"killed by signal {-self.code}"
        else:
            ended = f"exit {self.code}"
        return f"({ended}): " + "\n".join(errors or lines[-30:])


class Engine(Protocol):
    """What a sweep needs of the place where runs are done; left as a context, it has no process any more."""

    @property
    def slots(self) -> int:
        """Runs that can go on at once, now."""

    @property
    def threads(self) -> int:
        """CPU threads of each run."""

    @property
    def losses(self) -> tuple[type[BaseException], ...]:
        """What a future raises where its run could not be started or was lost."""

    def submit(self, arguments: Sequence[str], heard: Heard) -> Future[Outcome]:
        """Start `wstal-bench run` with these arguments; `heard` gets (stage, done, total, text) as it goes on, if the
        engine hears it.
        """

    def __enter__(self) -> Engine: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Inline(AbstractContextManager["Inline"]):
    """One run after another, in turn.

    Args:
        threads: CPU threads of each run.
    """

    slots = 1
    losses = (OSError,)

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def submit(self, arguments: Sequence[str], heard: Heard) -> Future[Outcome]:
        """Do the run before returning."""
        future: Future[Outcome] = Future()
        try:
            future.set_result(run_process(arguments, self.threads, heard))
        except OSError as error:
            future.set_exception(error)
        return future

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is left to end."""


class Processes(AbstractContextManager["Processes"]):
    """Some runs at once on this machine.

    Args:
        at_once: how many.
        threads: CPU threads of each run.
        fork: start them as forks of a process that has imported what they need, which saves each some seconds.
    """

    losses = (OSError,)

    def __init__(self, at_once: int, threads: int, fork: bool = False) -> None:
        self.slots = at_once
        self.threads = threads
        self._pool = ThreadPoolExecutor(max_workers=at_once)
        self._template = ForkServer(_surroundings(threads)) if fork else None

    def submit(self, arguments: Sequence[str], heard: Heard) -> Future[Outcome]:
        """Start a run."""
        if self._template is not None:
            return self._pool.submit(_run_fork, self._template, arguments, self.threads, heard)
        return self._pool.submit(run_process, arguments, self.threads, heard)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the runs that were started."""
        self._pool.shutdown()
        if self._template is not None:
            self._template.close()


def run_process(arguments: Sequence[str], threads: int, heard: Heard | None = None) -> Outcome:
    """Do one `wstal-bench run` in a fresh interpreter of this Python and wait for its end.

    Its stdout is dropped: what it leaves is in the store. Its stderr is read to the end, so if this process dies, the
    run's next word finds no reader and ends it too.

    Args:
        arguments: of `wstal-bench run`, without `--threads`.
        threads: CPU threads.
        heard: called with (stage, done, total, text) for each progress line.
    """
    command = [sys.executable, "-m", "harness", "run", *arguments, "--threads", str(threads)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        env=_surroundings(threads),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        said = _listen(process.stderr, heard)
        return Outcome(process.wait(), said, socket.gethostname())


def _run_fork(template: ForkServer, arguments: Sequence[str], threads: int, heard: Heard) -> Outcome:
    stderr, ended = template.fork((*arguments, "--threads", str(threads)))
    with stderr, ended:
        said = _listen(stderr, heard)
        code = ended.read()
    return Outcome(int(code) if code else None, said, socket.gethostname())


def _surroundings(threads: int) -> dict[str, str]:
    """The environment of a run."""
    return os.environ | KEEP_MEMORY | dict.fromkeys(THREADS, str(threads))


def _listen(stderr: IO[str], heard: Heard | None) -> str:
    """Tell progress as it comes; the last other lines."""
    said: deque[str] = deque(maxlen=KEPT_LINES)
    for line in stderr:
        if match := PROGRESS_LINE.match(line.strip()):
            stage, done, total, text = match.groups()
            if heard is not None:
                heard(stage, int(done), int(total), text)
        else:
            said.append(line)
    return "".join(said).strip()
