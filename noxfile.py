"""Thin sessions: each sets up its environment once and makes one call."""

import nox

nox.needs_version = ">=2024.4"
# torch's pinned build is found by pip, so environments are virtualenv's and installs are pip's
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "tests"]


def install(session: nox.Session, extras: str = "") -> None:
    """Install the package in place with pinned versions."""
    session.install("-c", "constraints.txt", "-e", f".{extras}")


def reproduce(session: nox.Session, dataset: str) -> None:
    """Train, score and rank every method on a data set; options after `--` go to `wstal-bench reproduce`."""
    install(session)
    session.run("wstal-bench", "reproduce", dataset, *session.posargs)


@nox.session(name="reproduce-thumos")
def reproduce_thumos(session: nox.Session) -> None:
    """THUMOS14, or without `-- --data DIR` the embedded synthetic data set (the main job)."""
    reproduce(session, "thumos14")


@nox.session(name="reproduce-activitynet")
def reproduce_activitynet(session: nox.Session) -> None:
    """ActivityNet 1.3; needs `-- --data DIR`."""
    reproduce(session, "activitynet13")


@nox.session(name="reproduce-fineaction")
def reproduce_fineaction(session: nox.Session) -> None:
    """FineAction; needs `-- --data DIR`."""
    reproduce(session, "fineaction")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, fast ones first; options after `--` go to pytest."""
    install(session, "[tests,dask]")
    session.run("pytest", "-n", "auto", "--benchmark-disable", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def stress(session: nox.Session) -> None:
    """Kills, faults, mutated input and scale, for an hour or so; options after `--` go to pytest."""
    install(session, "[tests,dask]")
    command = ("pytest", "--benchmark-disable", "-m", "stress", "tests/stress")
    session.run(*command, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting, lint and strict types."""
    install(session, "[lint]")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks: ratios against plain references, measured in one run."""
    install(session, "[tests]")
    # as the main job sets it for its runs
    keep_memory = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}
    session.run("pytest", "--benchmark-only", *session.posargs, env=keep_memory)


@nox.session
def leaderboard(session: nox.Session) -> None:
    """Render results/leaderboards from results/records; `-- --check` fails when a page is out of date."""
    install(session)
    session.run("wstal-bench", "leaderboard", *session.posargs)
