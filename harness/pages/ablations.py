"""Pages of the ablation plans: measured rows, what the paper printed, and whether its orderings hold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

from harness.charts.comparisons import ablation_bars
from harness.charts.figure import Figure
from harness.comparisons.plan_rows import SEEDS_FOR_P, Difference, corrected, difference, p_words, rows_of
from harness.pages.model import Blocks, Page, Role, Table
from harness.paper.tables import PublishedTable, published_tables
from harness.records.grouping import average, comparable_groups, has_ablations
from harness.records.schema import Record
from harness.records.words import bullets, changes, computed_with, counts, seed_list
from harness.runs.plans import INTERPRETATIONS, Claim, Plan, Row, plans
from harness.seed_statistics import estimate

NOT_RUN = "not run"
COMPARABLE = (
    "Published values are of THUMOS14, two-stream I3D features and the paper's own evaluation: they show which order "
    "the paper reports and are no target for this data."
)


def ablation_page(records: Sequence[Record]) -> Page:
    """Build the page of all ablation tables of one data set.

    Args:
        records: all of its records; those of the methods themselves stand in the rows that are just that.
    """
    data = records[0].data
    blocks: Blocks = []
    groups = {key: members for key, members in comparable_groups(records).items() if has_ablations(members)}
    for number, ((overrides, version, digest), members) in enumerate(groups.items()):
        name = data.name if number == 0 else f"{data.name}-{number + 1}"
        if len(groups) > 1:
            several = len({digest for _, _, digest in groups}) > 1
            changed = "" if overrides == "none" else f", options: {overrides}"
            blocks.append(f"# Version {version} of the harness" + changed + (f", data {digest}" if several else ""))
        tables: Blocks = []
        shown: set[str] = set()
        untried = []
        for table, plan in plans().items():
            if table == INTERPRETATIONS:
                continue
            found = rows_of(plan, members)
            run = {record.id for row in found.values() for record in row}
            if run <= shown:
                untried.append(plan.title)
                continue
            shown |= run
            # a synthetic result gets no verdict and no published neighbour
            tables.append(f"## {plan.title}")
            printed = None if members[0].synthetic else published_tables().get(table.removeprefix("table_"))
            tables += [_rows(f"{name}-{table}", plan, found, printed), *_bars(f"{name}-{table}", plan, found)]
            if printed:
                tables.append(f"Published: {printed.source}. {COMPARABLE}")
            if plan.claims and not members[0].synthetic:
                tables.append(_claims(f"{name}-{table}-claims", plan, found, printed))
        if untried:
            tables += ["## Not run", "No row but those that stand above:", bullets(untried)]
        blocks += [*_answer(tables), *tables, "## What was run", _facts(members), *computed_with(members)]
    path = f"leaderboards/{data.name}-ablations"
    return Page(path, f"{data.title}: ablations", blocks, synthetic=records[0].synthetic, tab="Ablations")


def setting(records: Sequence[Record]) -> list[str]:
    """Return the facts that the records of one data set have in common."""
    data, headline = records[0].data, records[0].headline
    schedules = sorted({f"{record.title}: {changes(record.schedule_changes)}" for record in records})
    return [
        f"features: {data.features}",
        f"training videos: {data.train.videos}, predicted test videos: {data.test.videos}",
        f"protocol: `{headline}` on {counts(records[0].scored)}, mAP in percent over tIoU",
        "checkpoint: the last of a fixed schedule, never chosen on the scored videos",
        "schedules, where they differ from the methods' own:\n"
        + "\n".join(f"  - {schedule}" for schedule in schedules),
    ]


def _answer(tables: Blocks) -> Iterator[str]:
    """Count what the paper says by whether these runs say so too."""
    rows = [row for block in tables if isinstance(block, Table) for row in block.rows if "the paper says" in row]
    kinds = Counter(row["in these runs"] for row in rows if "in these runs" in row)
    claims = sum(len(plan.claims) for plan in plans().values())
    if kinds:
        counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        absent = claims - kinds.total()
        yield f"Of {claims} things that the paper says of its parts, in these runs: {counted}" + (
            f", {absent} not run." if absent else "."
        )


def _facts(records: Sequence[Record]) -> str:
    planned = {row.method for plan in plans().values() for row in plan.rows}
    facts = [
        *setting([record for record in records if record.method in planned] or records),
        "cells: mean ± half the 95 % Student-t interval over seeds; differences are paired by seed, and above 0 where "
        "the runs go the way that the paper says",
        "`not run`: no record of this version is stored; `wstal-bench run --row TABLE/ROW --seed N` makes one",
    ]
    if not records[0].synthetic:
        facts.append(
            f"what holds or is reversed is so over at least {SEEDS_FOR_P} seeds by the paired t-test at 5 %, corrected "
            f"(Holm) for all such comparisons of its table; the exact sign-flip test, which assumes less, needs "
            f"{SEEDS_FOR_P} seeds to fall below 0.05 once and more to do so corrected"
        )
    return bullets(facts)


def _rows(name: str, plan: Plan, found: dict[str, list[Record]], printed: PublishedTable | None) -> Table:
    rows = [_table_row(plan, row, found[row.id], printed) for row in plan.rows]
    return Table(name, plan.title, rows, dict.fromkeys([*plan.mAP, "average"], "measured"))


def _bars(name: str, plan: Plan, found: dict[str, list[Record]]) -> Iterator[Figure]:
    """Draw the differences from the reference row, else from the first.

    Nothing is drawn where it or all others were not run, or where the rows are of several methods, each with a
    reference of its own.
    """
    if len({row.method.removesuffix("-rmgcl-gksa") for row in plan.rows if row.method != "rmgcl-gksa"}) > 1:
        return
    first, *others = sorted(plan.rows, key=lambda row: row.id != plan.reference)
    differences = [(row, difference(found[row.id], found[first.id])) for row in others]
    if any(moved for _, moved in differences):
        rows = [(_words(row), NOT_RUN if moved is None else moved.estimate) for row, moved in differences]
        caption = f"{plan.title}: change of the mean mAP against {_words(first)}"
        synthetic = found[first.id][0].synthetic
        yield ablation_bars(rows, _words(first), name=name, caption=caption, synthetic=synthetic)


def _words(row: Row) -> str:
    """Return a row's cells where they say what it is, else its name."""
    marks = {"", "x"}
    return ", ".join(cell for cell in row.cells if cell not in marks) if set(row.cells) - marks else row.id


