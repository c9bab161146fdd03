"""Sweeps: what a plan's runs are, what has become of them, and that each is done once, whoever dies."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from harness.cli.inputs import run_request
from harness.io.atomic import atomic_write
from harness.io.console import OnProgress
from harness.io.encoding import pretty_json
from harness.io.locks import acquire
from harness.records.files import RECORD
from harness.records.store import RunStatus, Store
from harness.runs.plans import open_plan
from harness.runs.request import RunRequest
from harness.sweeps.engines import Outcome
from harness.sweeps.jobs import Job
from harness.sweeps.sweep import failure_message, sweep
from tests.helpers.records import make_record
from tests.helpers.small_data import write_tiny
from tests.helpers.sweeps import Pretended, make_job, parse
from wstal.errors import RunError, StoreError, UserError

PLAN = """
title = "Mine"
source = "nowhere"
seeds = [4, 5]
columns = ["what"]
mAP = ["0.5"]

[[rows]]
id = "plain"
method = "acmnet"
cells = ["plain"]

[[rows]]
id = "other"
method = "acmnet"
cells = ["other"]
options = { "train.weight_decay" = 0.25 }
"""
OWNER = """
import sys
from pathlib import Path
from harness.io.locks import acquire
from harness.records.store import Store
store = Store(Path(sys.argv[1]))
claim = acquire(store.claim_file(sys.argv[2])) if "claim" in sys.argv else None
with store.exclusive(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """What a command that ends well says on stdout and stderr; its other ends are exceptions."""

    def call(*arguments: object) -> tuple[str, str]:
        parsed = parse(*arguments)
        assert parsed.handle(parsed) == 0
        captured = capsys.readouterr()
        return captured.out, captured.err

    return call


def jobs_of(count: int) -> list[Job]:
    return [make_job(f"row-{seed}", seed, str(make_record(seed=seed)["id"])) for seed in range(count)]


def put(store: Store, seed: int) -> None:
    """What a run leaves."""
    record = make_record(seed=seed)
    atomic_write(store.begin(record["id"]) / RECORD, pretty_json(record))
    store.finish(record["id"])


def working(store: Store) -> Pretended:
    def do(seed: int) -> Outcome:
        put(store, seed)
        return Outcome(0, "", "here")

    return Pretended(do)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that holds a run until it is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(run: str, *what: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OWNER, str(tmp_path), run, *what]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_each_run_is_done_once_and_the_done_ones_are_skipped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, 1)
    engine = working(store)
    assert sweep([*jobs_of(4), *jobs_of(2)], store, engine, retries=1) == {}
    assert engine.seen == {0: 1, 2: 1, 3: 1}
    assert sweep(jobs_of(4), store, engine, retries=1) == {}
    assert engine.seen.total() == 3


@pytest.mark.parametrize("quiet", [0.0, 1e9])
def test_what_a_long_run_tells_of_its_training_is_told_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, quiet: float
) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr("harness.sweeps.sweep.QUIET_SECONDS", quiet)

    class Telling(Pretended):
        def submit(self, request: RunRequest, on_progress: OnProgress) -> Future[Outcome]:
            on_progress("digest", 9, 10, "files, about 4 s left")
            on_progress("train", 1, 500, "loss 3.0400, about 6 h left")
            return super().submit(request, on_progress)

    def do(seed: int) -> Outcome:
        put(store, seed)
        return Outcome(0, "", "here")

    assert sweep(jobs_of(2), store, Telling(do), retries=0) == {}
    told = capsys.readouterr().err.splitlines()
    ends = [line for line in told if line.startswith("[")]
    assert [line.split(" mAP")[0] for line in ends] == [f"[{n + 1}/2] row-{n} seed {n} 16.0" for n in range(2)]
    assert ends[0].endswith(" left")
    own = [line for line in told if line not in ends]
    assert own == [] if quiet else [f"row-{n}-s{n} 1/500 loss 3.0400, about 6 h left" for n in range(2)]


