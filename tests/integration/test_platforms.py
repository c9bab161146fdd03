"""Commands on systems that lack what Linux has, simulated by taking it away before the program starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.small_data import write_tiny

# libraries are imported first: they look at what the system really is
WITHOUT = """\
import multiprocessing, os, pathlib, select, signal, sys
import torch
for module in sys.argv.pop(1).split():
    sys.modules[module] = None
import filelock, pandas, rich.console, scipy
for module, names in (
    (os, "sysconf sched_getaffinity sched_setaffinity fork"),
    (select, "poll"),
    (signal, "SIGHUP SIGCHLD SIGALRM alarm setitimer pthread_sigmask"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
exists = pathlib.Path.exists
pathlib.Path.exists = lambda self: not str(self).startswith("/proc") and exists(self)
sys.platform = "darwin"
from harness.__main__ import main
sys.exit(main())
"""
SHORT = ["--set", "train.epochs=1", "train.temporal_length=16", "train.batch_size=2"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), train=4, test=2)


def without(modules: str, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, modules, *map(str, words)],
        capture_output=True, text=True, env=os.environ | environment, check=False,
    )  # fmt: skip


def test_without_what_only_linux_has_runs_and_sweeps_are_done(tiny: Path, tmp_path: Path) -> None:
    run = ["run", "--method", "whole-video", "--data", tiny, "--store", tmp_path, *SHORT[:2]]
    done = without("resource", *run)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    sweep = ["sweep", "methods", "--methods", "acmnet", "--seeds", "0", "--data", tiny, "--store", tmp_path, *SHORT]
    done = without("resource", *sweep)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert len(list(tmp_path.glob("runs/*/record.json"))) == 2


def test_without_locks_a_store_is_refused_and_data_are_checked(tiny: Path, tmp_path: Path) -> None:
    done = without("fcntl resource", "run", "--method", "whole-video", "--data", tiny, "--store", tmp_path, *SHORT[:2])
    assert done.returncode == 4, done.stderr
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "no `fcntl`" in error
    assert "Linux or macOS" in error
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/*"))
    done = without("fcntl resource", "data", "verify", tiny)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, f"Done: {tiny}: all is well"), done.stderr
