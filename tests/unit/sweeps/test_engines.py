"""Engines: what a run's process gets and says, how many go at once, and what a batch system is asked for."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.runs.process_environment import THREADS
from harness.runs.request import RunRequest
from harness.sweeps import dask_engine, engines
from harness.sweeps.dask_engine import ClusterFile, connect, job_cluster, local, read_cluster, submit_workers
from harness.sweeps.engines import Engine, Inline, Outcome, Processes, run_process
from wstal.errors import RunError, UserError


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Let every run be a shell script in place of the harness."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def requested(method: str = "acmnet", threads: int = 1, **changes: Any) -> RunRequest:
    return RunRequest(method=method, threads=threads, **changes)


def done(engine: Engine, method: str = "acmnet", **changes: Any) -> Future[Outcome]:
    return engine.submit(requested(method, **changes), lambda stage, done, total, note: None)


@pytest.fixture
def torn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Surroundings that must not decide a run's bits, as a Dask worker's."""
    for name in (*THREADS, "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.setenv(name, "7")


def test_a_run_gets_its_request_and_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, torn: None) -> None:
    pretend(monkeypatch, tmp_path, f'echo "$@" > {tmp_path}/got; env >> {tmp_path}/got')
    request = requested("a b", threads=3)
    assert run_process(request).code == 0
    got = (tmp_path / "got").read_text().splitlines()
    assert got[0] == f"-m harness.runs.worker {request.to_json()}"
    assert RunRequest.from_json(request.to_json()) == request
    assert {"OMP_NUM_THREADS=3", "MKL_NUM_THREADS=3", "OPENBLAS_NUM_THREADS=3"} <= set(got)
    assert "CUBLAS_WORKSPACE_CONFIG=:4096:8" in got
    assert {"MALLOC_TRIM_THRESHOLD_=100000000000", "MALLOC_MMAP_MAX_=0"} <= set(got)


def test_progress_is_reported_and_everything_else_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = "for i in $(seq 1000); do echo line $i >&2; done"
    words = "echo 'run-1 train 2/3 loss 1.5' >&2; echo 'run-1 score 1/9' >&2; printf '\\377 odd\\nerror: no room' >&2"
    # more on stdout than any pipe holds
    pretend(monkeypatch, tmp_path, f"head -c 1000000 /dev/zero; {long}; {words}; exit 4")
    reported: list[tuple[str, int, int, str]] = []
    outcome = run_process(requested(), lambda *step: reported.append(step))
    assert reported == [("train", 2, 3, "loss 1.5"), ("score", 1, 9, "")]
    lines = outcome.stderr_tail.splitlines()
    assert lines[-3:] == ["line 1000", "\ufffd odd", "error: no room"]
    assert len(lines) == engines.KEPT_LINES
    assert outcome.code == 4
    assert outcome.summary == "(exit 4): error: no room"


def test_an_end_by_a_signal_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "echo some note >&2; kill -9 $$")
    assert run_process(requested()).summary == "(killed by signal 9): some note"
    assert Outcome(None, "error: gone", "").summary == "(lost): error: gone"


def test_inline_does_one_after_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, f"echo start >> {tmp_path}/log; echo end >> {tmp_path}/log")
    with Inline(threads=2) as engine:
        assert engine.slots == 1
        futures = [done(engine, "a"), done(engine, "b")]
        assert all(future.done() for future in futures)
    assert (tmp_path / "log").read_text().split() == ["start", "end"] * 2


