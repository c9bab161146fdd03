"""Fixtures that every test may use."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# tiny tensors: more threads only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")
# a busy machine is no failure: no example and no strategy is timed
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
# shapes in signatures are checked here, and only here
install_import_hook(["wstal.losses", "wstal.parts", "baselines"], "beartype.beartype")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: their content may be another in each process (a gzip file has its time in it)."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared test data; a test that needs it is skipped, saying so, where it is absent."""
    path = Path(os.environ.get("WSTAL_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (path / "data").is_dir():
        pytest.skip(f"shared test data not found at {path}; set WSTAL_SHARED to its folder")
    return path


@pytest.fixture
def many_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each epoch, and no time for a figure."""
    from harness.runs import execute, training

    monkeypatch.setattr(execute, "train", functools.partial(training.train, checkpoint_seconds=0))
    monkeypatch.setattr(execute, "draw", lambda history, record: b"<svg/>")


@pytest.fixture
def one_thread(many_checkpoints: None) -> Iterator[None]:
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)