def _claims(name: str, plan: Plan, found: dict[str, list[Record]], printed: PublishedTable | None) -> Table:
    """Build the table of what the paper says of pairs of rows, and whether these runs say so too."""
    differences = [difference(found[claim.better], found[claim.worse]) for claim in plan.claims]
    adjusted = (corrected(differences, attrgetter(p)) for p in ("p", "p_t"))
    rows = [
        {"the paper says": claim.text} | _printed_gain(claim, plan, printed) | _judged(measured, flip, t)
        for claim, measured, flip, t in zip(plan.claims, differences, *adjusted, strict=True)
    ]
    roles: dict[str, Role] = {"measured": "difference", "in these runs": "verdict"}
    return Table(name, f"{plan.title}: what the paper says", rows, roles)


def _table_row(plan: Plan, row: Row, records: list[Record], printed: PublishedTable | None) -> dict[str, Any]:
    cells: dict[str, Any] = dict(zip(plan.columns, row.cells, strict=True))
    cells["seeds"] = seed_list(records) or "none"
    cells["memory filled (%)"] = _filled(records)
    scored = [record.scored.mean_ap | {"average": average(record)} for record in records]
    for name in (*plan.mAP, "average"):
        values = [numbers[name] for numbers in scored if name in numbers]
        cells[name] = estimate(values, len(records)) if records else NOT_RUN
    if printed:
        shown = printed.row(row.id).cells if row.printed else {column.name: "" for column in printed.columns}
        cells |= {f"published {name}": text for name, text in shown.items()}
    return cells


def _printed_gain(claim: Claim, plan: Plan, printed: PublishedTable | None) -> dict[str, str | None]:
    """Return the published difference of a claim's rows, by its heading; none where the table is not the paper's."""
    if printed is None:
        return {}
    if not all(plan.row(name).printed for name in (claim.better, claim.worse)):
        return {"published": None}
    better, worse = (printed.row(name).value(printed.columns[-1].name) for name in (claim.better, claim.worse))
    return {"published": None if better is None or worse is None else f"{better - worse:+.1f}"}


def _judged(measured: Difference | None, flip: float, t: float) -> dict[str, Any]:
    """Return a measured difference with its tests; the p-values are corrected, NaN where there are too few seeds."""
    if measured is None:
        return {"measured": NOT_RUN}
    return {
        "measured": measured.estimate,
        "seeds": measured.seeds,
        "sign-flip p": f"needs {SEEDS_FOR_P} seeds" if math.isnan(flip) else p_words(measured.p),
        "sign-flip p (Holm)": p_words(flip),
        "t-test p (Holm)": p_words(t),
        "in these runs": measured.verdict(t),
    }


def _filled(records: Sequence[Record]) -> str:
    """Return the mean share of the slots of the classes (background left out) that hold a feature at the end."""
    shares = []
    for record in records:
        fill: Any = record.training.diagnostics.get("memory_fill")
        if fill:
            shares.append(sum(fill[:-1]) / (len(fill) - 1) / record.recipe.option("method.memory.length"))
    return f"{100 * sum(shares) / len(shares):.0f}" if shares else ""
