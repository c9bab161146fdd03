"""Study of released detections: each file is scored under each protocol and leaves a small record of its numbers.

A record keeps digests, provenance and numbers; the detections themselves stay with those who released them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Self

from pydantic import ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError, model_validator

from harness.data.annotations import AMBIGUOUS
from harness.data.descriptor import accepted_by, list_digest, shipped_descriptors
from harness.io.atomic import atomic_write
from harness.io.encoding import pretty_json, sha256_file
from harness.io.reading import read_json, read_toml
from harness.io.text import check_text, problems
from harness.paper.tables import find_table
from harness.studies.detection_score import ScoredFile, score_file
from harness.studies.stored import Percent, StoredModel
from wstal.errors import UserError
from wstal.evaluation import EvaluationResult, get_protocol, parse_tious, to_json
from wstal.evaluation.result import AVERAGES

FOLDER = "rescored"
UNKNOWN = "unknown"  # in the place of a data set's name
SCHEMA = 1
AVERAGE_TOLERANCE = 1e-6  # mAP points between a stored average and the mean of its stored members
FORM = (
    "Expected one table [name] a detection file, with `detections`, `annotations`, `method` and `source`: "
    "who released the file, where, which commit or entry."
)


def _row_of_maps(reference: str) -> None:
    """Refuse what is no row of a table of mAPs."""
    name, _, row = reference.partition("/")
    table = find_table(name)
    if not table.dataset:
        raise UserError(f"Table {table.number} holds no mAPs: name a row of one of I to VIII.")
    table.row(row)


def _free_name(name: str) -> None:
    """Refuse the name of another table of the page."""
    if name in ("spread", UNKNOWN):
        raise UserError(f"A table of another content is called {name!r}.")


def _each_once(names: tuple[str, ...]) -> None:
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{twice[0]} is named twice.")


Line = Annotated[str, Field(pattern=r"^[^\r\n]*\S[^\r\n]*$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=100)]
DataSet = Annotated[Name, accepted_by(_free_name)]
Reference = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$"), accepted_by(_row_of_maps)]
ProtocolName = Annotated[str, accepted_by(get_protocol)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Threshold = Annotated[str, Field(pattern=r"^(0\.\d+|1)$")]
FilePath = Annotated[Path, accepted_by(lambda path: check_text(str(path), "the path"))]
StatedLine = Annotated[Line, accepted_by(lambda text: check_text(text, "the text"))]


class Source(StoredModel):
    """Released detection file, as a table of a sources file states it."""

    detections: FilePath
    """ActivityNet-style detection file."""
    annotations: FilePath
    """Annotation file, or folder with `annotations.json` (and `Ambiguous_test.txt`)."""
    method: StatedLine
    """The method that made the detections."""
    source: StatedLine
    """Provenance: who released the file, where, which commit or entry."""
    features: StatedLine | None = None
    """Features that the method used, where the release says so."""
    note: StatedLine | None = None
    """Further facts that a reader has to know, such as the unit of the times."""
    dataset: DataSet | None = None
    """Data set, where its classes do not show it. A known one counts only if the videos are a known list."""
    video_prefix: StatedLine | None = None
    """Beginning of the videos' names that the annotations omit, such as `video_test_`."""
    strip_prefix: StatedLine | None = None
    """Beginning of the videos' names in one of the two files that the other omits, such as `v_`."""
    subset: StatedLine | None = None
    """Subset of the annotations (default: the test subset)."""
    protocols: Annotated[tuple[ProtocolName, ...], accepted_by(_each_once)] | None = Field(None, min_length=1)
    """Protocols to score under (default: all that apply)."""
    tious: Annotated[str, accepted_by(parse_tious)] | None = None
    """tIoU thresholds, as `0.1:0.1:0.9` (default: the data set's)."""
    published: Reference | None = None
    """Published row whose numbers these detections should give, such as `table_I/autoloc`."""


class RecordPart(StoredModel):
    """Base of the parts of a record: text is no number."""

    model_config = ConfigDict(strict=True)


class DetectionFacts(RecordPart):
    """Identity of the detections."""

    file: Line
    sha256: Digest
    count: NonNegativeInt
    videos: NonNegativeInt
    """Videos of the evaluated subset that have a detection."""


