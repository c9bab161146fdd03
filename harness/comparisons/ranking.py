"""Ranking of the runs of one sweep, each row against random scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from statistics import fmean

from harness.comparisons.bootstrap import VideoBootstrap, paired_bootstrap, resampled_mean_ap
from harness.records.grouping import average
from harness.records.matches import matches_of
from harness.records.run_folder import FinishedRun
from harness.records.words import widest_average
from harness.registry import load_method
from wstal.types import Supervision

RANDOM = "random"  # the method that every other should beat
HALF = "0.5"
REPLICATES = 500


@dataclass(frozen=True)
class Ranked:
    """Row of a ranking.

    Args:
        name: of the method or row.
        chance: whether its method does not localize.
        supervision: that its method is given.
        tious: range of the averaged thresholds.
        mean: mAP over them, mean over seeds, in percent.
        at_half: mAP at tIoU 0.5; None where it was not computed.
        gain: what it has over random scores of the same seeds; None of chance, and where those were not run.
    """

    name: str
    chance: bool
    supervision: Supervision
    tious: str
    mean: float
    at_half: float | None
    gain: VideoBootstrap | None

    @property
    def above_random(self) -> bool:
        """Whether the whole interval of the gain lies above 0."""
        return self.gain is not None and self.gain.low > 0


def ranking(names: Sequence[str], runs: Iterable[FinishedRun]) -> list[Ranked]:
    """Rank the runs of a sweep by mean mAP, best first, and chance after all others.

    Args:
        names: of the runs' rows, one for each run.
        runs: finished runs on one data set.
    """
    rows: dict[str, dict[int, FinishedRun]] = {}
    for name, run in zip(names, runs, strict=True):
        rows.setdefault(name, {})[run.record.seed] = run
    chance = {
        one: matches_of(run) for members in rows.values() for one, run in members.items() if run.record.method == RANDOM
    }
    resampled = cache(partial(resampled_mean_ap, replicates=REPLICATES))
    ranked = []
    for name, members in rows.items():
        records = [run.record for run in members.values()]
        gain, chance_method = None, load_method(records[0].method).chance
        if chance.keys() & members.keys() and not chance_method:
            gain = paired_bootstrap({one: matches_of(run) for one, run in members.items()}, chance, resampled)
        half = [record.scored.mean_ap[HALF] for record in records if HALF in record.scored.mean_ap]
        ranked.append(
            Ranked(
                name,
                chance_method,
                records[0].supervision,
                widest_average(records[0].scored.averages),
                fmean(map(average, records)),
                fmean(half) if half else None,
                gain,
            )
        )
    return sorted(ranked, key=lambda row: (row.chance, -row.mean))
