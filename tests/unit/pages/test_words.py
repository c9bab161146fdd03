"""Sentences that pages share."""

from __future__ import annotations

from harness.records.schema import Record
from harness.records.words import computed_with
from tests.helpers.records import as_record, make_record


def ran(commit: str | None, threads: int = 1) -> Record:
    made = make_record()
    versions = {"wstal-bench": "0.2.0", "python": "3.11", "packages": {"torch": "2.13.0", "numpy": "2.4"}}
    where = {"device": "cpu", "cpu": "X", "threads": threads, "commit": commit}
    return as_record(made | {"environment": made["environment"] | versions | where})


def test_an_environment_is_named_once_with_its_commits() -> None:
    records = [ran("b" * 40), ran("a" * 40), ran("b" * 40), ran(None), ran("c" * 40, threads=2), ran(None, threads=4)]
    title, listed = computed_with(records)
    assert title == "Computed with:"
    common = "- wstal-bench 0.2.0, Python 3.11, torch 2.13.0, numpy 2.4; cpu (X), "
    assert listed.splitlines() == [
        common + "1 thread(s) a run; commits aaaaaaa, bbbbbbb",
        common + "2 thread(s) a run; commit ccccccc",
        common + "4 thread(s) a run",
    ]