def test_a_failure_is_tried_again_kept_and_never_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, jobs = Store(tmp_path), jobs_of(3)
    said = "Traceback (most recent call last):\n  ...\nerror: no room"

    def do(seed: int) -> Outcome:
        if seed == 1 or (seed == 2 and engine.seen[2] < 3):
            return Outcome(4, said, "here")
        return working(store).do(seed)

    engine = Pretended(do)
    failed = sweep(jobs, store, engine, retries=2)
    # the one that fails for ever 1 + 2 times, the other until it succeeds
    assert engine.seen == {0: 1, 1: 3, 2: 3}
    assert failed == {jobs[1].run: Outcome(4, said, "here")}
    assert failure_message(jobs, failed) == "1 of 3 runs failed:\nrow-1-s1 (exit 4): error: no room"
    assert [store.status(job.run) for job in jobs] == [RunStatus.DONE, RunStatus.FAILED, RunStatus.DONE]
    assert [path.name for path in (tmp_path / "failed").iterdir()] == [f"{jobs[1].run}.json"]
    kept = json.loads(store.failure_file(jobs[1].run).read_text())
    assert kept["command"].startswith("wstal-bench run --method acmnet --seed 1 ")
    assert kept["command"].endswith(" --threads 1")
    assert (kept["stderr"], kept["exit"], kept["tries"], kept["host"]) == (said, 4, 3, "here")
    assert capsys.readouterr().err.count("It is tried again.") == 4

    # nothing of it is remembered: the next sweep does it, and its failure is gone
    again = working(store)
    assert sweep(jobs, store, again, retries=0) == {}
    assert again.seen == {1: 1}
    assert not store.failure_file(jobs[1].run).exists()


def test_an_end_without_the_planned_run_is_a_failure(tmp_path: Path) -> None:
    store, jobs = Store(tmp_path), jobs_of(1)

    def other(seed: int) -> Outcome:
        put(store, seed + 1)
        return Outcome(0, "Done", "here")

    assert "its run is not in the store" in sweep(jobs, store, Pretended(other), retries=0)[jobs[0].run].summary
    assert store.status(jobs[0].run) == RunStatus.FAILED


def test_a_run_that_cannot_be_started_is_a_failure(tmp_path: Path) -> None:
    def do(seed: int) -> Outcome:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    jobs = jobs_of(2)
    failed = sweep(jobs, Store(tmp_path), Pretended(do), retries=0)
    assert failed.keys() == {job.run for job in jobs}
    assert "(lost): error: [Errno 11] Resource temporarily unavailable" in failed[jobs[0].run].summary


def test_a_success_of_another_process_is_a_success(tmp_path: Path) -> None:
    """A run that fails here because another finishes it is done."""
    store = Store(tmp_path)

    def do(seed: int) -> Outcome:
        put(store, seed)
        return Outcome(-9, "", "here")

    assert sweep(jobs_of(1), store, Pretended(do), retries=0) == {}


