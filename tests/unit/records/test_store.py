from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from harness.io.atomic import atomic_write
from harness.io.encoding import pretty_json
from harness.records.files import RECORD
from harness.records.reading import read_record
from harness.records.store import Store
from tests.helpers.records import as_record, make_record
from wstal.errors import StoreError, UserError

RECORDED = make_record()


def test_a_run_stands_among_the_finished_ones_only_when_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.begin("r1")
    atomic_write(folder / "weights", b"w")
    assert store.find("r1") is None
    assert store.finished() == []
    atomic_write(folder / RECORD, pretty_json(RECORDED))
    assert store.find("r1") is None
    target = store.finish("r1")
    assert store.find("r1") == as_record(RECORDED)
    old = {name: value for name, value in RECORDED.items() if name not in ("per_class", "common_localizer")}
    by_class = as_record(RECORDED).ap_by_class()
    (target / RECORD).write_text(
        json.dumps(old | {"schema": 1, "metrics": {"anet": RECORDED["metrics"]["anet"] | {"per_class": by_class}}})
    )
    assert store.find("r1") == as_record(RECORDED)
    assert store.finished() == [target]
    assert sorted(p.name for p in target.iterdir()) == [RECORD, "weights"]
    assert not store.partial_folder("r1").exists()


def test_an_interrupted_run_finds_what_it_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    atomic_write(store.begin("r1") / "checkpoint.json", b"{}")
    assert [p.name for p in store.begin("r1").iterdir()] == ["checkpoint.json"]


def test_a_run_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with Store(tmp_path).exclusive("r1"):
            order.append("second")

    with Store(tmp_path).exclusive("r1"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_leftovers_of_a_kill_go_and_a_complete_run_only_waits_to_be_moved(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.begin("r1")
    (folder / ".record.json.abc.tmp").write_text("half")
    assert list(store.begin("r1").iterdir()) == []
    assert not store.is_complete("r1")
    atomic_write(folder / RECORD, pretty_json(RECORDED))
    assert store.is_complete("r1")


def test_a_store_that_cannot_be_written_says_so_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Choose a folder that is writable"):
        Store(tmp_path / "file").begin("r1")


@pytest.mark.parametrize("content", ["{}", '{"schema": 99}', '{"schema": 2}', "[]", "{", '{"schema": 1}'])
def test_what_is_no_record_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(UserError, match=RECORD):
        read_record(tmp_path / RECORD)


def test_a_leftover_that_cannot_be_removed_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(StoreError, match=r"Cannot remove .*\.writable: Read-only file system"):
        Store(tmp_path).begin("r1")


def test_a_place_that_is_taken_is_a_message_and_the_run_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    atomic_write(store.begin("r1") / RECORD, pretty_json(RECORDED))
    atomic_write(store.run_folder("r1") / "weights", b"")  # someone removed its record
    with pytest.raises(StoreError, match=r"Cannot move .*not empty\. Make room for it there"):
        store.finish("r1")
    assert store.is_complete("r1")
