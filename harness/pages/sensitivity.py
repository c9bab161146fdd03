"""Page of how far seeds, threads, processors and precision move a result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.held_out import is_held_out
from harness.io.text import grouped
from harness.pages.model import Page, Table
from harness.pages.ranking import rankings, standings
from harness.records.grouping import average, data_digest
from harness.records.schema import Record
from harness.records.words import bullets
from harness.seed_statistics import estimate
from harness.studies.sensitivity import SensitivityFile, SensitivityRun, moves

VARIANT_WORDS = {"threads": "2 threads", "processor": "older processor", "precision": "bfloat16"}


def sensitivity_page(stored: SensitivityFile, records: Sequence[Record] = ()) -> Page:
    """Build the page.

    Args:
        stored: runs by seed, threads, processor and precision.
        records: of all stored runs, for what seeds alone move.
    """
    rows = sensitivity_rows(stored)
    settings = grouped(stored.runs, lambda run: (run.data, run.epochs, run.options))
    text = (
        "One seed tells little. `apart` is the mean distance of two seeds of one method, in points of mean mAP; the "
        "other columns are the mean and the largest distance of a run from the run with the same seed on one thread in "
        "float32: on 2 threads, with the processor's instructions limited to AVX2 as on an older one, and with "
        "bfloat16 products. The mathematics is the same in all of them: what moves a result is rounding that training "
        "amplifies. Where such a distance is as large as that of two seeds, the same seed on another machine is as "
        "good as another seed, so numbers of one seed cannot be reproduced elsewhere, only their distribution."
    )
    facts = [
        f"{data}: {epochs} epochs{', ' + options if options else ''}; {', '.join(sorted({run.title for run in runs}))}"
        for (data, epochs, options), runs in settings.items()
    ]
    facts += sorted({f"wstal-bench {run.package}, torch {run.torch}; {run.cpu}" for run in stored.runs})
    return Page(
        "sensitivity",
        "How far seeds, threads, processors and precision move a result",
        [
            text,
            Table("sensitivity", "Distances between runs, in points of mean mAP", rows),
            bullets(facts),
            "Measured by `wstal-bench debug sensitivity METHOD --data DIR`.",
            *_seeds(records),
        ],
        synthetic=all(run.synthetic for run in stored.runs),
        tab="Harness",
    )


def _seeds(records: Sequence[Record]) -> Iterator[str | Table]:
    """Yield how far two seeds of each method are apart in the stored runs of real data."""
    real = [one for one in records if not (one.synthetic or one.ablation or is_held_out(one.data.name))]
    for (data, digest), members in grouped(real, lambda one: (one.data.name, data_digest(one.data)[:8])).items():
        for ranked in rankings(members):
            several = [one for one in standings(ranked) if len(one.records) > 1 and not one.chance]
            if not several:
                continue
            gaps = {one.label: np.abs(_between([average(record) for record in one.records])) for one in several}
            rows = [
                {"method": one.label, "seeds": len(one.records), "mean mAP": one.mean}
                | {"apart": f"{gaps[one.label].mean():.1f}", "at most": f"{gaps[one.label].max():.1f}"}
                for one in sorted(several, key=lambda one: -gaps[one.label].mean())
            ]
            first = several[0].records[0]
            middle = np.median([gap.mean() for gap in gaps.values()])
            yield f"## Seeds alone: {first.data.title}, version {first.version}"
            yield (
                f"Two seeds of one method are {middle:.1f} points apart (median of {len(several)} methods with several "
                "seeds), on one machine and one thread."
            )
            yield Table(
                f"seeds-{data}-{digest}-{first.version}", "Distances between seeds, in points of mean mAP", rows
            )


def _between(values: Sequence[float]) -> NDArray[np.float64]:
    """Return the differences of all pairs."""
    return np.array([one - other for one, other in combinations(values, 2)])


def sensitivity_rows(stored: SensitivityFile) -> list[dict[str, Any]]:
    """Return a row a method and data set."""
    by_method = grouped(stored.runs, lambda run: (run.data, run.title))
    return [_row(data, title, runs) for (data, title), runs in by_method.items()]


def _row(data: str, title: str, runs: list[SensitivityRun]) -> dict[str, Any]:
    reference = [run.average for run in runs if run.variant == "reference"]
    apart = np.abs(_between(reference))
    moved = moves(runs)
    label = f"{data} (synthetic)" if runs[0].synthetic else data
    cells: dict[str, Any] = {
        "method": title,
        "data": label,
        f"mean mAP {runs[0].tious}": estimate(reference, len(reference)),
        "seeds": len(reference),
        "apart": f"{apart.mean():.2f}" if len(apart) else "",
    }
    for variant, words in VARIANT_WORDS.items():
        gaps = np.abs(moved.get(variant, [math.nan]))  # type: ignore[call-overload]
        cells[words] = "" if np.isnan(gaps).any() else f"{gaps.mean():.2f}, at most {gaps.max():.2f}"
    return cells
