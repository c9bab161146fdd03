"""The main job: every method with every seed, each run in a fresh process, then the leaderboard."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.environment import KEEP_MEMORY
from harness.files import atomic_write, pretty_json
from harness.leaderboard import read_results, render, write
from harness.progress import ProgressReport
from harness.record import read_record
from wstal.errors import RunError

PROGRESS_LINE = re.compile(r"^\S+ (\w+) (\d+)/(\d+) ?(.*)$")


@dataclass(frozen=True)
class Job:
    """One run to do in a process of its own: its display name and the arguments of `wstal-bench run`."""

    name: str
    arguments: tuple[str, ...]


def run_jobs(jobs: Sequence[Job], at_once: int, threads: int) -> list[dict[str, Any]]:
    """Do all jobs, some at once, each in a fresh interpreter.

    Args:
        jobs: what to run.
        at_once: processes at a time.
        threads: CPU threads of each, set before its interpreter starts.

    Returns:
        Records of the finished runs, in the order of the jobs.

    Raises:
        RunError: a run failed; the others are finished first, and the message holds what each failure said.
    """
    failures = []
    records: dict[str, dict[str, Any]] = {}
    with ProgressReport() as progress, ThreadPoolExecutor(max_workers=at_once) as pool:
        futures = {pool.submit(_run_job, job, threads, progress): job for job in jobs}
        for future in as_completed(futures):
            job = futures[future]
            code, output, complaint = future.result()
            if code == 0:
                said = json.loads(output)
                records[job.name] = {name: value for name, value in said.items() if name not in ("run", "reused")}
            else:
                failures.append(f"{job.name} (exit {code}): {complaint}")
    if failures:
        raise RunError(f"{len(failures)} of {len(jobs)} runs failed:\n" + "\n".join(sorted(failures)))
    return [records[job.name] for job in jobs]


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


def _run_job(job: Job, threads: int, progress: ProgressReport) -> tuple[int, str, str]:
    environment = os.environ | KEEP_MEMORY | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "harness", "run", *job.arguments, "--threads", str(threads), "--json"]
    said: list[str] = []
    # a file, not a second pipe: a long record would fill a pipe that nobody reads while stderr is followed
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True, env=environment) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            if match := PROGRESS_LINE.match(line.strip()):
                stage, done, total, text = match.groups()
                if stage == "train":
                    progress.update(job.name, int(done), int(total), text)
            else:
                said.append(line)
        code = process.wait()
        output.seek(0)
        errors = [line for line in said if line.startswith("error: ")]
        return code, output.read(), "".join(errors or said[-30:]).strip()
