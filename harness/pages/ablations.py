"""Pages of the ablation plans: measured rows, what the paper printed, and whether its orderings hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.charts.comparisons import Bar, ablation_bars
from harness.io.reading import canonical_json, sha256
from harness.pages.model import Estimate, Figure, Page, Role, Table, estimate
from harness.paper.tables import PublishedTable, published_tables
from harness.records.words import bullets, changes, computed_with, counts, widest_average
from harness.runs.plans import Claim, Plan, Row, plans
from harness.seed_statistics import SIGNIFICANCE, holm, mean_and_half_width, paired_t_p, sign_flip_p
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
        p_t: of the paired t-test, the interval's.
    """

    seeds: int
    mean: float
    half_width: float
    p: float
    p_t: float

    def verdict(self, adjusted: float) -> str:
        """Whether the first row is better.

        Args:
            adjusted: `p_t`, corrected for the other comparisons of the table.
        """
        if self.seeds < SEEDS_FOR_P:
            return "too few seeds"
        if adjusted >= SIGNIFICANCE:
            return "not resolved"
        return "holds" if self.mean > 0 else "reversed"

    @property
    def estimate(self) -> Estimate:
        """As a cell of a table."""
        return Estimate(self.mean, self.half_width, self.seeds, signed=True)


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
    first, second = ({record["seed"]: average(record) for record in row} for row in (better, worse))
    pairs = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    if not pairs:
        return None
    return Difference(len(pairs), *mean_and_half_width(pairs), sign_flip_p(pairs), paired_t_p(pairs))


def ablation_page(records: Sequence[Record]) -> Page:
    """All tables of one data set.

    Args:
        records: all of its records; those of the methods themselves stand in the rows that are just that.
    """
    data = records[0]["data"]
    blocks: list[str | Table | Figure] = []
    groups = {key: members for key, members in comparable_groups(records).items() if has_ablations(members)}
    for number, ((overrides, version, digest), members) in enumerate(groups.items()):
        name = data["name"] if number == 0 else f"{data['name']}-{number + 1}"
        if len(groups) > 1:
            blocks.append(f"# Data {digest}, wstal-bench {version}, options: {overrides}")
        blocks.append(_facts(members))
        for table, plan in plans().items():
            if table != READINGS:
                found = rows_of(plan, members)
                # a synthetic result gets no verdict and no published neighbour
                blocks.append(f"## {plan.title}")
                if members[0]["synthetic"]:
                    blocks += [_measured(f"{name}-{table}", plan, found), *_bars(f"{name}-{table}", plan, found)]
                else:
                    blocks += _beside_published(
                        f"{name}-{table}", plan, found, published_tables().get(table.removeprefix("table_"))
                    )
        blocks += computed_with(members)
    path = f"leaderboards/{data['name']}-ablations"
    return Page(path, f"{data['title']}: ablations", blocks, synthetic=records[0]["synthetic"])


def has_ablations(records: Sequence[Record]) -> bool:
    """Whether any of these records is of an ablation, not just of a method."""
    return any(record["ablation"] for record in records)


