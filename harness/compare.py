"""The paper's tables with what was measured beside them, and a verdict on every cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.ablations import comparable_groups, rows_of
from harness.data.descriptor import family_of
from harness.data.held_out import is_held_out
from harness.figures import Compared, dumbbell
from harness.files import canonical_json
from harness.pages import Estimate, Figure, Page, Role, Table, estimate
from harness.plans import plans
from harness.prose import bullets, computed_with
from harness.published import Column, PublishedRow, PublishedTable
from harness.registry import method_entries
from harness.rescore import Rescored
from harness.verdicts import LEAST_SEEDS, TOLERANCE, UNSTATED, Identity, Measured, Published, Verdict, judge

Record = dict[str, Any]

AUTHORS = "detections by their authors, scored by us"
LITERATURE = "I3D"  # the tables' name for two-stream I3D features
SESSIONS = {
    "thumos14": "reproduce-thumos",
    "activitynet13": "reproduce-activitynet",
    "fineaction": "reproduce-fineaction",
}
# these say more than that a number is missing or another one
JUDGED = ("reproduced", "consistent", "above", "below", "inconclusive")


@dataclass(frozen=True)
class Measurement:
    """Numbers that may stand beside a published row.

    Args:
        on: data set and features, or whose detections they are.
        identity: what they are numbers of.
        values: mAP in percent by tIoU (`0.5`) and range (`0.1:0.7`), one a seed.
        seeds: of the runs; empty for detections by their authors.
        records: behind them.
    """

    on: str
    identity: Identity
    values: Mapping[str, Sequence[float]]
    seeds: tuple[int, ...]
    records: tuple[Record, ...] = ()


@dataclass(frozen=True)
class Cell:
    """A published cell and what was measured of it.

    Args:
        row: of the table.
        column: of the table.
        measurement: None where there is none.
        verdict: on the two.
    """

    row: PublishedRow
    column: Column
    measurement: Measurement | None
    verdict: Verdict

    @property
    def measured(self) -> Estimate | None:
        """Over seeds; None where nothing was measured at this tIoU or range."""
        if self.measurement is None:
            return None
        values = self.measurement.values.get(_metric(self.column), ())
        return estimate(values, len(self.measurement.seeds) or 1)

    @property
    def shown(self) -> Estimate | str:
        """The measured number, or why there is none."""
        return self.measured or self.verdict.kind


def compare(table: PublishedTable, records: Sequence[Record], rescored: Sequence[Rescored]) -> list[list[Cell]]:
    """Every cell of a table of mAPs: for each row one list of cells, in the table's order, for each of its
    measurements, or one where there is none.

    Args:
        table: I to VIII.
        records: all stored ones; synthetic ones, those of other data and those of held-out videos are left out.
        rescored: detections by their authors; those that name a row of this table stand beside it.
    """
    real = [
        record
        for record in records
        if not record["synthetic"]
        and not is_held_out(record["data"]["name"])
        and family_of(record["classes"]) == table.dataset
    ]
    plan = plans().get(f"table_{table.number}")
    groups = list(comparable_groups(real).values()) if plan else []
    lines = []
    for row in table.rows:
        if plan:
            method = plan.row(row.id).method
            found = [members for group in groups if (members := rows_of(plan, group)[row.id])]
        else:
            method = f"{row.method}-ours" if row.with_ours else row.method
            found = list(_by_recipe(real, method))
        measurements = [_of_runs(row, members) for members in found]
        measurements += [_of_authors(row, one) for one in rescored if one.published == f"table_{table.number}/{row.id}"]
        implemented = method in method_entries()
        beside: Sequence[Measurement | None] = measurements or [None]
        lines += [_judged(table, row, one, implemented) for one in beside]
    return lines


def table_page(table: PublishedTable, lines: Sequence[Sequence[Cell]]) -> Page:
    """A table as printed with the verdict on each row's headline, the measured rows in full, and all judged cells."""
    name, title = f"table_{table.number}", f"Table {table.number}: {table.title}"
    printed: dict[str, dict[str, Any]] = {}
    for line in lines:
        cell = headline(line)
        # of several measurements the one that can be judged stands beside the row
        if cell.row.id not in printed or cell.verdict.kind in JUDGED:
            judgement = {"judged": cell.column.name, "measured": cell.shown, "verdict": cell.verdict.kind}
            printed[cell.row.id] = cell.row.labels | judgement | cell.row.cells | {"why": cell.verdict.reason}
    roles: dict[str, Role] = {column.name: "published" for column in table.columns}
    roles |= {"measured": "measured", "verdict": "verdict"}
    blocks: list[str | Table | Figure] = [
        _facts(table, lines),
        Table(name, title, list(printed.values()), roles),
    ]
    with_numbers = [line for line in lines if line[0].measurement]
    if with_numbers:
        columns: dict[str, Role] = {column.name: "measured" for column in table.columns}
        rows = [_measured_row(line) for line in with_numbers]
        caption = f"Table {table.number}: measured rows"
        blocks += [
            "## Measured",
            "The rows of which there are numbers, in the table's columns. Each is scored by the evaluator that gave "
            "its published number where that is known, so that protocols may differ between rows.",
            Table(f"{name}-measured", caption, rows, columns | {"verdict": "verdict"}),
        ]
        rows_drawn = [
            Compared(
                f"{_label(cell.row)}: {cell.column.name}",
                cell.row.value(cell.column.name),
                cell.measured or cell.verdict.kind,
                cell.verdict.kind in JUDGED,
            )
            for cell in map(headline, with_numbers)
        ]
        blocks.append(dumbbell(rows_drawn, name=name, caption=f"{caption}, against the printed number"))
    if judged := [cell for line in with_numbers for cell in line if cell.verdict.kind in JUDGED]:
        caption = f"Table {table.number}: cell by cell"
        cell_roles: dict[str, Role] = {"published": "published", "measured": "measured", "verdict": "verdict"}
        blocks += ["## Cell by cell", Table(f"{name}-cells", caption, [cell_row(cell) for cell in judged], cell_roles)]
    if records := [record for line in with_numbers for record in (line[0].measurement or NOTHING).records]:
        blocks += computed_with(records)
    return Page(f"leaderboards/{name}", title, blocks)


