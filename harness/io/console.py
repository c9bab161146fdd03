"""Messages and progress on stderr: bars for a person at a terminal, occasional lines for a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_SECONDS = 5.0

# called with (stage, steps done, steps, note) as long work goes on; the note may be empty
OnProgress = Callable[[str, int, int, str], None]


class ProgressReport(AbstractContextManager["ProgressReport"]):
    """Progress of stages: one bar each on a terminal, else a line every five seconds and at the end of each stage."""

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

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` steps of a stage are done.

        Args:
            stage: name of the stage.
            done: number of finished steps.
            total: number of all steps.
            note: text after the numbers.
        """
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total)
            self._bars.update(self._tasks[stage], completed=done, total=total, description=f"{stage} {note}".strip())
            return
        now = time.monotonic()
        if done == total or now - self._last.setdefault(stage, now) >= LINE_SECONDS:
            self._last[stage] = now
            print(f"{stage} {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


def say(*lines: str) -> None:
    """Print lines on stderr, because stdout is for results."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)