def readings_page(records: Sequence[Record]) -> Page | None:
    """How far each open reading moves the mean on each real data set; None where none was run."""
    plan = plans()[READINGS]
    assert plan.reference is not None
    text = (
        "The paper released no code and does not state every choice. Each row changes one choice of `ours`, all "
        "else as in the data set's schedule; cells are the change of the mean mAP (widest range) against the defaults "
        "and, next to it, against ACM-Net, which has nothing of the paper's contribution: both paired by seed, ± half "
        "the 95 % t-interval, with the seeds in the third column. A change whose interval holds 0 is within the noise "
        "of the seeds; the intervals are not corrected for the number of rows, of which one in twenty would leave out "
        "0 by chance. `wstal-bench ls rows` gives the option behind each row; `wstal-bench reproduce thumos14 --data "
        "DIR --table readings` runs them."
    )
    facts: list[str] = []
    rows: list[dict[str, Any]] = [dict(zip(plan.columns, row.cells, strict=True)) for row in plan.rows]
    roles: dict[str, Role] = {}
    used: list[Record] = []
    for (overrides, version, digest), members in comparable_groups(records).items():
        found = rows_of(plan, members)
        reference = found[plan.reference]
        others = [row for row in plan.rows if row.id != plan.reference and found[row.id]]
        data = members[0]["data"]["title"]
        if members[0]["synthetic"] or overrides != "none" or not (reference and others):
            continue
        title = data if data not in rows[0] else f"{data} ({digest}, {version})"
        beside = f"against ACM-Net, {title}"
        baseline = rows_of(plans()["table_IV"], members)["baseline"]
        roles |= {title: "difference", beside: "difference"}
        for row, cells in zip(plan.rows, rows, strict=True):
            moved, gained = difference(found[row.id], reference), difference(found[row.id], baseline)
            cells[title] = NOT_RUN if moved is None else moved.estimate
            if row.id == plan.reference:
                cells[title] = estimate([average(record) for record in reference], len(reference))
            cells[beside] = NOT_RUN if gained is None else gained.estimate
            cells[f"seeds, {title}"] = moved.seeds if moved else 0
        used += [record for row in plan.rows for record in found[row.id]]
        facts += [f"{title}:", bullets(_setting(reference))]
    if not used:
        return None
    table = Table(READINGS, "What each open reading changes", rows, roles)
    title = "Readings: what the paper leaves open, and whether it matters"
    return Page(READINGS, title, [text, table, *facts, *computed_with(used)])


def comparable_groups(records: Sequence[Record]) -> dict[tuple[str, str, str], list[Record]]:
    """Records that may stand in one table, by the user's options, version and data.

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


def average(record: Record) -> float:
    """The headline: mean mAP over the widest range under the data set's headline protocol, in percent."""
    averages = record["metrics"][record["headline"]]["averages"]
    return float(averages[widest_average(averages)])


def _setting(records: Sequence[Record]) -> list[str]:
    """What the records of one data set have in common, as facts."""
    data, headline = records[0]["data"], records[0]["headline"]
    schedules = sorted({f"{record['title']}: {changes(_schedule(record))}" for record in records})
    return [
        f"features: {data['features']}",
        f"training videos: {data['train']['videos']}, predicted test videos: {data['test']['videos']}",
        f"protocol: `{headline}` on {counts(records[0]['metrics'][headline])}, mAP in percent over tIoU",
        "checkpoint: the last of a fixed schedule, never chosen on the scored videos",
        f"schedule, where it differs from the method's own: {'; '.join(schedules)}",
    ]


def _facts(records: Sequence[Record]) -> str:
    facts = [
        *_setting(records),
        "cells: mean ± half the 95 % Student-t interval over seeds; differences are paired by seed",
        "`not run`: no record is stored; `wstal-bench run --row TABLE/ROW --seed N` makes one",
    ]
    if not records[0]["synthetic"]:
        facts.append(
            "what holds or is reversed is so by the paired t-test at 5 %, corrected (Holm) for all comparisons of its "
            f"table; the exact sign-flip test, which assumes less, needs {SEEDS_FOR_P} seeds to fall below 0.05 once "
            "and more to do so corrected"
        )
    return bullets(facts)


def _measured(name: str, plan: Plan, found: dict[str, list[Record]], printed: PublishedTable | None = None) -> Table:
    rows = [_table_row(plan, row, found[row.id], printed) for row in plan.rows]
    roles: dict[str, Role] = dict.fromkeys([*plan.mAP, "average"], "measured")
    roles |= {heading: "published" for heading in rows[0] if heading.startswith("published")}
    return Table(name, plan.title, rows, roles)


def _bars(name: str, plan: Plan, found: dict[str, list[Record]]) -> Iterator[Figure]:
    """Differences from the reference row, else from the first; nothing where it or all others were not run, or where
    the rows are of several methods, each with a reference of its own.
    """
    if len({row.method.removesuffix("-ours") for row in plan.rows if row.method != "ours"}) > 1:
        return
    first, *others = sorted(plan.rows, key=lambda row: row.id != plan.reference)
    differences = [(row, difference(found[row.id], found[first.id])) for row in others]
    if any(moved for _, moved in differences):
        rows = [Bar(_words(row), NOT_RUN if moved is None else moved.estimate) for row, moved in differences]
        caption = f"{plan.title}: change of the mean mAP against {_words(first)}"
        synthetic = found[first.id][0]["synthetic"]
        yield ablation_bars(rows, _words(first), name=name, caption=caption, synthetic=synthetic)


