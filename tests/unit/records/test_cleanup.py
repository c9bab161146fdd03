"""What a store sheds: leftovers of kills, and nothing that a run can go on from."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

import pytest

from harness.cli import records
from harness.cli.options import Parser
from harness.io.atomic import atomic_write
from harness.io.encoding import pretty_json
from harness.io.locks import acquire
from harness.records.cleanup import collect
from harness.records.files import RECORD
from harness.records.store import Store
from tests.helpers.records import make_record
from wstal.errors import StoreError, UserError


def finished(store: Store, seed: int) -> str:
    """The id of a run that is done."""
    record = make_record(seed=seed)
    run = str(record["id"])
    atomic_write(store.begin(run) / RECORD, pretty_json(record))
    store.finish(run)
    return run


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One finished run with all that can be left around it, one that can go on, one that was only begun."""
    store = Store(tmp_path)
    run = finished(store, 0)
    resumable, begun = store.begin("resumable"), store.begin("begun")
    for path in (
        store.run_folder(run) / "checkpoint-000002.safetensors", store.run_folder(run) / ".record.json.x1.tmp",
        store.begin(run) / "checkpoint-000001.json", begun / ".weights.x3.tmp",
        resumable / "checkpoint-000003.json", resumable / "checkpoint-000003.safetensors",
        resumable / "failed-step.safetensors", resumable / ".checkpoint-000004.json.x2.tmp",
        store.lock_file(run), store.claim_file(run), store.failure_file(run), store.failure_file("resumable"),
        tmp_path / "failed" / ".resumable.json.x4.tmp", tmp_path / "cache" / ".digests.json.x5.tmp",
        tmp_path / "cache" / "digests.json", tmp_path / "mine" / ".notes.tmp", tmp_path / ".mine.tmp",
    ):  # fmt: skip
        path.parent.mkdir(exist_ok=True)
        path.write_text("ten bytes.")
    return store


NEEDED = {
    "partial/resumable/checkpoint-000003.json", "partial/resumable/checkpoint-000003.safetensors",
    "partial/resumable/failed-step.safetensors", "failed/resumable.json", "cache/digests.json",
    # not a run's
    "mine/.notes.tmp", ".mine.tmp",
}  # fmt: skip


def test_what_no_run_needs_goes_and_the_rest_stays(store: Store) -> None:
    (run,) = (folder.name for folder in store.finished())
    before = files(store.root)
    planned = collect(store, dry_run=True)
    assert files(store.root) == before
    removed = collect(store)
    assert removed == planned
    assert files(store.root) == NEEDED | {f"runs/{run}/{RECORD}"}
    assert sum(one.size for one in removed) == 10 * len(before - files(store.root))
    assert [path.name for path in (store.root / "partial").iterdir()] == ["resumable"]
    assert collect(store) == []


def test_a_run_that_is_worked_on_keeps_everything(store: Store) -> None:
    (run,) = (folder.name for folder in store.finished())
    before = files(store.root)
    held = [acquire(store.lock_file(run)), acquire(store.claim_file("resumable")), acquire(store.lock_file("begun"))]
    collect(store)
    kept = files(store.root) - {"locks/resumable.claim.lock", "locks/begun.lock"}
    assert kept == before
    for lock in held:
        assert lock is not None
        lock.release()
    collect(store)
    assert files(store.root) == NEEDED | {f"runs/{run}/{RECORD}"}


def test_who_waits_for_a_lock_that_is_removed_holds_one_that_others_see(tmp_path: Path) -> None:
    """Two holders of two files of one name would both do the run."""
    store, entered, leave = Store(tmp_path), threading.Event(), threading.Event()

    def wait_for_it() -> None:
        with store.exclusive("r1"):
            entered.set()
            leave.wait(60)

    held = acquire(store.lock_file("r1"))
    assert held is not None
    thread = threading.Thread(target=wait_for_it)
    thread.start()
    store.lock_file("r1").unlink()  # as `collect` does, which holds it
    held.release()
    assert entered.wait(60)
    assert acquire(store.lock_file("r1")) is None
    assert collect(store) == []
    leave.set()
    thread.join()
    assert [one.path for one in collect(store)] == [store.lock_file("r1")]


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".important.tmp").write_text("")
    with pytest.raises(UserError, match="no store"):
        collect(Store(tmp_path))
    assert files(tmp_path) == {".important.tmp"}


def test_a_store_that_cannot_be_written_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StoreError, match="Make its folder writable"):
        collect(store)


def test_the_command_says_what_it_freed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> tuple[str, str]:
        parser = Parser()
        records.add(parser.add_subparsers())
        parsed: argparse.Namespace = parser.parse_args(["records", "gc", str(store.root), *arguments])
        assert parsed.handle(parsed) == 0
        return tuple(capsys.readouterr())  # type: ignore[return-value]

    out, err = call("--dry-run")
    assert err.endswith("would go, 100 bytes\n")
    assert call()[0] == out
    assert len(out.splitlines()) == 11  # ten files and a folder that holds nothing else
    assert call()[1] == "Done: 0 removed, 0 bytes\n"
