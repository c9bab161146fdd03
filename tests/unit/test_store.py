from __future__ import annotations

from pathlib import Path

import pytest

from harness.files import atomic_write, pretty_json
from harness.store import RECORD, Store, read_record
from wstal.errors import StoreError, UserError


def test_a_run_stands_among_the_finished_ones_only_when_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.begin("r1")
    atomic_write(folder / "weights", b"w")
    assert store.find("r1") is None
    assert list(store.records()) == []
    atomic_write(folder / RECORD, pretty_json({"schema": 1, "id": "r1"}))
    assert store.find("r1") is None
    target = store.finish("r1")
    assert store.find("r1") == {"schema": 1, "id": "r1"}
    assert [record["id"] for _, record in store.records()] == ["r1"]
    assert sorted(p.name for p in target.iterdir()) == [RECORD, "weights"]
    assert not store.partial_folder("r1").exists()


def test_an_interrupted_run_finds_what_it_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    atomic_write(store.begin("r1") / "checkpoint.json", b"{}")
    assert [p.name for p in store.begin("r1").iterdir()] == ["checkpoint.json"]


def test_finishing_twice_keeps_the_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for content in (b"first", b"second"):
        folder = store.begin("r1")
        atomic_write(folder / "weights", content)
        atomic_write(folder / RECORD, pretty_json({"schema": 1}))
        store.finish("r1")
    assert (store.run_folder("r1") / "weights").read_bytes() == b"first"
    assert not store.partial_folder("r1").exists()


def test_a_store_that_cannot_be_written_says_so_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Choose a folder that is writable"):
        Store(tmp_path / "file").begin("r1")


@pytest.mark.parametrize("content", ["{}", '{"schema": 2}', "[]", "{"])
def test_what_is_no_record_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(UserError, match=RECORD):
        read_record(tmp_path / RECORD)