def test_two_sweeps_share_the_work_and_none_does_what_the_other_does(tmp_path: Path) -> None:
    store, jobs = Store(tmp_path), jobs_of(8)
    both = threading.Barrier(2, timeout=60)
    first = threading.local()
    seen: list[int] = []

    def do(seed: int) -> Outcome:
        seen.append(seed)
        if not hasattr(first, "passed"):  # each waits in its first run for the other's: they do not wait for each other
            first.passed = True
            both.wait()
        put(store, seed)
        return Outcome(0, "", "here")

    results: list[dict[str, Outcome]] = []
    threads = [
        threading.Thread(target=lambda: results.append(sweep(jobs, Store(tmp_path), Pretended(do), retries=0)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == [{}, {}]
    assert sorted(seen) == list(range(8))


@pytest.mark.parametrize("held", ["claim", "run alone"])
def test_a_run_of_a_process_that_dies_is_taken_over(
    tmp_path: Path, owner: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    store, jobs = Store(tmp_path), jobs_of(2)
    process = owner(jobs[0].run, held)
    looked = threading.Event()
    monkeypatch.setattr(time, "sleep", lambda seconds: looked.set())
    engine = working(store)
    thread = threading.Thread(target=sweep, args=(jobs, store, engine, 0))
    thread.start()
    assert looked.wait(60)
    # the other run is done meanwhile, this one is not touched
    assert engine.seen == {1: 1}
    assert store.status(jobs[0].run) == RunStatus.RUNNING
    process.kill()
    process.wait()
    thread.join(60)
    assert engine.seen == {0: 1, 1: 1}
    assert store.status(jobs[0].run) == RunStatus.DONE


def test_a_lock_is_free_when_its_owner_is_killed(tmp_path: Path, owner: Callable[..., subprocess.Popen[str]]) -> None:
    store = Store(tmp_path)
    assert store.status("r1") == RunStatus.MISSING
    assert not (tmp_path / "locks").exists()  # looking makes no file
    process = owner("r1")
    assert store.is_held("r1")
    assert acquire(store.lock_file("r1")) is None
    process.kill()
    process.wait()
    assert store.status("r1") == RunStatus.MISSING
    with store.exclusive("r1"):
        assert store.is_held("r1")
    assert not store.claim_file("r1").exists()


def test_a_store_that_cannot_be_written_ends_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Choose a folder that is writable"):
        sweep(jobs_of(1), Store(tmp_path / "file"), Pretended(lambda seed: Outcome(0, "", "")), 0)


def options(tiny: Path, store: Path) -> list[object]:
    return ["--data", tiny, "--store", store, "--set", "train.epochs=2", "train.temporal_length=32"]


def replanned(line: str) -> str:
    """The id of the run that a command line does."""
    program, *arguments = shlex.split(line)
    assert program == "wstal-bench"
    parsed = parse(*arguments)
    request = run_request(parsed)
    return request.plan(request.data.open(request.store)).id


def test_a_planned_line_is_the_run_that_it_names(
    cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id that is looked for in the store is the one that the printed command writes, from any folder."""
    (tmp_path / "my plans").mkdir()
    (tmp_path / "my plans" / "mine.toml").write_text(PLAN)
    (tmp_path / "elsewhere").mkdir()
    shown: list[dict[str, Any]] = []
    monkeypatch.chdir(tmp_path)
    for what in (
        ["methods", "--methods", "acmnet", "whole-video", "--seeds", "1,3"],
        ["V", "--seeds", "0", "--set", "train.batch_size=3"],
        ["my plans/mine.toml", "--held-out", 0.34, "--streams", "rgb", "--labels", "annotations"],
        ["my plans/mine.toml", "--descriptor", tiny / "dataset.toml", "--annotations", tiny / "annotations.json"],
    ):
        shown += json.loads(
            cli("sweep", "--dry-run", *what, *options(tiny, Path("a store")), "--format", "json", "--threads", 3)[0]
        )
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(shown) == 4 + 4 + 4 + 4
    assert len({cell["run"] for cell in shown}) == 16
    for cell in shown:
        assert replanned(cell["command"]) == cell["run"]
        assert parse(*shlex.split(cell["command"])[1:]).store == tmp_path / "a store"
        assert cell["command"].endswith(" --threads 3")
    assert {(cell["row"], cell["seed"]) for cell in shown[-4:]} == {(r, s) for r in ("plain", "other") for s in (4, 5)}


def test_what_a_plan_lists_can_be_chosen_by_state(cli, tiny: Path, tmp_path: Path) -> None:
    rest = ["methods", "--methods", "acmnet", "whole-video", "--seeds", "0-1", *options(tiny, tmp_path)]
    cells = json.loads(cli("sweep", "--dry-run", *rest, "--format", "json")[0])
    store, runs = Store(tmp_path), [cell["run"] for cell in cells]
    atomic_write(store.run_folder(runs[0]) / RECORD, b"{}")
    atomic_write(store.failure_file(runs[1]), b"{}")
    with store.exclusive(runs[2]):
        states = ["done", "failed", "running", "missing"]
        assert [cell["state"] for cell in json.loads(cli("sweep", "--dry-run", *rest, "--format", "json")[0])] == states
        out, err = cli("sweep", "--dry-run", *rest)
        assert "4 runs on tiny: 1 done, 1 running, 1 failed, 1 missing" in err
        header, _, first, second = (line.split() for line in out.splitlines())
        assert header == ["row", "seed", "0", "seed", "1"]
        assert (first, second) == (["acmnet", *states[:2]], ["whole-video", *states[2:]])
        # a sweep's dry run shows the same and does nothing
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        dry, err = cli("sweep", *rest, "--dry-run")
        assert dry == out
        assert err.endswith("Done: nothing was run\n")
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        cells = json.loads(cli("sweep", *rest, "--dry-run", "--json")[0])["cells"]
        assert [cell["state"] for cell in cells] == states
    # which nobody holds any more, which nobody began
    lines = cli("sweep", "--dry-run", *rest, "--format", "lines", "--only", "missing")[0].splitlines()
    assert [replanned(line) for line in lines] == runs[2:]
    lines = cli("sweep", "--dry-run", *rest, "--format", "lines", "--only", "failed", "missing")[0].splitlines()
    assert [replanned(line) for line in lines] == runs[1:]


def test_rows_that_are_one_run_are_one_command(cli, tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "twice.toml"
    file.write_text(PLAN.replace('"train.weight_decay" = 0.25', '"train.temporal_length" = 16'))
    # --set comes after the row's own options
    rest = [file, "--seeds", "7", *options(tiny, tmp_path / "store")]
    out, err = cli("sweep", "--dry-run", *rest, "--format", "lines")
    assert len(out.splitlines()) == 1
    assert "1 runs on tiny" in err
    assert len(json.loads(cli("sweep", *rest, "--dry-run", "--json")[0])["cells"]) == 2


BAD_PLANS = {
    "no TOML": ("title = ", "not valid TOML"),
    "not text": ("\udcff", "not valid TOML"),
    "a missing field": (PLAN.replace("seeds = [4, 5]\n", ""), "`seeds`: Field required"),
    "an unknown field": (PLAN.replace("[[rows]]", "[[rows]]\ncolour = 1", 1), "`rows.0.colour`"),
    "no rows": (PLAN.partition("[[rows]]")[0] + "rows = []", "`rows`"),
    "no seeds": (PLAN.replace("[4, 5]", "[]"), "`seeds`"),
    "a row's name": (PLAN.replace('"other"', '"a/b"', 1), "`rows.1.id`"),
    "one name twice": (PLAN.replace('"other"', '"plain"', 1), "two rows have one id"),
    "an option": (PLAN.replace("train.weight_decay", "train.weight_decoy"), "did you mean 'weight_decay'"),
    "a value": (PLAN.replace("= 0.25", "= -0.25"), "train.weight_decay"),
    "a method": (PLAN.replace('"acmnet"', '"acmnett"', 1), "did you mean 'acmnet'"),
    "a seed": (PLAN.replace("[4, 5]", "[-1]"), "A seed is a whole number from 0"),
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_a_bad_plan_is_one_message_with_its_file_and_field(tiny: Path, tmp_path: Path, case: str) -> None:
    text, message = BAD_PLANS[case]
    file = tmp_path / "mine.toml"
    file.write_text(text, errors="surrogateescape")
    parsed = parse("sweep", file, *options(tiny, tmp_path / "store"))
    with pytest.raises(UserError) as failed:
        parsed.handle(parsed)
    assert failed.value.exit_code == 2
    assert str(file) in str(failed.value)
    assert message in str(failed.value)
    assert not (tmp_path / "store" / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["IX"], "Unknown table 'IX'"),
        (["none.toml"], "There is no plan none.toml"),
        (["IV", "--methods", "acmnet"], "goes with the plan `methods`"),
        (["methods", "--methods", "acmnett"], "did you mean 'acmnet'"),
        (["methods", "--seeds", "1,1"], "distinct seeds"),
        (["methods", "--scheduler", "tcp://localhost:1"], "go with --engine dask"),
        (["methods", "--engine", "dask", "--scheduler", "a", "--cluster", "b"], "not both"),
        (["methods", "--engine", "dask", "--resources", "gpu=1"], "goes with --scheduler"),
        (["methods", "--engine", "dask", "--scheduler", "a", "--resources", "gpu=none"], "NAME=AMOUNT"),
        (["methods", "--engine", "inline", "--jobs", "2"], "one at a time"),
    ],
)
def test_bad_options_are_named_before_anything_is_done(
    tiny: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    parsed = parse("sweep", *arguments, *options(tiny, tmp_path / "store"))
    with pytest.raises(UserError, match=message) as failed:
        parsed.handle(parsed)
    assert failed.value.exit_code == 2
    assert not (tmp_path / "store" / "runs").exists()


def test_the_command_does_the_runs_and_says_what_is_missing(
    cli, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two real runs, of which one diverges: the other is done, and the exit code is that of a failed run."""
    file = tmp_path / "mine.toml"
    file.write_text(PLAN.replace('"train.weight_decay" = 0.25', '"train.learning_rate" = 1e37'))
    store = Store(tmp_path / "store")
    # the loss is not finite in the second step, if not in the first
    rest = [file, "--seeds", "0", *options(tiny, store.root), "train.batch_size=3", "--threads", "1"]
    rest += ["--engine", "inline", "--json"]
    parsed = parse("sweep", *rest, "--retries", 0)
    with pytest.raises(RunError, match=r"(?s)1 of 2 runs failed:\nother-s0 \(exit 4\): error: The loss.*not finite"):
        parsed.handle(parsed)
    out, err = capsys.readouterr()
    assert [(cell["row"], cell["state"]) for cell in json.loads(out)["cells"]] == [
        ("plain", "done"),
        ("other", "failed"),
    ]
    assert "1 at a time, 1 thread(s) each" in err
    (folder,) = store.finished()
    record = store.find(folder.name)
    assert record is not None
    assert record.environment.threads == 1
    (failure,) = (store.root / "failed").iterdir()
    kept = json.loads(failure.read_text())
    assert replanned(kept["command"]) == kept["run"]
    assert "not finite" in kept["stderr"]
    assert open_plan(str(file)).row("other").method == "acmnet"

    # what is done already needs no process, of whatever engine
    file.write_text(PLAN.partition('\n[[rows]]\nid = "other"')[0])
    out, err = cli("sweep", *rest)
    assert [cell["state"] for cell in json.loads(out)["cells"]] == ["done"]
    assert "Done: 1 runs" in err
