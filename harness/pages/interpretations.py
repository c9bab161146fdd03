"""Page of what the paper leaves open and how far each choice moves the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.comparisons.plan_rows import difference, rows_of
from harness.pages.ablations import NOT_RUN, setting
from harness.pages.model import Blocks, Page, Table
from harness.records.grouping import average, comparable_groups
from harness.records.schema import Record
from harness.records.words import bullets, computed_with
from harness.runs.plans import INTERPRETATIONS, Plan, Row, plans
from harness.seed_statistics import estimate


def interpretations_page(records: Sequence[Record]) -> Page | None:
    """Build the page of how far each interpretation moves the mean on real data sets, or None where none was run."""
    plan, baseline = plans()[INTERPRETATIONS], plans()["table_IV"]
    assert plan.reference is not None
    text = (
        "The paper released no code and does not state every choice. Each row changes one choice of RMGCL+GKSA, or "
        "several that it names, all else as in the data set's schedule; cells are the change of the mean mAP (widest "
        "range) against the defaults and, next to it, against ACM-Net, which has nothing of the paper's contribution: "
        "both paired by seed, ± half the 95 % t-interval, with the seeds in the last column. A change whose interval "
        "holds 0 is within the noise of the seeds; the intervals are not corrected for the number of rows, of which "
        "one in twenty would leave out 0 by chance. `wstal-bench ls rows` gives the option behind each row; "
        "`wstal-bench reproduce thumos14 --data DIR --table interpretations` runs them."
    )
    blocks: Blocks = [text]
    used: list[Record] = []
    for (overrides, version, digest), members in comparable_groups(records).items():
        found = rows_of(plan, members)
        run = {row.id: found[row.id] for row in plan.rows if found[row.id]}
        if members[0].synthetic or overrides != "none" or plan.reference not in run or len(run) == 1:
            continue
        acmnet = rows_of(baseline, members)["baseline"]
        rows = [_table_row(plan, row, found, acmnet) for row in plan.rows if row.id in run]
        earlier = sum(isinstance(block, Table) for block in blocks)
        name = f"{INTERPRETATIONS}-{earlier + 1}" if earlier else INTERPRETATIONS
        blocks.append(f"## {members[0].data.title}, version {version}")
        blocks.append(Table(name, "What each interpretation changes", rows))
        if missing := [row.id for row in plan.rows if row.id not in run]:
            blocks.append(f"Not run: {', '.join(missing)}.")
        blocks.append(bullets([*setting(found[plan.reference]), f"data: {digest}"]))
        used += [record for group in run.values() for record in group]
    if not used:
        return None
    title = "Interpretations: what the paper leaves open, and whether it matters"
    return Page(INTERPRETATIONS, title, [*blocks, *computed_with(used)], tab="Ablations")


def _table_row(plan: Plan, row: Row, found: Mapping[str, list[Record]], baseline: Sequence[Record]) -> dict[str, Any]:
    """Return the cells of an interpretation: its own mean where it is the defaults, else its change against them."""
    assert plan.reference is not None
    reference, own = found[plan.reference], found[row.id]
    moved, gained = difference(own, reference), difference(own, baseline)
    change: Any = moved.estimate if moved else NOT_RUN
    if row.id == plan.reference:
        change = estimate([average(record) for record in own], len(own))
    return dict(zip(plan.columns, row.cells, strict=True)) | {
        "against the defaults": change,
        "against ACM-Net": gained.estimate if gained else NOT_RUN,
        "seeds": moved.seeds if moved else 0,
    }
