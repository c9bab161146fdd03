"""Reading and checking of stored records."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from harness.io.reading import parse_own_json, read_own
from harness.io.text import did_you_mean, printable, problem
from harness.records.files import LINES, RECORD
from harness.records.grouping import SystemKey
from harness.records.migrations import migrate
from harness.records.schema import SCHEMA, Record
from harness.registry import RENAMED, method_entries
from wstal.errors import UserError
from wstal.evaluation.result import AVERAGES

INDENT = 2  # of a file of one record
# scored since schema 4 was in use: records of before have none of them and are no other evaluation
ADDED_PROTOCOLS = frozenset({"segments-best-212", "segments-first-212", "anet-4427"})
REMEDY = "Restore the file, or remove it and run again."
Refused = tuple[Path, str]


def read_record(path: Path) -> Record:
    """Read a run's record, brought to today's schema.

    Raises:
        UserError: no record, one of a newer schema, of a method that is not installed, or with an impossible value.
    """
    return parse_record(read_own(path), path)


def parse_record(content: bytes, path: Path) -> Record:
    """Return the record in the content of a file, or of a line, brought to today's schema.

    Args:
        content: JSON.
        path: where it stands, for messages.

    Raises:
        UserError: as `read_record`.
    """
    known = method_entries()
    if (record := _as_written(content)) is not None and record.method in known and record.method not in RENAMED:
        return record
    stored = parse_own_json(content, path)
    schema = stored.get("schema") if isinstance(stored, dict) else None
    if type(schema) is not int or schema < 1:
        raise UserError(f"{path} is not a run's record: it has no schema number. {REMEDY}")
    if schema > SCHEMA:
        raise UserError(
            f"{path} is of schema {schema}, written by a newer wstal-bench: update it. This one reads up to {SCHEMA}."
        )
    method = stored.get("method")
    if isinstance(method, str) and (method := RENAMED.get(method, method)) not in known:
        raise UserError(
            f"{path}: method: '{printable(method)}' is not registered{did_you_mean(method, known)} "
            "Install the package that registers it, or remove the file."
        )
    try:
        return Record.model_validate(migrate(stored))
    except ValidationError as error:
        raise UserError(f"{path}: {_first(error)}. {REMEDY}") from error
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: it is no record of schema {schema} ({printable(str(error))}). {REMEDY}") from error


def _as_written(content: bytes) -> Record | None:
    """Return the record in the very bytes that this version writes, or None.

    It takes a third of the time of a reader that finds out what is wrong with other bytes: in these no key is given
    twice, and all text can be encoded.
    """
    try:
        record = Record.model_validate_json(content)
        return record if record.to_bytes(INDENT if content.startswith(b"{\n") else None) == content else None
    except ValueError:
        return None


def _first(error: ValidationError) -> str:
    """Return field, value and complaint of the first error, and how many more there are."""
    first = error.errors(include_url=False)[0]
    place = printable(".".join(map(str, first["loc"]))) or "the whole"
    value = first["input"]
    shown = "" if isinstance(value, (dict, list)) else f" is {printable(repr(value))}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}{shown}: {problem(first['msg'])}{more}"


def record_files(path: Path) -> list[Path]:
    """Return the files that hold records below a path.

    These are the file itself; of a folder its `record.json` files (a run, a store), else all JSON-lines and JSON files
    (`results/records`).
    """
    if not os.path.isdir(path):
        return [path]
    # of thousands of folders pathlib's glob takes ten times as long
    found = sorted(os.path.join(root, name) for root, *names in os.walk(path) for name in itertools.chain(*names))
    records = [name for name in found if os.path.basename(name) == RECORD]
    return [Path(name) for name in records or found if name.endswith((LINES, ".json"))]


def list_records(folder: Path, ranked: bool = False) -> tuple[list[Record], list[Refused]]:
    """List all records below a folder by data set, method and id, and the files and lines that are refused.

    Args:
        folder: of a collection or a store; one that is not there has no records.
        ranked: refuse, for pages, what cannot be ranked or averaged with its system: a record without a usual average,
            one that holds a seed of its system again, one whose protocols or tIoUs are not those of its system's first.

    Returns:
        The good records, and place and message of each one that is no record, is of a newer schema or an unknown
        method, holds an impossible value, or holds a run that stands elsewhere too.
    """
    records: list[Record] = []
    refused: list[Refused] = []
    places: dict[str, Path] = {}
    systems: dict[SystemKey, dict[int, tuple[Path, Record]]] = {}
    for place, _, record in read_all(record_files(folder) if os.path.exists(folder) else []):
        if isinstance(record, UserError):
            refused.append((place, str(record)))
        elif (other := places.setdefault(record.id, place)) != place:
            refused.append((place, f"{place}: run {record.id} is stored twice, also in {other}. Remove one."))
        elif ranked and (why := _join_system(place, record, systems.setdefault(SystemKey.of(record), {}))):
            refused.append((place, f"{place}: {why}"))
        else:
            records.append(record)
    return sorted(records, key=lambda record: (record.data.name, record.method, record.id)), refused


def _join_system(place: Path, record: Record, seeds: dict[int, tuple[Path, Record]]) -> str:
    """Add a record to the seeds of its system, or return why it cannot be ranked or averaged with them."""
    if not record.evaluated:
        return "its test videos had no ground truth, so it has no mAP to be ranked by. Leave it out of the results."
    if not record.scored.averages:
        return f"{without_average(record)}, by which methods are ranked. Leave it out of the results."
    if record.seed in seeds:
        taken = seeds[record.seed][0]
        return f"seed {record.seed} of the same method, recipe, data and version is in {taken}. Remove one."
    other, first = next(iter(seeds.values()), (place, record))
    if _scored(record) != _scored(first):
        return f"its protocols or tIoUs are not those of {other}, another seed of the same system. Run one again."
    seeds[record.seed] = place, record
    return ""


def without_average(record: Record) -> str:
    """Return what a record lacks whose headline has no usual average, for a message."""
    tious = ", ".join(record.scored.mean_ap)
    return f"it has none of the usual averages {', '.join(AVERAGES)} over its tIoUs {tious}"


def read_all(files: Iterable[Path]) -> Iterator[tuple[Path, bytes, Record | UserError]]:
    """Yield place and content of each record in files with the record, or with the reason why it is refused.

    The place of a line is the file's name with its number.
    """
    for file in files:
        try:
            content = read_own(file)
        except UserError as error:
            yield file, b"", error
            continue
        parts = [(file, content)]
        if file.suffix == LINES:
            lines = enumerate(content.split(b"\n"), 1)
            parts = [(Path(f"{file}:{number}"), line + b"\n") for number, line in lines if line]
        for place, part in parts:
            try:
                yield place, part, parse_record(part, place)
            except UserError as error:
                yield place, part, error


def _scored(record: Record) -> tuple[str, dict[str, tuple[set[str], set[str]]]]:
    """Return the headline, and the tIoUs and averages of each protocol but those that older records lack."""
    metrics = {name: one for name, one in record.metrics.items() if name not in ADDED_PROTOCOLS}
    return record.headline, {name: (set(one.mean_ap), set(one.averages)) for name, one in metrics.items()}
