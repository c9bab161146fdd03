"""Messages and progress on stderr: bars for a person at a terminal, occasional lines for a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

LINE_SECONDS = 5.0
QUICK_SECONDS = 1.0

# called with (stage, steps done, steps, note) as long work goes on; the note may be empty
OnProgress = Callable[[str, int, int, str], None]


def duration(seconds: float) -> str:
    """Return a length of time in words, in its largest unit.

    >>> duration(41.2), duration(600), duration(21_700), duration(300_000)
    ('41 s', '10 min', '6 h', '3 days')
    """
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 1.95 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@dataclass
class _Stage:
    """Stage of long work.

    Args:
        begun: when it began, which is when the one before was last heard of.
        before: steps that were done before, as those of an interrupted training.
        done: finished steps.
        shown: when they were last shown, None if never.
    """

    begun: float
    before: int
    done: int
    shown: float | None = None


class ProgressReport(AbstractContextManager["ProgressReport"]):
    """Progress of stages: one bar each on a terminal, else lines.

    A long stage has a line after its first step and then every five seconds, a short one at its end only.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = (
            Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=self._console)
            if self._console.is_terminal
            else None
        )
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, _Stage] = {}
        self._heard = time.monotonic()

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` steps of a stage are done, and about how long the others take.

        Args:
            stage: name of the stage.
            done: number of finished steps.
            total: number of all steps.
            note: text after the numbers.
        """
        self._update(stage, done, total, note, quick=0.0)

    def reading(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show that files are read, unless that is soon over, as `OnProgress` for a data set.

        Args:
            stage: name of the stage.
            done: number of files that are read.
            total: number of all files.
            note: text after the numbers.
        """
        self._update(f"data {stage}", done, total, note, quick=QUICK_SECONDS)

    def _update(self, name: str, done: int, total: int, note: str, quick: float) -> None:
        now, known = time.monotonic(), self._stages.get(name)
        if known is None or done < known.done:
            known = self._stages[name] = _Stage(self._heard, done - 1, done)
        self._heard, known.done = now, done
        taken = now - known.begun
        left = taken / max(1, done - known.before) * (total - done)
        if known.shown is None:
            due = taken >= LINE_SECONDS or (taken >= QUICK_SECONDS and left >= LINE_SECONDS)
        else:
            due = now - known.shown >= LINE_SECONDS
        if taken >= quick and (due or done == total or self._bars is not None):
            known.shown = now
            expected = f"about {duration(left)} left" if left >= QUICK_SECONDS else ""
            self.show(name, done, total, ", ".join(filter(None, (note, expected))))

    def show(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show a step at once, as it was told.

        Args:
            stage: name of the stage.
            done: number of finished steps.
            total: number of all steps.
            note: text after the numbers.
        """
        if self._bars is None:
            print(f"{stage} {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total, description=f"{stage} {note}".strip())

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
