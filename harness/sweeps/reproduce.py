"""The main job: every method with every seed, then the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.io.reading import atomic_write, pretty_json
from harness.pages.site import read_results, render, write
from harness.records.schema import read_record
from harness.records.store import RECORD, Store
from harness.sweeps.engines import Engine
from harness.sweeps.sweep import Job, failure_message, sweep
from wstal.errors import RunError


def run_jobs(jobs: Sequence[Job], store: Store, engine: Engine) -> list[dict[str, Any]]:
    """Do all jobs that are not done.

    Args:
        jobs: what to run.
        store: where runs are kept.
        engine: where they are done.

    Returns:
        Records of the runs, in the order of the jobs.

    Raises:
        RunError: a run failed; the others are finished first, and the message holds what each failure said.
    """
    if failed := sweep(jobs, store, engine, retries=0):
        raise RunError(failure_message(jobs, failed))
    return [read_record(store.run_folder(job.run) / RECORD) | job.departures for job in jobs]


def publish(records: Sequence[dict[str, Any]], results: Path) -> list[Path]:
    """Write the records of finished runs to `results/records/` and render `results/leaderboards/`.

    A record whose numbers are already there is left as it is.

    Returns:
        The leaderboard pages of the runs' data sets.
    """
    pages = set()
    for record in records:
        target = results / "records" / record["data"]["name"] / f"{record['id']}.json"
        if not (target.exists() and _numbers(read_record(target)) == _numbers(record)):
            atomic_write(target, pretty_json(record))
        suffix = "" if record["ablation"] is None else "-ablations"
        pages.add(results / "leaderboards" / f"{record['data']['name']}{suffix}.md")
    stored = read_results(results)
    rendered = render(stored)
    write(rendered, results, keep_stale=bool(stored.refused))
    if any(record["ablation"] and not record["synthetic"] for record in records) and "readings.md" in rendered:
        pages.add(results / "readings.md")
    return sorted(pages)


def _numbers(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "environment"}
