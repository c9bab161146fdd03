"""Ranking of the methods of one data set: who leads, and from whom that is told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from harness.io.text import grouped
from harness.pages.model import Link, Linked, Table
from harness.paper.verdicts import LEAST_SEEDS
from harness.records.grouping import average, systems, version_number
from harness.records.schema import Record
from harness.records.words import changes, option_words, widest_average
from harness.registry import load_method, method_entries
from harness.seed_statistics import Estimate, estimate
from wstal import sampling
from wstal.types import Paper, Supervision

MIDDLE = "0.5"  # the tIoU that the field quotes most
PRECISION = "train.precision"
SCHEDULE = ("train.epochs", "train.temporal_length")  # in a column of their own
METHODS = "leaderboards/methods"
# references first, then what is ranked, then what is given more
ORDER: tuple[Supervision, ...] = ("full", "weak", "weak+count")
NAMED = 5  # methods in a sentence
SEVERAL = 2  # methods of a version that are ranked by themselves
RULE = (
    "rank: 1 + the number of methods whose whole 95 % interval is above its own; methods of two ranks need not be told "
    f"apart, and of fewer than {LEAST_SEEDS} seeds there is no rank"
)


@dataclass(frozen=True)
class Standing:
    """A method with its options, and where it stands.

    Args:
        label: title, with what tells it from other systems of the method.
        records: one a seed.
        rank: None of chance, of methods that are given more than video-level labels, and of too few seeds.
    """

    label: str
    records: Sequence[Record]
    rank: int | None

    @cached_property
    def mean(self) -> Estimate:
        """Headline average over seeds."""
        found = estimate([average(record) for record in self.records], len(self.records))
        assert found is not None
        return found

    @property
    def method(self) -> str:
        """Registered name."""
        return self.records[0].method

    @property
    def chance(self) -> bool:
        """Whether the method knows nothing of time by construction."""
        return is_chance(self.method)

    @property
    def contends(self) -> bool:
        """Whether the method is one of those that are ranked: it learns from video-level labels."""
        return self.records[0].supervision == "weak" and not self.chance


def is_chance(method: str) -> bool:
    """Return whether a method is a chance baseline; one that is not registered is none."""
    return method in method_entries() and load_method(method).chance


def paper_of(method: str) -> Paper | None:
    """Return the paper of a method, None of one without and of one that is not registered."""
    return load_method(method).paper if method in method_entries() else None


def rankings(records: Sequence[Record]) -> list[list[Record]]:
    """Split the records of one data set by the versions of the harness that ran several methods, most methods first.

    Default schedules may differ between versions, so methods of two such versions do not share a ranking. Runs of any
    other version belong to the first ranking.
    """
    methods: dict[str, set[str]] = {}
    for record in records:
        methods.setdefault(record.version, set()).update(() if is_chance(record.method) else (record.method,))
    several = [version for version, names in methods.items() if len(names) >= SEVERAL]
    several.sort(key=lambda version: (len(methods[version]), version_number(version)), reverse=True)
    place = {version: number for number, version in enumerate(several)}
    split: list[list[Record]] = [[] for _ in several or [""]]
    for record in records:
        split[place.get(record.version, 0)].append(record)
    return split


def standings(records: Sequence[Record]) -> list[Standing]:
    """Rank the methods of one data set: references with full supervision, weak methods best first, those that are given
    more, and chance at the end.

    Of a method's runs with the same options those of the newest version count, and other precisions are no methods:
    `set_apart` has both.
    """
    labelled = _labelled(_ranked(records))
    unranked = [Standing(label, group, None) for label, group in labelled.items()]
    sure = {one.label: one.mean for one in unranked if one.contends and len(one.records) >= LEAST_SEEDS}
    found = [replace(one, rank=_rank(sure[one.label], sure.values())) if one.label in sure else one for one in unranked]
    return sorted(
        found, key=lambda one: (one.chance, ORDER.index(one.records[0].supervision), -one.mean.mean, one.label)
    )


def set_apart(records: Sequence[Record]) -> list[Standing]:
    """Return the systems that `standings` leaves out, labelled by options and version, best first."""
    ranked = {record.id for group in _ranked(records) for record in group}
    others = [group for group in systems(records).values() if group[0].id not in ranked]
    found = [
        Standing(f"{one.title} ({', '.join([*option_words(one.overrides), f'version {one.version}'])})", group, None)
        for group in others
        for one in group[:1]
    ]
    return sorted(found, key=lambda one: -one.mean.mean)


def _ranked(records: Sequence[Record]) -> list[list[Record]]:
    plain = [group for group in systems(records).values() if set(group[0].overrides) != {PRECISION}]
    same = grouped(plain, lambda group: (group[0].method, changes(group[0].overrides)))
    return [
        group
        for members in same.values()
        for newest in [max(version_number(one[0].version) for one in members)]
        for group in members
        if version_number(group[0].version) == newest
    ]


def _labelled(groups: Iterable[list[Record]]) -> dict[str, list[Record]]:
    """Name systems: the title, with the options that the schedule's column does not have or that tell two apart, and
    the version where there are several.
    """
    groups = list(groups)
    several = len({group[0].version for group in groups if not is_chance(group[0].method)}) > 1
    labelled: dict[str, list[Record]] = {}
    for members in grouped(groups, lambda group: group[0].title).values():
        alone = len(members) == 1
        for group in members:
            named = {key: value for key, value in group[0].overrides.items() if not (alone and key in SCHEDULE)}
            marks = [*option_words(named), *([f"version {group[0].version}"] if several else [])]
            label = f"{group[0].title} ({', '.join(marks)})" if marks else group[0].title
            # two recipes with one label: a default changed within a version
            labelled[f"{label} ({group[0].digest[:8]})" if label in labelled else label] = group
    return labelled


def _rank(own: Estimate, others: Iterable[Estimate]) -> int:
    return 1 + sum(other.mean - other.half_width > own.mean + own.half_width for other in others)


def verdict(found: Sequence[Standing]) -> str:
    """Return a sentence: which weak method leads, and from which the runs do not tell it apart."""
    contenders = [one for one in found if one.contends]
    if not contenders:
        return "No method is ranked: what was run is chance, or is given more than video-level labels."
    sure = [one for one in contenders if len(one.records) >= LEAST_SEEDS]
    few = [one for one in contenders if len(one.records) < LEAST_SEEDS]
    if not sure:
        seeds = len(few[0].records)
        return f"**{few[0].label}** leads with {few[0].mean} ({seeds} seed{'s' * (seeds > 1)}: too few to be sure)."
    first, *others = sure
    low = first.mean.mean - first.mean.half_width
    near = [one.label for one in others if one.mean.mean + one.mean.half_width >= low]
    more = f" and {len(near) - NAMED} more" if len(near) > NAMED else ""
    between = "; " if any(", " in name for name in near[:NAMED]) else ", "
    parts = [f"**{first.label}** leads with {first.mean}"]
    if near:
        parts.append(f"not separable from {between.join(near[:NAMED])}{more}")
    elif others:
        parts.append("its interval is above those of all others")
    elif not few:
        parts.append("no other method is ranked")
    if few:
        parts.append(f"{len(few)} method{'s have' if len(few) > 1 else ' has'} fewer than {LEAST_SEEDS} seeds")
    if above := [f"{one.label} ({one.mean.mean:.1f})" for one in few if one.mean.mean > first.mean.mean]:
        parts[-1] += f", of which above it: {', '.join(above)}"
    return f"{'; '.join(parts)}."


def ranking_table(name: str, caption: str, found: Sequence[Standing], prefix: str = "methods/") -> Table:
    """Build the table of a ranking, under the headline evaluator.

    Args:
        name: of its files.
        caption: of the table.
        found: by `standings`, of one data set.
        prefix: of the addresses of the methods' pages, from the page of the table.
    """
    rows = [_row(one, prefix) for one in found]
    shaded = frozenset(number for number, one in enumerate(found) if one.chance)
    widest = next(iter(row for row in rows[0] if row.startswith("avg ")), "")
    return Table(name, caption, rows, shaded=shaded, narrow=("rank", "method", widest))


def _row(one: Standing, prefix: str) -> dict[str, Any]:
    first = one.records[0]
    by_tiou = means([record.scored.mean_ap for record in one.records])
    tious = sorted(by_tiou, key=lambda tiou: (tiou != MIDDLE, float(tiou)))
    return {
        "rank": one.rank,
        "method": method_cell(one.method, one.label, prefix),
        f"avg {widest_average(first.scored.averages)}": one.mean,
        **{f"{'mAP' * (tiou == MIDDLE)}@{tiou}": by_tiou[tiou] for tiou in tious},
        "seeds": len(one.records),
        "supervision": first.supervision,
        "schedule": schedule_words(first),
    }


def method_cell(method: str, label: str, prefix: str) -> Linked | str:
    """Return a method's label with links to its page and its paper.

    Args:
        method: registered name.
        label: what the table calls it.
        prefix: of the addresses of the methods' pages, from the page of the table.
    """
    if method not in method_entries():
        return label
    parts: list[Link | str] = [Link(label, f"{prefix}{method}.md")]
    if paper := paper_of(method):
        parts += [" ", Link(str(paper.year), paper.link)]
    return Linked(tuple(parts))


def schedule_words(record: Record) -> str:
    """Return epochs and rows of a training in a few words."""
    train = record.recipe.train
    whole = record.method in method_entries() and load_method(record.method).TRAIN_SAMPLER is sampling.whole
    rows = "whole videos" if whole else f"T {train['temporal_length']}" if "temporal_length" in train else ""
    return ", ".join(part for part in (f"{train.get('epochs', '?')} epochs", rows) if part)


def means(runs: Sequence[Mapping[str, float]]) -> dict[str, Estimate | None]:
    """Return the means over runs of numbers by name; None where a run lacks the number."""
    return {name: estimate([run[name] for run in runs if name in run], len(runs)) for name in runs[0]}
