"""The paper's tables with what was measured beside them, and a verdict on every cell."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.comparisons.plan_rows import rows_of
from harness.data.descriptor import family_of, shipped_descriptors
from harness.data.held_out import is_held_out
from harness.paper.tables import Column, PublishedRow, PublishedTable
from harness.paper.verdicts import UNSTATED, Identity, Measured, Published, Verdict, judge
from harness.records.grouping import comparable_groups, systems, version_number
from harness.records.schema import Data, Record
from harness.records.words import changes
from harness.registry import method_entries, method_source
from harness.runs.plans import plans
from harness.seed_statistics import Estimate, estimate
from harness.studies.released import Rescored
from wstal.evaluation import PROTOCOLS
from wstal.types import Source

AUTHORS = "detections by their authors, scored by us"
LITERATURE = "I3D"  # the tables' name for two-stream I3D features
OWN = "the method's own"
AS_COMPARED = "that of the method with which the row is compared"
# evaluators of released WSTAL code; AutoLoc's and the kit's users are older
PUBLISHED_PROTOCOLS = frozenset(
    {"anet-210", "anet-212", "segments-best", "segments-best-212", "segments-first", "segments-first-212", "anet-4427"}
)
# these say more than that a number is missing or another one
JUDGED = ("reproduced", "consistent", "above", "below", "inconclusive")


@dataclass(frozen=True)
class Measurement:
    """Numbers that may stand beside a published row.

    Args:
        on: data set and features, or the source of the detections.
        identity: data, protocol and schedule that they are numbers of.
        by_protocol: mAP in percent by tIoU (`0.5`) and range (`0.1:0.7`), one a seed, under the identity's protocol and
            the other evaluators that published numbers use.
        records: behind them; none for detections by their authors.
    """

    on: str
    identity: Identity
    by_protocol: Mapping[str, Mapping[str, Sequence[float]]]
    records: Sequence[Record] = ()

    def values(self, column: Column, protocol: str | None = None) -> Sequence[float]:
        """Return the numbers of a table's column, one a seed; none where it is of other tIoUs.

        Args:
            column: of the table.
            protocol: evaluator (default: the identity's).
        """
        return self.by_protocol[protocol or str(self.identity.protocol)].get(_name(column), ())

    def gained(self, column: Column) -> list[float]:
        """Return what the best look at the test set has above the last one in a column, of each run with several."""
        by_run = [
            [look.test.mean_ap | look.test.averages for look in record.observations if look.test is not None]
            for record in self.records
        ]
        looks = [[look[_name(column)] for look in run] for run in by_run if len(run) > 1 and _name(column) in run[-1]]
        return [max(run) - run[-1] for run in looks]


def _name(column: Column) -> str:
    """Return what a record calls a column: a tIoU or a range of them."""
    return f"{column.tious[0]}:{column.tious[-1]}" if column.tious else column.name


@dataclass(frozen=True)
class JudgedCell:
    """A published cell and what was measured of it.

    Args:
        row: of the table.
        column: of the table.
        measurement: None where there is none.
        verdict: on the two.
        source: what the implementation of the row's method follows (`Method.source`); empty where there is none.
        method: its registered name.
    """

    row: PublishedRow
    column: Column
    measurement: Measurement | None
    verdict: Verdict
    source: Source | Literal[""]
    method: str = ""

    @property
    def measured(self) -> Estimate | None:
        """Mean over seeds; None where nothing was measured at this tIoU or range."""
        if self.measurement is None:
            return None
        return estimate(self.measurement.values(self.column), len(self.measurement.records) or 1)

    @property
    def shown(self) -> Estimate | str:
        """Measured number, or why there is none."""
        return self.measured or self.verdict.kind


def compare(table: PublishedTable, records: Sequence[Record], rescored: Sequence[Rescored]) -> list[list[JudgedCell]]:
    """Judge every cell of a table of mAPs.

    Args:
        table: I to VIII.
        records: all stored ones; synthetic ones, those of other data, of held-out videos and with the user's own
            options are left out.
        rescored: detections by their authors; those that name a row of this table stand beside it.

    Returns:
        For each row one list of cells, in the table's order, for each of its measurements, or one where there is none.
    """
    real = [
        record
        for record in records
        if not record.synthetic
        and not record.overrides
        and not is_held_out(record.data.name)
        and family_of(record.classes) == table.dataset
    ]
    plan = plans().get(f"table_{table.number}")
    groups = list(comparable_groups(real).values()) if plan else []
    lines = []
    for row in table.rows:
        method = method_of(table, row)
        found = [members for group in groups if (members := rows_of(plan, group)[row.id])] if plan else []
        # what is printed of a base method may be its own paper's number, of its own schedule
        if plan is None or (plan.row(row.id).trained_as and not found):
            own = (record for record in real if record.method == row.method and record.ablation is None)
            found = list(systems(own).values())
        measurements = [_of_runs(row, members) for members in found]
        measurements += [_of_authors(row, one) for one in rescored if one.published == f"table_{table.number}/{row.id}"]
        source: Source | Literal[""] = method_source(method) if method in method_entries() else ""
        beside: Sequence[Measurement | None] = measurements or [None]
        lines += [_judged(table, row, one, source, method) for one in beside]
    return lines


def method_of(table: PublishedTable, row: PublishedRow) -> str:
    """Return the registered name of the method that makes a row: of a table with a plan that of the plan's row."""
    plan = plans().get(f"table_{table.number}")
    return plan.row(row.id).method if plan else row.method


def cell_row(cell: JudgedCell) -> dict[str, Any]:
    """Return a cell with its verdict as a row of a table."""
    return {
        "row": cell.row.label,
        "column": cell.column.name,
        "published": cell.row.cells[cell.column.name],
        "measured": cell.shown,
        "on": cell.measurement.on if cell.measurement else None,
        "verdict": cell.verdict.kind,
        "why": cell.verdict.reason,
    }


def main_version(lines: Iterable[Sequence[JudgedCell]]) -> str | None:
    """Return the version of the harness that ran the most rows, the newest of several; None where none was run."""
    rows: dict[str, set[str]] = {}
    for line in lines:
        for record in line[0].measurement.records if line[0].measurement else ():
            rows.setdefault(record.version, set()).add(line[0].row.id)
    return max(rows, key=lambda version: (len(rows[version]), version_number(version)), default=None)


def first_choice(lines: Sequence[Sequence[JudgedCell]]) -> dict[str, Sequence[JudgedCell]]:
    """Choose one measurement for each row, by row id: judged before not comparable, then the most seeds.

    Schedules differ between versions, so runs that are not comparable with the printed row are all of the table's
    `main_version`: a reader compares the rows with each other.
    """
    version = main_version(lines)
    chosen: dict[str, Sequence[JudgedCell]] = {}
    for line in lines:
        row = line[0].row.id
        if row not in chosen or _preference(line, version) > _preference(chosen[row], version):
            chosen[row] = line
    return {row: line if any(_preference(line, version)) else _without(line, version) for row, line in chosen.items()}


def _preference(line: Sequence[JudgedCell], version: str | None) -> tuple[bool, bool, int]:
    """Return what orders the measurements of a row; nothing in it speaks for runs of another version."""
    records = line[0].measurement.records if line[0].measurement else ()
    own = not records or records[0].version == version
    return headline(line).verdict.kind in JUDGED, own, len(records) if own else 0


def _without(line: Sequence[JudgedCell], version: str | None) -> list[JudgedCell]:
    verdict = Verdict("not run", f"not run by version {version}, of which are the other rows")
    return [replace(cell, measurement=None, verdict=verdict) for cell in line]


def headline(line: Sequence[JudgedCell]) -> JudgedCell:
    """Return the cell of the last printed number of a row, which is its average where it has one."""
    printed = [cell for cell in line if cell.row.value(cell.column.name) is not None]
    return (printed or line)[-1]


def _of_runs(row: PublishedRow, records: Sequence[Record]) -> Measurement:
    first = records[0]
    # seeds of before a protocol was added lack it
    scored = [name for name in first.metrics if all(name in record.metrics for record in records)]
    protocol = _protocol_for(row, scored, first.headline)
    data, family = first.data, family_of(first.classes)
    identity = Identity(
        family,
        LITERATURE if _is_literature(data, family) else data.features,
        protocol,
        str(first.metrics[protocol].videos),
        _recipe(first),
    )
    values = {
        name: _by_name([record.metrics[name].mean_ap | record.metrics[name].averages for record in records])
        for name in PUBLISHED_PROTOCOLS.intersection(scored) | {protocol}
    }
    return Measurement(data.title, identity, values, records)


def _recipe(record: Record) -> str:
    """Return how a run's schedule departs from the method's own: by its data set, or as another method's."""
    if record.schedule or not record.schedule_changes:
        return changes(record.schedule) if record.schedule else OWN
    return AS_COMPARED


def _protocol_for(row: PublishedRow, scored: Collection[str], headline: str) -> str:
    """Return the protocol that gave the published number, its evaluator on another list, or else the data set's."""
    own = PROTOCOLS.get(row.protocol)
    if own is None:
        return headline
    same = (name for name in (headline, *scored) if PROTOCOLS[name].rules == own.rules)
    return row.protocol if row.protocol in scored else next(same, headline)


def _by_name(runs: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """Return values of several runs by tIoU or range; a name that one of them lacks is left out."""
    return {name: tuple(one[name] for one in runs) for name in runs[0] if all(name in one for one in runs)}


def _is_literature(data: Data, family: str) -> bool:
    """Return whether the features are what the family's shipped descriptor describes: two-stream I3D."""
    described = shipped_descriptors()[family]
    width = sum(stream.width or 0 for stream in described.streams)
    return data.features == described.extractor and data.width == width


def _of_authors(row: PublishedRow, one: Rescored) -> Measurement:
    protocol = _protocol_for(row, list(one.metrics), one.headline)
    metrics = one.metrics[protocol]
    values = {name: (value,) for name, value in (metrics.mAP | metrics.averages).items()}
    on = f"{AUTHORS}: {one.source}" + (f" ({one.note})" if one.note else "")
    identity = Identity(one.dataset, one.features, protocol, str(metrics.videos), OWN)
    return Measurement(on, identity, {protocol: values})


def _judged(
    table: PublishedTable,
    row: PublishedRow,
    measurement: Measurement | None,
    source: Source | Literal[""],
    method: str,
) -> list[JudgedCell]:
    cells = []
    for column in table.columns:
        published = _published(table, row, column, measurement)
        measured = None
        if measurement:
            trained = bool(measurement.records)
            values, gained = measurement.values(column), measurement.gained(column)
            measured = Measured(values, measurement.identity, trained, gained)
        verdict = judge(published, measured, implemented=bool(source))
        if measurement and row.protocol == UNSTATED and verdict.kind in JUDGED:
            verdict = _under_all(verdict, published, measurement, column)
        cells.append(JudgedCell(row, column, measurement, verdict, source, method))
    return cells


def _under_all(verdict: Verdict, published: Published, measurement: Measurement, column: Column) -> Verdict:
    """Judge where the source does not name its evaluator: a verdict counts if every published evaluator gives it."""
    own = str(measurement.identity.protocol)
    kinds = {own: verdict.kind}
    for protocol in sorted(measurement.by_protocol.keys() - {own}):
        gained = measurement.gained(column)
        values = measurement.values(column, protocol)
        kinds[protocol] = judge(published, Measured(values, measurement.identity, gained=gained)).kind
    if len(set(kinds.values())) == 1:
        return verdict
    listed = ", ".join(f"{protocol} {kind}" for protocol, kind in kinds.items())
    return Verdict("inconclusive", f"the source does not name its evaluator, and they disagree: {listed}")


def _published(table: PublishedTable, row: PublishedRow, column: Column, measurement: Measurement | None) -> Published:
    text = row.cells[column.name]
    feature = row.feature if row.feature not in ("", "-") else UNSTATED
    # where the source is silent its list is taken for the whole one of the evaluator that judges it
    evaluator = row.protocol if row.protocol in PROTOCOLS else measurement and measurement.identity.protocol
    whole = PROTOCOLS[evaluator].expected_videos if evaluator else None
    return Published(
        row.value(column.name),
        Identity(table.dataset, feature, row.protocol, str(whole) if whole else UNSTATED, OWN),
        digits=len(text.partition(".")[2]),
        selection=row.selection,
        looks=row.test_looks,
    )
