"""Pages of the ablation plans: measured rows, what the paper printed, and whether its orderings hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.files import canonical_json, sha256
from harness.markdown import cell, changes, computed_with, counts, markdown, widest_average
from harness.plans import Claim, Plan, Row, plans
from harness.statistics import mean_and_half_width, sign_flip_p
from wstal.errors import UserError

Record = dict[str, Any]

SEEDS_FOR_P = 6
NOT_RUN = "not run"
READINGS = "readings"
COMPARABLE = (
    "Published values are of THUMOS14, two-stream I3D features and the paper's own evaluation: they show which order "
    "the paper reports and are no target for this data."
)


@dataclass(frozen=True)
class Difference:
    """Row minus row, paired by seed.

    Args:
        seeds: seeds that both rows have.
        mean: of the differences, in mAP points.
        half_width: half the 95 % t-interval; NaN for one seed.
        p: of the exact sign-flip test.
    """

    seeds: int
    mean: float
    half_width: float
    p: float

    @property
    def verdict(self) -> str:
        """Whether the first row is better: by the interval alone, so `not resolved` where it holds 0."""
        if self.seeds < SEEDS_FOR_P:
            return "too few seeds"
        if math.isnan(self.half_width) or abs(self.mean) <= self.half_width:
            return "not resolved"
        return "holds" if self.mean > 0 else "reversed"

    def __str__(self) -> str:
        half = "" if math.isnan(self.half_width) else f" ± {self.half_width:.1f}"
        return f"{self.mean:+.1f}{half}"


def rows_of(plan: Plan, records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each row, by row id; a row that was not run has none.

    Args:
        plan: the table.
        records: of one data set, one schedule and equal overrides.

    Raises:
        UserError: a row has records of two recipes, or two of one seed.
    """
    found = {}
    for row in plan.rows:
        members = [record for record in records if _is_row(record, row)]
        recipes = {canonical_json(record["recipe"]) for record in members}
        seeds = {record["seed"] for record in members}
        if len(recipes) > 1 or len(seeds) < len(members):
            names = ", ".join(record["id"] for record in members)
            raise UserError(
                f"Row {row.id} of {plan.title} has {len(members)} records of {len(recipes)} recipes and {len(seeds)} "
                f"seeds: {names}. Remove some."
            )
        found[row.id] = members
    return found


def difference(better: Sequence[Record], worse: Sequence[Record]) -> Difference | None:
    """The headline average of one row minus another's, over the seeds that both have; None where there is none."""
    first, second = ({record["seed"]: _average(record) for record in row} for row in (better, worse))
    pairs = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    if not pairs:
        return None
    return Difference(len(pairs), *mean_and_half_width(pairs), sign_flip_p(pairs))


def ablation_page(records: Sequence[Record], banner: list[str]) -> str:
    """All tables of one data set.

    Args:
        records: all of its records; those of the methods themselves stand in the rows that are just that.
        banner: what stands under the title, for synthetic data.
    """
    data = records[0]["data"]
    lines = [f"# {data['title']}: ablations", "", *banner]
    groups = _groups(records)
    for (overrides, version, digest), members in groups.items():
        if len(groups) > 1:
            lines += [f"# Data {digest}, wstal-bench {version}, options: {overrides}", ""]
        lines += _facts(members)
        for name, plan in plans().items():
            if name != READINGS:
                lines += _table(plan, rows_of(plan, members), synthetic=members[0]["synthetic"])
        lines += computed_with(members)
    return "\n".join(lines)


def has_ablations(records: Sequence[Record]) -> bool:
    """Whether any of these records is of an ablation, not just of a method."""
    return any(record["ablation"] for record in records)


def readings_page(records: Sequence[Record]) -> str | None:
    """How far each open reading moves the mean on each real data set; None where none was run."""
    plan = plans()[READINGS]
    assert plan.reference is not None
    lines = [
        "# Readings: what the paper leaves open, and whether it matters",
        "",
        "The paper released no code and does not state every choice. Each row changes one choice of `ours`, all "
        "else at its default; cells are the change of the mean mAP (widest range) against the defaults, paired by "
        "seed, ± half the 95 % t-interval. A change whose interval holds 0 is within the noise of the seeds. "
        "`wstal-bench ls rows` gives the option behind each row; "
        "`wstal-bench reproduce thumos14 --data DIR --table readings` runs them.",
        "",
    ]
    columns: dict[str, list[str]] = {
        heading: [row.cells[index] for row in plan.rows] for index, heading in enumerate(plan.columns)
    }
    shown: list[Record] = []
    for (overrides, version, digest), members in _groups(records).items():
        found = rows_of(plan, members)
        reference = found[plan.reference]
        others = [row for row in plan.rows if row.id != plan.reference and found[row.id]]
        data = members[0]["data"]["title"]
        if members[0]["synthetic"] or overrides != "none" or not (reference and others):
            continue
        title = data if data not in columns else f"{data} ({digest}, {version})"
        columns[title] = [
            cell([_average(record) for record in reference], len(reference))
            if row.id == plan.reference
            else _moved(found[row.id], reference)
            for row in plan.rows
        ]
        shown += [record for row in plan.rows for record in found[row.id]]
    if not shown:
        return None
    return "\n".join([*lines, markdown(pd.DataFrame(columns)), "", *computed_with(shown)])


def _moved(records: Sequence[Record], reference: Sequence[Record]) -> str:
    moved = difference(records, reference)
    return NOT_RUN if moved is None else f"{moved} ({moved.seeds} {'seed' if moved.seeds == 1 else 'seeds'})"


