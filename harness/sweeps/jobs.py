"""Jobs: the cells of a plan and the runs that they stand for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.data.source import DataSource
from harness.runs.overrides import parse_assignments
from harness.runs.plans import Row
from harness.runs.request import RunRequest
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
        request: the run as it was asked for, with absolute paths.
    """

    row: str
    seed: int
    run: str
    recipe_changes: dict[str, Any]
    request: RunRequest

    @property
    def name(self) -> str:
        """Row and seed, for people."""
        return f"{self.row}-s{self.seed}"

    def request_with(self, threads: int) -> RunRequest:
        """Return the request for a worker, which refuses to do another run than the planned one.

        Args:
            threads: CPU threads of the run.
        """
        return self.request.model_copy(update={"threads": threads, "expected": self.run})


class Planner:
    """Maker of a plan's jobs; the data set is described once, so that all runs claim the same data.

    Args:
        source: the data set.
        template: what all runs have in common: data, options, store, device, threads.
        quick: train for a fifth of the schedule's epochs, unless the options say how many.
    """

    def __init__(self, source: DataSource, template: RunRequest, quick: bool = False) -> None:
        self._source = source
        self._description = source.describe()
        self._template = template.absolute()
        self._overrides = parse_assignments(template.overrides)
        self._quick = quick and "train.epochs" not in self._overrides

    def method(self, method: str, seed: int) -> Job:
        """Return the job of a method by itself.

        Args:
            method: registered name.
            seed: of the run.

        Raises:
            UserError: as `plan_run`.
        """
        return self._job(method, method, None, {"method": method, "seed": seed})

    def row(self, row: Row, seed: int, reference: str, name: str | None = None) -> Job:
        """Return the job of a row of a plan.

        Args:
            row: the row.
            seed: of the run.
            reference: the row as `wstal-bench run --row` takes it.
            name: what people call it (default: the reference).

        Raises:
            UserError: as `plan_run`, with the row's name.
        """
        try:
            return self._job(name or reference, row.method, row, {"row": reference, "seed": seed})
        except UserError as error:
            raise type(error)(f"Row {reference}: {error}") from error

    def _job(self, name: str, method: str, row: Row | None, what: dict[str, Any]) -> Job:
        seed, request = what["seed"], self._template.model_copy(update=what)
        spec = plan_run(method, seed, self._source, self._overrides, row, self._description)
        if self._quick:
            epochs = -(-spec.recipe.train.epochs // QUICK)
            request = request.model_copy(update={"overrides": (f"train.epochs={epochs}", *request.overrides)})
            overrides = {"train.epochs": epochs} | self._overrides
            spec = plan_run(method, seed, self._source, overrides, row, self._description)
        return Job(name, seed, spec.id, spec.recipe_changes, request)


def unique(jobs: Iterable[Job]) -> dict[str, Job]:
    """Return the runs of the jobs by id; of cells that are one run, the first."""
    runs: dict[str, Job] = {}
    for job in jobs:
        runs.setdefault(job.run, job)
    return runs