class AnnotationFacts(RecordPart):
    """Identity of the annotations that they were scored on."""

    file: Line
    sha256: Digest
    ambiguous_sha256: Digest | None
    """Of `Ambiguous_test.txt` beside the annotations, if there is one."""
    subset: Line
    videos: NonNegativeInt
    """Number of evaluated videos."""
    videos_sha256: Digest
    """`list_digest` of their names."""
    list: Line | None
    """Name of the known list that the videos are."""
    instances: NonNegativeInt


class ReleasedMetrics(RecordPart):
    """Numbers under one protocol, mAPs in percent."""

    mAP: dict[Threshold, Percent] = Field(min_length=1)
    """By tIoU."""
    averages: dict[str, Percent]
    """Mean mAP by range of tIoUs."""
    videos: NonNegativeInt
    instances: NonNegativeInt
    detections: NonNegativeInt
    """Number of ranked detections."""
    unlisted: NonNegativeInt
    """Detections in videos that are not evaluated."""
    dropped: NonNegativeInt
    """Detections removed because they overlap an Ambiguous interval."""

    @model_validator(mode="after")
    def _averages_agree(self) -> Self:
        for name, stored in self.averages.items():
            members = [self.mAP.get(tiou, math.nan) for tiou in AVERAGES.get(name, ("",))]
            if not abs(stored - fmean(members)) <= AVERAGE_TOLERANCE:
                raise ValueError(f"the average {name} is {stored}, its tIoUs' mean {fmean(members)}")
        return self


class Rescored(RecordPart):
    """Record of one detection file. Its verdict against `published` is computed by the pages."""

    version: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA, strict=True)
    name: Name
    method: Line
    source: Line
    features: Line | None
    note: Line | None
    dataset: DataSet | None
    """Name of the data set; a known one only where the videos are one of its known lists."""
    unnamed: Line | None
    """Reason why there is no `dataset`."""
    published: Reference | None
    headline: ProtocolName
    """Protocol that the data set's numbers are compared under."""
    detections: DetectionFacts
    annotations: AnnotationFacts
    metrics: dict[ProtocolName, ReleasedMetrics] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.dataset is None) == (self.unnamed is None):
            raise ValueError("it needs one of `dataset` and `unnamed`")
        if self.dataset is not None and _is_shipped(self.dataset) and self.annotations.list is None:
            raise ValueError(f"its data set is {self.dataset}, its videos are no known list")
        if self.headline not in self.metrics:
            raise ValueError(f"its headline {self.headline!r} is none of its protocols")
        if len({(*one.mAP, "", *one.averages) for one in self.metrics.values()}) > 1:
            raise ValueError("its protocols have different tIoUs or averages")
        return self


def read_sources(path: Path) -> dict[str, Source]:
    """Read the detection files that a sources file lists, by name.

    Raises:
        MissingDataError: the file is absent.
        UserError: it cannot be read, is not TOML, lists nothing, or a table lacks its provenance or has a field that
            does not fit.
    """
    tables = read_toml(path, FORM)
    try:
        sources = TypeAdapter(dict[Name, Source]).validate_python(tables)
    except ValidationError as error:
        raise UserError(f"{path}: {problems(error)}. {FORM}") from error
    if not sources:
        raise UserError(f"{path} lists no detection file. {FORM}")
    return sources


def rescore(sources: Path, data: Path | None = None, notes: list[str] | None = None) -> list[Rescored]:
    """Score every detection file of a sources file under each protocol that applies.

    Args:
        sources: the sources file.
        data: folder that its paths are relative to; the sources file's own if absent.
        notes: notes for people, to which what the readers remarked is added.

    Raises:
        MissingDataError: a file is absent.
        UserError: the sources, a detection file or its annotations cannot be used; says which.
    """
    root = sources.parent if data is None else data
    notes = [] if notes is None else notes
    records = []
    for name, source in read_sources(sources).items():
        try:
            records.append(_rescored(name, source, root, notes))
        except UserError as error:
            raise type(error)(f"{sources}, [{name}]: {error}") from error
    return records


