"""Runs against runs: the same seeds, the same test videos, and the difference between them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd

from harness.comparisons.bootstrap import (
    REPLICATES,
    bootstrap_by_class,
    mean_over_classes,
    paired_bootstrap,
    resampled_class_ap,
)
from harness.comparisons.plan_rows import corrected, p_words, paired_difference
from harness.records.diff import differing_fields
from harness.records.grouping import SystemKey, average, system_names
from harness.records.matches import matches_of
from harness.records.reading import without_average
from harness.records.run_folder import FinishedRun
from harness.records.schema import Record, data_identity
from wstal.errors import UserError

NO_VERDICT = "synthetic: no verdict"


def compare_methods(values: Mapping[str, Mapping[int, float]]) -> pd.DataFrame:
    """Compare all pairs of methods, paired by seed.

    Args:
        values: of each method by seed.

    Returns:
        One row a pair that shares a seed, in order of appearance: `a`, `b`, `seeds`, `difference` (a - b, mean),
        `half_width` (of the 95 % t-interval), `p` (sign-flip), `p_holm` (over all pairs of 6 seeds or more), `p_t_holm`
        (the paired t-test's, so too) and `verdict` on a by the last: `better`, `worse`, `not resolved`, or `too few
        seeds` below 6, as on the pages of ablations.
    """
    pairs = {
        (a, b): difference
        for a, b in itertools.combinations(values, 2)
        if (difference := paired_difference(values[a], values[b]))
    }
    by_flips = corrected(pairs.values(), attrgetter("p"))
    by_t = corrected(pairs.values(), attrgetter("p_t"))
    rows = [
        (a, b, one.seeds, one.mean, one.half_width, one.p, flip, t, one.verdict(t, "better", "worse"))
        for ((a, b), one), flip, t in zip(pairs.items(), by_flips, by_t, strict=True)
    ]
    columns = ["a", "b", "seeds", "difference", "half_width", "p", "p_holm", "p_t_holm", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def compare_runs(
    runs: Sequence[Path], annotations: Path | None = None, replicates: int = REPLICATES, seed: int = 0
) -> pd.DataFrame:
    """Compare finished runs: those of one method, recipe and version are one system, with its seeds.

    Args:
        runs: folders of finished runs of two or more systems.
        annotations: ground truth, needed for runs that stored no flags.
        replicates: resamples of the test videos.
        seed: of the resampling.

    Returns:
        `compare_methods` over the systems, with `low`, `high` and `share` of `paired_bootstrap` for each pair,
        `tious`, the range that is averaged, `synthetic` (on generated data there is no verdict) and `classes`, a list
        of `ClassBootstrap` as dicts.

    Raises:
        UserError: a folder holds no finished run or one without a usual average, there is one system only, two runs
            are of one seed, systems share no seed, or data, protocol or test list differ: says which.
        StoreError: a run's files are damaged, or its flags give other mAPs than its record.
    """
    opened = [FinishedRun.open(folder) for folder in runs]
    for run in opened:
        if not run.record.scored.averages:
            raise UserError(f"{run.folder}: {without_average(run.record)}, by which runs are compared.")
    first, *others = opened
    for other in others:
        check_comparable(first.record, other.record)
    names = system_names([run.record for run in opened])
    systems: dict[str, dict[int, FinishedRun]] = {}
    for run in opened:
        name, seed_of_run = names[SystemKey.of(run.record)], run.record.seed
        members = systems.setdefault(name, {})
        if seed_of_run in members:
            raise UserError(
                f"{run.folder} and {members[seed_of_run].folder} are both seed {seed_of_run} of {name}. Leave one out."
            )
        members[seed_of_run] = run
    if len(systems) < 2:
        (name,) = systems
        raise UserError(f"All {len(opened)} runs are of one system, {name}. Name runs of two or more to compare.")
    for (a, mine), (b, theirs) in itertools.combinations(systems.items(), 2):
        if not mine.keys() & theirs.keys():
            raise UserError(
                f"{a} (seeds {sorted(mine)}) and {b} (seeds {sorted(theirs)}) share no seed. Run both with one."
            )
    compared = compare_methods(
        {name: {one: average(run.record) for one, run in members.items()} for name, members in systems.items()}
    )
    if first.record.synthetic:
        compared["verdict"] = NO_VERDICT
    flags = {
        name: {one: matches_of(run, annotations) for one, run in members.items()} for name, members in systems.items()
    }
    by_class = functools.cache(functools.partial(resampled_class_ap, replicates=replicates, seed=seed))
    resampled = functools.cache(lambda run: mean_over_classes(by_class(run)))
    systems_of = [(flags[a], flags[b]) for a, b in zip(compared["a"], compared["b"], strict=True)]
    pairs = pd.DataFrame([paired_bootstrap(*pair, resampled) for pair in systems_of])
    return compared.join(pairs[["low", "high", "share", "tious"]]).assign(
        synthetic=first.record.synthetic,
        classes=pd.Series([[asdict(one) for one in bootstrap_by_class(*pair, by_class)] for pair in systems_of]),
    )


def class_rows(compared: pd.DataFrame, every: bool) -> list[dict[str, str]]:
    """Return the classes in which two systems differ, as rows of text: those that are told apart, or all.

    Args:
        compared: as `compare_runs` gives it.
        every: whether to list also the classes whose interval holds 0.
    """
    return [
        {
            "first": row["a"],
            "second": row["b"],
            "class": one["label"],
            "instances": str(one["instances"]),
            "difference of AP": f"{one['difference']:+.1f}",
            "over test videos (95 %)": f"{one['low']:+.1f} to {one['high']:+.1f}",
        }
        for row in compared.to_dict("records")
        for one in row["classes"]
        if every or one["low"] > 0 or one["high"] < 0
    ]


def comparison_table(compared: pd.DataFrame) -> list[dict[str, str]]:
    """Return the rows of `compare_runs` as text for a page, in mAP points; blank where there is no number."""

    def shown(value: float, form: str) -> str:
        return "" if math.isnan(value) else format(value, form)

    return [
        {
            "first": row["a"],
            "second": row["b"],
            "seeds": str(row["seeds"]),
            f"difference of mean mAP {row['tious']}": shown(row["difference"], "+.2f"),
            "± over seeds (95 %)": shown(row["half_width"], ".2f"),
            "over test videos (95 %)": f"{shown(row['low'], '+.2f')} to {shown(row['high'], '+.2f')}",
            "resamples without gain": shown(100 * row["share"], ".1f") + " %",
            "sign-flip p": p_words(row["p"]),
            "sign-flip p (Holm)": p_words(row["p_holm"]),
            "t-test p (Holm)": p_words(row["p_t_holm"]),
            "first is": row["verdict"],
        }
        for row in compared.to_dict("records")
    ]


def check_comparable(first: Record, second: Record) -> None:
    """Raise unless two records are of the same data, test list, protocol and thresholds.

    Args:
        first: one record.
        second: the other.

    Raises:
        UserError: they are not; names every difference.
    """
    pairs = differing_fields(_identity(first), _identity(second))
    different = [f"{name} ({one} against {other})" for name, (one, other) in pairs.items()]
    if different:
        raise UserError(
            f"The runs {first.id} and {second.id} cannot be compared: they differ in {'; '.join(different)}. "
            "Compare runs of one data set under one protocol."
        )


def _identity(record: Record) -> dict[str, Any]:
    tious, data = " ".join(record.scored.mean_ap), data_identity(record.data.to_json())
    return {"protocol": record.headline, "tIoUs": tious, "data": data}
