"""Engine on Dask: processes of this machine, a running scheduler, or jobs of a batch system.

Dask carries a run's request to a worker and its outcome back; the numbers stay in the store, which every worker must
reach by the same path. A worker starts each run as a process of its own. If the worker dies, Dask gives the run to
another, which goes on from its last checkpoint.

Whoever reaches a Dask scheduler or worker can run code as its user. The local cluster listens on loopback alone. On a
network that others share, use TLS: `tls = true` in a cluster file makes certificates for one sweep; for a scheduler of
your own, start it and its workers with `--tls-ca-file`, `--tls-cert` and `--tls-key`, name the same files in Dask's
configuration (`distributed.comm.tls`), and give its address as `tls://HOST:PORT`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from harness.io.console import OnProgress
from harness.io.interrupts import unreached_by_ctrl_c
from harness.io.reading import read_toml
from harness.io.text import problems
from harness.runs.request import RunRequest
from harness.sweeps.engines import Engine, Outcome, run_process
from wstal.errors import RunError, UserError
from wstal.spec import Count, Spec

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.cluster import Cluster

INSTALL = "Install it: `pip install wstal-bench[dask]`."
CLASSES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}
CORES, GPU = "cores", "gpu"
CONNECT_SECONDS = 30


class Resources(Spec):
    """Resources of a worker besides cores."""

    gpu: Annotated[int, Field(strict=True, ge=0, le=1)] = Field(0, description="GPUs; for more, start more workers")


class ClusterFile(Spec):
    """Workers of a batch system; what is not stated comes from Dask's own `jobqueue.yaml`, if there is one."""

    kind: Literal["slurm", "pbs", "lsf", "sge"]
    cores: Count = Field(description="CPU cores of a worker, which is one job of the batch system")
    memory: str = Field(pattern=r"^\d+ ?[MGT]i?B$", description="of a worker, for example 16GB")
    walltime: str | None = Field(None, description="of a worker, as the batch system writes it")
    queue: str | None = Field(None, description="or partition")
    workers: Count = Field(1, description="jobs to submit")
    resources: Resources = Field(Resources(), description="what a worker has besides cores: { gpu = 1 }")
    runs_per_gpu: Count = Field(1, description="runs that share a GPU")
    directives: tuple[str, ...] = Field((), description="more lines of the job's head, for example --gres=gpu:1")
    prologue: tuple[str, ...] = Field((), description="shell lines before the worker starts, for example module load")
    interface: str | None = Field(None, description="network interface that scheduler and workers talk over, as ib0")
    tls: bool = Field(False, description="encrypt with certificates made for this sweep")
    shared_folder: str | None = Field(None, description="where workers find these certificates; needed with tls")

    @model_validator(mode="after")
    def _consistent(self) -> ClusterFile:
        if self.tls and self.shared_folder is None:
            raise ValueError("tls needs shared_folder, which workers can read and others cannot")
        return self

    @property
    def has(self) -> dict[str, int]:
        """Resources that a worker tells Dask of; a GPU counts once per run, so that shares are whole numbers."""
        return {CORES: self.cores} | ({GPU: self.runs_per_gpu} if self.resources.gpu else {})

    def share(self, threads: int) -> dict[str, int]:
        """Return what one run takes of a worker."""
        return {CORES: threads} | ({GPU: 1} if self.resources.gpu else {})

    def at_once(self, threads: int) -> int:
        """Return the number of runs that a worker does at once."""
        return min(self.has[name] // amount for name, amount in self.share(threads).items())


class DaskEngine(Engine):
    """Engine on a Dask cluster, which it ends if it has started it; the functions below make one.

    Args:
        client: connected to the scheduler.
        threads: CPU threads of each run.
        share: what each run takes of its worker's resources.
        slots: runs at once; 0 for one per thread of the workers that are there.
        opened: closed at the end.
    """

    def __init__(self, client: Client, threads: int, share: Mapping[str, float], slots: int, opened: ExitStack) -> None:
        from distributed.scheduler import KilledWorker

        super().__init__(threads, slots)
        self.losses = (OSError, KilledWorker, CancelledError)
        self.client = client
        self._opened = opened
        # not pure: a run that failed is to be done again, not remembered
        self._executor = client.get_executor(pure=False, resources=dict(share))

    @property
    def slots(self) -> int:
        """Runs that can go on at once, now.

        Raises:
            RunError: the scheduler went away.
        """
        if self._slots:
            return self._slots
        try:
            return sum(self.client.nthreads().values())
        except OSError as error:
            raise RunError(
                f"The Dask scheduler went away ({error}). Start it again; the same command goes on."
            ) from error

    def submit(self, request: RunRequest, on_progress: OnProgress) -> Future[Outcome]:
        """Give a run to a worker; its progress stays there."""
        future: Future[Outcome] = self._executor.submit(run_process, request)
        return future

    def close(self) -> None:
        """Give back the workers."""
        self._opened.close()


def local(threads: int, slots: int) -> DaskEngine:
    """Start worker processes on this machine, on loopback.

    Args:
        threads: CPU threads of each run.
        slots: workers, each with one run at a time.

    Raises:
        UserError: Dask is not installed.
    """
    _need("distributed")
    from multiprocessing import resource_tracker

    from distributed import LocalCluster

    def start() -> Cluster:
        # the runs, which take the memory, are not in the worker: a limit on it would mean nothing
        resource_tracker.ensure_running()  # which unblocks signals where it starts
        with unreached_by_ctrl_c():  # the workers end with this process
            return LocalCluster(
                n_workers=slots, threads_per_worker=1, processes=True, host="127.0.0.1", memory_limit=None,
                dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL,
            )  # fmt: skip

    return _open(start, threads, {}, slots)


def connect(address: str, threads: int, share: Mapping[str, float]) -> DaskEngine:
    """Connect to the workers of a running scheduler.

    Args:
        address: as `tcp://HOST:8786` or `tls://HOST:8786`.
        threads: CPU threads of each run.
        share: what each run takes of its worker's `--resources`.

    Raises:
        UserError: Dask is not installed, or the address is no address.
        RunError: no scheduler answers there.
    """
    _need("distributed")
    from distributed import Client

    with ExitStack() as opened:
        try:
            client = opened.enter_context(Client(address, timeout=CONNECT_SECONDS))
        except OSError as error:
            raise RunError(
                f"No Dask scheduler answers at {address}: {error}. Start it, or correct --scheduler."
            ) from error
        except (ValueError, TypeError) as error:
            raise UserError(
                f"--scheduler {address}: {error}. Give it as tcp://HOST:PORT or tls://HOST:PORT."
            ) from error
        return DaskEngine(client, threads, share, 0, opened.pop_all())
    raise AssertionError  # no context above swallows an exception


def submit_workers(file: ClusterFile, threads: int) -> DaskEngine:
    """Submit workers to a batch system; the scheduler runs in this process, which must stay until the end.

    Args:
        file: what to ask for.
        threads: CPU threads of each run.

    Raises:
        UserError: Dask is not installed, the batch system takes no such request, or a run has more threads than a
            worker has cores.
        RunError: the scheduler cannot be started, or the batch system's command fails.
    """
    _need("distributed", "dask_jobqueue")
    if not file.at_once(threads):
        raise UserError(f"A worker has {file.cores} cores, a run {threads} threads. Give more cores, or --threads.")
    return _open(
        lambda: job_cluster(file), threads, file.share(threads), file.at_once(threads) * file.workers, file.workers
    )


def job_cluster(file: ClusterFile) -> Cluster:
    """Return the batch system's Dask cluster, without a worker yet.

    Raises:
        UserError: the batch system takes no such request.
    """
    import dask_jobqueue

    stated: dict[str, Any] = {
        "walltime": file.walltime,
        "queue": file.queue,
        "interface": file.interface,
        "job_extra_directives": list(file.directives) or None,
        "job_script_prologue": list(file.prologue) or None,
        "security": file.tls or None,
        "shared_temp_directory": file.shared_folder,
    }
    try:
        cluster: Cluster = getattr(dask_jobqueue, CLASSES[file.kind])(
            cores=file.cores, memory=file.memory, processes=1,
            worker_extra_args=["--resources", ",".join(f"{name}={amount}" for name, amount in file.has.items())],
            scheduler_options={"dashboard": False, "dashboard_address": None}, **stated,
        )  # fmt: skip
    except (ValueError, ImportError) as error:
        raise UserError(f"The cluster file asks for what the batch system does not take: {error}.") from error
    return cluster


def read_cluster(path: Path) -> ClusterFile:
    """Read a cluster file.

    Raises:
        UserError: it cannot be read, is not TOML, lacks a key, or has one that is unknown or does not fit.
    """
    try:
        return ClusterFile.model_validate(read_toml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {problems(error)}. `wstal-bench sweep --help` shows an example.") from error


def _open(
    start: Callable[[], Cluster], threads: int, share: Mapping[str, float], slots: int, workers: int = 0
) -> DaskEngine:
    """Return an engine on a cluster that is started for it, with `workers` more asked for."""
    from distributed import Client

    with ExitStack() as opened:
        try:
            cluster = opened.enter_context(start())
            if workers:
                cluster.scale(workers)
            client = opened.enter_context(Client(cluster))
        except (OSError, RuntimeError) as error:
            raise RunError(f"The Dask cluster cannot be started: {error}.") from error
        return DaskEngine(client, threads, share, slots, opened.pop_all())
    raise AssertionError  # no context above swallows an exception


def _need(*modules: str) -> None:
    for module in modules:
        if find_spec(module) is None:
            raise UserError(f"The Dask engine needs {module.replace('_', '-')}, which is not installed. {INSTALL}")
