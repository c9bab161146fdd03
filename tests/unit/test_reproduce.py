"""The main job's processes: long records, failures, what is published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import reproduce
from harness.reproduce import Job, publish, run_jobs
from tests.records import make_record
from wstal.errors import RunError


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Let every job run a shell script in place of the harness."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(reproduce.sys, "executable", str(program))


def test_a_record_longer_than_any_pipe_comes_through(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text(json.dumps({"run": "somewhere", "long": "x" * 1_000_000}))
    pretend(monkeypatch, tmp_path, f"cat {tmp_path}/out.json; echo 'run-1 train 3/3 loss 1' >&2")
    assert run_jobs([Job("a", ()), Job("b", ())], 2, 1) == [{"long": "x" * 1_000_000}] * 2


def test_a_failure_is_told_with_its_message_after_the_others_are_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, "echo some note >&2; echo 'error: no room' >&2; exit 4")
    with pytest.raises(RunError, match=r"2 of 2 runs failed:\na \(exit 4\): error: no room\nb") as failed:
        run_jobs([Job("a", ()), Job("b", ())], 1, 1)
    assert "some note" not in str(failed.value)


def test_publishing_the_same_numbers_again_keeps_the_stored_record(tmp_path: Path) -> None:
    results, first = tmp_path / "results", make_record()
    (page,) = publish([first], results)
    stored = results / "records" / "data" / f"{first['id']}.json"
    before = stored.read_bytes()
    again = first | {"environment": first["environment"] | {"cpu": "another"}}
    publish([again], results)
    assert stored.read_bytes() == before
    publish([first | {"overrides": {"train.epochs": 7}}], results)
    assert json.loads(stored.read_text())["overrides"] == {"train.epochs": 7}
    assert "train.epochs=7" in page.read_text()
