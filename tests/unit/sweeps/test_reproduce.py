"""The main job: failures, and what is published."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.io.atomic import atomic_write
from harness.io.encoding import pretty_json
from harness.pages.site import publish
from harness.records.store import RECORD, Store
from harness.sweeps.engines import Outcome
from harness.sweeps.jobs import Job
from harness.sweeps.sweep import run_jobs
from tests.helpers.records import make_record
from tests.helpers.sweeps import Pretended, make_job
from wstal.errors import RunError


def jobs_of(count: int) -> list[Job]:
    """Jobs whose cells came about otherwise than the stored runs."""
    recipe_changes = {"schedule": {}, "ablation": None, "overrides": {"train.epochs": 3}}
    return [make_job("acmnet", s, str(make_record(seed=s)["id"]), recipe_changes) for s in range(count)]


def leaving_records(store: Store, code: Callable[[int], int]) -> Pretended:
    def do(seed: int) -> Outcome:
        if code(seed) == 0:
            record = make_record(seed=seed)
            atomic_write(store.begin(record["id"]) / RECORD, pretty_json(record))
            store.finish(record["id"])
        return Outcome(code(seed), "some note\nerror: no room", "here")

    return Pretended(do)


def test_records_come_in_the_order_of_the_jobs_with_their_own_departures(tmp_path: Path) -> None:
    jobs, store = jobs_of(3), Store(tmp_path)
    records = run_jobs(jobs[::-1], store, leaving_records(store, lambda seed: 0))
    assert records == [make_record(seed=seed) | jobs[seed].recipe_changes for seed in (2, 1, 0)]


def test_a_failure_is_told_with_its_message_after_the_others_are_done(tmp_path: Path) -> None:
    store = Store(tmp_path)
    engine = leaving_records(store, lambda seed: 4 if seed < 2 else 0)
    with pytest.raises(
        RunError, match=r"2 of 3 runs failed:\nacmnet-s0 \(exit 4\): error: no room\nacmnet-s1"
    ) as failed:
        run_jobs(jobs_of(3), store, engine)
    assert "some note" not in str(failed.value)
    assert engine.seen == {0: 1, 1: 1, 2: 1}
    assert len(store.finished()) == 1


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
