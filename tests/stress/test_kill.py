"""A run that is killed again and again leaves the bits of the undisturbed one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from harness.records.files import PSEUDO_LABELS
from harness.registry import method_entries
from tests.helpers.faults import finished
from tests.helpers.runs import check_killed_run
from tests.helpers.small_data import write_tiny
from tests.stress.report import report

pytestmark = [pytest.mark.stress, pytest.mark.usefixtures("one_thread")]
COMMAND = "pytest -m stress tests/stress/test_kill.py"
KILLS = 20
EARLY = 0.25  # share of the kills that come at any time from the start on; the others after an epoch or more
# the command itself, with a checkpoint after each epoch in place of one every 30 seconds
PROGRAM = (
    "import functools, sys\n"
    "from harness.runs import execute, training\n"
    "execute.train = functools.partial(training.train, checkpoint_seconds=0)\n"
    "from harness.cli.main import main\n"
    "sys.exit(main(sys.argv[1:]))\n"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), train=6, test=3)


def start(method: str, data: Path, store: Path) -> subprocess.Popen[bytes]:
    arguments = ["run", "--method", method, "--data", str(data), "--store", str(store), "--threads", "1",
                 "--device", "cpu", "--set", "train.epochs=60", "train.temporal_length=24", "train.batch_size=1",
                 "train.learning_rate=1e-3"]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, err = process.communicate()
    assert process.returncode == 0, err.decode()


def wait_for_checkpoint(process: subprocess.Popen[bytes], store: Path) -> None:
    """Until there is a checkpoint that was not there before, or the process is done."""
    before = set(store.glob("partial/*/checkpoint-*.json"))
    while process.poll() is None and set(store.glob("partial/*/checkpoint-*.json")) <= before:
        time.sleep(0.01)


def where(store: Path) -> str:
    """How far the killed run had come, as far as its files say."""
    if finished(store):
        return "done"
    names = {path.name.partition("-")[0].partition(".")[0] for path in store.glob("partial/*/[!.]*")}
    return "scored" if "scores" in names else "training" if "checkpoint" in names else "before the first checkpoint"


@pytest.mark.parametrize("method", ["rmgcl-gksa", "rskp"])
def test_20_kills_of_one_run_leave_the_undisturbed_bits(method: str, tiny: Path, tmp_path: Path) -> None:
    process, begun = start(method, tiny, tmp_path / "undisturbed"), time.monotonic()
    wait_for_checkpoint(process, tmp_path / "undisturbed")
    first = time.monotonic()
    finish(process)
    startup, rest = first - begun, time.monotonic() - first
    expected = finished(tmp_path / "undisturbed")
    assert len(expected) == 8 + any(path.endswith(PSEUDO_LABELS) for path in expected)
    draws, kills, stores = random.Random(method), Counter[str](), 1
    while kills.total() < KILLS:
        store = tmp_path / str(stores)
        process = start(method, tiny, store)
        early = draws.random() < EARLY
        if not early:
            wait_for_checkpoint(process, store)
        try:
            process.communicate(timeout=draws.uniform(0, startup if early else rest / 4))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills[where(store)] += 1
        assert finished(store) in ({}, expected)
        stores += bool(finished(store))
    finish(start(method, tiny, tmp_path / str(stores)))
    for number in range(1, stores + 1):
        assert finished(tmp_path / str(number)) == expected
        assert list((tmp_path / str(number)).glob("partial/*")) == []
        assert list((tmp_path / str(store)).glob("runs/*/.*")) == []
    assert kills["training"] > 0
    places = ", ".join(f"{count} {place}" for place, count in kills.most_common())
    report(
        f"random SIGKILLs of a run of {method}, restarted each time",
        f"{KILLS} kills ({places}), {stores} runs, every file bitwise equal to the undisturbed run's",
        COMMAND,
    )


@pytest.mark.parametrize("name", list(method_entries()))
def test_a_killed_run_of_every_method_leaves_the_undisturbed_files(name: str, tiny: Path, tmp_path: Path) -> None:
    check_killed_run(name, tiny, tmp_path)
    report(
        f"a run of {name} killed in training and again in scoring",
        "every file bitwise equal to the undisturbed run's",
        COMMAND,
    )
