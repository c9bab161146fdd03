"""Page of what the paper leaves open and how far each choice moves the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.comparisons.plan_rows import difference, rows_of
from harness.pages.ablations import NOT_RUN, setting
from harness.pages.model import Page, Table
from harness.records.grouping import average, comparable_groups
from harness.records.schema import Record
from harness.records.words import bullets, computed_with
from harness.runs.plans import INTERPRETATIONS, plans
from harness.seed_statistics import estimate


def interpretations_page(records: Sequence[Record]) -> Page | None:
    """Build the page of how far each interpretation moves the mean on real data sets, or None where none was run."""
    plan = plans()[INTERPRETATIONS]
    assert plan.reference is not None
    text = (
        "The paper released no code and does not state every choice. Each row changes one choice of RMGCL+GKSA, or "
        "several that it names, all else as in the data set's schedule; cells are the change of the mean mAP (widest "
        "range) against the defaults and, next to it, against ACM-Net, which has nothing of the paper's contribution: "
        "both paired by seed, ± half the 95 % t-interval, with the seeds in the third column. A change whose interval "
        "holds 0 is within the noise of the seeds; the intervals are not corrected for the number of rows, of which "
        "one in twenty would leave out 0 by chance. `wstal-bench ls rows` gives the option behind each row; "
        "`wstal-bench reproduce thumos14 --data DIR --table interpretations` runs them."
    )
    facts: list[str] = []
    rows: list[dict[str, Any]] = [dict(zip(plan.columns, row.cells, strict=True)) for row in plan.rows]
    used: list[Record] = []
    for (overrides, version, digest), members in comparable_groups(records).items():
        found = rows_of(plan, members)
        reference = found[plan.reference]
        others = [row for row in plan.rows if row.id != plan.reference and found[row.id]]
        data = members[0].data.title
        if members[0].synthetic or overrides != "none" or not (reference and others):
            continue
        title = data if data not in rows[0] else f"{data} ({digest}, {version})"
        beside = f"against ACM-Net, {title}"
        baseline = rows_of(plans()["table_IV"], members)["baseline"]
        for row, cells in zip(plan.rows, rows, strict=True):
            moved, gained = difference(found[row.id], reference), difference(found[row.id], baseline)
            cells[title] = NOT_RUN if moved is None else moved.estimate
            if row.id == plan.reference:
                cells[title] = estimate([average(record) for record in reference], len(reference))
            cells[beside] = NOT_RUN if gained is None else gained.estimate
            cells[f"seeds, {title}"] = moved.seeds if moved else 0
        used += [record for row in plan.rows for record in found[row.id]]
        facts += [f"{title}:", bullets(setting(reference))]
    if not used:
        return None
    table = Table(INTERPRETATIONS, "What each interpretation changes", rows)
    title = "Interpretations: what the paper leaves open, and whether it matters"
    return Page(INTERPRETATIONS, title, [text, table, *facts, *computed_with(used)], tab="Ablations")
