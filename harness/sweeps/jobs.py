"""Jobs: the cells of a plan and the runs that they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.data.source import DataSource
from harness.runs.overrides import parse_assignments
from harness.runs.plans import Plan, Row
from harness.runs.request import RunRequest
from harness.runs.schedules import schedule_for
from harness.runs.spec import plan_run
from wstal.errors import UserError


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
        seeds: of every method and row (default: those of the data set's schedule or of the plan).
    """

    def __init__(self, source: DataSource, template: RunRequest, seeds: Sequence[int] | None = None) -> None:
        self._source = source
        self._seeds = seeds
        self._schedule = schedule_for(source.schedule)
        self._description = source.describe()
        self._template = template.absolute()
        self._overrides = parse_assignments(template.overrides)

    def methods(self, names: Iterable[str]) -> list[Job]:
        """Return the jobs of registered methods by themselves.

        Raises:
            UserError: as `plan_run`.
        """
        seeds = self._seeds or self._schedule.seeds
        return [self._job(name, name, None, {"method": name, "seed": seed}) for name in names for seed in seeds]

    def rows(self, plan: Plan, name: str, prefix: str = "") -> list[Job]:
        """Return the jobs of a plan's rows.

        Args:
            plan: the plan.
            name: its name or path, as `wstal-bench run --row` takes it before the row's.
            prefix: begins the names of the jobs, for people.

        Raises:
            UserError: as `plan_run`, with the row's name.
        """
        seeds = self._seeds or (self._schedule.ablations and self._schedule.ablations.seeds) or plan.seeds
        jobs = []
        for row in plan.rows:
            what = {"row": f"{name}/{row.id}"}
            try:
                jobs += [self._job(f"{prefix}{row.id}", row.method, row, what | {"seed": seed}) for seed in seeds]
            except UserError as error:
                raise type(error)(f"Row {what['row']}: {error}") from error
        return jobs

    def _job(self, name: str, method: str, row: Row | None, what: dict[str, Any]) -> Job:
        seed, request = what["seed"], self._template.model_copy(update=what)
        spec = plan_run(method, seed, self._source, self._overrides, row, self._description)
        return Job(name, seed, spec.id, spec.recipe_changes, request)


def unique(jobs: Iterable[Job]) -> dict[str, Job]:
    """Return the runs of the jobs by id; of cells that are one run, the first."""
    runs: dict[str, Job] = {}
    for job in jobs:
        runs.setdefault(job.run, job)
    return runs