def _words(row: Row) -> str:
    """A row by name, or by its cells where they say what it is."""
    marks = {"", "x"}
    return ", ".join(cell for cell in row.cells if cell not in marks) if set(row.cells) - marks else row.id


def _beside_published(
    name: str, plan: Plan, found: dict[str, list[Record]], printed: PublishedTable | None
) -> Iterator[str | Table | Figure]:
    yield _measured(name, plan, found, printed)
    yield from _bars(name, plan, found)
    if printed:
        yield f"Published: {printed.source}. {COMPARABLE}"
    if plan.claims:
        differences = [difference(found[claim.better], found[claim.worse]) for claim in plan.claims]
        rows = [
            _claim_row(claim, measured, flip, t, printed, plan.rows)
            for claim, measured, flip, t in zip(
                plan.claims,
                differences,
                _adjusted(differences, lambda one: one.p),
                _adjusted(differences, lambda one: one.p_t),
                strict=True,
            )
        ]
        roles: dict[str, Role] = {"measured": "difference", "published": "published", "in these runs": "verdict"}
        yield Table(f"{name}-claims", f"{plan.title}: what the paper says", rows, roles)


def _table_row(plan: Plan, row: Row, records: list[Record], printed: PublishedTable | None) -> dict[str, Any]:
    cells: dict[str, Any] = dict(zip(plan.columns, row.cells, strict=True))
    cells["seeds"] = ", ".join(str(seed) for seed in sorted(record["seed"] for record in records)) or "none"
    metrics = [record["metrics"][record["headline"]] for record in records]
    cells["memory filled (%)"] = _filled(records)
    for tiou in plan.mAP:
        values = [one["mAP"][tiou] for one in metrics if tiou in one["mAP"]]
        cells[tiou] = estimate(values, len(records)) if records else NOT_RUN
    cells["average"] = estimate([average(record) for record in records], len(records)) if records else NOT_RUN
    if printed:
        shown = printed.row(row.id).cells if row.printed else {column.name: "" for column in printed.columns}
        cells |= {f"published {name}": text for name, text in shown.items()}
    return cells


def _adjusted(differences: Sequence[Difference | None], p: Callable[[Difference], float]) -> list[float]:
    """Holm's p of those differences of a table that have the seeds for one, NaN for the others."""
    tested = [one is not None and one.seeds >= SEEDS_FOR_P for one in differences]
    adjusted = iter(holm([p(one) for one, enough in zip(differences, tested, strict=True) if one and enough]))
    return [next(adjusted) if enough else math.nan for enough in tested]


def _claim_row(
    claim: Claim,
    measured: Difference | None,
    flip: float,
    t: float,
    printed: PublishedTable | None,
    rows: Sequence[Row],
) -> dict[str, Any]:
    row: dict[str, Any] = {"the paper says": claim.text}
    if printed:
        row["published"] = None
    if printed and all(row.printed for row in rows if row.id in (claim.better, claim.worse)):
        column = printed.columns[-1].name
        better, worse = (printed.row(name).value(column) for name in (claim.better, claim.worse))
        row["published"] = f"{better - worse:+.1f}" if better is not None and worse is not None else None
    if measured is None:
        return row | {"measured": NOT_RUN}
    return row | {
        "measured": measured.estimate,
        "seeds": measured.seeds,
        "sign-flip p": f"needs {SEEDS_FOR_P} seeds" if math.isnan(flip) else f"{measured.p:.3f}",
        "sign-flip p (Holm)": None if math.isnan(flip) else f"{flip:.3f}",
        "t-test p (Holm)": None if math.isnan(t) else f"{t:.3f}",
        "in these runs": measured.verdict(t),
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
