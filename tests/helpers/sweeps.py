"""Pretended engines."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from harness.cli import run as run_command
from harness.cli import sweep as sweep_command
from harness.cli.options import Parser
from harness.io.console import OnProgress
from harness.runs.request import RunRequest
from harness.sweeps.engines import Inline, Outcome
from harness.sweeps.jobs import Job


def parse(*arguments: object) -> argparse.Namespace:
    parser = Parser()
    commands = parser.add_subparsers()
    for command in (sweep_command, run_command):
        command.add(commands)
    return parser.parse_args([str(argument) for argument in arguments])


def make_job(row: str, seed: int, run: str, recipe_changes: dict[str, Any] | None = None) -> Job:
    """A job for a pretended engine."""
    return Job(row, seed, run, recipe_changes or {}, RunRequest(method="acmnet", seed=seed))


class Pretended(Inline):
    """Does a run by calling `do` with its seed, one at a time."""

    def __init__(self, do: Callable[[int], Outcome]) -> None:
        super().__init__(threads=1)
        self.do = do
        self.seen: Counter[int] = Counter()

    def submit(self, request: RunRequest, on_progress: OnProgress) -> Future[Outcome]:
        assert request.threads == 1
        assert request.expected is not None
        self.seen[request.seed] += 1
        future: Future[Outcome] = Future()
        try:
            future.set_result(self.do(request.seed))
        except OSError as error:
            future.set_exception(error)
        return future
