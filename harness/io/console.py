"""Progress of long work on stderr: bars for a person, a line now and then for a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_SECONDS = 5.0

# called with (stage, steps done, steps, note) as long work goes on; the note may be empty
OnProgress = Callable[[str, int, int, str], None]


class ProgressReport(AbstractContextManager["ProgressReport"]):
    """One bar a task where stderr is a terminal; else a line at most every five seconds and at each task's end."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = (
            Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                console=self._console,
            )
            if self._console.is_terminal
            else None
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._last: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def update(self, task: str, done: int, total: int, text: str = "") -> None:
        """Say that `done` of `total` steps of a task are done."""
        if self._bars is not None:
            if task not in self._tasks:
                self._tasks[task] = self._bars.add_task(task, total=total)
            self._bars.update(self._tasks[task], completed=done, total=total, description=f"{task} {text}".strip())
            return
        now = time.monotonic()
        if done == total or now - self._last.setdefault(task, now) >= LINE_SECONDS:
            self._last[task] = now
            print(f"{task} {done}/{total} {text}".rstrip(), file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


def say(*lines: str) -> None:
    """Print lines to the person, on stderr: stdout is for results."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)
