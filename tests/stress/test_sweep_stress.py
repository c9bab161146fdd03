"""Sweeps under fire: kills of any process at any step, two sweeps on one store, three engines, a batch system."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.records.cleanup import collect
from harness.records.store import Store
from tests.helpers.small_data import write_tiny
from tests.stress.report import report

pytestmark = pytest.mark.stress

ROOT = Path(__file__).parents[2]
METHODS, EPOCHS = ("acmnet", "wtalc", "rmgcl-gksa"), 12
OPTIONS = [f"train.epochs={EPOCHS}", "train.temporal_length=32", "train.batch_size=3", "train.learning_rate=1e-3"]
KILLS = int(os.environ.get("WSTAL_KILLS", "50"))
PATIENCE = 1800  # seconds that nothing takes
# at interpreter start: a checkpoint after each epoch in place of each half minute
FREQUENT = """
import functools, sys
if {"harness.runs.worker", "harness.sweeps.fork_server"} & set(sys.orig_argv):
    import harness.runs.execute
    harness.runs.execute.train = functools.partial(harness.runs.execute.train, checkpoint_seconds=0)
"""
# takes the script of a job and runs it, as the batch system would
SBATCH = """#!/bin/sh
cp "$1" "{0}/job-$$.sh"
setsid sh "{0}/job-$$.sh" > "{0}/job-$$.log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = "#!/bin/sh\nkill -- $(for job in $@; do echo -$job; done)\n"
CLUSTER = """
kind = "slurm"
cores = 2
memory = "4GB"
interface = "lo"
workers = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("stress")
    write_tiny(folder / "tiny")
    (folder / "frequent").mkdir()
    (folder / "frequent" / "sitecustomize.py").write_text(FREQUENT)
    yield folder
    for process in ours(folder):
        process.kill()


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> dict[str, bytes]:
    """The files of the twelve runs as one sweep leaves them, with checkpoints as usual."""
    assert start(folder, "undisturbed", frequent=False).wait(PATIENCE) == 0
    return contents(folder / "undisturbed")


def start(
    folder: Path, store: str, *options: str, seeds: str = "0-3", frequent: bool = True, path: str = ""
) -> subprocess.Popen[str]:
    """A sweep in a process group of its own."""
    command = [
        sys.executable, "-m", "harness", "sweep", "methods", "--methods", *METHODS, "--seeds", seeds,
        "--data", str(folder / "tiny"), "--store", str(folder / store), "--threads", "1", "--set", *OPTIONS,
        *(options or ("--jobs", "2")),
    ]  # fmt: skip
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*([str(folder / "frequent")] if frequent else []), str(ROOT)]),
        "PATH": os.pathsep.join(filter(None, [path, os.environ["PATH"]])),
    }
    with open(folder / f"{store}.log", "a") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, text=True, start_new_session=True
        )


def contents(store: Path) -> dict[str, bytes]:
    """The files of the finished runs; the manifest holds times."""
    found = sorted((store / "runs").rglob("*"))
    return {
        str(path.relative_to(store / "runs")): path.read_bytes()
        for path in found
        if path.is_file() and path.name != "manifest.json"
    }


def same(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def ours(folder: Path) -> list[psutil.Process]:
    """Processes that work for this test."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.environ().get("PYTHONPATH", "")]
            if process.pid != os.getpid() and any(str(folder) in word for word in words):
                found.append(process)
        except psutil.Error:
            continue
    return found


def steps(store: Path, process: subprocess.Popen[str], most: int) -> int:
    """Watch the store until its files changed so many times or the sweep ended; how often they did."""
    seen, count = None, -1
    while count < most and process.poll() is None:
        now = sorted(entry for part in ("partial", "runs") for entry in listed(store / part))
        count, seen = count + (now != seen), now
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    return count


def listed(folder: Path) -> list[tuple[str, int]]:
    """Path and inode of each file of the runs."""
    found = []
    for run in folder.iterdir() if folder.is_dir() else ():
        try:
            found += [(entry.path, entry.inode()) for entry in os.scandir(run)]
        except OSError:
            continue  # moved meanwhile
    return found


def children(process: subprocess.Popen[str], what: str) -> list[psutil.Process]:
    """The runs that a sweep has started, their watchers, or the server that forks them."""
    try:
        servers = [
            child for child in psutil.Process(process.pid).children() if "harness.sweeps.fork_server" in child.cmdline()
        ]
        watchers = [watcher for server in servers for watcher in server.children()]
        runs = [run for watcher in watchers for run in watcher.children()]
    except psutil.Error:
        return []
    return {"server": servers, "watcher": watchers, "run": runs}[what]


def kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def test_fifty_kills_leave_the_same_twelve_runs(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """Of the whole group, of the sweep alone (its runs end with it), of one run, which is tried again, or of
    the processes that watch and fork runs.
    """
    draw = random.Random(0)
    store = folder / "killed"
    kills: dict[str, int] = dict.fromkeys(("group", "sweep", "run", "watcher", "server"), 0)
    process = start(folder, "killed", "--jobs", "2", "--retries", "100")
    while sum(kills.values()) < KILLS:
        # a run changes its files some fifty times: the twelve are not over before the last kill
        steps(store, process, draw.randint(0, 5))
        what = draw.choice(list(kills))
        if process.poll() is not None:
            assert process.returncode == 0
            break
        if what in ("run", "watcher", "server"):
            if not (going := children(process, what)):
                continue
            kill(draw.choice(going))
        else:
            if what == "group":
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
            process = start(folder, "killed", "--jobs", "2", "--retries", "100")
        kills[what] += 1
    assert process.wait(PATIENCE) == 0
    assert sum(kills.values()) == KILLS
    psutil.wait_procs(ours(folder), timeout=PATIENCE)
    assert ours(folder) == []

    collect(Store(store))
    same(contents(store), undisturbed)
    left = {path.relative_to(store).parts[0] for path in store.rglob("*") if path.is_file()}
    assert left == {"runs", "cache"}
    assert not list(store.rglob(".*.tmp"))
    assert not list((store / "partial").iterdir())
    report(
        f"{KILLS} random SIGKILLs over a sweep of 12 runs "
        f"({kills['group']} of all its processes, {kills['sweep']} of the sweep alone, {kills['run']} of a run, "
        f"{kills['watcher']} of the process that waits for a run, {kills['server']} of the fork server)",
        f"12 of 12 runs, {len(undisturbed)} files bitwise equal to undisturbed ones; nothing left after `records gc`",
        "nox -s stress -- tests/stress/test_sweep_stress.py -k fifty_kills",
    )


def test_two_sweeps_on_one_store_do_each_run_once(folder: Path, undisturbed: dict[str, bytes]) -> None:
    store = "shared"
    both = [start(folder, store, "--jobs", "1", seeds="0-1") for _ in range(2)]
    assert [process.wait(PATIENCE) for process in both] == [0, 0]
    expected = {name: data for name, data in undisturbed.items() if "-s0-" in name or "-s1-" in name}
    same(contents(folder / store), expected)
    said = (folder / f"{store}.log").read_text().splitlines()
    trained = sorted(line.split()[0] for line in said if f" {EPOCHS}/{EPOCHS} " in line)
    assert trained == sorted(f"{method}-s{seed}" for method in METHODS for seed in (0, 1))
    report(
        "two sweeps at once on one store of 6 runs",
        "each run trained once; bitwise equal to those of one sweep",
        "nox -s stress -- tests/stress/test_sweep_stress.py -k two_sweeps",
    )


@pytest.mark.parametrize("engine", ["inline", "dask"])
def test_every_engine_gives_the_same_bits(folder: Path, undisturbed: dict[str, bytes], engine: str) -> None:
    """`undisturbed` was made by processes."""
    if engine == "dask":
        pytest.importorskip("distributed")
    options = ("--engine", engine, *(("--jobs", "2") if engine == "dask" else ()))
    assert start(folder, engine, *options, seeds="2").wait(PATIENCE) == 0
    same(contents(folder / engine), {name: data for name, data in undisturbed.items() if "-s2-" in name})
    report(
        f"engine {engine} against processes, {len(METHODS)} runs",
        "bitwise equal",
        f"nox -s stress -- tests/stress/test_sweep_stress.py -k 'every_engine and {engine}'",
    )


def test_a_killed_dask_worker_s_run_is_done_by_another(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """As when a node goes down: the worker and its run die together, after the run's first checkpoint."""
    pytest.importorskip("distributed")
    store = folder / "workers"
    process = start(folder, "workers", "--engine", "dask", "--jobs", "2", seeds="3")
    killed: set[str] = set()
    while len(killed) < 2:
        assert process.poll() is None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
        for run in children(process, "run"):
            try:
                method = run.cmdline()[run.cmdline().index("--method") + 1]
                checkpoints = list(store.glob(f"partial/tiny-{method}-*/checkpoint-*.json"))
                if method not in killed and checkpoints:
                    worker = run.parent()
                    assert worker is not None
                    assert "--multiprocessing-fork" in worker.cmdline()
                    kill(worker)
                    kill(run)
                    killed.add(method)
            except psutil.NoSuchProcess:
                continue
    assert process.wait(PATIENCE) == 0
    same(contents(store), {name: data for name, data in undisturbed.items() if "-s3-" in name})
    report(
        "Dask LocalCluster, 2 workers killed mid-run",
        f"{len(METHODS)} of {len(METHODS)} runs, bitwise equal to undisturbed ones",
        "nox -s stress -- tests/stress/test_sweep_stress.py -k dask_worker",
    )


def test_a_batch_system_s_workers_do_the_runs(folder: Path, undisturbed: dict[str, bytes]) -> None:
    """Through `sbatch`, here a script that starts the job's script on this machine."""
    pytest.importorskip("dask_jobqueue")
    programs = folder / "programs"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH.format(programs)), ("scancel", SCANCEL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (folder / "cluster.toml").write_text(CLUSTER)
    options = ("--engine", "dask", "--cluster", str(folder / "cluster.toml"))
    assert start(folder, "batch", *options, seeds="1", path=str(programs)).wait(PATIENCE) == 0
    same(contents(folder / "batch"), {name: data for name, data in undisturbed.items() if "-s1-" in name})
    (script,) = programs.glob("job-*.sh")
    assert "#SBATCH --cpus-per-task=2" in script.read_text()
