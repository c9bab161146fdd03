"""Sweeps: all runs of a plan, each once, whatever happens to the processes that do them.

What is done is read from the store alone, so a sweep that was killed is continued by the same command, and several
sweeps can share a store (`harness.io.locks` keeps them apart).
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import Any, cast

from filelock import FileLock

from harness.data.source import DataSource
from harness.io.console import ProgressReport
from harness.io.locks import acquire, claim_file, failure_file, is_done, is_held
from harness.io.reading import atomic_write, pretty_json
from harness.records.store import Store
from harness.runs.plans import Row
from harness.runs.spec import plan_run
from harness.sweeps.engines import Engine, Outcome
from wstal.errors import StoreError, UserError

QUICK = 5
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """One cell of a plan: a row with a seed.

    Args:
        row: the row's name, for people.
        seed: of the run.
        run: the run's id; cells that are one run share it.
        departures: how this cell's recipe came about (`RunSpec.departures`).
        arguments: of `wstal-bench run`, without `--threads`.
    """

    row: str
    seed: int
    run: str
    departures: dict[str, Any]
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
        return Job(name, seed, spec.id, spec.departures, what + self._passed)


def unique(jobs: Iterable[Job]) -> dict[str, Job]:
    """The runs of the jobs by id; of cells that are one run, the first."""
    runs: dict[str, Job] = {}
    for job in jobs:
        runs.setdefault(job.run, job)
    return runs


def sweep(jobs: Iterable[Job], store: Store, engine: Engine, retries: int) -> dict[str, Outcome]:
    """Do every run of the jobs that is not done, each once.

    A run that another process works on is left to it, and done here only if that one ends without success. A failed run
    is tried again after the others, and its last failure is kept in the store until it succeeds.

    Args:
        jobs: the cells of a plan.
        store: where runs are kept.
        engine: where they are done.
        retries: how often a failed run is tried again.

    Returns:
        How the last try ended of each run that is still not done.

    Raises:
        StoreError: the store cannot be written.
    """
    waiting = unique(jobs)
    tries: Counter[str] = Counter()
    failed: dict[str, Outcome] = {}
    going: dict[Future[Outcome], tuple[Job, FileLock]] = {}
    with ProgressReport() as progress:
        while waiting or going:
            while len(going) < max(1, engine.slots) and (taken := _take(waiting, store)) is not None:
                job, _ = taken
                going[engine.submit(job.arguments, _follow(progress, job.name))] = taken
            if waiting and not going:  # others work on all that is left
                time.sleep(POLL_SECONDS)
            # not for ever: another sweep may leave a run, a cluster may grow
            for future in wait(going, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done:
                job, claim = going.pop(future)
                if is_done(store, job.run):
                    failed.pop(job.run, None)
                    _forget_failure(store, job.run)
                else:
                    tries[job.run] += 1
                    failed[job.run] = outcome = _failure(future, engine)
                    again = tries[job.run] <= retries
                    _keep_failure(store, job, outcome, tries[job.run], engine.threads)
                    progress.say(f"{job.name} failed {outcome.why}" + ("\nIt is tried again." if again else ""))
                    if again:
                        waiting[job.run] = job
                claim.release()
    return {run: outcome for run, outcome in failed.items() if not is_done(store, run)}


def failure_message(jobs: Sequence[Job], failed: Mapping[str, Outcome]) -> str:
    """What is missing, and what each failure said."""
    runs = unique(jobs)
    said = sorted(f"{runs[run].name} {outcome.why}" for run, outcome in failed.items())
    return f"{len(failed)} of {len(runs)} runs failed:\n" + "\n".join(said)


def _take(waiting: dict[str, Job], store: Store) -> tuple[Job, FileLock] | None:
    """The first job that is neither done nor another process's, claimed; it and the done ones wait no longer."""
    for run in list(waiting):
        if is_done(store, run):
            del waiting[run]
            _forget_failure(store, run)
        elif not is_held(store, run) and (claim := acquire(claim_file(store, run))) is not None:
            if not is_done(store, run):
                return waiting.pop(run), claim
            claim.release()  # finished between the two looks
    return None


def _follow(progress: ProgressReport, name: str) -> Callable[[str, int, int, str], None]:
    def heard(stage: str, done: int, total: int, text: str) -> None:
        if stage == "train":
            progress.update(name, done, total, text)

    return heard


def _failure(future: Future[Outcome], engine: Engine) -> Outcome:
    try:
        outcome = future.result()
    except engine.losses as error:
        return Outcome(None, f"error: {error or type(error).__name__}", "")
    if outcome.code == 0:
        left = "error: It left another run in the store than was planned: data or plan changed. Start the sweep again."
        return replace(outcome, said=f"{outcome.said}\n{left}")
    return outcome


def _keep_failure(store: Store, job: Job, outcome: Outcome, tries: int, threads: int) -> None:
    kept: Mapping[str, Any] = {
        "run": job.run,
        "row": job.row,
        "seed": job.seed,
        "command": job.command(threads),
        "tries": tries,
        "exit": outcome.code,
        "host": outcome.host,
        "stderr": outcome.said,
    }
    atomic_write(failure_file(store, job.run), pretty_json(kept))


def _forget_failure(store: Store, run: str) -> None:
    file = failure_file(store, run)
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"Cannot remove {file}: {error.strerror}. Make its folder writable.") from error
