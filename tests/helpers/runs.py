"""Small whole runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.data.opening import open_dataset
from harness.io.console import OnProgress
from harness.records.files import PSEUDO_LABELS
from harness.records.store import Store
from harness.runs.execute import execute
from harness.runs.spec import plan_run
from tests.helpers.faults import Killed, finished

EPOCHS = 8


SIZES = {"train.epochs": EPOCHS, "train.temporal_length": 16, "train.batch_size": 1, "train.learning_rate": 3e-3}


def run(
    data: Path, store: Path, method: str = "acmnet", on_progress: OnProgress = lambda *_: None, **options: Any
) -> Path:
    """Plan and do a run as the command does; its folder."""
    source = open_dataset(data, digest_cache=store / "cache" / "digests.json")
    spec = plan_run(method, 0, source, SIZES | options)
    return execute(spec, source, Store(store), torch.device("cpu"), on_progress)[0]


def check_killed_run(name: str, tiny: Path, tmp_path: Path) -> None:
    """In its seventh epoch, when every memory is filled, and again while it scores; tests/stress has all methods."""
    run(tiny, tmp_path / "a", name)
    for stage, step in (("train", EPOCHS - 1), ("score", 1)):
        with pytest.raises(Killed):
            run(tiny, tmp_path / "b", name, at(stage, step, die))
        assert finished(tmp_path / "b") == {}
    run(tiny, tmp_path / "b", name, at("train", EPOCHS, lambda: pytest.fail("the training was done")))
    expected = finished(tmp_path / "a")
    assert len(expected) == 8 + any(path.endswith(PSEUDO_LABELS) for path in expected)
    assert finished(tmp_path / "b") == expected


def at(stage: str, step: int, act: Callable[[], None]) -> OnProgress:
    """Do something once a stage has come to a step."""

    def on_progress(now: str, done: int, total: int, note: str) -> None:
        if (now, done) == (stage, step):
            act()

    return on_progress


def die() -> None:
    raise Killed
