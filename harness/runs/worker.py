"""Worker: does one run in a process of its own, as `python -m harness.runs.worker REQUEST` with a request as JSON.

Its stderr holds the progress, as lines that engines read, and the messages; its exit codes are the command line's. It
ends when nobody reads its stderr any more.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from harness.io.console import ProgressReport, say
from harness.io.exits import exit_code
from harness.records.files import DETECTIONS
from harness.records.schema import Record
from harness.records.store import Store
from harness.runs.advice import too_little_found
from harness.runs.devices import pick_device
from harness.runs.environment import git_state
from harness.runs.execute import execute
from harness.runs.fitted import is_fitted
from harness.runs.request import RunRequest
from wstal.errors import RunError

STDERR = 2
UNREAD = 141  # exit code, as of a process that SIGPIPE ended


def end_with_reader() -> None:
    """End this process as soon as its stderr is a pipe that nobody reads: whoever started the run is gone."""

    def wait() -> None:
        poll = select.poll()
        poll.register(STDERR, 0)  # errors and hang-ups are always reported
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll()):
            os._exit(UNREAD)

    if hasattr(select, "poll"):
        threading.Thread(target=wait, daemon=True).start()


Show = Callable[[Path, Record, bool], None]


def do_run(request: RunRequest, show: Show = lambda folder, record, reused: None) -> None:
    """Open the data set, plan the run, do it, and report on stderr; the last line says where its files are.

    Args:
        request: the run.
        show: called with the run's folder, its record, and whether it was there already, before the last line.

    Raises:
        UserError: an option or the data cannot be used.
        RunError: the run failed, or it is not the one that the request expects.
        StoreError: the store cannot be written.
    """
    device = pick_device(request.device)
    torch.set_num_threads(request.threads or (1 if request.data.data is None else torch.get_num_threads()))
    with ProgressReport() as progress:
        source = request.open(progress)
        spec = request.plan(source)
        if is_fitted(source):
            train = spec.recipe.train
            progress.say(f"{spec.method}: {train.epochs} epochs, T = {train.temporal_length}")
        if request.expected not in (None, spec.id):
            raise RunError(
                f"The run is {spec.id}, not {request.expected}: data or plan changed. Start the sweep again."
            )
        folder, record, reused = execute(
            spec,
            source,
            Store(request.store),
            device,
            lambda stage, done, total, note: progress.update(f"{spec.id} {stage}", done, total, note),
            request.observe,
        )
    show(folder, record, reused)
    if not record.evaluated:
        say(f"No ground truth of the test videos: no mAP; {record.found} detections: {folder / DETECTIONS}")
    if advice := too_little_found(record):
        say(advice)
    commit = git_state().get("commit")
    if reused and record.environment.commit not in (None, commit):
        say(f"It was computed by commit {record.environment.commit}, the code is at {commit}.")
    say(f"{'Was done already' if reused else 'Done'}: {folder}")


def main(request: RunRequest) -> int:
    """Do a run and return the exit code."""

    def work() -> int:
        do_run(request)
        return 0

    return exit_code(work)


if __name__ == "__main__":
    end_with_reader()
    raise SystemExit(main(RunRequest.from_json(sys.argv[1])))