def _groups(records: Sequence[Record]) -> dict[tuple[str, str, str], list[Record]]:
    """Records that may stand in one table, by the user's options, version and data; those without ablations left out.

    Where ablations have a schedule of their own, runs of the methods themselves are other experiments.
    """
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        data = sha256(canonical_json(record["data"]))[:8]
        key = (changes(record["overrides"]), record["environment"]["wstal-bench"], data)
        groups.setdefault(key, []).append(record)
    kept = {}
    for key, members in groups.items():
        ablations = [record for record in members if record["ablation"]]
        own_schedule = any(record["ablation"]["schedule"] for record in ablations)
        if ablations:
            kept[key] = ablations if own_schedule else members
    return kept


def _is_row(record: Record, row: Row) -> bool:
    """Whether a record is of the row: its method, the row's options, and no departure besides."""
    departures = (record["ablation"] or {"row": {}})["row"]
    if record["method"] != row.method or not departures.keys() <= row.options.keys():
        return False
    return all(_field(record["recipe"], name) == value for name, value in row.options.items())


def _schedule(record: Record) -> dict[str, Any]:
    own: dict[str, Any] = record["schedule"]
    departures: dict[str, Any] = (record["ablation"] or {"schedule": {}})["schedule"]
    return own | departures


def _field(recipe: dict[str, Any], name: str) -> Any:
    value: Any = recipe
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _average(record: Record) -> float:
    averages = record["metrics"][record["headline"]]["averages"]
    return float(averages[widest_average(averages)])


def _facts(records: Sequence[Record]) -> list[str]:
    data, headline = records[0]["data"], records[0]["headline"]
    schedules = sorted({f"{record['title']}: {changes(_schedule(record))}" for record in records})
    return [
        f"- features: {data['features']}",
        f"- training videos: {data['train']['videos']}, predicted test videos: {data['test']['videos']}",
        f"- protocol: `{headline}` on {counts(records[0]['metrics'][headline])}, mAP in percent over tIoU",
        "- checkpoint: the last of a fixed schedule, never chosen on the scored videos",
        f"- schedule, where it differs from the method's own: {'; '.join(schedules)}",
        "- cells: mean ± half the 95 % Student-t interval over seeds; differences are paired by seed; p is the exact "
        f"sign-flip test's, which needs {SEEDS_FOR_P} seeds to fall below 0.05 and is not corrected for many tables",
        "",
    ]


def _table(plan: Plan, found: dict[str, list[Record]], synthetic: bool) -> list[str]:
    rows = [_table_row(plan, row, found[row.id], synthetic) for row in plan.rows]
    lines = [f"## {plan.title}", "", markdown(pd.DataFrame(rows)), ""]
    # a synthetic result gets no verdict and no published neighbour
    if synthetic:
        return lines
    if any(row.published for row in plan.rows):
        lines += [f"Published: {plan.source}. {COMPARABLE}", ""]
    if plan.claims:
        lines += [markdown(pd.DataFrame([_claim_row(plan, claim, found) for claim in plan.claims])), ""]
    return lines


def _table_row(plan: Plan, row: Row, records: list[Record], synthetic: bool) -> dict[str, str]:
    cells = dict(zip(plan.columns, row.cells, strict=True))
    cells["seeds"] = ", ".join(str(seed) for seed in sorted(record["seed"] for record in records)) or "none"
    metrics = [record["metrics"][record["headline"]] for record in records]
    cells["memory filled (%)"] = _filled(records)
    for tiou in plan.mAP:
        values = [one["mAP"][tiou] for one in metrics if tiou in one["mAP"]]
        cells[tiou] = cell(values, len(records)) if records else NOT_RUN
    cells["average"] = cell([_average(record) for record in records], len(records)) if records else NOT_RUN
    if not synthetic and any(other.published for other in plan.rows):
        printed = row.published or ()
        for name, value in zip([*plan.mAP, "AVG"], printed, strict=False):
            cells[f"published {name}"] = f"{value:.1f}"
    return cells


def _claim_row(plan: Plan, claim: Claim, found: dict[str, list[Record]]) -> dict[str, str]:
    better, worse = plan.row(claim.better), plan.row(claim.worse)
    measured = difference(found[claim.better], found[claim.worse])
    printed = ""
    if better.published and worse.published:
        printed = f"{better.published[-1] - worse.published[-1]:+.1f}"
    if measured is None:
        return {"the paper says": claim.text, "published": printed, "measured": NOT_RUN}
    enough = measured.seeds >= SEEDS_FOR_P
    return {
        "the paper says": claim.text,
        "published": printed,
        "measured": str(measured),
        "seeds": str(measured.seeds),
        "p": _p(measured.p) if enough else f"needs {SEEDS_FOR_P} seeds",
        "in these runs": measured.verdict,
    }


def _filled(records: Sequence[Record]) -> str:
    """Mean share of the slots of the classes (background left out) that hold a feature at the end."""
    shares = []
    for record in records:
        fill = record["training"]["diagnostics"].get("memory_fill")
        if fill:
            length = _field(record["recipe"], "method.memory.length")
            shares.append(sum(fill[:-1]) / (len(fill) - 1) / length)
    return f"{100 * sum(shares) / len(shares):.0f}" if shares else ""


def _p(value: float) -> str:
    return "too many pairs" if math.isnan(value) else f"{value:.3f}"