def cell_row(cell: Cell) -> dict[str, Any]:
    """A cell with its verdict as a row of a table."""
    return {
        "row": _label(cell.row),
        "column": cell.column.name,
        "published": cell.row.cells[cell.column.name],
        "measured": cell.shown,
        "on": cell.measurement.on if cell.measurement else None,
        "verdict": cell.verdict.kind,
        "why": cell.verdict.reason,
    }


def headline(line: Sequence[Cell]) -> Cell:
    """The last printed number of a row, which is its average where it has one."""
    printed = [cell for cell in line if cell.row.value(cell.column.name) is not None]
    return (printed or line)[-1]


def _by_recipe(records: Sequence[Record], method: str) -> Iterator[list[Record]]:
    """The runs of a method by its own recipe, those of one data set, version and recipe together."""
    groups: dict[bytes, list[Record]] = {}
    for record in records:
        if record["method"] == method and record["ablation"] is None and not record["overrides"]:
            version = record["environment"]["wstal-bench"]
            groups.setdefault(canonical_json([record["data"], record["recipe"], version]), []).append(record)
    yield from groups.values()


def _of_runs(row: PublishedRow, records: Sequence[Record]) -> Measurement:
    first = records[0]
    # under the evaluator that gave the published number, where that is known and applies
    protocol = row.protocol if row.protocol in first["metrics"] else first["headline"]
    metrics = [record["metrics"][protocol] for record in records]
    names = [*metrics[0]["mAP"], *metrics[0]["averages"]]
    values = {name: tuple((one["mAP"] | one["averages"])[name] for one in metrics) for name in names}
    data = first["data"]
    literature = data["features"].startswith(LITERATURE) and (
        set(data["streams"]) == {"rgb", "flow"} or data["width"] == 2048
    )
    identity = Identity(family_of(first["classes"]), LITERATURE if literature else data["features"], protocol)
    return Measurement(data["title"], identity, values, tuple(record["seed"] for record in records), tuple(records))


def _of_authors(row: PublishedRow, one: Rescored) -> Measurement:
    protocol = row.protocol if row.protocol in one.metrics else one.headline
    metrics = one.metrics[protocol]
    values = {name: (value,) for name, value in (metrics.mAP | metrics.averages).items()}
    on = f"{AUTHORS}: {one.source}" + (f" ({one.note})" if one.note else "")
    return Measurement(on, Identity(one.dataset, one.features or row.feature, protocol), values, ())


def _judged(table: PublishedTable, row: PublishedRow, measurement: Measurement | None, implemented: bool) -> list[Cell]:
    cells = []
    for column in table.columns:
        measured = None
        if measurement:
            values = measurement.values.get(_metric(column), ())
            measured = Measured(values, measurement.identity, trained=bool(measurement.seeds))
        verdict = judge(_published(table, row, column), measured, implemented=implemented)
        cells.append(Cell(row, column, measurement, verdict))
    return cells


def _published(table: PublishedTable, row: PublishedRow, column: Column) -> Published:
    text = row.cells[column.name]
    feature = row.feature if row.feature not in ("", "-") else UNSTATED
    return Published(
        row.value(column.name),
        Identity(table.dataset, feature, row.protocol),
        digits=len(text.partition(".")[2]),
        selection=row.selection,
        looks=row.test_looks,
    )


def _metric(column: Column) -> str:
    """The column's name in a record's metrics: `0.5`, or `0.1:0.7` for an average."""
    return f"{column.tious[0]}:{column.tious[-1]}" if column.tious else column.name


def _label(row: PublishedRow) -> str:
    return row.labels.get("Method") or row.id


def _measured_row(line: Sequence[Cell]) -> dict[str, Any]:
    measurement = line[0].measurement
    assert measurement is not None
    return {
        "row": _label(line[0].row),
        "on": measurement.on,
        "protocol": measurement.identity.protocol,
        "seeds": ", ".join(map(str, sorted(measurement.seeds))),
        **{cell.column.name: cell.measured for cell in line},
        "verdict": headline(line).verdict.kind,
        "why": headline(line).verdict.reason,
    }


def _facts(table: PublishedTable, lines: Sequence[Sequence[Cell]]) -> str:
    kinds = Counter(headline(line).verdict.kind for line in lines)
    return bullets(
        [
            f"published: {table.source}, as printed, in {table.unit}; protocol {table.protocol}, checkpoint selection "
            f"{table.selection} by the paper; what is known of a row's own source decides its verdict",
            "measured: the last checkpoint of a fixed schedule; mean ± half the 95 % t-interval over seeds",
            "verdict: on each row's last printed number; `reproduced` where two one-sided t-tests show the mean within "
            f"± {TOLERANCE:g} of the published value; other data, features or protocol: `not comparable`; under "
            f"{LEAST_SEEDS} seeds: `inconclusive`",
            "rows: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
            f"to fill this table: `nox -s {SESSIONS[table.dataset]} -- --data DIR` with {LITERATURE} features",
        ]
    )


NOTHING = Measurement("", Identity(None, None, None), {}, ())
