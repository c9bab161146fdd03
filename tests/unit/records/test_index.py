"""The index of a store's records: the same answer as without it, and nothing is read twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.io.encoding import pretty_json
from harness.records import index
from harness.records.index import list_outlines
from harness.records.query import COLUMNS, select
from harness.records.reading import list_records, read_record
from harness.records.store import RECORD
from tests.helpers.records import make_record

ROW = {"schedule": {}, "row": {"method.gks": False}}


def put(store: Path, record: dict[str, Any], folder: str | None = None) -> Path:
    path = store / "runs" / (folder or record["id"]) / RECORD
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pretty_json(record))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for record in (
        make_record(seed=1, value=30.0),
        make_record(method="rmgcl-gksa", ablation=ROW, overrides={"train.epochs": 9}),
        make_record(seed=0),
    ):
        put(tmp_path, record)
    return tmp_path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The records that were read."""
    seen: list[Path] = []

    def counted(path: Path) -> dict[str, Any]:
        seen.append(path)
        return read_record(path)

    monkeypatch.setattr(index, "read_record", counted)
    return seen


def answers(store: Path) -> tuple[Any, Any]:
    """With the index, and from the records themselves."""
    (outlines, refused), (records, refused_too) = list_outlines(store), list_records(store / "runs")
    tests: list[list[str]] = [
        [], ["method=acmnet"], ["seed=0", "data=data"], ["mean=26"], ["row="], ["overrides=train.epochs=9"],
    ]  # fmt: skip
    return (
        [[select(outlines, where) for where in tests], refused],
        [[select(records, where) for where in tests], refused_too],
    )


def test_the_answer_is_that_of_the_records(store: Path, read: list[Path]) -> None:
    first, truth = answers(store)
    assert first == truth
    assert len(read) == 3
    assert answers(store) == (truth, truth)
    assert len(read) == 3
    assert {name for row in select(list_outlines(store)[0]) for name in row} == set(COLUMNS)


def test_what_changed_is_read_again_and_what_went_is_forgotten(store: Path, read: list[Path]) -> None:
    list_outlines(store)
    changed = make_record(seed=0)
    path = store / "runs" / changed["id"] / RECORD
    before = path.stat()
    # as long as before and as old
    path.write_bytes(pretty_json(changed | {"overrides": {}, "title": "ACMNAT"}))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    put(store, make_record(seed=2))
    gone = store / "runs" / make_record(seed=1, value=30.0)["id"]
    (gone / RECORD).unlink()
    gone.rmdir()
    del read[:]
    first, truth = answers(store)
    assert first == truth
    assert {path.parent.name for path in read} == {changed["id"], make_record(seed=2)["id"]}


def test_what_is_refused_is_refused_each_time(store: Path) -> None:
    put(store, make_record(seed=0), folder="copy")
    put(store, make_record(seed=3) | {"status": "dreamt"})
    (store / "runs" / "empty").mkdir()
    for _ in range(2):
        (rows, refused), (truth, refused_too) = answers(store)
        assert rows == truth
        assert refused == refused_too
        assert len(refused) == 2


@pytest.mark.parametrize("damage", ["", "{", "1 0 x\n{}", "\n"])
def test_a_damaged_index_is_made_again(store: Path, read: list[Path], damage: str) -> None:
    list_outlines(store)
    file = store / "cache" / "records.index"
    file.write_bytes(damage.encode() or file.read_bytes().replace(b"acmnet", b"acmnat", 1))
    first, truth = answers(store)
    assert first == truth
    assert len(read) == 6


def test_a_store_that_cannot_be_written_is_read(store: Path) -> None:
    (store / "cache").write_text("no folder")
    first, truth = answers(store)
    assert first == truth
