"""Thin sessions: each sets up its environment once and makes one call."""

import os
from collections.abc import Sequence

import nox

nox.needs_version = ">=2024.4"
# torch's pinned build is found by pip, so environments are virtualenv's and installs are pip's
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "tests"]


def install(session: nox.Session, extras: str = "") -> None:
    """Install the package in place with pinned versions."""
    session.install("-c", "constraints.txt", "-e", f".{extras}")


def reproduced(session: nox.Session, *dataset: str) -> None:
    """Train, score and rank every method on a data set; options after `--` go to `wstal-bench reproduce`."""
    install(session)
    session.run("wstal-bench", "reproduce", *dataset, *session.posargs)


@nox.session(name="reproduce-thumos")
def reproduce_thumos(session: nox.Session) -> None:
    """THUMOS14, or without `-- --data DIR` the embedded synthetic data set (the main job)."""
    reproduced(session, "thumos14")


@nox.session(name="reproduce-activitynet")
def reproduce_activitynet(session: nox.Session) -> None:
    """ActivityNet 1.3, or without `-- --data DIR` the methods of Table II on a synthetic data set like it."""
    reproduced(session, "activitynet13")


@nox.session(name="reproduce-fineaction")
def reproduce_fineaction(session: nox.Session) -> None:
    """FineAction, or without `-- --data DIR` the methods of Table III on a synthetic data set like it."""
    reproduced(session, "fineaction")


@nox.session
def reproduce(session: nox.Session) -> None:
    """Any data set, your own too: `-- --data DIR`."""
    reproduced(session)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, fast ones first; options after `--` go to pytest."""
    install(session, "[tests,dask,video,h5]")
    # worksteal hands out runs of neighbours, which share their module's fixtures
    command = ("pytest", "-n", "auto", "--dist", "worksteal", "--benchmark-disable")
    session.run(*command, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def stress(session: nox.Session) -> None:
    """Kills, faults, mutated input and scale, for an hour or so; options after `--` go to pytest."""
    install(session, "[tests,dask]")
    command = ("pytest", "--benchmark-disable", "-m", "stress", "tests/stress")
    session.run(*command, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check formatting, lint, strict types, and that no room imports one above it."""
    # with what the tests import, whose types are checked too
    install(session, "[lint,tests]")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports")


def bench_options(given: Sequence[str], hardware: str) -> list[str]:
    """pytest's options for `nox -s bench -- GIVEN`.

    Args:
        given: `--all`, `--compare` and pytest's own; with any of these it is a part that runs, and is not saved.
        hardware: this machine's name in file names.
    """
    own = [option for option in given if option not in ("--all", "--compare")]
    options = [] if "--all" in given else ["-m", "not full_size"]
    options.append(f"--benchmark-storage=results/benchmarks/{hardware}")
    options += own or [f"--benchmark-save={hardware}"]
    # last: it would take a word that follows it for the name of a run
    return [*options, "--benchmark-compare"] if "--compare" in given else options


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks, saved under results/benchmarks; after `--`: `--compare` with the last here, `--all` at full size."""
    install(session, "[tests]")
    told = session.run("python", "-m", "tests.benchmarks.hardware", silent=True)
    options = bench_options(session.posargs, str(told).strip())
    # glibc as the main job sets it for its runs
    keep_memory = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}
    cores = {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    session.run("pytest", "tests/benchmarks", "--benchmark-only", *options, env=keep_memory | cores)


@nox.session
def leaderboard(session: nox.Session) -> None:
    """Render results/leaderboards and what README and docs/ quote; `-- --check` only compares."""
    install(session)
    session.run("wstal-bench", "leaderboard", *session.posargs)
