"""Sweeps: all runs of a plan, each once, whatever happens to the processes that do them.

The state of each run is read from the store alone, so the same command continues a sweep that was killed, and several
sweeps can share a store (`harness.io.locks` keeps them apart).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.io.atomic import atomic_write, remove
from harness.io.console import OnProgress, ProgressReport, duration
from harness.io.encoding import pretty_json
from harness.io.locks import acquire
from harness.records.grouping import average
from harness.records.reading import read_record
from harness.records.schema import Record
from harness.records.store import Store
from harness.sweeps.engines import Engine, Outcome
from harness.sweeps.jobs import Job, unique
from wstal.errors import RunError

if TYPE_CHECKING:
    from filelock import FileLock

POLL_SECONDS = 1.0
QUIET_SECONDS = 20.0  # of a run, before its own progress is told too


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
        The outcome of the last try of each run that is still not done, by id.

    Raises:
        StoreError: the store cannot be written.
    """
    waiting = unique(jobs)
    told = _Told(sum(not store.is_done(run) for run in waiting), len({job.seed for job in waiting.values()}) > 1)
    tries: Counter[str] = Counter()
    failed: dict[str, Outcome] = {}
    going: dict[Future[Outcome], tuple[Job, FileLock]] = {}
    with ProgressReport() as progress:
        while waiting or going:
            while len(going) < max(1, engine.slots) and (taken := _take(waiting, store)) is not None:
                job, _ = taken
                going[engine.submit(job.request_with(engine.threads), _follow(progress, job.name))] = taken
            if waiting and not going:  # others work on all that is left
                time.sleep(POLL_SECONDS)
            # not for ever: another sweep may leave a run, a cluster may grow
            for future in wait(going, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done:
                job, claim = going.pop(future)
                if store.is_done(job.run):
                    failed.pop(job.run, None)
                    remove([store.failure_file(job.run)])
                    progress.say(told.end_of(job, read_record(store.record_file(job.run))))
                else:
                    tries[job.run] += 1
                    failed[job.run] = outcome = _failure(future, engine)
                    again = tries[job.run] <= retries
                    _keep_failure(store, job, outcome, tries[job.run], engine.threads)
                    progress.say(f"{job.name} failed {outcome.summary}" + ("\nIt is tried again." if again else ""))
                    if again:
                        waiting[job.run] = job
                claim.release()
    return {run: outcome for run, outcome in failed.items() if not store.is_done(run)}


class _Told:
    """Line for the end of each run: how many are done, the run's mAP, and how long the others will take.

    Args:
        total: number of runs to do.
        seeds: whether a run's name needs its seed.
    """

    def __init__(self, total: int, seeds: bool) -> None:
        self._total, self._seeds = total, seeds
        self._done, self._begun = 0, time.monotonic()

    def end_of(self, job: Job, record: Record) -> str:
        """Return the line of a run that has just ended well."""
        self._done += 1
        left = (time.monotonic() - self._begun) / self._done * (self._total - self._done)
        expected = f", about {duration(left)} left" if self._done < self._total else ""
        name = f"{job.row} seed {job.seed}" if self._seeds else job.row
        found = f"{average(record):.1f} mAP" if record.evaluated else f"{record.found} detections"
        return f"[{self._done}/{self._total}] {name} {found}{expected}"


def failure_message(jobs: Sequence[Job], failed: Mapping[str, Outcome]) -> str:
    """Return a message that counts the failed runs and holds what each printed.

    Args:
        jobs: all cells of the plan.
        failed: outcomes of the runs that are not done, by id.
    """
    runs = unique(jobs)
    failures = sorted(f"{runs[run].name} {outcome.summary}" for run, outcome in failed.items())
    return f"{len(failed)} of {len(runs)} runs failed:\n" + "\n".join(failures)


def _take(waiting: dict[str, Job], store: Store) -> tuple[Job, FileLock] | None:
    """Claim the first job that is neither done nor another process's; it and the done ones wait no longer."""
    for run in list(waiting):
        if store.is_done(run):
            del waiting[run]
            remove([store.failure_file(run)])
        elif not store.is_held(run) and (claim := acquire(store.claim_file(run))) is not None:
            if not store.is_done(run):
                return waiting.pop(run), claim
            claim.release()  # finished between the two looks
    return None


def _follow(progress: ProgressReport, name: str) -> OnProgress:
    begun = time.monotonic()

    def on_progress(stage: str, done: int, total: int, note: str) -> None:
        if stage == "train" and time.monotonic() - begun >= QUIET_SECONDS:
            progress.show(name, done, total, note)  # the run chose when, and tells how long it takes

    return on_progress


def _failure(future: Future[Outcome], engine: Engine) -> Outcome:
    try:
        outcome = future.result()
    except engine.losses as error:
        return Outcome(None, f"error: {error or type(error).__name__}", "")
    if outcome.code == 0:
        left = "error: It ended well, but its run is not in the store. All workers must reach the store by this path."
        return replace(outcome, stderr_tail=f"{outcome.stderr_tail}\n{left}")
    return outcome


def _keep_failure(store: Store, job: Job, outcome: Outcome, tries: int, threads: int) -> None:
    kept: Mapping[str, Any] = {
        "run": job.run,
        "row": job.row,
        "seed": job.seed,
        "command": job.request_with(threads).command_line(),
        "tries": tries,
        "exit": outcome.code,
        "host": outcome.host,
        "stderr": outcome.stderr_tail,
    }
    atomic_write(store.failure_file(job.run), pretty_json(kept))


def run_jobs(jobs: Sequence[Job], store: Store, engine: Engine) -> list[Record]:
    """Do all jobs that are not done.

    Args:
        jobs: what to run.
        store: where runs are kept.
        engine: where they are done.

    Returns:
        Records of the runs, in the order of the jobs.

    Raises:
        RunError: a run failed; the others are finished first, and the message names each failure.
    """
    if failed := sweep(jobs, store, engine, retries=0):
        raise RunError(failure_message(jobs, failed))
    return [read_record(store.record_file(job.run)).planned_as(job.recipe_changes) for job in jobs]