def test_processes_do_several_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each of two runs ends only when the other has begun."""
    pretend(
        monkeypatch,
        tmp_path,
        f"case $3 in *first*) me=a you=b;; *) me=b you=a;; esac\n"
        f"touch {tmp_path}/$me; while [ ! -e {tmp_path}/$you ]; do sleep 0.01; done",
    )
    with Processes(threads=1, slots=2) as engine:
        assert engine.slots == 2
        futures = [done(engine, "first"), done(engine, "second")]
        assert [future.result(60).code for future in futures] == [0, 0]


@pytest.mark.parametrize("engine", [Inline(1), Processes(1, 1)], ids=["inline", "processes"])
def test_a_process_that_cannot_be_started_is_a_loss(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: Engine
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with engine, pytest.raises(engine.losses):
        done(engine).result()


def test_a_local_dask_cluster_does_a_run_and_listens_on_loopback_alone(torn: None) -> None:
    pytest.importorskip("distributed")
    with local(threads=1, slots=1) as engine:
        me = psutil.Process()
        listening = [
            connection.laddr.ip
            for process in (me, *me.children(recursive=True))
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening
        assert set(listening) == {"127.0.0.1"}
        assert engine.slots == 1
        outcome = done(engine, "acmnett").result(120)
        assert outcome.code == 2
        assert "did you mean 'acmnet'" in outcome.summary
    assert not [child for child in me.children() if "--multiprocessing-fork" in child.cmdline()]


CLUSTER = """
kind = "slurm"
cores = 8
memory = "16GB"
walltime = "01:00:00"
queue = "long"
workers = 3
resources = { gpu = 1 }
runs_per_gpu = 2
directives = ["--gres=gpu:1"]
prologue = ["module load cuda"]
interface = "lo"
"""
# what each batch system's manual calls the queue, the time, the cores and a line of the user's
HEADS = {
    "slurm": ["#SBATCH -p long", "#SBATCH -t 01:00:00", "#SBATCH --cpus-per-task=8", "#SBATCH --gres=gpu:1"],
    "pbs": ["#PBS -q long", "#PBS -l walltime=01:00:00", "#PBS -l select=1:ncpus=8:mem=15GB", "#PBS --gres=gpu:1"],
    "lsf": ["#BSUB -q long", "#BSUB -W 01:00:00", "#BSUB -n 8", "#BSUB --gres=gpu:1"],
    "sge": ["#$ -q long", "#$ -l h_rt=01:00:00", "#$ --gres=gpu:1"],
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_batch_system_is_asked_for_what_the_file_says(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "cluster.toml").write_text(CLUSTER.replace('"slurm"', f'"{kind}"'))
    with job_cluster(read_cluster(tmp_path / "cluster.toml")) as cluster:
        script = cluster.job_script().splitlines()
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
    assert set(HEADS[kind]) <= set(script)
    assert "module load cuda" in script
    (worker,) = (line for line in script if "dask_worker" in line)
    assert "--nthreads 8" in worker
    assert "--resources cores=8,gpu=2" in worker
    assert "--interface lo" in worker


def test_workers_of_a_batch_system_talk_tls_if_asked(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    pytest.importorskip("cryptography")
    text = CLUSTER + f'tls = true\nshared_folder = "{tmp_path}"\n'
    (tmp_path / "cluster.toml").write_text(text)
    with job_cluster(read_cluster(tmp_path / "cluster.toml")) as cluster:
        assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
        assert f"--tls-ca-file {tmp_path}" in cluster.job_script()


def test_runs_share_a_worker_by_its_cores_and_its_gpu() -> None:
    gpu = ClusterFile.model_validate(
        {"kind": "slurm", "cores": 8, "memory": "1GB", "resources": {"gpu": 1}, "runs_per_gpu": 3}
    )
    assert gpu.has == {"cores": 8, "gpu": 3}
    assert gpu.share(threads=2) == {"cores": 2, "gpu": 1}
    assert [gpu.at_once(threads) for threads in (1, 2, 4, 8, 9)] == [3, 3, 2, 1, 0]
    none = ClusterFile(kind="slurm", cores=8, memory="1GB")
    assert none.share(threads=3) == {"cores": 3}
    assert none.at_once(threads=3) == 2
    with pytest.raises(UserError, match="8 cores, a run 9 threads"):
        submit_workers(none, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"slurm"', '"cray"'), "`kind`"),
        (('"16GB"', '"much"'), "`memory`"),
        (("cores = 8", "cores = 0"), "`cores`"),
        (("cores = 8", ""), "`cores`: Field required"),
        (("gpu = 1", "gpu = 2"), "`resources.gpu`"),
        (("gpu = 1", "tpu = 1"), "`resources.tpu`"),
        (("queue", "partition"), "`partition`"),
        (('interface = "lo"', "tls = true"), "shared_folder"),
        (("[", "[["), "not valid TOML"),
    ],
)
def test_a_bad_cluster_file_is_one_message_with_its_field(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    (tmp_path / "cluster.toml").write_text(CLUSTER.replace(*change))
    with pytest.raises(UserError) as failed:
        read_cluster(tmp_path / "cluster.toml")
    assert "cluster.toml" in str(failed.value)
    assert message in str(failed.value)


def test_what_a_batch_system_does_not_take_is_one_message(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "cluster.toml").write_text(CLUSTER.replace('"lo"', '"no-such-interface"'))
    with pytest.raises(UserError, match="no-such-interface"):
        submit_workers(read_cluster(tmp_path / "cluster.toml"), 1)


def test_without_dask_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_engine, "find_spec", lambda name: None)
    for start in (
        lambda: local(1, 1),
        lambda: connect("tcp://127.0.0.1:1", 1, {}),
        lambda: submit_workers(ClusterFile(kind="slurm", cores=1, memory="1GB"), 1),
    ):
        with pytest.raises(UserError, match=r"pip install wstal-bench\[dask\]"):
            start()


def test_a_scheduler_that_is_not_there_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_engine, "CONNECT_SECONDS", 1)
    with pytest.raises(RunError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        connect("tcp://127.0.0.1:1", 1, {})
    with pytest.raises(UserError, match="--scheduler nonsense://x"):
        connect("nonsense://x", 1, {})


def test_a_stopped_engine_ends_its_runs_and_those_yet_to_begin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "exec sleep 600")
    with Processes(threads=1, slots=2) as engine:
        first = done(engine)
        while not psutil.Process().children():
            assert not first.done()
        engine.stop()
        assert first.result().code == -9
        assert done(engine).result().code == -9


@pytest.mark.parametrize("engine", [Inline(1), Processes(threads=1, slots=1)])
def test_an_interruption_leaves_no_run(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "echo 'run-1 train 1/9' >&2; exec sleep 600")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def work() -> None:
        with engine:
            engine.submit(requested(), interrupted if isinstance(engine, Inline) else lambda *_: None)
            raise KeyboardInterrupt

    before = set(psutil.Process().children())
    with pytest.raises(KeyboardInterrupt):
        work()
    assert set(psutil.Process().children()) == before
