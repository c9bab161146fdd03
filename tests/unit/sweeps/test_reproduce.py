"""The main job: failures, and what is published."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.io.atomic import atomic_write
from harness.io.encoding import pretty_json
from harness.pages.site import publish
from harness.records.files import RECORD
from harness.records.reading import list_records
from harness.records.store import Store
from harness.sweeps.engines import Outcome
from harness.sweeps.jobs import Job
from harness.sweeps.sweep import run_jobs
from tests.helpers.records import as_record, make_record
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
    assert records == [as_record(make_record(seed=seed) | jobs[seed].recipe_changes) for seed in (2, 1, 0)]


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
    (page,) = publish([as_record(first)], results)
    stored = results / "records" / "data" / "acmnet.jsonl"
    before = stored.read_bytes()
    again = first | {"environment": first["environment"] | {"cpu": "another"}}
    publish([as_record(again)], results)
    assert stored.read_bytes() == before
    publish([as_record(first | {"overrides": {"train.learning_rate": 0.5}})], results)
    assert json.loads(stored.read_text())["overrides"] == {"train.learning_rate": 0.5}
    assert "learning_rate=0.5" in page.read_text()
    assert sorted(path.name for path in results.iterdir()) == ["leaderboards", "records", "report.html"]


def test_two_processes_that_publish_lose_no_record(tmp_path: Path) -> None:
    """Each reads, adds its own and writes the whole file: without a lock the last one would drop the others' lines."""
    code = (
        "import sys; from pathlib import Path; from harness.pages import site;"
        "from tests.helpers.records import as_record, make_record;"
        "site.render = lambda results: {};"
        "[site.publish([as_record(make_record(seed=10 * int(sys.argv[2]) + n))], Path(sys.argv[1])) for n in range(5)]"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(number)]) for number in range(3)]
    assert [process.wait(120) for process in started] == [0, 0, 0]
    records, refused = list_records(tmp_path / "records", ranked=True)
    assert sorted(record.seed for record in records) == [10 * number + n for number in range(3) for n in range(5)]
    assert not refused


def test_publishing_into_a_folder_of_one_file_a_record_collects_it_first(tmp_path: Path) -> None:
    old = tmp_path / "records" / "data" / "old.json"
    atomic_write(old, pretty_json(make_record(seed=1)))
    publish([as_record(make_record(seed=0)), as_record(make_record(seed=1))], tmp_path)
    assert [path.name for path in old.parent.iterdir()] == ["acmnet.jsonl"]
    assert sorted(record.seed for record in list_records(tmp_path / "records", ranked=True)[0]) == [0, 1]
