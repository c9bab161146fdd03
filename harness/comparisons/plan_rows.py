"""Compare the rows of a plan by differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.io.encoding import canonical_json
from harness.records.grouping import average
from harness.records.schema import Record
from harness.runs.plans import Plan, Row
from harness.seed_statistics import SIGNIFICANCE, Estimate, holm, mean_and_half_width, paired_t_p, sign_flip_p
from wstal.errors import UserError

SEEDS_FOR_P = 6


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

    def verdict(self, adjusted: float, better: str = "holds", worse: str = "reversed") -> str:
        """Return whether the first row is better, in words.

        Args:
            adjusted: `p_t`, corrected for the other comparisons of the table.
            better: word for a first row that is better.
            worse: word for one that is worse.
        """
        if self.seeds < SEEDS_FOR_P:
            return "too few seeds"
        if adjusted >= SIGNIFICANCE:
            return "not resolved"
        return better if self.mean > 0 else worse

    @property
    def estimate(self) -> Estimate:
        """The difference as a cell of a table."""
        return Estimate(self.mean, self.half_width, self.seeds, signed=True)


def rows_of(plan: Plan, records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records of each row, by row id; a row that was not run has none.

    Runs of a method itself are runs of a row that is trained as another method only where that was trained alike.

    Args:
        plan: the table.
        records: of one data set, one schedule and equal overrides.

    Raises:
        UserError: a row has records of two recipes, or two of one seed.
    """
    found = {}
    for row in plan.rows:
        members = [record for record in records if _is_row(record, row)]
        if row.trained_as:
            schedules = {_schedule(record) for record in records if record.method == row.trained_as}
            members = [record for record in members if record.ablation or _schedule(record) in schedules]
        recipes = {canonical_json(record.recipe.to_json()) for record in members}
        seeds = {record.seed for record in members}
        if len(recipes) > 1 or len(seeds) < len(members):
            names = ", ".join(record.id for record in members)
            raise UserError(
                f"Row {row.id} of {plan.title} has {len(members)} records of {len(recipes)} recipes and {len(seeds)} "
                f"seeds: {names}. Remove some."
            )
        found[row.id] = members
    return found


def difference(better: Sequence[Record], worse: Sequence[Record]) -> Difference | None:
    """Return the headline average of one row minus another's over the seeds that both have, or None where none is.

    Args:
        better: records of the first row.
        worse: records of the second.
    """
    return paired_difference(*({record.seed: average(record) for record in row} for row in (better, worse)))


def corrected(differences: Iterable[Difference | None], p: Callable[[Difference], float]) -> list[float]:
    """Return Holm's p of those differences of a table that have the seeds for a verdict, NaN for the others.

    Args:
        differences: of the table; None where a row was not run.
        p: gets a difference's own.
    """
    return holm([p(one) if one and one.seeds >= SEEDS_FOR_P else math.nan for one in differences])


def p_words(p: float) -> str:
    """Return a p-value as text, nothing for NaN; none is zero."""
    return "" if math.isnan(p) else "below 0.001" if p < 0.001 else f"{p:.3f}"


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """Return the first values minus the second over the seeds that both have, or None where none is.

    Args:
        first: values by seed.
        second: those to subtract.
    """
    pairs = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    if not pairs:
        return None
    return Difference(len(pairs), *mean_and_half_width(pairs), sign_flip_p(pairs), paired_t_p(pairs))


def _schedule(record: Record) -> bytes:
    """Return what decides a training, as JSON, without a decay that never comes."""
    train: dict[str, Any] = record.recipe.train
    never = train.get("decay_every") is None or train["decay_every"] >= train["epochs"]
    return canonical_json(train | ({"decay_every": None} if never else {}))


def _is_row(record: Record, row: Row) -> bool:
    """Return whether a record is of the row: its method, the row's options, and no departure besides."""
    if record.method != row.method or not record.row_options.keys() <= row.options.keys():
        return False
    return all(record.recipe.option(name) == value for name, value in row.options.items())
