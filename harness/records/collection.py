"""Records of a results folder: one JSON-lines file a data set and method, a record a line, sorted by id."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

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

    Lines that cannot be read stay. The caller holds a lock where several processes may write.

    Args:
        folder: the collection, `results/records`.
        records: of finished runs.

    Raises:
        StoreError: the folder cannot be written.
    """
    if any(file.suffix != LINES for file in record_files(folder)) and os.path.isdir(folder):
        plan_migration([folder]).apply()
    files: dict[Path, list[Record]] = {}
    for record in records:
        files.setdefault(lines_file(folder, record), []).append(record)
    for file, added in files.items():
        known: dict[str, Record] = {}
        lines: list[tuple[str, bytes]] = []
        for _, content, record_or_error in read_all([file] if file.exists() else []):
            if isinstance(record_or_error, UserError):  # named where pages are rendered
                lines.append(("", content))
            else:
                known[record_or_error.id] = record_or_error
        for record in added:
            if record.id not in known or _numbers(known[record.id]) != _numbers(record):
                known[record.id] = record
        lines += [(name, record.to_bytes()) for name, record in known.items()]
        if not file.exists() or file.read_bytes() != _joined(lines):
            atomic_write(file, _joined(lines))


def _numbers(record: Record) -> Record:
    """Return a record with one environment for all: what computed the numbers is not part of them."""
    return record.model_copy(update={"environment": None})


def _joined(lines: Sequence[tuple[str, bytes]]) -> bytes:
    return b"".join(line for _, line in sorted(lines))


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


class _Stored(NamedTuple):
    """A stored record: the collection of its file (None for a file by itself), and the id before the migration."""

    file: Path
    collection: Path | None
    place: Path
    content: bytes
    id: str
    record: Record


def plan_migration(paths: Sequence[Path]) -> Migration:
    """Read stored records and plan the changes that bring them to today's form; nothing is written.

    A single file and the records in folders of runs keep their files. Of any other folder, `results/records`, the
    records go to JSON-lines files, and files of one record each are removed. A record that names a renamed run, of
    which it took the weights over, names it by its new id.

    Args:
        paths: files and folders.
    """
    plan = Migration()
    kept: dict[Path, list[bytes]] = {}  # lines of JSON-lines files that stay as they are
    stored = list(_read(paths, plan, kept))
    renamed = {one.id: one.record.id for one in stored if one.id != one.record.id}
    lines: dict[Path, dict[str, bytes]] = {file: {} for file in kept}
    stays = {place for place, _ in plan.refused}
    for file, collection, place, content, old, record in stored:
        if (taken_from := renamed.get(record.training.weights_of or "")) is not None:
            training = record.training.model_copy(update={"weights_of": taken_from})
            record = record.model_copy(update={"training": training})
        if file.suffix != LINES and collection is None:
            target = file
            if file.name == RECORD and file.parent.name == old != record.id:
                target = file.parent.with_name(record.id) / RECORD
                plan.moved.append((file.parent, target.parent))
            if json.loads(content) != record.to_json():
                plan.written[target] = record.to_bytes(INDENT)
            continue
        root = collection and (collection.parent if collection.name == record.data.name else collection)
        target = lines_file(root, record) if root else file
        line = record.to_bytes()
        if lines.setdefault(target, {}).setdefault(record.id, line) != line:
            plan.refused.append((place, f"{place}: run {record.id} is stored twice, also in {target}. Remove one."))
            kept.get(file, []).append(content)
            stays.add(file)
    for file, members in lines.items():
        content = _joined([*members.items(), *(("", line) for line in kept.get(file, ()))])
        if content and (not file.exists() or file.read_bytes() != content):
            plan.written[file] = content
    wanted = {file for file, members in lines.items() if members or kept.get(file)}
    plan.removed = sorted({one.file for one in stored if one.collection} - wanted - stays)
    return plan


def _read(paths: Sequence[Path], plan: Migration, kept: dict[Path, list[bytes]]) -> Iterator[_Stored]:
    """Yield the records of all files below the paths, each file once; note what is refused in the plan."""
    seen: set[Path] = set()
    for path in paths:
        files = record_files(path)
        collection = path if os.path.isdir(path) and not any(file.name == RECORD for file in files) else None
        for file in files:
            if file in seen:
                continue
            seen.add(file)
            if file.suffix == LINES:
                kept[file] = []
            for place, content, record in read_all([file]):
                plan.total += 1
                if isinstance(record, UserError):
                    plan.refused.append((place, str(record)))
                    kept.get(file, []).append(content)
                else:
                    yield _Stored(file, collection, place, content, json.loads(content)["id"], record)
