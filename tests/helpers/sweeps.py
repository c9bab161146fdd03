"""Pretended engines."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from harness.cli.main import plan as plan_command
from harness.cli.main import run as run_command
from harness.cli.main import sweep as sweep_command
from harness.cli.options import Parser
from harness.sweeps.engines import Heard, Inline, Outcome


def parse(*arguments: object) -> argparse.Namespace:
    parser = Parser()
    commands = parser.add_subparsers()
    for command in (sweep_command, plan_command, run_command):
        command.add(commands)
    return parser.parse_args([str(argument) for argument in arguments])


class Pretended(Inline):
    """Does a run by calling `do` with its first argument, one at a time."""

    def __init__(self, do: Callable[[int], Outcome]) -> None:
        super().__init__(threads=1)
        self.do = do
        self.seen: Counter[int] = Counter()

    def submit(self, arguments: Sequence[str], heard: Heard) -> Future[Outcome]:
        self.seen[int(arguments[0])] += 1
        future: Future[Outcome] = Future()
        try:
            future.set_result(self.do(int(arguments[0])))
        except OSError as error:
            future.set_exception(error)
        return future