def _rescored(name: str, source: Source, root: Path, notes: list[str]) -> Rescored:
    detections = root / source.detections
    scored = score_file(
        detections,
        root / source.annotations,
        source.subset,
        source.protocols,
        source.tious,
        source.strip_prefix or "",
    )
    notes += scored.notes
    known = scored.known_as
    dataset = source.dataset or (known.family if known else None)
    if dataset is None:
        raise UserError(f"The classes of {scored.annotations.path} are of no known data set. State `dataset`.")
    family = _family(dataset)
    numbered = all(name.isdecimal() for name in scored.annotations.classes)  # in place of names, as AutoLoc's
    listed, unnamed = scored.known_list(family, source.video_prefix or ""), None
    if _is_shipped(dataset) and listed is None:
        found = f"{len(scored.truth.videos):,} videos with {len(scored.truth):,} instances"
        unnamed = f"its {found} are no test list of {dataset} that is known here"
    elif _is_shipped(dataset) and (known.family != family if known else not numbered):
        unnamed = f"its classes are not those of {dataset}"
    usual = known.headline if known else ""
    stated = source.model_dump(include={"method", "source", "features", "note", "published"})
    return Rescored(
        **stated,
        schema=SCHEMA,
        name=name,
        dataset=None if unnamed else dataset,
        unnamed=unnamed,
        headline=usual if usual in scored.results else next(iter(scored.results)),
        detections=DetectionFacts(
            file=detections.name,
            sha256=sha256_file(detections),
            count=len(scored.detections),
            videos=scored.found_videos,
        ),
        annotations=_annotation_facts(scored, listed),
        metrics={protocol: _metrics(result) for protocol, result in scored.results.items()},
    )


def _family(dataset: str) -> str:
    return dataset.split("-")[0]


def _is_shipped(dataset: str) -> bool:
    """Return whether the name is that of a known data set."""
    return _family(dataset) in {known.family for known in shipped_descriptors().values()}


def _annotation_facts(scored: ScoredFile, listed: str | None) -> AnnotationFacts:
    path = scored.annotations.path
    ambiguous = path.parent / AMBIGUOUS
    return AnnotationFacts(
        file=path.name,
        sha256=sha256_file(path),
        ambiguous_sha256=sha256_file(ambiguous) if os.path.isfile(ambiguous) else None,
        subset=scored.subset,
        videos=len(scored.truth.videos),
        videos_sha256=list_digest(scored.truth.videos),
        list=listed,
        instances=len(scored.truth),
    )


def _metrics(result: EvaluationResult) -> ReleasedMetrics:
    numbers = to_json(result)
    del numbers["per_class"]
    return ReleasedMetrics(**numbers, unlisted=result.unlisted, dropped=result.dropped)


def write_rescored(records: Sequence[Rescored], folder: Path) -> list[Path]:
    """Write each record as `NAME.json`; the same record gives the same bytes.

    Args:
        records: of `rescore`.
        folder: to write to.

    Raises:
        StoreError: the folder cannot be written.
    """
    paths = [folder / f"{record.name}.json" for record in records]
    for path, record in zip(paths, records, strict=True):
        atomic_write(path, pretty_json(record.to_json()))
    return paths


def load_rescored(folder: Path) -> tuple[list[Rescored], list[tuple[Path, str]]]:
    """Read all records in a folder, by data set and name, and (path, message) of each file that is refused."""
    records: list[Rescored] = []
    refused: list[tuple[Path, str]] = []
    for path in sorted(folder.glob("*.json")):
        try:
            records.append(_read(path))
        except UserError as error:
            refused.append((path, str(error)))
    return sorted(records, key=lambda record: (record.dataset or "~", record.name)), refused


def _read(path: Path) -> Rescored:
    remedy = "Restore it, or remove it and run `wstal-bench evaluate SOURCES.toml --keep` again."
    value = read_json(path)
    if isinstance(value, dict) and isinstance(value.get("schema"), int) and value["schema"] > SCHEMA:
        raise UserError(f"{path} is of schema {value['schema']}; this version reads {SCHEMA}. Update wstal-bench.")
    try:
        record = Rescored.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path} is no record of rescored detections: {problems(error)}. {remedy}") from error
    if record.name != path.stem:
        raise UserError(f"{path} is the record of {record.name!r}. Name the file so, or remove it.")
    return record
