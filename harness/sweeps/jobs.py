"""Jobs: the cells of a plan and how they are made."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from harness.data.source import DataSource
from harness.runs.plans import Row
from harness.runs.spec import plan_run
from wstal.errors import UserError

QUICK = 5


@dataclass(frozen=True)
class Job:
    """One cell of a plan: a row with a seed.

    Args:
        row: the row's name, for people.
        seed: of the run.
        run: the run's id; cells that are one run share it.
        recipe_changes: how this cell's recipe came about (`RunSpec.recipe_changes`).
        arguments: of `wstal-bench run`, without `--threads`.
    """

    row: str
    seed: int
    run: str
    recipe_changes: dict[str, Any]
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """Row and seed, for people."""
        return f"{self.row}-s{self.seed}"

    def command(self, threads: int | None) -> str:
        """The run as one line for a shell."""
        counted = ("--threads", str(threads)) if threads else ()
        return shlex.join(("wstal-bench", "run", *self.arguments, *counted))


class _DescribedOnce:
    """A data set that is described once for a plan: all its runs claim the same data, and files are looked at once."""

    def __init__(self, source: DataSource) -> None:
        self._source = source
        self._description = source.describe()

    def describe(self, subsets: Sequence[str] = ()) -> dict[str, Any]:
        return self._description

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class Planner:
    """Makes jobs of a plan's cells.

    Args:
        source: the data set; it is described once.
        overrides: the user's options.
        passed: arguments that every run gets: where the data are, the store, the overrides.
        quick: train for a fifth of the schedule's epochs, unless the overrides say how many.
    """

    def __init__(
        self, source: DataSource, overrides: dict[str, Any], passed: Iterable[str] = (), quick: bool = False
    ) -> None:
        self._source = cast(DataSource, _DescribedOnce(source))
        self._overrides = overrides
        self._passed = tuple(passed)
        self._quick = quick and "train.epochs" not in overrides

    def method(self, method: str, seed: int) -> Job:
        """A method by itself.

        Raises:
            UserError: as `plan_run`.
        """
        return self._job(method, method, seed, None, ("--method", method))

    def row(self, row: Row, seed: int, reference: str, name: str | None = None) -> Job:
        """A row of a plan.

        Args:
            row: the row.
            seed: of the run.
            reference: the row as `wstal-bench run --row` takes it.
            name: what people call it (default: the reference).

        Raises:
            UserError: as `plan_run`, with the row's name.
        """
        try:
            return self._job(name or reference, row.method, seed, row, ("--row", reference))
        except UserError as error:
            raise type(error)(f"Row {reference}: {error}") from error

    def _job(self, name: str, method: str, seed: int, row: Row | None, what: tuple[str, ...]) -> Job:
        spec = plan_run(method, seed, self._source, self._overrides, row)
        what += ("--seed", str(seed))
        if self._quick:
            epochs = -(-spec.recipe.train.epochs // QUICK)
            what += ("--set", f"train.epochs={epochs}")
            spec = plan_run(method, seed, self._source, {"train.epochs": epochs} | self._overrides, row)
        return Job(name, seed, spec.id, spec.recipe_changes, what + self._passed)


def unique(jobs: Iterable[Job]) -> dict[str, Job]:
    """The runs of the jobs by id; of cells that are one run, the first."""
    runs: dict[str, Job] = {}
    for job in jobs:
        runs.setdefault(job.run, job)
    return runs
