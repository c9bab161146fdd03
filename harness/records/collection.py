"""Records of a results folder: one JSON-lines file a data set and method, a record a line, sorted by id."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.io.atomic import atomic_write, remove
from harness.records.files import LINES, RECORD
from harness.records.reading import INDENT, Refused, read_all, record_files
from harness.records.schema import Record
from wstal.errors import StoreError, UserError


def lines_file(folder: Path, record: Record) -> Path:
    """Return the file of a collection that holds a record.

    Args:
        folder: the collection, `results/records`.
        record: any record.
    """
    return folder / record.data.name / f"{record.method}{LINES}"


def add_records(folder: Path, records: Iterable[Record]) -> None:
    """Add the records of runs to a collection; a record whose numbers are already there is left as it is.

    Records of older forms are migrated, and what cannot be read stays. The caller holds a lock where several processes
    may write.

    Args:
        folder: the collection, `results/records`.
        records: of finished runs.

    Raises:
        StoreError: the folder cannot be written.
    """
    plan_migration([folder], [(lines_file(folder, record), record) for record in records]).apply()


@dataclass
class Migration:
    """Changes that bring stored records to today's schema, names and files.

    Args:
        total: records that were read or refused.
        written: contents of files that change.
        removed: files whose records stand in others then.
        moved: folders of runs whose id changes, old and new.
        refused: place and message of each record that cannot be read, which stays where it is.
    """

    total: int = 0
    written: dict[Path, bytes] = field(default_factory=dict)
    removed: list[Path] = field(default_factory=list)
    moved: list[tuple[Path, Path]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    @property
    def changed(self) -> list[Path]:
        """Files that are written or removed."""
        return sorted({*self.written, *self.removed})

    def apply(self) -> None:
        """Write before removing: what a killed process leaves is complete, and migrates to the same files.

        Raises:
            StoreError: a folder cannot be written.
        """
        for old, new in self.moved:
            try:
                old.rename(new)
            except OSError as error:
                raise StoreError(f"Cannot move {old} to {new}: {error.strerror}. Move it by hand.") from error
        for file, content in self.written.items():
            atomic_write(file, content)
        remove(self.removed)


def plan_migration(paths: Sequence[Path], added: Iterable[tuple[Path, Record]] = ()) -> Migration:
    """Read stored records and plan the changes that bring them to today's form; nothing is written.

    A single file and the records in folders of runs keep their files. Of any other folder, `results/records`, the
    records go to JSON-lines files, and files of one record each are removed. A record that names a renamed run, of
    which it took the weights over, names it by its new id.

    Args:
        paths: files and folders.
        added: further records with the JSON-lines files that they go to.
    """
    collections: dict[Path, Path | None] = {}  # of each file, None where it keeps its records
    for path in paths:
        files = record_files(path)
        is_collection = path.is_dir() and all(file.name != RECORD for file in files)
        for file in files:
            collections.setdefault(file, path if is_collection else None)
    stored = [(file, *found) for file in collections for found in read_all([file])]
    ids = {json.loads(content)["id"]: record.id for _, _, content, record in stored if isinstance(record, Record)}
    plan = Migration(len(stored))
    lines: dict[Path, dict[bytes, bytes]] = defaultdict(dict)  # of each file, by the id of the run
    for file, place, content, record in stored:
        if isinstance(record, UserError):
            plan.refused.append((place, str(record)))
            lines[file][content] = content
            continue
        donor = record.training.weights_of
        training = record.training.model_copy(update={"weights_of": donor and ids.get(donor, donor)})
        record = record.model_copy(update={"training": training})
        collection = collections[file]
        if file.suffix != LINES and collection is None:
            before, target = json.loads(content), file
            if file.name == RECORD and file.parent.name == before["id"] != record.id:
                target = file.parent.with_name(record.id) / RECORD
                plan.moved.append((file.parent, target.parent))
            if before != record.to_json():
                plan.written[target] = record.to_bytes(INDENT)
            continue
        root = collection.parent if collection and collection.name == record.data.name else collection
        target = lines_file(root, record) if root else file
        line = record.to_bytes()
        if lines[target].setdefault(record.id.encode(), line) != line:
            plan.refused.append((place, f"{place}: run {record.id} is stored twice, also in {target}. Remove one."))
            lines[file][content] = content
    for target, record in added:
        line = record.to_bytes()
        known = lines[target].setdefault(record.id.encode(), line)
        if _numbers(known) != _numbers(line) or _looks(known) < _looks(line):
            lines[target][record.id.encode()] = line
    for file, members in lines.items():
        content = b"".join(line for _, line in sorted(members.items()))
        if content and not (file.exists() and file.read_bytes() == content):
            plan.written[file] = content
    plan.removed = sorted({file for file, *_ in stored if collections[file] and file not in lines})
    return plan


def _numbers(line: bytes) -> dict[str, Any]:
    """Return a record without what computed its numbers: the environment, the looks, the run that gave its weights."""
    record: dict[str, Any] = json.loads(line)
    training = {**record["training"], "weights_of": None}
    return {**record, "training": training, "environment": None, "observations": None}


def _looks(line: bytes) -> int:
    return len(json.loads(line).get("observations") or ())
